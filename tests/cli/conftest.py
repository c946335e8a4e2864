import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleetpose.cli import main
from fleetpose.media.images import write_image
from fleetpose.media.video import VideoWriter

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture
def fleetpose_here(tmp_path, monkeypatch, capsys):
    """Function that runs the command line in an empty folder → (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def start_fleetpose(tmp_path):
    """Function that starts the command line as a process of its own in an empty folder."""

    def start(*arguments, code=None):
        program = ["-c", code] if code else ["-m", "fleetpose"]
        return subprocess.Popen(
            [sys.executable, *program, *(str(argument) for argument in arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def photo(tmp_path, draw_dots, stick_person):
    """Picture of one person that the fake network finds."""
    path = tmp_path / "photo.png"
    write_image(path, draw_dots([stick_person]))
    return path


@pytest.fixture
def make_clip(draw_dots, stick_person):
    """Function that writes a video of a person."""

    def make(path, count):
        with VideoWriter(path, fps=10) as writer:
            for _ in range(count):
                writer.add(draw_dots([stick_person]))
        return path

    return make

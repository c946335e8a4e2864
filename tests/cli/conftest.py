import os
import signal
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
            preexec_fn=_listen_to_ctrl_c,  # noqa: PLW1509 - between fork and exec it touches no lock
        )

    return start


def _listen_to_ctrl_c():
    """Undo what a shell does to its background jobs, and so to tests among them: they ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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


@pytest.fixture
def two_convolutions(monkeypatch):
    """Name of the shortest bottom-up network, which `build` makes; its checkpoints need no renaming."""
    torch = pytest.importorskip("torch")
    from fleetpose.codecs.fields import associative_embedding_fields
    from fleetpose.models import MODELS, Family, PoseNetwork

    class TwoConvolutions(PoseNetwork):
        size_multiple = 4

        def __init__(self, num_keypoints):
            super().__init__()
            self.fields = associative_embedding_fields(num_keypoints)
            self.input_size = (32, 32)
            self.fine = torch.nn.Conv2d(3, num_keypoints, 3, stride=2, padding=1)
            self.coarse = torch.nn.Conv2d(num_keypoints, 2 * num_keypoints, 3, stride=2, padding=1)

        def forward(self, images):
            fine = self.fine(images)
            return self.named(*self.coarse(fine).chunk(2, dim=1), fine)

    family = Family(
        variants=("two-convolutions",),
        build=lambda variant, *, num_keypoints: TwoConvolutions(num_keypoints),  # noqa: ARG005
        convert_official_state_dict=dict,
    )
    monkeypatch.setitem(MODELS, "two-convolutions", family)
    return "two-convolutions"

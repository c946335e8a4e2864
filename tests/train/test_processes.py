"""Runs of their own processes; most are slow, because each has to import PyTorch."""

import csv
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from fleetpose.settings import override
from fleetpose.train.checkpoint import load_checkpoint

SCRIPT = Path(__file__).with_name("tiny.py")

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes through /proc")


@pytest.fixture
def start(drawn):
    """Function that starts a run as a process of its own; whatever is left of it is ended afterwards."""
    started = []

    def begin(*arguments):
        source = str(Path(__file__).parents[2] / "src")
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(drawn), *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def wait_until(is_true, *, seconds=120):
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def is_over(session):
    """Whether no process of a session is left but zombies."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                return False
    return True


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_with_twice_the_batch(start, tmp_path):
    plain = ("model=tiny", "loss.location=0")

    pair = start(tmp_path / "pair", "--devices", 2, *plain, "phases.0.batch=1", "phases.1.batch=1")
    assert pair.wait(timeout=240) == 0, pair.stderr.read()
    single = start(tmp_path / "single", *plain)
    assert single.wait(timeout=240) == 0, single.stderr.read()

    states = [load_checkpoint(tmp_path / name / "last.pt") for name in ("pair", "single")]
    torch.testing.assert_close(states[0]["network"], states[1]["network"], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(states[0]["ema"], states[1]["ema"], rtol=1e-3, atol=1e-5)
    assert [state["progress"]["scenes"] for state in states] == [22, 22]


@pytest.mark.slow
def test_a_signal_to_one_process_of_two_stops_both_after_saving(start, tmp_path):
    run = start(tmp_path / "run", "--devices", 2, "workers=1", "phases.0.steps=100000")
    wait_until((tmp_path / "run/train.csv").exists)

    run.send_signal(signal.SIGTERM)

    assert run.wait(timeout=60) == 0, run.stderr.read()
    assert load_checkpoint(tmp_path / "run/last.pt")["progress"]["step"] > 0
    wait_until(partial(is_over, run.pid), seconds=15)


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_all_processes_and_ends_them_after_saving(start, tmp_path):
    run = start(tmp_path / "run", "workers=1", "phases.0.steps=100000")
    wait_until((tmp_path / "run/train.csv").exists)

    os.killpg(run.pid, signal.SIGINT)

    assert run.wait(timeout=60) == 0, run.stderr.read()
    assert load_checkpoint(tmp_path / "run/last.pt")["progress"]["step"] > 0
    wait_until(partial(is_over, run.pid), seconds=15)


@pytest.mark.slow
def test_a_killed_process_leaves_no_loader_behind_and_its_run_goes_on(start, tmp_path):
    long = ("workers=1", "phases.0.steps=100000", "checkpoint_every_s=0.2")
    run = start(tmp_path / "run", *long)
    wait_until((tmp_path / "run/last.pt").exists)

    run.kill()
    run.wait()
    wait_until(partial(is_over, run.pid), seconds=30)
    step = load_checkpoint(tmp_path / "run/last.pt")["progress"]["step"]
    again = start(tmp_path / "run", "--resume", "workers=1", f"phases.0.steps={step + 5}", "phases.1.steps=1")

    assert again.wait(timeout=120) == 0, again.stderr.read()
    assert load_checkpoint(tmp_path / "run/last.pt")["progress"]["step"] == step + 6


def rows_of(path):
    """Rows of a table, without what a clock fills."""
    with path.open(newline="") as file:
        return [
            {name: text for name, text in row.items() if name not in {"seconds", "scenes_per_s", "waiting"}}
            for row in csv.DictReader(file)
        ]


def test_a_run_killed_in_the_middle_ends_as_one_that_was_left_alone(start, config, tiny, train, tmp_path):
    settings = (
        *("workers=1", "checkpoint_every_s=0.03", "validate_every_s=1.0e-9"),
        *("phases.0.steps=25", "phases.1.steps=10"),
    )
    killed = start(tmp_path / "killed", "--killed", *settings)
    validation = tiny.Validation(tmp_path / "whole", is_killed=False)
    train(override(config, settings), tmp_path / "whole", validate=validation)
    assert killed.wait(timeout=240) == -signal.SIGKILL, killed.stderr.read()
    step = load_checkpoint(tmp_path / "killed/last.pt")["progress"]["step"]

    again = start(tmp_path / "killed", "--resume", *settings)

    assert again.wait(timeout=240) == 0, again.stderr.read()
    assert 0 < step <= 30
    states = [load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "killed")]
    for key in ("network", "ema", "optimiser"):
        torch.testing.assert_close(states[0][key], states[1][key], rtol=0, atol=0)
    losses = [rows_of(tmp_path / name / "train.csv") for name in ("whole", "killed")]
    scores = [rows_of(tmp_path / name / "validation.csv") for name in ("whole", "killed")]
    assert len(losses[0]) == 35
    assert losses[0] == losses[1]
    assert scores[0][-1] == scores[1][-1]


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_both_of_two_processes(start, tmp_path):
    run = start(tmp_path / "run", "--devices", 2, "optimiser.lr=1.0e+30", "optimiser.warmup_steps=0")

    assert run.wait(timeout=120) != 0
    wait_until(partial(is_over, run.pid), seconds=30)
    assert "TrainingStoppedError" in run.stderr.read()

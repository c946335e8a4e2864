"""A tiny network and two drawn pictures to train it on."""

import importlib.util
import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")


@pytest.fixture(scope="session")
def tiny():
    """Module with the network, the pictures and the settings."""
    spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("tiny.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def drawn(tiny, tmp_path_factory):
    """Folder with the drawn pictures and their labels."""
    folder = tmp_path_factory.mktemp("drawn")
    tiny.draw_data(folder)
    return folder


@pytest.fixture
def config(tiny, drawn, monkeypatch):
    """Settings of a run of eleven steps in two phases, whose network is known by name."""
    from fleetpose.models import MODELS

    for name, family in tiny.FAMILIES.items():
        monkeypatch.setitem(MODELS, name, family)
    return tiny.settings(drawn)


@pytest.fixture
def train():
    """The trainer, on one CPU process."""
    from fleetpose.train.engine import train

    def train_here(config, folder, **options):
        return train(config, folder, accelerator="cpu", **options)

    return train_here


class Act:
    """Validation after every step, which does something at one of them."""

    #: So often, in seconds, that every step is followed by one.
    EVERY_S = 1e-9

    def __init__(self, *, at_step, action):
        self.steps = 0
        self.at_step = at_step
        self.action = action

    def __call__(self, network):
        self.steps += 1
        if self.steps == self.at_step:
            self.action()
        return {"sum": float(sum(weight.double().sum() for weight in network.parameters()))}


class KilledError(BaseException):
    """Ends a run as abruptly as a kill: nothing in the trainer catches it."""


def _interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def _kill():
    raise KilledError


@pytest.fixture(scope="session")
def interrupted_at():
    """Function → validation that presses Ctrl-C after a number of steps."""
    return lambda step: Act(at_step=step, action=_interrupt)


@pytest.fixture(scope="session")
def killed_at():
    """Function → validation that ends the run abruptly after a number of steps."""
    return lambda step: Act(at_step=step, action=_kill)


@pytest.fixture(scope="session")
def watched():
    """Function → validation that only watches."""
    return lambda: Act(at_step=-1, action=_kill)


@pytest.fixture(scope="session")
def killed_error():
    """What a run that was killed ends with."""
    return KilledError

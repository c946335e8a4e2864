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


class KilledError(BaseException):
    """Ends a run as abruptly as a kill: nothing in the trainer catches it."""


class Act:
    """Validation, meant to follow every step, that does something after one of them."""

    def __init__(self, step, action):
        self.step = step
        self.action = action
        self.calls = 0

    def __call__(self, network):
        self.calls += 1
        if self.calls == self.step:
            self.action()
        return {"sum": float(sum(weight.double().sum() for weight in network.parameters()))}


class Acts:
    """What may happen in the middle of a run."""

    KilledError = KilledError

    @staticmethod
    def watch():
        """Only look on."""
        return Act(-1, None)

    @staticmethod
    def watch_for(step, action):
        """Do something after so many steps."""
        return Act(step, action)

    @staticmethod
    def interrupt(step):
        """Press Ctrl-C after so many steps."""
        return Act(step, lambda: os.kill(os.getpid(), signal.SIGINT))

    @staticmethod
    def kill(step):
        """End abruptly after so many steps."""

        def kill():
            raise KilledError

        return Act(step, kill)


@pytest.fixture(scope="session")
def acts():
    """Validations that do something to the run."""
    return Acts

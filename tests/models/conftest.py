"""Weights and images that anybody can draw again, and the outputs that the authors' code gave for them.

The rule is that of the shared folder's golden/README.md: each tensor comes from a generator that the
tensor's name seeds. With the authors' names it gives the weights of the golden outputs; with our own names,
weights for tests that need no golden.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pytest
import torch

from fleetpose.models import build

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fleetpose.models import PoseNetwork


@pytest.fixture(autouse=True)
def _one_thread():
    """Sum in one order: two threads alone move LitePose's outputs by 1.2e-4 deviations."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Golden:
    """One run of the authors' code."""

    images: torch.Tensor
    state: dict[str, torch.Tensor]  # by the authors' names
    outputs: tuple[np.ndarray, ...]


class GoldenReader(Protocol):
    def __call__(self, name: str, scale: float) -> Golden: ...


class ShapesReader(Protocol):
    def __call__(self, name: str) -> dict[str, torch.Size]: ...


class DrawnNetwork(Protocol):
    def __call__(self, name: str) -> PoseNetwork: ...


def drawn_tensor(name: str, shape: tuple[int, ...], scale: float) -> torch.Tensor:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if name.endswith("running_mean"):
        values = 0.1 * rng.standard_normal(shape)
    elif name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        values = rng.uniform(0.5, 1.5, shape)
    elif len(shape) == 1:
        values = 0.1 * rng.standard_normal(shape)
    else:
        values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:])) * scale
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def drawn_state(shapes: Mapping[str, torch.Size], scale: float) -> dict[str, torch.Tensor]:
    return {name: drawn_tensor(name, shape, scale) for name, shape in shapes.items()}


def drawn_images(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


@pytest.fixture(scope="session")
def draw_state():
    """Function that draws a checkpoint of given names and shapes."""
    return drawn_state


@pytest.fixture(scope="session")
def draw_images():
    """Function that draws images of a given shape."""
    return drawn_images


@pytest.fixture
def images() -> torch.Tensor:
    """Two small images, higher than wide."""
    return drawn_images(2, 3, 96, 64)


@pytest.fixture(scope="session")
def drawn_network() -> DrawnNetwork:
    """Builds networks with drawn weights, in evaluation mode; tests must leave them as they are."""

    @cache
    def drawn(name: str) -> PoseNetwork:
        # Large enough that LitePose's ReLU6 caps a tenth of its values, small enough that gates stay open.
        return with_drawn_weights(build(name), 0.8 if name.startswith("litepose") else 0.5)

    return drawn


def with_drawn_weights(network: PoseNetwork, scale: float) -> PoseNetwork:
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    network.load_state_dict(drawn_state(shapes, scale))
    return network.eval()


@pytest.fixture(scope="session")
def draw_weights():
    """Function that gives a network drawn weights of a given scale and puts it into evaluation mode."""
    return with_drawn_weights


@pytest.fixture
def official_shapes(shared: Path) -> ShapesReader:
    """Reads names and shapes of the entries of an official checkpoint."""

    def read(name: str) -> dict[str, torch.Size]:
        shapes = json.loads((shared / "golden" / f"{name}.keys.json").read_text())
        return {key: torch.Size(shape) for key, shape in shapes.items()}

    return read


@pytest.fixture
def golden(shared: Path, official_shapes: ShapesReader) -> GoldenReader:
    """Reads an official run with weights of the given scale."""

    def read(name: str, scale: float) -> Golden:
        suffix = ".npz" if scale == 1 else ".s05.npz"
        with np.load(shared / "golden" / f"{name}{suffix}") as stored:
            return Golden(
                images=drawn_images(*stored["input_shape"]),
                state=drawn_state(official_shapes(name), scale),
                outputs=tuple(stored[key] for key in sorted(stored) if key.startswith("out")),
            )

    return read

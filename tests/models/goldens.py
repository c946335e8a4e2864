"""Weights and inputs that anybody can draw again, and the outputs that the authors' code gave for them.

The rule is that of the shared folder's golden/README.md: each tensor is drawn from a generator that its name
in the authors' checkpoint seeds.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def drawn_tensor(name: str, shape: tuple[int, ...], scale: float) -> torch.Tensor:
    """Draw the tensor that belongs to a checkpoint entry."""
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


def drawn_state(shapes: Mapping[str, tuple[int, ...]], scale: float) -> dict[str, torch.Tensor]:
    return {name: drawn_tensor(name, tuple(shape), scale) for name, shape in shapes.items()}


def official_shapes(shared: Path, golden: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the authors' checkpoint entries."""
    shapes = json.loads((shared / "golden" / f"{golden}.keys.json").read_text())
    return {name: tuple(shape) for name, shape in shapes.items()}


def drawn_images(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def relative_error(got: torch.Tensor, expected: np.ndarray) -> float:
    """Largest difference in units of the expected values' standard deviation."""
    return float(np.abs(got.numpy() - expected).max() / expected.std())

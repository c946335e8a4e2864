"""The mean of several checkpoints' weights (stochastic weight averaging, arXiv:1803.05407)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fleetpose.errors import CheckpointError, ConfigError
from fleetpose.train.checkpoint import load_checkpoint, save_checkpoint


def average_checkpoints(paths: Sequence[Path], target: Path) -> None:
    """Write the mean of the averaged weights of several checkpoints of one network.

    Statistics of normalisation are averaged too, which is right as long as the checkpoints lie close
    together. The result can be exported, and other runs can begin with it; it cannot be resumed.

    Args:
        paths: at least two checkpoints.
        target: file to write; settings, progress and card are those of the last checkpoint.

    Raises:
        ConfigError: there are fewer than two.
        CheckpointError: one cannot be read, or is of another network.
    """
    if len(paths) < 2:
        raise ConfigError(f"an average takes at least two checkpoints, got {len(paths)}")
    sums: dict[str, Tensor] = {}
    state: dict[str, Any] = {}
    for path in paths:
        state = load_checkpoint(path)
        weights: dict[str, Tensor] = state["ema"]
        if sums and {name: value.shape for name, value in weights.items()} != {
            name: value.shape for name, value in sums.items()
        }:
            raise CheckpointError(f"{path} is of another network than {paths[0]}")
        for name, value in weights.items():
            # Counters are no weights: the last one's stay.
            is_mean = value.is_floating_point() and name in sums
            sums[name] = sums[name] + value.double() if is_mean else _first(value)
    mean = {
        name: (sums[name] / len(paths)).to(value.dtype) if value.is_floating_point() else value
        for name, value in state["ema"].items()
    }
    kept: dict[str, Any] = {key: state[key] for key in ("config", "progress", "card") if key in state}
    save_checkpoint(target, {"ema": mean, **kept})


def _first(value: Tensor) -> Tensor:
    return value.to(torch.float64) if value.is_floating_point() else value

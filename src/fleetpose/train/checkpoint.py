"""Checkpoints: everything a run needs to go on exactly where it stopped."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from fleetpose.errors import CheckpointError

FORMAT = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain data) so that a stop in the middle leaves the old file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save({"format": FORMAT, **state}, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, without running any code that the file may hold.

    Raises:
        CheckpointError: the file is missing, broken or of another kind.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is no readable checkpoint; it may be cut off") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT or "ema" not in state:
        raise CheckpointError(f"{path} is no checkpoint of this toolkit (format {FORMAT})")
    return state

"""Checkpoints: everything a run needs to go on exactly where it stopped."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from fleetpose.errors import CheckpointError, ConfigError

FORMAT = 1

# What `torch.load` raises on files that were cut off or that it did not write.
_UNREADABLE = (
    pickle.UnpicklingError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)


def open_folder(folder: Path) -> None:
    """Make the folder of a run, unless it is there.

    Raises:
        ConfigError: it cannot be made, or is a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            f"cannot write into {folder}: {reason}; choose another folder with --out"
        ) from error


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain data) so that a stop in the middle leaves the old file whole.

    Raises:
        CheckpointError: the folder cannot be written, or the disk is full.
    """
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())  # else a power cut could leave the new name on an empty file
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"cannot write the checkpoint {path}: {reason}") from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, without running any code that the file may hold.

    Raises:
        CheckpointError: the file is missing, broken or of another kind.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    with file:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except _UNREADABLE as error:
            best = path.with_name("best.pt")
            is_beside = best.is_file() and best != path
            whole = f"; a new run in another folder can begin with init={best}" if is_beside else ""
            raise CheckpointError(f"{path} is no readable checkpoint; it may be cut off{whole}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT or "ema" not in state:
        raise CheckpointError(f"{path} is no checkpoint of this toolkit (format {FORMAT})")
    return state

"""What a checkpoint and a run's folder say about where they come from."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from lightning.fabric import Fabric

import fleetpose
from fleetpose.train.config import TrainConfig

#: Packages whose versions may change what a run computes.
PACKAGES = ("torch", "lightning", "numpy", "opencv-python-headless", "onnxruntime")


def card_of(config: TrainConfig, *, hours: float, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Make the card of a checkpoint: plain data with the fields of a model card.

    Licence and commit are left for those who publish the weights to fill in.
    """
    data = [str(source.annotations or source.images) for source in config.sources]
    return {
        "licence": "unknown",
        "data": data + [str(one.root) for one in config.pictures],
        "command": f"fleetpose train with model {config.model}; all settings are in the checkpoint",
        "commit": f"fleetpose {fleetpose.__version__}",
        "hours": hours,
        "hardware": hardware(),
        "metrics": dict(metrics),
    }


def describe_environment(fabric: Fabric) -> dict[str, Any]:
    """Versions and hardware of a run, as plain data."""
    return {
        "fleetpose": fleetpose.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "hardware": hardware(),
        "threads": torch.get_num_threads(),
        "processes": fabric.world_size,
        "device": str(fabric.device),
        **{name: _version(name) for name in PACKAGES},
    }


def hardware() -> str:
    """Name the accelerator, else the processor."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"{os.cpu_count()} cores of {platform.machine()}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

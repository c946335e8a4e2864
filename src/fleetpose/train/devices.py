"""On what a run computes."""

from __future__ import annotations

from datetime import timedelta

from lightning.fabric import Fabric
from lightning.fabric.accelerators import CPUAccelerator, CUDAAccelerator, MPSAccelerator
from lightning.fabric.strategies import DDPStrategy
from lightning.fabric.utilities.exceptions import MisconfigurationException

from fleetpose.errors import ConfigError
from fleetpose.train.config import TrainConfig

#: How long processes wait for one another: the first one alone validates, which may take long.
PATIENCE = timedelta(hours=6)

_ACCELERATORS = {"cpu": CPUAccelerator, "cuda": CUDAAccelerator, "mps": MPSAccelerator}


def open_fabric(config: TrainConfig, *, devices: int, accelerator: str) -> Fabric:
    """Make what places a network on so many `devices` of an `accelerator`, as Fabric names them.

    Raises:
        ConfigError: this machine has no such accelerator, or not as many.
    """
    if devices < 1:
        raise ConfigError(f"devices must be at least 1, got {devices}")
    try:
        return Fabric(
            accelerator=accelerator,
            devices=devices,
            strategy="auto" if devices == 1 else DDPStrategy(timeout=PATIENCE),
            precision=config.precision,
        )
    except (ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        here = ["auto", *(name for name, kind in _ACCELERATORS.items() if kind.is_available())]
        if accelerator not in here:
            raise ConfigError(
                f"accelerator must be one that this machine has, {' or '.join(here)}, got {accelerator!r}"
            ) from error
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"cannot train with accelerator {accelerator} and devices {devices}: {reason}"
        ) from error

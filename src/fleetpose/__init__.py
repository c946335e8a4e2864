"""FleetPose: 2D human pose estimation in real time on ordinary CPUs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleetpose.errors import PoseError
    from fleetpose.results import PoseResult
    from fleetpose.runtime.predictor import Predictor, load
    from fleetpose.skeletons import Skeleton

__version__ = "0.1.0"
__all__ = ["PoseError", "PoseResult", "Predictor", "Skeleton", "__version__", "load"]

_HOMES = {
    "PoseError": "fleetpose.errors",
    "PoseResult": "fleetpose.results",
    "Predictor": "fleetpose.runtime.predictor",
    "Skeleton": "fleetpose.skeletons",
    "load": "fleetpose.runtime.predictor",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    if name not in _HOMES:
        raise AttributeError(f"module 'fleetpose' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Pose networks: one file per family, and `build`, which makes any of them by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fleetpose.errors import UnknownNameError
from fleetpose.models import efficienthrnet, litepose
from fleetpose.models.contract import PoseNetwork

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MODELS", "PoseNetwork", "build"]


class _Builder(Protocol):
    def __call__(self, variant: str, *, num_keypoints: int) -> PoseNetwork: ...


def _builders() -> Mapping[str, _Builder]:
    """Variant name → its family's builder."""
    families: tuple[tuple[Mapping[str, object], _Builder], ...] = (
        (litepose.VARIANTS, litepose.litepose),
        (efficienthrnet.VARIANTS, efficienthrnet.efficienthrnet),
    )
    builders: dict[str, _Builder] = {}
    for variants, builder in families:
        twice = builders.keys() & variants.keys()
        if twice:
            raise AssertionError(f"two families define {sorted(twice)}")
        builders |= dict.fromkeys(variants, builder)
    return builders


MODELS = _builders()


def build(name: str, *, num_keypoints: int = 17) -> PoseNetwork:
    """Make the network called `name`, with new weights.

    Raises:
        UnknownNameError: no family has a variant of that name; the message offers close matches.

    >>> build("litepose-xs").fields[0].name
    'heatmaps_s4'
    """
    if name not in MODELS:
        raise UnknownNameError("model", name, MODELS)
    return MODELS[name](name, num_keypoints=num_keypoints)

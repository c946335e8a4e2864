"""Pose networks: one file per family, and `build`, which makes any of them by name."""

from __future__ import annotations

from fleetpose.errors import ConfigError, UnknownNameError, require

require("torch", extra="train")  # first, so that whoever lacks it reads what to install

from fleetpose.models import (  # noqa: E402
    efficienthrnet,
    efficientnet,
    efficientpose,
    higherhrnet,
    hrnet,
    lightweight_openpose,
    litepose,
    segmentation,
    simplebaseline,
    slimdeconv,
    slimdeconv_plain,
    supernet,
)
from fleetpose.models.contract import Family, PoseNetwork  # noqa: E402

__all__ = ["FAMILIES", "MODELS", "Family", "PoseNetwork", "build"]

FAMILIES = (
    Family(
        variants=tuple(litepose.VARIANTS),
        build=litepose.litepose,
        convert_official_state_dict=litepose.convert_official_state_dict,
    ),
    Family(
        variants=tuple(efficienthrnet.VARIANTS),
        build=efficienthrnet.efficienthrnet,
        convert_official_state_dict=efficienthrnet.convert_official_state_dict,
    ),
    Family(
        variants=tuple(efficientnet.VARIANTS),
        build=efficientnet.efficientnet,
        convert_official_state_dict=efficientnet.convert_official_state_dict,
    ),
    Family(
        variants=tuple(efficientpose.VARIANTS),
        build=efficientpose.efficientpose,
        convert_official_state_dict=efficientpose.convert_official_state_dict,
        build_published=efficientpose.efficientpose_for_inference,
    ),
    Family(
        variants=tuple(higherhrnet.VARIANTS),
        build=higherhrnet.higherhrnet,
        convert_official_state_dict=higherhrnet.convert_official_state_dict,
    ),
    Family(
        variants=tuple(hrnet.VARIANTS),
        build=hrnet.hrnet,
        convert_official_state_dict=hrnet.convert_official_state_dict,
    ),
    Family(
        variants=tuple(lightweight_openpose.VARIANTS),
        build=lightweight_openpose.lightweight_openpose,
        convert_official_state_dict=lightweight_openpose.convert_official_state_dict,
    ),
    Family(
        variants=tuple(segmentation.VARIANTS),
        build=segmentation.efficienthrnet_segmentation,
        convert_official_state_dict=segmentation.convert_official_state_dict,
    ),
    Family(
        variants=tuple(simplebaseline.VARIANTS),
        build=simplebaseline.simplebaseline,
        convert_official_state_dict=simplebaseline.convert_official_state_dict,
    ),
    Family(
        variants=tuple(supernet.VARIANTS),
        build=supernet.supernet,
        convert_official_state_dict=supernet.convert_official_state_dict,
        unused=supernet.UNUSED,
    ),
    Family(
        variants=tuple(slimdeconv.VARIANTS),
        build=slimdeconv.slimdeconv,
        convert_official_state_dict=slimdeconv.convert_official_state_dict,
    ),
    Family(
        variants=tuple(slimdeconv_plain.VARIANTS),
        build=slimdeconv_plain.slimdeconv_plain,
        convert_official_state_dict=slimdeconv_plain.convert_official_state_dict,
    ),
)


def _by_variant(families: tuple[Family, ...]) -> dict[str, Family]:
    table: dict[str, Family] = {}
    for family in families:
        twice = table.keys() & set(family.variants)
        if twice:
            raise ConfigError(f"two families call a variant {min(twice)!r}; rename one")
        table |= dict.fromkeys(family.variants, family)
    return table


#: Every variant's name, and its family.
MODELS = _by_variant(FAMILIES)


def build(name: str, *, num_keypoints: int = 17) -> PoseNetwork:
    """Make the network called `name`, with new weights.

    Raises:
        UnknownNameError: no family has a variant of that name; the message offers close matches.
        ConfigError: `num_keypoints` is not positive.

    >>> build("litepose-xs").fields[0].name
    'heatmaps_s4'
    """
    if name not in MODELS:
        raise UnknownNameError("model", name, MODELS)
    if num_keypoints < 1:
        raise ConfigError(f"num_keypoints must be at least 1, but got {num_keypoints}")
    return MODELS[name].build(name, num_keypoints=num_keypoints)

"""Channels by name: which keypoints and limbs a network's maps show, and which of a skeleton they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.codecs.part_affinity_grouping import Limb
from fleetpose.errors import CheckpointError, ConfigError, ShapeError
from fleetpose.skeletons import flip_pairs_by_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetpose.codecs.description import ModelDescription

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]
Pair = tuple[str, str]

#: Where a keypoint that annotations lack lies: midway between two others.
MIDPOINTS: dict[str, Pair] = {
    "neck": ("left_shoulder", "right_shoulder"),
    "thorax": ("left_shoulder", "right_shoulder"),
    "pelvis": ("left_hip", "right_hip"),
}


def check_channels(heatmaps: Field, num_keypoints: int, pafs: Field, num_limbs: int) -> None:
    """Raise a ConfigError unless a network's channels are as many as its keypoints and limbs ask for."""
    if heatmaps.channels not in {num_keypoints, num_keypoints + 1} or pafs.channels != 2 * num_limbs:
        raise ConfigError(
            f"{num_keypoints} keypoints and {num_limbs} limbs ask for {num_keypoints} heatmaps, one more "
            f"with the background, and {2 * num_limbs} channels of fields; "
            f"{heatmaps.name} has {heatmaps.channels} and {pafs.name} has {pafs.channels}"
        )


def checked_map(outputs: Mapping[str, Array], item: Field) -> Array:
    """Return the map of a field as float32.

    Raises:
        ShapeError: it is missing or has another shape than the field says.
    """
    if item.name not in outputs:
        raise ShapeError("outputs", f"a mapping that holds {item.name}", sorted(outputs))
    values = outputs[item.name]
    if values.ndim != 3 or len(values) != item.channels or 0 in values.shape:
        raise ShapeError(item.name, f"of shape [{item.channels}, h, w], none of them 0", list(values.shape))
    return np.ascontiguousarray(values, np.float32)


def checked_settings(description: ModelDescription, codec_type: str) -> dict[str, Any]:
    """Settings of a model file's codec; a CheckpointError if it is of another type."""
    settings = dict(description.codec)
    kind = settings.pop("type", None)
    if kind != codec_type:
        raise CheckpointError(f"model {description.name}: codec must be {codec_type}, got {kind!r}")
    return settings


def limbs_between(limbs: Sequence[Pair], keypoints: Sequence[str]) -> tuple[Limb, ...]:
    """Limbs by name, in the order of their fields → by channel."""
    return tuple(
        Limb(keypoints.index(first), keypoints.index(second), number)
        for number, (first, second) in enumerate(limbs)
    )


def channel_points(
    keypoints: Array, skeleton: Sequence[str], channels: Sequence[str]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Annotated keypoints `[N, K, 3]` of a skeleton → points `[N, C, 2]` per channel, and which are there.

    Channels that the skeleton lacks lie midway between two others (`MIDPOINTS`), if both are there.

    Raises:
        ConfigError: a channel is neither in the skeleton nor midway between two that are.
    """
    points = np.zeros((len(keypoints), len(channels), 2))
    is_there = np.zeros((len(keypoints), len(channels)), bool)
    for channel, name in enumerate(channels):
        ends = (name,) if name in skeleton else MIDPOINTS.get(name, ())
        if not ends or not set(ends) <= set(skeleton):
            raise ConfigError(f"keypoint {name!r} is not in the skeleton: {', '.join(skeleton)}")
        labels = keypoints[:, [skeleton.index(end) for end in ends]]
        is_there[:, channel] = (labels[..., 2] > 0).all(axis=1)
        # What is not labelled may hold anything, NaN too.
        middle = np.where(is_there[:, channel, None, None], labels[..., :2], 0).mean(axis=1)
        points[:, channel] = middle
    return points, is_there


def of_skeleton(keypoints: Array, channels: Sequence[str], skeleton: Sequence[str]) -> Array:
    """Keypoints `[N, C, 3]` by channel → `[N, K, 3]` of the skeleton, 0 where no channel has the name."""
    known = [(k, channels.index(name)) for k, name in enumerate(skeleton) if name in channels]
    mapped = np.zeros((len(keypoints), len(skeleton), 3), np.float32)
    for k, channel in known:
        mapped[:, k] = keypoints[:, channel]
    return mapped


def mirrored_channels(keypoints: Sequence[str], pairs: Sequence[Pair]) -> npt.NDArray[np.int64]:
    """Which channel of a mirrored picture shows each keypoint.

    Keypoints change places as a skeleton's flip pairs say, others by `left` and `right` in their names.
    """
    partners = _partners(keypoints, [pair for pair in pairs if set(pair) <= set(keypoints)])
    return np.array([keypoints.index(partners.get(name, name)) for name in keypoints])


def _partners(keypoints: Sequence[str], pairs: Sequence[Pair]) -> dict[str, str]:
    """Who changes places with whom, both ways; of who stands in `pairs` the name says nothing."""
    paired = {name for pair in pairs for name in pair}
    by_name = flip_pairs_by_name([name for name in keypoints if name not in paired])
    return {a: b for pair in (*pairs, *by_name) for a, b in (pair, pair[::-1])}


def mirrored_fields(limbs: Sequence[Pair], pairs: Sequence[Pair]) -> tuple[npt.NDArray[np.int64], Array]:
    """Which channels of a mirrored picture show each limb's x and y, and by what to multiply them.

    Args:
        limbs: by the names of their ends, in the order of the fields.
        pairs: a skeleton's flip pairs, see `mirrored_channels`.

    Raises:
        ConfigError: a limb's mirror image is not among the limbs.
    """
    names = sorted({name for limb in limbs for name in limb})
    partners = _partners(names, pairs)
    channels, signs = [], []
    for first, second in limbs:
        image = (partners.get(first, first), partners.get(second, second))
        if image not in limbs and image[::-1] not in limbs:
            raise ConfigError(f"limbs hold {first}-{second}, but not its mirror image")
        is_reversed = image not in limbs
        number = limbs.index(image[::-1] if is_reversed else image)
        channels += [2 * number, 2 * number + 1]
        signs += [1.0, -1.0] if is_reversed else [-1.0, 1.0]
    return np.array(channels), np.array(signs, np.float32)


def merge_mirrored(
    outputs: Mapping[str, Array],
    flipped: Mapping[str, Array],
    fields: Sequence[Field],
    *,
    keypoints: Sequence[str],
    limbs: Sequence[Pair],
    pairs: Sequence[Pair],
) -> dict[str, Array]:
    """Average the maps of `fields` of a picture and of its mirror image; a limb's vectors are mirrored too.

    Channels beyond the keypoints, such as the background, keep their place.
    """
    channels = mirrored_channels(keypoints, pairs)
    merged = dict(outputs)
    for item in fields:
        back = flipped[item.name][..., ::-1]
        if item.kind is FieldKind.PAFS:
            paf_channels, signs = mirrored_fields(limbs, pairs)
            back = back[paf_channels] * signs[:, None, None]
        else:
            back = back[[*channels, *range(len(channels), len(back))]]
        merged[item.name] = np.asarray((outputs[item.name] + back) / 2, np.float32)
    return merged


def limb_fields(
    cells: Floats,
    is_drawn: npt.NDArray[np.bool_],
    limbs: Sequence[Limb],
    shape: tuple[int, int],
    *,
    thickness: float,
) -> Array:
    """Unit vectors along limbs between `cells` `[N, K, 2]` (x, y) → `[2 * L, h, w]`.

    A limb covers what is at most `thickness` cells beside its line or beyond its ends. Where limbs of one
    kind cross, their vectors are averaged (arXiv:1611.08050, section 2.3).
    """
    h, w = shape
    fields = np.zeros((2 * len(limbs), h, w), np.float32)
    for limb in limbs:
        count = np.zeros((h, w), np.float32)
        target = fields[2 * limb.field : 2 * limb.field + 2]
        for person in np.flatnonzero(is_drawn[:, limb.first] & is_drawn[:, limb.second]):
            start, end = cells[person, limb.first], cells[person, limb.second]
            length = float(np.hypot(*(end - start)))
            if length == 0:
                continue
            # The limb's ends stick out by its thickness in every direction.
            low = np.maximum(np.floor(np.minimum(start, end) - 2 * thickness), 0).astype(int)
            high = np.maximum(np.ceil(np.maximum(start, end) + 2 * thickness), 0).astype(int) + 1
            window = (slice(low[1], min(high[1], h)), slice(low[0], min(high[0], w)))
            rows, columns = np.ogrid[window]
            ux, uy = (end - start) / length
            along = (columns - start[0]) * ux + (rows - start[1]) * uy
            across = (columns - start[0]) * uy - (rows - start[1]) * ux
            covers = (np.abs(across) <= thickness) & (np.abs(along - length / 2) <= length / 2 + thickness)
            target[0][window] += ux * covers
            target[1][window] += uy * covers
            count[window] += covers
        target /= np.maximum(count, 1)
    return fields

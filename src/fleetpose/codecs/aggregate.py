"""Several looks at one picture, at several scales, joined into one set of maps.

The test-time rules of HigherHRNet (Cheng et al., arXiv:1908.10357, section 4.1): within a look, heatmaps of
all strides are averaged on the finest grid; over looks they are averaged again. Of the tags, the authors'
code keeps those of the picture's own scale, where the paper speaks of joining those of all: both are offered.
The look at the mirrored picture is joined beforehand, by the codec's `merge_flipped`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.codecs.associative_embedding import AssociativeEmbeddingCodec
from fleetpose.codecs.grouping import group
from fleetpose.errors import ConfigError
from fleetpose.geometry import cells_to_pixels

Array = npt.NDArray[np.float32]

#: Scales are whole multiples of one over at most this, so that canvases of all scales match cell by cell.
LARGEST_DENOMINATOR = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregationSettings:
    """At which scales a picture is looked at, and how the looks are joined.

    Attributes:
        scales: of the picture, relative to its usual size; of several, one is 1.
        has_all_tags: compare the tags of all scales, rather than those of scale 1.
        is_projected: look for peaks on maps enlarged to the network's input, as the papers' code does, rather
            than on the finest map. Slower.
    """

    scales: tuple[float, ...] = (1.0,)
    has_all_tags: bool = False
    is_projected: bool = False

    def __post_init__(self) -> None:
        scales = sorted(self.scales)
        if not scales or scales[0] <= 0 or any(low == high for low, high in pairwise(scales)):
            raise ConfigError(f"scales must be different numbers above 0, got {list(self.scales)}")
        for scale in scales:
            if abs(_fraction(scale) - scale) > 1e-9:
                raise ConfigError(
                    f"scales must be fractions such as 0.5, 0.75 or 1.25, with a denominator of at most "
                    f"{LARGEST_DENOMINATOR}, got {scale}"
                )
        if len(scales) > 1 and 1 not in scales:
            raise ConfigError(f"several scales must hold 1, got {list(self.scales)}")

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to join."""
        return self.scales == (1.0,) and not self.is_projected

    @property
    def base(self) -> int:
        """Position of the look whose canvas the others are brought to: that of scale 1, or the only one."""
        return self.scales.index(1) if len(self.scales) > 1 else 0

    def canvas_multiple(self, multiple: int) -> int:
        """Multiple of the canvas at scale 1 that makes the canvas at every scale one of `multiple`.

        >>> AggregationSettings(scales=(0.75, 1.0)).canvas_multiple(32)
        128
        """
        return multiple * math.lcm(*(_fraction(scale).denominator for scale in self.scales))


def _fraction(scale: float) -> Fraction:
    return Fraction(scale).limit_denominator(LARGEST_DENOMINATOR)


def decode_passes(
    passes: Sequence[Mapping[str, Array]],
    codec: AssociativeEmbeddingCodec,
    settings: AggregationSettings,
    *,
    size: tuple[int, int],
) -> tuple[Array, Array]:
    """Find people in the maps of several looks.

    Args:
        passes: maps by field name, one for each of the settings' scales.
        codec: knows the fields and how peaks become people.
        settings: how the looks are joined.
        size: (H, W) of the canvas of the base look, in pixels.

    Returns:
        As `AssociativeEmbeddingCodec.decode`, in pixels of that canvas.
    """
    heatmaps, tags = aggregate(
        passes,
        codec,
        base=settings.base,
        size=size if settings.is_projected else None,
        has_all_tags=settings.has_all_tags,
    )
    keypoints, scores = group(heatmaps, tags, codec.grouping)
    found = keypoints[..., 2:] > 0
    points = cells_to_pixels(keypoints[..., :2], size[0] / heatmaps.shape[1])
    keypoints[..., :2] = np.where(found, points, 0)
    return keypoints, scores


def aggregate(
    passes: Sequence[Mapping[str, Array]],
    codec: AssociativeEmbeddingCodec,
    *,
    base: int = 0,
    size: tuple[int, int] | None = None,
    has_all_tags: bool = False,
) -> tuple[Array, Array]:
    """Join the maps of several looks at one picture.

    Args:
        passes: maps by field name: heatmaps `[K, h, w]`, tags `[K, h, w]` or `[K, h, w, T]`.
        codec: knows the fields.
        base: the look whose tags are kept.
        size: (h, w) of the result in cells; None for the finest map of the base look.
        has_all_tags: keep the tags of all looks, in their order.

    Returns:
        heatmaps `[K, h, w]`, the mean over the looks, and tags `[K, h, w, T]`.
    """
    finest = min(codec.heatmap_fields, key=lambda item: item.stride).name
    target = size or (passes[base][finest].shape[1], passes[base][finest].shape[2])
    heatmaps, tags = [], []
    for number, maps in enumerate(passes):
        own = (maps[finest].shape[1], maps[finest].shape[2])
        levels = [_resized(maps[item.name], own) for item in codec.heatmap_fields]
        heatmaps.append(_resized(np.mean(levels, axis=0), target))
        if has_all_tags or number == base:
            tag_maps = maps[codec.tag_field.name]
            per_flip = np.moveaxis(tag_maps, -1, 0) if tag_maps.ndim == 4 else tag_maps[None]
            # By way of the finest grid, as the authors do: two interpolations are not one.
            tags += [_resized(_resized(one, own), target) for one in per_flip]
    return np.mean(heatmaps, axis=0), np.stack(tags, axis=-1)


def _resized(maps: Array, size: tuple[int, int]) -> Array:
    """Bring maps `[K, h, w]` to `size` (h, w), edges to edges."""
    if maps.shape[1:] == size:
        return maps
    flipped_size = (size[1], size[0])
    return np.stack([cv2.resize(one, flipped_size, interpolation=cv2.INTER_LINEAR) for one in maps])

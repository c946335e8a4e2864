"""EfficientPose: one person's keypoints from heatmaps at 1/8, upscaled only where a peak can be.

Groos et al., arXiv:2004.12186. The network ends in three bilinear upscalings that nothing was learned in,
and its authors blur the result (Gaussian, one pixel), then take the highest pixel. All of that is linear and
the same along rows and columns, so `upscaled_peaks` computes it on the few blocks of pixels that may hold the
highest one, and a network need not do it at all.

The networks also predict part affinity fields, which their authors only train with. With `max_people` above 1
they serve to tell people apart, which the paper names as future work.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.codecs.assignment import assign_greatest
from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.codecs.part_affinity_channels import (
    Pair,
    channel_points,
    checked_map,
    checked_settings,
    limb_fields,
    limbs_between,
    merge_mirrored,
    of_skeleton,
)
from fleetpose.codecs.part_affinity_grouping import PartAffinitySettings, group_by_limbs
from fleetpose.codecs.peaks import find_peaks, subcell_tops
from fleetpose.codecs.top_down import CODEC_TYPE as TOP_DOWN
from fleetpose.errors import CheckpointError, ConfigError, ShapeError
from fleetpose.geometry import cells_to_pixels, is_inside, pixels_to_cells

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetpose.codecs.description import ModelDescription
    from fleetpose.skeletons import Skeleton

Array = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

#: Name of this codec in a model file.
CODEC_TYPE = "efficientpose"
#: Codecs of networks that see one person at a time.
SINGLE_PERSON = frozenset({CODEC_TYPE, TOP_DOWN})

#: MPII's keypoints in the order of the authors' heatmaps.
EFFICIENTPOSE_KEYPOINTS = (
    *("head_top", "neck", "right_shoulder", "right_elbow", "right_wrist"),
    *("thorax", "left_shoulder", "left_elbow", "left_wrist"),
    *("pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
)
#: Limbs of the fields. The authors' 14 are not published. As many cannot join 16 keypoints; these join all
#: but the pelvis, which is then looked for midway between the hips.
EFFICIENTPOSE_LIMBS = (
    *(("head_top", "neck"), ("neck", "thorax")),
    *(("thorax", "right_shoulder"), ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist")),
    *(("thorax", "left_shoulder"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist")),
    *(("thorax", "right_hip"), ("right_hip", "right_knee"), ("right_knee", "right_ankle")),
    *(("thorax", "left_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle")),
)

#: Spread of the blur over the upscaled heatmaps, in pixels, and how far it reaches (four times as far).
BLUR_SIGMA = 1.0
BLUR_REACH = 4
#: Bilinear doubling: what a cell gives to the four nearest of twice as many.
DOUBLING = (0.25, 0.75, 0.75, 0.25)


@dataclass(frozen=True, slots=True)
class EfficientPoseCodec:
    """Encoder and decoder of the EfficientPose family.

    Attributes:
        fields: maps of the network; the finest heatmaps of the last pass are decoded.
        skeleton: keypoints to find.
        keypoints: names of the heatmaps' channels.
        limbs: kinds of limbs, in the order of the fields' pairs of channels.
        sigma_px: the targets are exp(-(distance / sigma_px)^2); the authors' is not published.
        thickness_cells: how far from the line between its keypoints a limb reaches.
        max_people: 1 for the highest peak of each heatmap; more to group peaks by the network's fields.
        detection_threshold: lower keypoints count as missing; the authors use 0.3 on cameras, else nothing.
        is_upscaled: look for the highest pixel of upscaled heatmaps, as the authors do; else take the top of
            the parabola through the highest cell and its neighbours.
        is_blurred: blur upscaled heatmaps, as the authors do except on cameras.
        grouping: how peaks become people, if there may be several.
    """

    fields: tuple[Field, ...]
    skeleton: Skeleton
    keypoints: tuple[str, ...] = EFFICIENTPOSE_KEYPOINTS
    limbs: tuple[Pair, ...] = EFFICIENTPOSE_LIMBS
    sigma_px: float = 12.0
    thickness_cells: float = 1.0
    max_people: int = 1
    detection_threshold: float = 0.0
    is_upscaled: bool = True
    is_blurred: bool = True
    grouping: PartAffinitySettings = field(default_factory=PartAffinitySettings)
    heatmap_field: Field = field(init=False, repr=False)
    paf_field: Field | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        heatmaps = [item for item in self.fields if item.kind is FieldKind.HEATMAPS]
        pafs = [item for item in self.fields if item.kind is FieldKind.PAFS]
        if not heatmaps or heatmaps[-1].channels != len(self.keypoints):
            names = [f"{item.name} of {item.channels} channels" for item in self.fields]
            raise ConfigError(f"EfficientPose needs {len(self.keypoints)} heatmaps, got {', '.join(names)}")
        if min(self.sigma_px, self.thickness_cells) <= 0 or self.max_people < 1:
            raise ConfigError(
                "sigma_px and thickness_cells must be above 0 and max_people at least 1, got "
                f"{self.sigma_px}, {self.thickness_cells} and {self.max_people}"
            )
        if pafs and pafs[-1].channels != 2 * len(self.limbs):
            raise ConfigError(
                f"{len(self.limbs)} limbs do not fit the {pafs[-1].channels} channels of fields"
            )
        finest = heatmaps[-1] if self.max_people == 1 or not pafs else _of_stride(heatmaps, pafs[-1].stride)
        if self.max_people > 1 and not pafs:
            raise ConfigError(
                "max_people above 1 asks for part affinity fields, which this network does not give; "
                "use max_people=1, or a network with training heads"
            )
        object.__setattr__(self, "heatmap_field", finest)
        object.__setattr__(self, "paf_field", pafs[-1] if pafs else None)

    def encode(self, keypoints: Array, *, size: tuple[int, int]) -> dict[str, Array]:
        """Make the target maps of one picture.

        Args:
            keypoints: `[N, K, 3]` (x, y, v) of the skeleton, in pixels of the network's input; v > 0 counts.
            size: (H, W) of the network's input, in pixels.

        Returns:
            For every field of the network: heatmaps `[K, h, w]` in [0, 1], the maximum over people; fields
            `[2 * L, h, w]`, unit vectors within limbs.
        """
        points, is_drawn = channel_points(keypoints, self.skeleton.keypoints, self.keypoints)
        is_drawn &= is_inside(points, size)
        targets = {}
        for item in self.fields:
            shape = (size[0] // item.stride, size[1] // item.stride)
            cells = pixels_to_cells(points, item.stride)
            if item.kind is FieldKind.PAFS:
                limbs = limbs_between(self.limbs, self.keypoints)
                targets[item.name] = limb_fields(
                    cells, is_drawn, limbs, shape, thickness=self.thickness_cells
                )
            else:
                targets[item.name] = _highest_gaussians(cells, is_drawn, shape, self.sigma_px / item.stride)
        return targets

    def decode(self, outputs: Mapping[str, Array]) -> tuple[Array, Array]:
        """Find the person, or the people, in the network's maps for one picture.

        Args:
            outputs: by field name, heatmaps `[K, h, w]` and, for several people, fields `[2 * L, h, w]`.

        Returns:
            keypoints `[N, K, 3]` (x, y, score) of the skeleton in pixels of the network's input, 0 where not
            found, and the people's scores `[N]`, falling. One person's score is its keypoints' mean.

        Raises:
            ShapeError: a map is missing, has the wrong shape or holds no finite numbers.
        """
        heatmaps = checked_map(outputs, self.heatmap_field)
        if not np.isfinite(heatmaps).all():
            raise ShapeError(self.heatmap_field.name, "finite numbers", "NaN or infinity")
        if self.max_people > 1 and self.paf_field is not None:
            keypoints, scores = self._group(heatmaps, checked_map(outputs, self.paf_field))
        else:
            keypoints = self._highest(heatmaps)
            scores = keypoints[..., 2].mean(axis=1)
        return of_skeleton(keypoints, self.keypoints, self.skeleton.keypoints), scores

    def merge_flipped(
        self,
        outputs: Mapping[str, Array],
        flipped: Mapping[str, Array],
        flip_permutation: npt.NDArray[np.int64],  # noqa: ARG002 - of the skeleton; channels have their own
    ) -> dict[str, Array]:
        """Average the maps of a picture and of its mirror image."""
        fields = [self.heatmap_field, *([self.paf_field] if self.paf_field else [])]
        return merge_mirrored(
            outputs,
            flipped,
            fields,
            keypoints=self.keypoints,
            limbs=self.limbs,
            pairs=self.skeleton.flip_pairs,
        )

    def settings(self) -> dict[str, Any]:
        """Plain data for a model file; `from_description` reads it back."""
        return {
            "type": CODEC_TYPE,
            "keypoints": list(self.keypoints),
            "limbs": [list(limb) for limb in self.limbs],
            "sigma_px": self.sigma_px,
            "thickness_cells": self.thickness_cells,
            "max_people": self.max_people,
            "detection_threshold": self.detection_threshold,
            "is_upscaled": self.is_upscaled,
            "is_blurred": self.is_blurred,
            "grouping": asdict(self.grouping),
        }

    @classmethod
    def from_description(cls, description: ModelDescription) -> EfficientPoseCodec:
        """Build the codec that a model file asks for.

        Raises:
            CheckpointError: the file names another codec or settings that this one does not have.
        """
        settings = checked_settings(description, CODEC_TYPE)
        try:
            if "keypoints" in settings:
                settings["keypoints"] = tuple(settings["keypoints"])
            if "limbs" in settings:
                settings["limbs"] = tuple((first, second) for first, second in settings["limbs"])
            grouping = PartAffinitySettings(**settings.pop("grouping", {}))
            return cls(
                fields=description.fields, skeleton=description.skeleton, grouping=grouping, **settings
            )
        except TypeError as error:
            raise CheckpointError(f"model {description.name}: unknown codec setting: {error}") from error

    def _highest(self, heatmaps: Array) -> Array:
        """Highest place of each heatmap → `[1, K, 3]` in pixels, or nobody."""
        stride = self.heatmap_field.stride
        places: npt.NDArray[np.floating]
        height: npt.NDArray[np.floating]
        if self.is_upscaled:
            x, y, height = upscaled_peaks(heatmaps, factor=stride, is_blurred=self.is_blurred)
            places = np.stack([x, y], axis=1).astype(np.float64)
        else:
            channels, cells = np.arange(len(heatmaps)), heatmaps.reshape(len(heatmaps), -1).argmax(axis=1)
            y, x = np.divmod(cells, heatmaps.shape[2])
            height = heatmaps[channels, y, x]
            places = cells_to_pixels(subcell_tops(heatmaps, channels, x, y), stride)
        is_found = (height > 0) & (height >= self.detection_threshold)
        person = np.column_stack([places, height]) * is_found[:, None]
        return person[None][: int(is_found.any())].astype(np.float32)

    def _group(self, heatmaps: Array, pafs: Array) -> tuple[Array, Array]:
        """Group several people, and give them the keypoints that no limb reaches."""
        stride = self.heatmap_field.stride
        limbs = limbs_between(self.limbs, self.keypoints)
        keypoints, scores = group_by_limbs(heatmaps, pafs, limbs, self.grouping, stride=stride)
        keypoints, scores = keypoints[: self.max_people], scores[: self.max_people]
        if "pelvis" in self.keypoints and not any("pelvis" in limb for limb in self.limbs):
            pelvis, *hips = (self.keypoints.index(name) for name in ("pelvis", "left_hip", "right_hip"))
            keypoints[:, pelvis] = _between(heatmaps[pelvis], keypoints[:, hips], self.grouping)
        found = keypoints[..., 2:] > 0
        keypoints[..., :2] = np.where(found, cells_to_pixels(keypoints[..., :2], stride), 0)
        return keypoints, scores


def upscaled_peaks(
    heatmaps: Array, *, factor: int = 8, is_blurred: bool = True
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Doubles]:
    """Find the highest pixel of each heatmap after bilinear upscaling and blur, without doing either in full.

    A pixel is a mean of cells around it, or less at the border, so that it cannot be higher than they. Once
    the pixels of the highest cell are known, only cells with a higher one nearby need a look.

    Args:
        heatmaps: `[K, h, w]`.
        factor: pixels per cell: a power of two.
        is_blurred: whether the upscaled heatmaps are blurred.

    Returns:
        Column, row and height `[K]` of the first highest pixel, in reading order.

    >>> heatmaps = np.zeros((1, 4, 4)); heatmaps[0, 1, 2] = 1
    >>> [int(values[0]) for values in upscaled_peaks(heatmaps)[:2]]
    [19, 11]
    """
    num_keypoints, h, w = heatmaps.shape
    down, across = (pixel_weights(size, factor, is_blurred) for size in (h, w))
    reach_y, reach_x = down.shape[2] // 2, across.shape[2] // 2
    padded = np.pad(heatmaps.astype(np.float64), ((0, 0), (reach_y,) * 2, (reach_x,) * 2))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach_y + 1, 2 * reach_x + 1), (1, 2))

    def blocks(k: Any, row: Any, column: Any) -> Doubles:  # noqa: ANN401 - indices of any kind
        """Pixels `[M, factor, factor]` of cells."""
        return np.asarray(down[row] @ patches[k, row, column] @ across[column].transpose(0, 2, 1))

    channels = np.arange(num_keypoints)
    row, column = np.divmod(heatmaps.reshape(num_keypoints, -1).argmax(axis=1), w)
    floor = blocks(channels, row, column).max(axis=(1, 2))
    kernel = np.ones((2 * reach_y + 1, 2 * reach_x + 1), np.uint8)
    ceiling = np.stack([cv2.dilate(one, kernel) for one in heatmaps.astype(np.float32)])
    # Rounding to single precision and that of the sums must not hide a cell.
    k, row, column = np.nonzero(np.maximum(ceiling, 0) >= (floor - 1e-6 * np.abs(floor))[:, None, None])
    values = blocks(k, row, column)
    height = np.full(num_keypoints, -np.inf)
    np.maximum.at(height, k, values.max(axis=(1, 2)))
    block, dy, dx = np.nonzero(values == height[k][:, None, None])
    y, x = row[block] * factor + dy, column[block] * factor + dx
    order = np.lexsort((x, y, k[block]))
    first = order[np.searchsorted(k[block][order], channels)]
    return x[first], y[first], height


@lru_cache(maxsize=16)
def pixel_weights(size: int, factor: int, is_blurred: bool) -> Doubles:  # noqa: FBT001 - a key of the cache
    """How much each pixel along one axis takes of the cells around its own → `[size, factor, 2 * reach + 1]`.

    Raises:
        ConfigError: `factor` is no power of two.
    """
    if factor < 1 or factor & (factor - 1):
        raise ConfigError(f"heatmaps are upscaled by powers of two, got {factor}")
    weights = np.eye(size)
    while len(weights) < size * factor:
        count = len(weights)
        doubled = np.zeros((2 * count + 2, count))
        for step, share in enumerate(DOUBLING):
            doubled[np.arange(count) * 2 + step, np.arange(count)] = share
        weights = doubled[1:-1] @ weights
    if is_blurred:
        line = np.exp(-0.5 * (np.arange(-BLUR_REACH, BLUR_REACH + 1) / BLUR_SIGMA) ** 2)
        # Beyond the border the pixels follow in reverse.
        padded = np.pad(weights, ((BLUR_REACH, BLUR_REACH), (0, 0)), mode="symmetric")
        weights = sum(
            share * padded[step : step + len(weights)] for step, share in enumerate(line / line.sum())
        )
    pixel, cell = np.nonzero(weights)
    reach = int(np.abs(pixel // factor - cell).max())
    padded = np.pad(weights, ((0, 0), (reach, reach))).reshape(size, factor, size + 2 * reach)
    return np.stack([padded[cell, :, cell : cell + 2 * reach + 1] for cell in range(size)])


def _of_stride(heatmaps: list[Field], stride: int) -> Field:
    """Last heatmaps of the fields' own grid."""
    fitting = [item for item in heatmaps if item.stride == stride]
    if not fitting:
        raise ConfigError(f"several people ask for heatmaps of stride {stride}, that of the fields")
    return fitting[-1]


def _highest_gaussians(
    cells: npt.NDArray[np.floating], is_drawn: npt.NDArray[np.bool_], shape: tuple[int, int], sigma: float
) -> Array:
    """Maximum over people of exp(-(distance / sigma)^2) from `cells` `[N, K, 2]` → `[K, h, w]`."""
    h, w = shape
    across = np.exp(-(((np.arange(w) - cells[..., 0:1]) / sigma) ** 2)).astype(np.float32)
    down = np.exp(-(((np.arange(h) - cells[..., 1:2]) / sigma) ** 2)).astype(np.float32)
    down[~is_drawn] = 0
    maps = np.zeros((cells.shape[1], h, w), np.float32)
    for person in range(len(cells)):
        np.maximum(maps, down[person, :, :, None] * across[person, :, None, :], out=maps)
    return maps


def _between(heatmap: Array, pairs: Array, settings: PartAffinitySettings) -> Array:
    """Peaks of a heatmap midway between two keypoints of each person.

    Args:
        heatmap: `[h, w]`.
        pairs: `[N, 2, 3]` (x, y, score) of the two keypoints, in cells.
        settings: threshold and limit of the peaks.

    Returns:
        `[N, 3]` (x, y, score), 0 for people with no peak nearer to the middle than the two are to each other,
        or two cells where they are closer than that. No peak serves two people.
    """
    peaks = find_peaks(
        heatmap[None], threshold=settings.detection_threshold, window=3, limit=settings.max_people
    )
    places = subcell_tops(heatmap[None], peaks.keypoint, peaks.x, peaks.y)
    reach = np.maximum(np.hypot(*(pairs[:, 0, :2] - pairs[:, 1, :2]).T), 2.0)
    has_both = np.asarray((pairs[..., 2] > 0).all(axis=1))
    away = np.linalg.norm(pairs[..., :2].mean(axis=1)[:, None] - places[None], axis=2)
    gains = np.where(has_both[:, None], np.maximum(1 - away / reach[:, None], 0), 0)
    found = np.zeros((len(pairs), 3), np.float32)
    if gains.size:
        chosen = assign_greatest(gains)
        rows = np.column_stack([places, peaks.score])
        found[chosen >= 0] = rows[chosen[chosen >= 0]]
    return found

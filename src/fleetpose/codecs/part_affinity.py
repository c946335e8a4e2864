"""Part affinity fields: heatmaps say where keypoints are, and vectors along limbs which belong together.

Cao et al., arXiv:1611.08050; Lightweight OpenPose, arXiv:1811.12004. `encode` makes the maps that a network
should return, `decode` turns the returned maps into people.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.codecs.part_affinity_channels import (
    Pair,
    channel_points,
    check_channels,
    checked_map,
    checked_settings,
    limb_fields,
    limbs_between,
    merge_mirrored,
    of_skeleton,
)
from fleetpose.codecs.part_affinity_grouping import (
    Limb,
    PartAffinitySettings,
    ReferencePeople,
    group_by_limbs,
    group_in_reference_order,
)
from fleetpose.errors import CheckpointError, ConfigError
from fleetpose.geometry import cells_to_pixels, is_inside, pixels_to_cells

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetpose.codecs.description import ModelDescription
    from fleetpose.skeletons import Skeleton

Array = npt.NDArray[np.float32]

#: Name of this codec in a model file.
CODEC_TYPE = "part_affinity"

#: OpenPose's keypoints in the order of its heatmaps: COCO's and the neck, midway between the shoulders.
OPENPOSE_KEYPOINTS = (
    *("nose", "neck", "right_shoulder", "right_elbow", "right_wrist"),
    *("left_shoulder", "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle"),
    *("left_hip", "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear"),
)
#: OpenPose's limbs in the order of its fields.
OPENPOSE_LIMBS = (
    *(("neck", "right_hip"), ("right_hip", "right_knee"), ("right_knee", "right_ankle")),
    *(("neck", "left_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle")),
    *(("neck", "right_shoulder"), ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist")),
    ("right_shoulder", "right_ear"),
    *(("neck", "left_shoulder"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist")),
    ("left_shoulder", "left_ear"),
    *(("neck", "nose"), ("nose", "right_eye"), ("nose", "left_eye")),
    *(("right_eye", "right_ear"), ("left_eye", "left_ear")),
)
#: The order in which the author groups OpenPose's limbs, by the numbers of their fields.
OPENPOSE_ORDER = (6, 10, 7, 8, 11, 12, 0, 1, 2, 3, 4, 5, 14, 15, 17, 16, 18, 9, 13)

#: The author's Gaussians end where their exponent passes this, at a hundredth of their height.
LARGEST_EXPONENT = math.log(100)


@dataclass(frozen=True, slots=True)
class PartAffinityCodec:
    """Encoder and decoder of networks that predict heatmaps and part affinity fields.

    Attributes:
        fields: maps of the network, in passes; the last heatmaps and the last fields are decoded.
        skeleton: keypoints to find.
        keypoints: names of the heatmaps' channels; those that the skeleton lacks help to group. A channel
            more than there are names is the background.
        limbs: kinds of limbs, in the order of the fields' pairs of channels.
        sigma_px: spread of the Gaussians, in pixels; the author's for pictures of 368.
        thickness_cells: how far from the line between its keypoints a limb reaches.
        enlarged: 0 to decode on the network's own grid; else the author's grouping on maps enlarged so many
            times, 4 as in his demo or 8 as in his evaluation.
        limb_order: order of limbs in the author's grouping, by their numbers; None as they stand.
        grouping: how peaks become people.
    """

    fields: tuple[Field, ...]
    skeleton: Skeleton
    keypoints: tuple[str, ...] = OPENPOSE_KEYPOINTS
    limbs: tuple[Pair, ...] = OPENPOSE_LIMBS
    sigma_px: float = 7.0
    thickness_cells: float = 1.0
    enlarged: int = 0
    limb_order: tuple[int, ...] | None = None
    grouping: PartAffinitySettings = field(default_factory=PartAffinitySettings)
    heatmap_field: Field = field(init=False, repr=False)
    paf_field: Field = field(init=False, repr=False)

    def __post_init__(self) -> None:
        heatmaps = [item for item in self.fields if item.kind is FieldKind.HEATMAPS]
        pafs = [item for item in self.fields if item.kind is FieldKind.PAFS]
        if not heatmaps or not pafs or heatmaps[-1].stride != pafs[-1].stride:
            names = [item.name for item in self.fields]
            raise ConfigError(f"part affinity needs heatmaps and fields of one stride, got {names}")
        check_channels(heatmaps[-1], len(self.keypoints), pafs[-1], len(self.limbs))
        strangers = {name for limb in self.limbs for name in limb} - set(self.keypoints)
        if strangers:
            raise ConfigError(f"limbs name {min(strangers)!r}, which is not among the keypoints")
        if min(self.sigma_px, self.thickness_cells) <= 0 or self.enlarged < 0:
            raise ConfigError(
                "sigma_px and thickness_cells must be above 0 and enlarged at least 0, got "
                f"{self.sigma_px}, {self.thickness_cells} and {self.enlarged}"
            )
        if self.limb_order is not None and sorted(self.limb_order) != list(range(len(self.limbs))):
            raise ConfigError(f"limb_order must name each of {len(self.limbs)} limbs, got {self.limb_order}")
        object.__setattr__(self, "heatmap_field", heatmaps[-1])
        object.__setattr__(self, "paf_field", pafs[-1])

    def encode(self, keypoints: Array, *, size: tuple[int, int]) -> dict[str, Array]:
        """Make the target maps of one picture.

        Args:
            keypoints: `[N, K, 3]` (x, y, v) of the skeleton, in pixels of the network's input; v > 0 counts.
            size: (H, W) of the network's input, in pixels.

        Returns:
            For every field of the network: heatmaps `[K, h, w]` in [0, 1], the sum over people of Gaussians
            cut at 1, and if the network has it the background, 1 less their maximum; and fields
            `[2 * L, h, w]`, unit vectors within limbs, averaged where limbs of one kind cross.
        """
        points, is_drawn = channel_points(keypoints, self.skeleton.keypoints, self.keypoints)
        is_drawn &= is_inside(points, size)
        targets: dict[str, Array] = {}
        for item in self.fields:
            shape = (size[0] // item.stride, size[1] // item.stride)
            cells = pixels_to_cells(points, item.stride)
            if item.kind is FieldKind.PAFS:
                targets[item.name] = limb_fields(
                    cells, is_drawn, self._limbs(), shape, thickness=self.thickness_cells
                )
                continue
            heatmaps = _summed_gaussians(cells, is_drawn, shape, self.sigma_px / item.stride)
            background = 1 - heatmaps.max(axis=0, keepdims=True)
            has_background = item.channels > len(self.keypoints)
            targets[item.name] = np.concatenate([heatmaps, background]) if has_background else heatmaps
        return targets

    def decode(self, outputs: Mapping[str, Array]) -> tuple[Array, Array]:
        """Find people in the network's maps for one picture.

        Args:
            outputs: by field name, heatmaps `[K, h, w]` or `[K + 1, h, w]` and fields `[2 * L, h, w]`.

        Returns:
            keypoints `[N, K, 3]` (x, y, score) of the skeleton in pixels of the network's input, 0 where not
            found, and the people's scores `[N]`, falling.

        Raises:
            ShapeError: a map is missing, has the wrong shape or holds no finite numbers.
        """
        heatmaps, pafs = (
            checked_map(outputs, item)[:channels]
            for item, channels in (
                (self.heatmap_field, len(self.keypoints)),
                (self.paf_field, 2 * len(self.limbs)),
            )
        )
        stride = float(self.heatmap_field.stride)
        if self.enlarged:
            people = self._reference_people(heatmaps, pafs)
            keypoints, scores = _reference_result(people, whole=2 * len(self.keypoints) - 1)
            stride = stride / self.enlarged
        else:
            keypoints, scores = group_by_limbs(heatmaps, pafs, self._limbs(), self.grouping, stride=stride)
        found = keypoints[..., 2:] > 0
        keypoints[..., :2] = np.where(found, cells_to_pixels(keypoints[..., :2], stride), 0)
        return of_skeleton(keypoints, self.keypoints, self.skeleton.keypoints), scores

    def merge_flipped(
        self,
        outputs: Mapping[str, Array],
        flipped: Mapping[str, Array],
        flip_permutation: npt.NDArray[np.int64],  # noqa: ARG002 - of the skeleton; channels have their own
    ) -> dict[str, Array]:
        """Average the maps of a picture and of its mirror image; fields that run backwards are turned."""
        return merge_mirrored(
            outputs,
            flipped,
            (self.heatmap_field, self.paf_field),
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
            "enlarged": self.enlarged,
            "limb_order": None if self.limb_order is None else list(self.limb_order),
            "grouping": asdict(self.grouping),
        }

    @classmethod
    def from_description(cls, description: ModelDescription) -> PartAffinityCodec:
        """Build the codec that a model file asks for.

        Raises:
            CheckpointError: the file names another codec or settings that this one does not have.
        """
        settings = checked_settings(description, CODEC_TYPE)
        try:
            for key in ("keypoints", "limb_order"):
                if settings.get(key) is not None:
                    settings[key] = tuple(settings[key])
            if "limbs" in settings:
                settings["limbs"] = tuple((first, second) for first, second in settings["limbs"])
            grouping = PartAffinitySettings(**settings.pop("grouping", {}))
            return cls(
                fields=description.fields, skeleton=description.skeleton, grouping=grouping, **settings
            )
        except TypeError as error:
            raise CheckpointError(f"model {description.name}: unknown codec setting: {error}") from error

    def _limbs(self) -> tuple[Limb, ...]:
        return limbs_between(self.limbs, self.keypoints)

    def _reference_people(self, heatmaps: Array, pafs: Array) -> ReferencePeople:
        limbs = self._limbs()
        order = self.limb_order or range(len(limbs))
        return group_in_reference_order(
            enlarge(heatmaps, self.enlarged),
            enlarge(pafs, self.enlarged),
            [limbs[number] for number in order],
            self.grouping,
            radius=self.grouping.radius_px * self.enlarged / self.heatmap_field.stride,
        )


def enlarge(maps: Array, factor: int) -> Array:
    """Enlarge maps `[C, h, w]` by bicubic interpolation, edges to edges, as the author does."""
    h, w = maps.shape[1:]
    size = (w * factor, h * factor)
    return np.stack([cv2.resize(one, size, interpolation=cv2.INTER_CUBIC) for one in maps])


def _summed_gaussians(
    cells: npt.NDArray[np.floating], is_drawn: npt.NDArray[np.bool_], shape: tuple[int, int], sigma: float
) -> Array:
    """Sum over people of Gaussians at `cells` `[N, K, 2]`, cut at 1 → `[K, h, w]`."""
    h, w = shape
    maps = np.zeros((cells.shape[1], h, w))
    reach = sigma * math.sqrt(2 * LARGEST_EXPONENT)
    for person, k in np.argwhere(is_drawn):
        x, y = cells[person, k]
        window = tuple(
            slice(max(0, math.ceil(middle - reach)), min(size, math.floor(middle + reach) + 1))
            for middle, size in ((y, h), (x, w))
        )
        rows, columns = np.ogrid[window]
        exponent = ((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)
        maps[k][window] += np.where(exponent > LARGEST_EXPONENT, 0, np.exp(-exponent))
    return np.minimum(maps, 1).astype(np.float32)


def _reference_result(people: ReferencePeople, *, whole: int) -> tuple[Array, Array]:
    """Keypoints `[N, K, 3]` in cells of the enlarged maps and scores `[N]`, falling."""
    is_found = people.members >= 0
    keypoints = np.zeros((*people.members.shape, 3), np.float32)
    keypoints[is_found] = people.candidates[people.members[is_found], :3]
    scores = (people.totals / whole).astype(np.float32)
    by_score = np.argsort(-scores, kind="stable")
    return keypoints[by_score], scores[by_score]

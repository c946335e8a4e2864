"""Associative embedding: heatmaps say where keypoints are, tags say which belong to one person.

Newell et al., arXiv:1611.05424; two resolutions as in HigherHRNet, arXiv:1908.10357, section 3. `encode`
makes the maps that a network should return, `decode` turns the returned maps into people.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.codecs.grouping import GroupingSettings, group
from fleetpose.errors import CheckpointError, ConfigError, ShapeError
from fleetpose.geometry import cells_to_pixels, is_inside, pixels_to_cells, touched_cells

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetpose.codecs.description import ModelDescription

Array = npt.NDArray[np.float32]

#: Key of the cells at which tags are compared, beside the maps in what `encode` returns.
TAG_CELLS = "tag_cells"

#: Name of this codec in a model file.
CODEC_TYPE = "associative_embedding"


@dataclass(frozen=True, slots=True)
class AssociativeEmbeddingCodec:
    """Encoder and decoder of the bottom-up families.

    Attributes:
        fields: maps of the network: heatmaps at one or more strides, and tags.
        sigma_cells: spread of the Gaussian per heatmap field, in its cells. The papers use 2 on every map.
        max_people: people per picture whose tags are trained.
        grouping: how peaks become people.
    """

    fields: tuple[Field, ...]
    sigma_cells: tuple[float, ...] = (2.0, 2.0)
    max_people: int = 30
    grouping: GroupingSettings = field(default_factory=GroupingSettings)
    heatmap_fields: tuple[Field, ...] = field(init=False, repr=False)
    tag_field: Field = field(init=False, repr=False)

    def __post_init__(self) -> None:
        heatmaps = tuple(item for item in self.fields if item.kind is FieldKind.HEATMAPS)
        tags = tuple(item for item in self.fields if item.kind is FieldKind.TAGS)
        if not heatmaps or len(tags) != 1:
            names = [item.name for item in self.fields]
            raise ConfigError(f"associative embedding needs heatmaps and one field of tags, got {names}")
        if len(self.sigma_cells) != len(heatmaps) or min(self.sigma_cells) <= 0:
            raise ConfigError(
                f"sigma_cells must be a positive number for each of {len(heatmaps)} heatmap fields, "
                f"got {list(self.sigma_cells)}"
            )
        object.__setattr__(self, "heatmap_fields", heatmaps)
        object.__setattr__(self, "tag_field", tags[0])

    def encode(self, keypoints: Array, *, size: tuple[int, int]) -> dict[str, npt.NDArray[np.generic]]:
        """Make the target maps of one picture.

        Args:
            keypoints: `[N, K, 3]` (x, y, v) in pixels of the network's input; v > 0 counts.
            size: (H, W) of the network's input, in pixels.

        Returns:
            Per heatmap field `[K, H / stride, W / stride]` float32 in [0, 1], the maximum over people of
            Gaussians centred exactly on the keypoint; and `tag_cells` `[max_people, K]` int64: the flat index
            y * w + x of each keypoint's cell on the tag map, -1 where there is none.
        """
        is_drawn = (keypoints[..., 2] > 0) & is_inside(keypoints, size)
        # Keypoints without a label may hold anything, NaN too.
        points = np.where(is_drawn[..., None], keypoints[..., :2], 0)
        targets: dict[str, npt.NDArray[np.generic]] = {}
        for item, sigma in zip(self.heatmap_fields, self.sigma_cells, strict=True):
            shape = (size[0] // item.stride, size[1] // item.stride)
            targets[item.name] = _gaussians(pixels_to_cells(points, item.stride), is_drawn, shape, sigma)
        h, w = size[0] // self.tag_field.stride, size[1] // self.tag_field.stride
        cells = np.rint(pixels_to_cells(points, self.tag_field.stride)).astype(np.int64)
        flat = np.clip(cells[..., 1], 0, h - 1) * w + np.clip(cells[..., 0], 0, w - 1)
        people = np.flatnonzero(is_drawn.any(axis=1))[: self.max_people]
        tag_cells = np.full((self.max_people, keypoints.shape[1]), -1, np.int64)
        tag_cells[: len(people)] = np.where(is_drawn, flat, -1)[people]
        targets[TAG_CELLS] = tag_cells
        return targets

    def masks(
        self,
        counts: npt.NDArray[np.uint8],
        *,
        boxes: Array,
        is_known: npt.NDArray[np.bool_],
    ) -> dict[str, npt.NDArray[np.uint8]]:
        """Say for each cell of each heatmap whether it counts in the loss.

        Args:
            counts: `[H, W]` 1 where the labels hold, 0 in regions to ignore.
            boxes: `[N, 4]` xyxy of the people, in input pixels.
            is_known: `[N, K]` False where nobody looked for that keypoint of that person: the channel is
                ignored within the person's box.

        Returns:
            Per heatmap field `[K, h, w]` uint8, 1 = counts.
        """
        masks = {}
        for item in self.heatmap_fields:
            h, w = counts.shape[0] // item.stride, counts.shape[1] // item.stride
            half = item.stride // 2
            coarse = counts[half :: item.stride, half :: item.stride][:h, :w]
            mask = np.repeat(coarse[None], is_known.shape[1], axis=0)
            cells = np.maximum(touched_cells(boxes, item.stride), 0)
            for person in np.flatnonzero(~is_known.all(axis=1)):
                x1, y1, x2, y2 = cells[person]
                mask[~is_known[person], y1:y2, x1:x2] = 0
            masks[item.name] = mask
        return masks

    def decode(self, outputs: Mapping[str, Array]) -> tuple[Array, Array]:
        """Find people in the network's maps for one picture.

        The heatmaps of all strides are averaged on the finest grid; tags are read at the peaks.

        Args:
            outputs: by field name, heatmaps `[K, h, w]` and tags `[K, h, w]` or, of several passes,
                `[K, h, w, T]`.

        Returns:
            keypoints `[N, K, 3]` (x, y, score) in pixels of the network's input, 0 where not found, and the
            people's scores `[N]`, falling.

        Raises:
            ShapeError: a map is missing, has the wrong shape or holds no finite numbers.
        """
        missing = [item.name for item in self.fields if item.name not in outputs]
        if missing:
            raise ShapeError("outputs", f"a mapping that holds {missing[0]}", sorted(outputs))
        finest = min(self.heatmap_fields, key=lambda item: item.stride)
        shape = outputs[finest.name].shape[1:]
        stacked = [_resized(outputs[item.name], shape) for item in self.heatmap_fields]
        heatmaps = stacked[0] if len(stacked) == 1 else np.mean(stacked, axis=0)
        keypoints, scores = group(heatmaps, outputs[self.tag_field.name], self.grouping)
        found = keypoints[..., 2:] > 0
        keypoints[..., :2] = np.where(found, cells_to_pixels(keypoints[..., :2], finest.stride), 0)
        return keypoints, scores

    def merge_flipped(
        self,
        outputs: Mapping[str, Array],
        flipped: Mapping[str, Array],
        flip_permutation: npt.NDArray[np.int64],
    ) -> dict[str, Array]:
        """Join the maps of a picture and of its mirror image: heatmaps averaged, tags side by side."""
        merged = {}
        for item in self.fields:
            back = flipped[item.name][flip_permutation, :, ::-1]
            if item.kind is FieldKind.TAGS:
                merged[item.name] = np.stack([outputs[item.name], back], axis=-1)
            else:
                merged[item.name] = (outputs[item.name] + back) / 2
        return merged

    def settings(self) -> dict[str, Any]:
        """Plain data for a model file; `from_description` reads it back."""
        return {
            "type": CODEC_TYPE,
            "sigma_cells": list(self.sigma_cells),
            "max_people": self.max_people,
            "grouping": asdict(self.grouping),
        }

    @classmethod
    def from_description(cls, description: ModelDescription) -> AssociativeEmbeddingCodec:
        """Build the codec that a model file asks for.

        Raises:
            CheckpointError: the file names another codec or settings that this one does not have.
        """
        settings = dict(description.codec)
        kind = settings.pop("type", None)
        if kind != CODEC_TYPE:
            raise CheckpointError(f"model {description.name}: codec must be {CODEC_TYPE}, got {kind!r}")
        try:
            grouping = GroupingSettings(**settings.pop("grouping", {}))
            sigma_cells = tuple(settings.pop("sigma_cells", (2.0, 2.0)))
            return cls(fields=description.fields, sigma_cells=sigma_cells, grouping=grouping, **settings)
        except TypeError as error:
            raise CheckpointError(f"model {description.name}: unknown codec setting: {error}") from error


def _gaussians(
    centres: Array, is_drawn: npt.NDArray[np.bool_], shape: tuple[int, int], sigma: float
) -> npt.NDArray[np.float32]:
    """Maximum over people of Gaussians at `centres` `[N, K, 2]` (x, y) in cells → `[K, h, w]`."""
    h, w = shape
    maps = np.zeros((centres.shape[1], h, w), np.float32)
    along_x = np.exp(-0.5 * ((np.arange(w) - centres[..., 0:1]) / sigma) ** 2).astype(np.float32)
    along_y = np.exp(-0.5 * ((np.arange(h) - centres[..., 1:2]) / sigma) ** 2).astype(np.float32)
    along_y[~is_drawn] = 0
    for gx, gy in zip(along_x, along_y, strict=True):
        np.maximum(maps, gy[:, :, None] * gx[:, None, :], out=maps)
    return maps


def _resized(heatmaps: Array, shape: tuple[int, ...]) -> Array:
    """Bring heatmaps `[K, h, w]` to `shape` (h, w), edges to edges."""
    if heatmaps.shape[1:] == shape:
        return heatmaps
    return np.stack([cv2.resize(one, shape[::-1], interpolation=cv2.INTER_LINEAR) for one in heatmaps])

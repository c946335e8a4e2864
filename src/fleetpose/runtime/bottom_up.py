"""Everybody in a picture at once: resize, network, codec, and back to the picture's own pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fleetpose.codecs.aggregate import AggregationSettings, decode_passes
from fleetpose.codecs.associative_embedding import AssociativeEmbeddingCodec
from fleetpose.codecs.description import MAX_SIDE
from fleetpose.errors import ConfigError
from fleetpose.geometry import (
    Image,
    compose,
    fit_canvas,
    fit_canvas_64,
    invert,
    is_inside,
    keypoint_boxes,
    scaling,
    transform_points,
)
from fleetpose.results import PoseResult
from fleetpose.runtime.canvas import Network, clip_keypoints, draw_canvas
from fleetpose.runtime.timing import Stopwatch
from fleetpose.runtime.zoom import ZoomSettings, zoom

Array = npt.NDArray[np.float32]
Maps = dict[str, Array]


class Codec(Protocol):
    """The half of a codec that finds people."""

    def decode(self, outputs: Mapping[str, Array]) -> tuple[Array, Array]:
        """Maps by field name → keypoints `[N, K, 3]` (x, y, score) in input pixels, scores `[N]`."""

    def merge_flipped(
        self,
        outputs: Mapping[str, Array],
        flipped: Mapping[str, Array],
        flip_permutation: npt.NDArray[np.int64],
    ) -> Maps:
        """Join the maps of a picture and of its mirror image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BottomUpSettings:
    """How a picture is looked at, beyond once and as it is.

    Attributes:
        aggregation: scales, and how their maps are joined.
        has_canvas_of_64: bring pictures to the sizes of the papers' code, `fit_canvas_64`, rather than to the
            smallest canvas that the network takes.
        zoom: look again at each person found, at full size; None for not.
    """

    aggregation: AggregationSettings = field(default_factory=AggregationSettings)
    has_canvas_of_64: bool = False
    zoom: ZoomSettings | None = None


class BottomUp:
    """Finds everybody in a picture with one network.

    Attributes:
        description: what the model says about itself.
    """

    def __init__(
        self,
        network: Network,
        codec: Codec,
        *,
        threshold: float,
        short_side: int | None = None,
        has_flip_test: bool = False,
        settings: BottomUpSettings | None = None,
    ) -> None:
        """Take a loaded network and its codec; see `load` for the settings."""
        self.description = network.description
        self._network = network
        self._codec = codec
        self._embedding = codec if isinstance(codec, AssociativeEmbeddingCodec) else None
        self._threshold = threshold
        self._short_side = self.description.input.short_side if short_side is None else short_side
        self._has_flip_test = has_flip_test
        self._settings = settings or BottomUpSettings()
        if self._short_side < 1:
            raise ConfigError(f"short_side must be at least 1 pixel, got {short_side}")
        if not self._settings.aggregation.is_plain and self._embedding is None:
            raise ConfigError(
                f"model {self.description.name} decodes by {self.description.codec['type']}, which joins no "
                "scales; leave scales and projection out"
            )

    def find(self, image: Image, watch: Stopwatch, *, name: str | None = None) -> PoseResult:
        """Find the people in an RGB picture; its name does not matter."""
        del name
        size = (image.shape[0], image.shape[1])
        keypoints, scores = self._look(image, watch)
        if self._settings.zoom is not None and len(keypoints):
            is_surer = scores >= self._threshold
            keypoints, scores = zoom(
                clip_keypoints(keypoints[is_surer], size),
                scores[is_surer],
                look=lambda affine, canvas_size: self._look_at(image, affine, canvas_size, watch),
                image_size=size,
                sigmas=self.description.skeleton.sigmas,
                canvas_side=self._canvas_side(),
                settings=self._settings.zoom,
            )
        is_kept = (scores >= self._threshold) & _is_on_picture(keypoints, size)
        keypoints = clip_keypoints(keypoints[is_kept], size)
        watch.lap("grouping")
        return PoseResult(
            keypoints=keypoints,
            boxes=keypoint_boxes(keypoints, size).astype(np.float32),
            scores=np.clip(scores[is_kept], 0, 1).astype(np.float32),
            image_size=size,
            skeleton=self.description.skeleton,
            timings_ms=watch.steps_ms,
        )

    def _look(self, image: Image, watch: Stopwatch) -> tuple[Array, Array]:
        """People `[N, K, 3]` in pixels of the picture, and their scores `[N]`."""
        aggregation = self._settings.aggregation
        affine, size = self._canvas((image.shape[0], image.shape[1]))
        if aggregation.is_plain or self._embedding is None:
            return self._look_at(image, affine, size, watch)
        base_scale = aggregation.scales[aggregation.base]
        passes = []
        for scale in aggregation.scales:
            factor = scale / base_scale
            canvas_size = (round(size[0] * factor), round(size[1] * factor))
            canvas_affine = compose(affine, scaling(factor, factor))
            passes.append(self._maps(image, canvas_affine, canvas_size, watch))
        keypoints, scores = decode_passes(passes, self._embedding, aggregation, size=size)
        return transform_points(keypoints, invert(affine)).astype(np.float32), scores

    def _look_at(
        self, image: Image, affine: npt.NDArray[np.floating], size: tuple[int, int], watch: Stopwatch
    ) -> tuple[Array, Array]:
        """People on one canvas, in pixels of the picture."""
        keypoints, scores = self._codec.decode(self._maps(image, affine, size, watch))
        return transform_points(keypoints, invert(affine)).astype(np.float32), scores

    def _maps(
        self, image: Image, affine: npt.NDArray[np.floating], size: tuple[int, int], watch: Stopwatch
    ) -> Maps:
        """Run the network on one canvas, and on its mirror image where that is asked for."""
        canvas = draw_canvas(image, affine, size, self.description.input)
        watch.lap("resize")
        maps = self._network.run(canvas)
        if self._has_flip_test:
            flipped = self._network.run(np.ascontiguousarray(canvas[..., ::-1]))
            maps = self._codec.merge_flipped(maps, flipped, self.description.skeleton.flip_permutation)
        watch.lap("network")
        return maps

    def _canvas(self, image_size: tuple[int, int]) -> tuple[npt.NDArray[np.floating], tuple[int, int]]:
        """Affine map and size of the canvas of the base look."""
        aggregation = self._settings.aggregation
        scale = aggregation.scales[aggregation.base]
        if self._settings.has_canvas_of_64:
            smallest = min(aggregation.scales)
            return fit_canvas_64(image_size, short_side=self._short_side, scale=scale, min_scale=smallest)
        multiple = self.description.input.multiple
        if len(aggregation.scales) > 1:
            multiple = aggregation.canvas_multiple(multiple)
        given = self.description.input
        # Whoever asks for a longer short side asks for more pixels along the other one too.
        longest = round(given.max_side * scale * self._short_side / given.short_side)
        affine, size = fit_canvas(
            image_size,
            short_side=max(1, round(self._short_side * scale)),
            multiple=multiple,
            max_side=max(multiple, min(longest, max(MAX_SIDE, given.max_side))),
        )
        return _padded(affine, size, min_side=given.min_side)

    def _canvas_side(self) -> int:
        """Side of a square canvas that the network takes, about as large as pictures are brought to."""
        multiple = self.description.input.multiple
        return max(1, round(self._short_side / multiple)) * multiple


def _padded(
    affine: npt.NDArray[np.floating], size: tuple[int, int], *, min_side: int
) -> tuple[npt.NDArray[np.floating], tuple[int, int]]:
    """Widen a canvas of `size` (h, w) to `min_side` pixels, with what lies on it in the middle."""
    padded = (max(size[0], min_side), max(size[1], min_side))
    moved = np.array(affine, np.float64)
    moved[:, 2] += ((padded[1] - size[1]) / 2, (padded[0] - size[0]) / 2)
    return moved, padded


def _is_on_picture(keypoints: Array, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """`[N]` True for people with a found keypoint on the picture of `size` (h, w), not on the padding."""
    return np.asarray((is_inside(keypoints, size) & (keypoints[..., 2] > 0)).any(axis=1))

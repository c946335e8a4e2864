"""One person per crop: boxes, crops, network, codec, and back to the picture's own pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleetpose.codecs.cleanup import remove_redundant, remove_within
from fleetpose.codecs.expected_oks import person_scores
from fleetpose.codecs.looks import join_looks
from fleetpose.codecs.top_down import TopDownCodec
from fleetpose.errors import ConfigError, ShapeError
from fleetpose.geometry import (
    Image,
    affine_of_cells,
    box_areas,
    compose,
    fit_box,
    invert,
    keypoint_boxes,
    transform_points,
)
from fleetpose.results import PoseResult
from fleetpose.runtime.canvas import Network, clip_keypoints, draw_canvas, run_each, takes_batches
from fleetpose.runtime.timing import Stopwatch

Array = npt.NDArray[np.float32]

#: Most crops that go through a network at once: more would take memory and save no more time.
GROUP = 8
#: A closer look is framed by the keypoints of at least this score, if there are as many as `FEWEST_SEEN`.
SEEN = 0.15
FEWEST_SEEN = 4
#: Room around them, as a share of their greater extent.
CLOSER_MARGIN = 0.08
#: By which powers the box of a found person grows surer with the person's score and, up to the largest, with
#: its area in pixels: chosen on kept-out `lspet` and rendered pictures.
FOUND_POWER = 0.5
SIZE_POWER, LARGE_AREA = 0.3, 256.0**2


@dataclass(frozen=True, slots=True, kw_only=True)
class TopDownSettings:
    """How people are scored and doubles dropped, as in Xiao et al. (arXiv:1804.06208).

    Attributes:
        keypoint_threshold: a person's score is the box's score times the mean score of the keypoints above
            this. Models that decode by expected similarity have a rule of their own, without it.
        redundancy: of people more alike than this the surer stays (object keypoint similarity); 1 for all.
        within_share: people with at most this share of a surer one's score, within whom they lie, are dropped
            (`remove_within`); 0 for none.
        has_closer_look: look at those who are left once more, framed by their keypoints and mirrored, and
            average what both looks say; None for whoever's box is rough.
    """

    keypoint_threshold: float = 0.2
    redundancy: float = 0.9
    within_share: float = 0.0
    has_closer_look: bool | None = None

    def __post_init__(self) -> None:
        for name in ("keypoint_threshold", "redundancy", "within_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"top_down.{name} must be from 0 to 1, got {getattr(self, name)}")


class _Look(NamedTuple):
    """What a network says of N people: maps `[N, K, h, w]`, and affine maps `[N, 2, 3]` to their crops."""

    maps: Array
    frames: npt.NDArray[np.float64]

    def select(self, kept: npt.NDArray[np.int64]) -> _Look:
        return _Look(self.maps[kept], self.frames[kept])


class TopDown:
    """Finds the keypoints of people whose boxes are known.

    Attributes:
        description: what the model says about itself.
    """

    def __init__(
        self,
        network: Network,
        codec: TopDownCodec,
        *,
        has_flip_test: bool = False,
        settings: TopDownSettings | None = None,
    ) -> None:
        """Take a loaded network and its codec; see `load` for the settings."""
        self.description = network.description
        self._network = network
        self._codec = codec
        self._group = GROUP if takes_batches(network) else 1
        self._has_flip_test = has_flip_test
        self._settings = settings or TopDownSettings()

    def find(
        self, image: Image, boxes: Array, watch: Stopwatch, *, are_boxes_rough: bool = False
    ) -> PoseResult:
        """Find the keypoints of the people in boxes of an RGB picture.

        Args:
            image: the picture.
            boxes: `[N, 5]` (x1, y1, x2, y2, score), see `check_boxes`.
            watch: is told of each step.
            are_boxes_rough: they tell hardly where people are, so that a closer look helps much.

        Returns:
            People by falling score, with the boxes that were given, or those of the closer look, cut to the
            picture.
        """
        size = (image.shape[0], image.shape[1])
        look = self._look(image, boxes, watch)
        keypoints = self._keypoints(look, size)
        scores, kept = self._choose(keypoints, boxes)
        has_closer_look = self._settings.has_closer_look
        if len(kept) and (are_boxes_rough if has_closer_look is None else has_closer_look):
            first, boxes = look.select(kept), _closer(boxes[kept], keypoints[kept], size)
            look = self._joined(first, self._look(image, boxes, watch, is_mirrored=True))
            keypoints = self._keypoints(look, size)
            scores, kept = self._choose(keypoints, boxes)
        low, high = np.array([-0.5] * 4), np.array([size[1], size[0]] * 2) - 0.5
        watch.lap("grouping")
        return PoseResult(
            keypoints=keypoints[kept],
            boxes=np.clip(boxes[kept, :4], low, high).astype(np.float32),
            scores=np.clip(scores[kept], 0, 1).astype(np.float32),
            image_size=size,
            skeleton=self.description.skeleton,
            timings_ms=watch.steps_ms,
        )

    def _choose(self, keypoints: Array, boxes: Array) -> tuple[Array, npt.NDArray[np.int64]]:
        """Scores of people `[N]`, and the numbers of those who stay, by falling score."""
        scores = self._scores(keypoints, boxes[:, 4])
        settings, sigmas = self._settings, self.description.skeleton.sigmas
        kept = remove_redundant(keypoints, scores, sigmas=sigmas, threshold=settings.redundancy)
        return scores, kept[remove_within(keypoints[kept], scores[kept], score_share=settings.within_share)]

    def _scores(self, keypoints: Array, box_scores: Array) -> Array:
        if self._codec.has_expected_scores:
            return person_scores(keypoints[..., 2], box_scores)
        return rescore(keypoints, box_scores, above=self._settings.keypoint_threshold)

    def _look(self, image: Image, boxes: Array, watch: Stopwatch, *, is_mirrored: bool = False) -> _Look:
        """Look at the people in boxes; the network may see mirrored crops, the maps are never mirrored."""
        codec = self._codec
        (item,) = codec.fields
        frames = [fit_box(box[:4], codec.input_size, padding=codec.box_padding) for box in boxes]
        heatmaps: list[Array] = []
        for start in range(0, len(frames), self._group):
            canvases = [
                draw_canvas(image, frame, codec.input_size, self.description.input)
                for frame in frames[start : start + self._group]
            ]
            if is_mirrored:
                canvases = [_mirrored(canvas) for canvas in canvases]
            watch.lap("resize")
            maps = self._maps(canvases)
            if is_mirrored:
                maps = [codec.mirror_back(one, self.description.skeleton.flip_permutation) for one in maps]
            heatmaps += [one[item.name] for one in maps]
            watch.lap("network")
        h, w = (side // item.stride for side in codec.input_size)
        shape = (0, item.channels, h, w)
        return _Look(
            np.stack(heatmaps) if heatmaps else np.zeros(shape, np.float32),
            np.array(frames, np.float64).reshape(-1, 2, 3),
        )

    def _joined(self, first: _Look, second: _Look) -> _Look:
        """Both looks at the same people, in the frames of the second one."""
        (item,) = self._codec.fields
        moves = [
            affine_of_cells(
                compose(invert(before), after),
                item.stride,
                is_corner_aligned=self._codec.is_corner_aligned,
            )
            for before, after in zip(first.frames, second.frames, strict=True)
        ]
        return _Look(join_looks(first.maps, second.maps, moves), second.frames)

    def _keypoints(self, look: _Look, size: tuple[int, int]) -> Array:
        """Keypoints `[N, K, 3]` in pixels of the picture of `size` (h, w)."""
        (item,) = self._codec.fields
        if not len(look.maps):
            return np.zeros((0, item.channels, 3), np.float32)
        found = self._codec.decode({item.name: look.maps})
        people = [
            transform_points(person, invert(frame)) for person, frame in zip(found, look.frames, strict=True)
        ]
        return clip_keypoints(np.stack(people).astype(np.float32), size)

    def _maps(self, canvases: Sequence[Array]) -> list[dict[str, Array]]:
        maps = run_each(self._network, canvases)
        if not self._has_flip_test:
            return maps
        flipped = run_each(self._network, [_mirrored(one) for one in canvases])
        permutation = self.description.skeleton.flip_permutation
        return [
            self._codec.merge_flipped(one, back, permutation) for one, back in zip(maps, flipped, strict=True)
        ]


def _mirrored(canvas: Array) -> Array:
    return np.ascontiguousarray(canvas[..., ::-1])


def _closer(boxes: Array, keypoints: Array, size: tuple[int, int]) -> Array:
    """Boxes `[N, 5]` around the keypoints that were seen, where there are enough, in place of those given."""
    is_seen = keypoints[..., 2] >= SEEN
    around = keypoint_boxes(np.where(is_seen[..., None], keypoints, 0), size, even_margin=CLOSER_MARGIN)
    has_enough = is_seen.sum(axis=1) >= FEWEST_SEEN
    framed = np.where(has_enough[:, None], around, boxes[:, :4])
    return np.concatenate([framed, boxes[:, 4:]], axis=1).astype(np.float32)


def rescore(keypoints: Array, box_scores: Array, *, above: float) -> Array:
    """Scores of people `[N]`: the box's times the mean of the keypoints' scores above a threshold.

    >>> keypoints = np.array([[[5, 5, 0.5], [6, 6, 0.1]]])
    >>> rescore(keypoints, np.array([0.8]), above=0.2).tolist()
    [0.4]
    """
    scores = keypoints[..., 2]
    counts = scores > above
    means = np.where(counts, scores, 0).sum(axis=1) / np.maximum(counts.sum(axis=1), 1)
    return np.asarray(box_scores * means)


def check_boxes(boxes: npt.ArrayLike) -> Array:
    """Boxes `[N, 4]` xyxy or `[N, 5]` with a score, in pixels of the picture → `[N, 5]` float32.

    A box without a score has 1.

    Raises:
        ShapeError: another shape, a box turned inside out, no finite number, or a score outside 0 to 1.
    """
    array = np.asarray(boxes, np.float32)
    if array.size == 0:
        return np.zeros((0, 5), np.float32)
    if array.ndim != 2 or array.shape[1] not in {4, 5}:
        raise ShapeError("boxes", "of shape [N, 4] (x1, y1, x2, y2) or [N, 5] with a score", array.shape)
    if not np.isfinite(array).all():
        raise ShapeError("boxes", "finite numbers", "NaN or infinity")
    if (array[:, :2] > array[:, 2:4]).any():
        raise ShapeError("boxes", "x1, y1, x2, y2 with x1 <= x2 and y1 <= y2", "one turned inside out")
    if array.shape[1] == 4:
        return np.concatenate([array, np.ones((len(array), 1), np.float32)], axis=1)
    if ((array[:, 4] < 0) | (array[:, 4] > 1)).any():
        raise ShapeError("scores of boxes", "from 0 to 1", f"{array[:, 4].min():g} to {array[:, 4].max():g}")
    return array


def boxes_around(result: PoseResult) -> Array:
    """Boxes `[N, 5]` around people who were found, and how sure it is that they hold somebody.

    That is less spread than their scores, since a second look tells better than the first how good they are;
    and less sure for people of few pixels, who are nobody more often than their scores tell.
    """
    boxes = keypoint_boxes(result.keypoints, result.image_size)
    sizes = np.minimum(box_areas(boxes) / LARGE_AREA, 1)
    sureness = result.scores**FOUND_POWER * sizes**SIZE_POWER
    return np.concatenate([boxes, sureness[:, None]], axis=1).astype(np.float32)

"""A second look of a bottom-up network at each person it found, cut out and enlarged.

A person who is small in the whole picture has few cells to be found in; cut out, everybody has the same
number. No second network is needed, unlike in the top-down cascade.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetpose.codecs.cleanup import remove_redundant
from fleetpose.errors import ConfigError
from fleetpose.geometry import box_ious, fit_box, keypoint_boxes

Array = npt.NDArray[np.float32]
#: Affine map and size (h, w) of a canvas → people `[N, K, 3]` in pixels of the picture, and scores `[N]`.
Look = Callable[[npt.NDArray[np.floating], tuple[int, int]], tuple[Array, Array]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoomSettings:
    """How people are looked at again.

    Attributes:
        fill: the longer side of a person's box is brought to this share of the canvas's side. A first look
            often misses a person's ends, which are still seen with some room.
        min_overlap: who is found in the cut-out must overlap the person by this intersection over union.
        max_people: only so many people, the surest, are looked at again.
        redundancy: people more alike than this afterwards are one (object keypoint similarity).
        is_best_kept: keep the first look where it was surer, rather than always taking the second.
    """

    fill: float = 0.7
    min_overlap: float = 0.3
    max_people: int = 20
    redundancy: float = 0.9
    is_best_kept: bool = True

    def __post_init__(self) -> None:
        for name in ("fill", "min_overlap", "redundancy"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"zoom.{name} must be above 0 and at most 1, got {getattr(self, name)}")
        if self.max_people < 1:
            raise ConfigError(f"zoom.max_people must be at least 1, got {self.max_people}")


def zoom(
    keypoints: Array,
    scores: Array,
    *,
    look: Look,
    image_size: tuple[int, int],
    sigmas: Sequence[float],
    canvas_side: int,
    settings: ZoomSettings,
) -> tuple[Array, Array]:
    """Look again at each person, and keep the better of both looks.

    Args:
        keypoints: `[N, K, 3]` (x, y, score) in pixels of the picture.
        scores: `[N]`.
        look: finds people on a canvas.
        image_size: (h, w) of the picture.
        sigmas: `[K]` of the skeleton.
        canvas_side: of the square canvas, in pixels.
        settings: see there.

    Returns:
        People and scores as given, by falling score; those who turned out to be the same are one.
    """
    keypoints, scores = keypoints.copy(), scores.copy()
    boxes = keypoint_boxes(keypoints, image_size)
    for person in np.argsort(-scores, kind="stable")[: settings.max_people].tolist():
        affine = fit_box(boxes[person], (canvas_side, canvas_side), padding=1 / settings.fill)
        found, found_scores = look(affine, (canvas_side, canvas_side))
        overlaps = box_ious(boxes[person : person + 1], keypoint_boxes(found, image_size))[0]
        if not len(found) or overlaps.max() < settings.min_overlap:
            continue
        best = int(overlaps.argmax())
        if not settings.is_best_kept or found_scores[best] > scores[person]:
            keypoints[person], scores[person] = found[best], found_scores[best]
    kept = remove_redundant(keypoints, scores, sigmas=sigmas, threshold=settings.redundancy)
    return keypoints[kept], scores[kept]

"""A picture in several sizes: who is missed in one, because too small or too large, is found in another.

A network finds people of the sizes that it was trained on. `Scales` of one look average maps, which sharpens
what all sizes show; here every size finds its own people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fleetpose.geometry import Image, box_ious
from fleetpose.results import PoseResult
from fleetpose.runtime.cascade import Finder
from fleetpose.runtime.timing import Stopwatch

#: People of different sizes whose boxes overlap by more than this (intersection over union) are one.
SAME_PERSON = 0.5


class SeveralSizes:
    """Several finders, each with a size of its own, whose people are put together.

    Attributes:
        description: of the model.
    """

    def __init__(self, finders: Sequence[Finder]) -> None:
        """Take finders, at least one, that differ in the size to which they bring a picture."""
        self.description = finders[0].description
        self._finders = tuple(finders)

    def find(self, image: Image, watch: Stopwatch, *, name: str | None = None) -> PoseResult:
        """Find the people in an RGB picture: of those found in several sizes, the surest."""
        results = [finder.find(image, watch, name=name) for finder in self._finders]
        first = results[0]
        scores = np.concatenate([result.scores for result in results])
        boxes = np.concatenate([result.boxes for result in results])
        kept = surest(boxes, scores, overlap=SAME_PERSON)
        watch.lap("grouping")
        return replace(
            first,
            keypoints=np.concatenate([result.keypoints for result in results])[kept],
            boxes=boxes[kept],
            scores=scores[kept],
            timings_ms=watch.steps_ms,
        )


def surest(
    boxes: npt.NDArray[np.floating], scores: npt.NDArray[np.floating], *, overlap: float
) -> npt.NDArray[np.int64]:
    """Choose among people whose boxes overlap the one with the highest score → their numbers, surest first.

    Args:
        boxes: `[N, 4]` xyxy.
        scores: `[N]`; of equal ones the first wins.
        overlap: intersection over union from which on two people are taken for one.

    >>> boxes = np.array([[0, 0, 10, 10], [0, 1, 10, 10], [20, 0, 30, 10]], float)
    >>> surest(boxes, np.array([0.5, 0.9, 0.7]), overlap=0.6).tolist()
    [1, 2]
    """
    overlaps = box_ious(boxes, boxes)
    kept: list[int] = []
    for person in np.argsort(-scores, kind="stable").tolist():
        if not kept or overlaps[person, kept].max() < overlap:
            kept.append(person)
    return np.array(kept, np.int64)

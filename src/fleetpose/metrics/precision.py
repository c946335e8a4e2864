"""Precision and recall over the scores of detections: the curves behind average precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetpose.metrics.matching import MAX_PER_IMAGE, match, pair_up
from fleetpose.metrics.tables import Detections, Labels

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Object keypoint similarities over which average precision is averaged: 0.50, 0.55, …, 0.95.
OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)
#: Recalls at which precision is read off: 0.00, 0.01, …, 1.00.
RECALLS = np.linspace(0.0, 1.0, 101)

#: A range of areas in square pixels, both ends included.
AreaRange = tuple[float, float]
ALL_SIZES: AreaRange = (0.0, 1e5**2)
SMALL: AreaRange = (0.0, 32.0**2)
MEDIUM: AreaRange = (32.0**2, 96.0**2)
LARGE: AreaRange = (96.0**2, 1e5**2)


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Precision and recall per category, range of areas and threshold; -1 where nobody labelled counts.

    Attributes:
        precision: by category, range, threshold and recall (`RECALLS`).
        recall: by category, range and threshold: the highest that is reached.
    """

    precision: Array
    recall: Array

    def average_precision(self, size: int = 0, *, threshold: int | None = None) -> float:
        """Mean precision of a range of areas at one threshold, by their positions, or at all."""
        return _mean(self.precision[:, size] if threshold is None else self.precision[:, size, threshold])

    def average_recall(self, size: int = 0, *, threshold: int | None = None) -> float:
        """Mean recall of a range of areas at one threshold, by their positions, or at all."""
        return _mean(self.recall[:, size] if threshold is None else self.recall[:, size, threshold])


def curves(
    labels: Labels,
    detections: Detections,
    sigmas: Sequence[float],
    *,
    sizes: Sequence[AreaRange] = (ALL_SIZES,),
) -> Curves:
    """Match detections with labels as COCO's tool does, and follow precision over recall.

    Args:
        labels: who is there.
        detections: who was found.
        sigmas: `[K]` spread of annotators per keypoint.
        sizes: ranges of areas; people outside count as ignored.
    """
    categories = np.unique(labels.categories[~labels.is_ignored])
    tables = [
        _curves_of_one(
            labels.select(labels.categories == category),
            detections.select(detections.categories == category),
            np.asarray(sigmas, np.float64),
            sizes,
        )
        for category in categories.tolist()
    ]
    shape = (len(tables), len(sizes), len(OKS_THRESHOLDS))
    precision = np.array([table[0] for table in tables]).reshape(*shape, len(RECALLS))
    return Curves(precision=precision, recall=np.array([table[1] for table in tables]).reshape(shape))


def _curves_of_one(
    labels: Labels, detections: Detections, sigmas: Array, sizes: Sequence[AreaRange]
) -> tuple[Array, Array]:
    """Precision and recall of one category, a row per range of areas and threshold."""
    pairs = pair_up(
        labels,
        detections,
        sigmas,
        min_similarity=OKS_THRESHOLDS[0],
        max_per_image=MAX_PER_IMAGE,
    )
    repeats = len(OKS_THRESHOLDS)
    is_ignored = np.repeat(
        [labels.is_ignored | _is_outside(labels.areas, size) for size in sizes], repeats, 0
    )
    is_outside = np.repeat([_is_outside(detections.areas[pairs.order], size) for size in sizes], repeats, 0)
    matches = match(pairs, labels, is_ignored, np.tile(OKS_THRESHOLDS, len(sizes)))
    by_score = np.argsort(-detections.scores[pairs.order], kind="stable")
    rows = [
        _curve(matched[by_score], ignored, outside[by_score])
        for matched, ignored, outside in zip(matches, is_ignored, is_outside, strict=True)
    ]
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


def _curve(matched: npt.NDArray[np.int64], is_ignored: Mask, is_outside: Mask) -> tuple[Array, float]:
    """Precision at `RECALLS`, and the highest recall, of one range of areas and one threshold.

    Args:
        matched: `[N]` label of each detection, -1 for none, best detection first.
        is_ignored: `[M]` labels that do not count.
        is_outside: `[N]` detections that count only if they match.
    """
    count = int((~is_ignored).sum())
    if not count:
        return np.full(len(RECALLS), -1.0), -1.0
    is_matched = matched >= 0
    is_right = is_matched.copy()
    is_right[is_matched] = ~is_ignored[matched[is_matched]]
    right = np.flatnonzero(is_right)
    if not len(right):
        return np.zeros(len(RECALLS)), 0.0
    # Precision rises only where somebody is found, so these places are enough.
    seen = np.cumsum(is_right | ~(is_matched | is_outside))[right]
    found = np.arange(1, len(right) + 1)
    precision = found / seen
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    recall = found / count
    return envelope[np.searchsorted(recall, RECALLS, side="left")], float(recall[-1])


def _is_outside(areas: Array, size: AreaRange) -> Mask:
    return np.asarray((areas < size[0]) | (areas > size[1]))


def _mean(values: Array) -> float:
    """Mean of what is known, -1 where nothing is."""
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0

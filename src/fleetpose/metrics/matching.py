"""Who was found: detections and labels of the same picture, their similarity, and COCO's greedy matching."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetpose.metrics.tables import Detections, Labels

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: COCO's tool looks at so many people per picture, those of the highest scores.
MAX_PER_IMAGE = 20

#: Pairs that are compared at a time: their keypoints fit into a processor's cache.
_CHUNK = 8192


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Detections that count, in COCO's order, and the labels that each resembles.

    All rows of the pairs belong together: `found[p]` resembles `labelled[p]` by `similarities[p]`. They come
    by rank of the detection, then by detection, then in the order of the labels.

    Attributes:
        order: index of each detection that counts, picture after picture, best first.
        ranks: place of each in its picture, 0 for the best.
        found: which one of `order`, per pair.
        labelled: which label, per pair.
        similarities: object keypoint similarity per pair.
    """

    order: Indices
    ranks: Indices
    found: Indices
    labelled: Indices
    similarities: Array


def pair_up(
    labels: Labels, detections: Detections, sigmas: Array, *, min_similarity: float, max_per_image: int
) -> Pairs:
    """Compare the best detections of each picture with the labels in it.

    Args:
        labels: who is there.
        detections: who was found; those in other pictures are left out.
        sigmas: `[K]`.
        min_similarity: pairs below are left out.
        max_per_image: so many detections of a picture count, those of the highest scores.
    """
    order, images, ranks = _best_first(labels, detections, max_per_image)
    by_image = np.argsort(labels.images, kind="stable")
    counts = np.bincount(labels.images, minlength=len(labels.image_ids))
    starts = np.cumsum(counts) - counts
    sizes = counts[images]
    found = np.repeat(np.arange(len(order)), sizes)
    offsets = np.arange(len(found)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    labelled = by_image[np.repeat(starts[images], sizes) + offsets]
    similarities = pair_similarities(labels, detections.keypoints, labelled, order[found], sigmas)
    kept = np.flatnonzero(similarities >= min_similarity)
    kept = kept[np.argsort(ranks[found[kept]], kind="stable")]
    return Pairs(order, ranks, found[kept], labelled[kept], similarities[kept])


def match(pairs: Pairs, labels: Labels, is_ignored: Mask, thresholds: Array) -> Indices:
    """Give each detection, best first, the label that it resembles most, as COCO's tool does.

    A label is given once, a crowd as often as asked for. A detection takes an ignored label only where no
    other is left. Rows are independent: each has a threshold and ignored labels of its own.

    Args:
        pairs: who resembles whom.
        labels: who is there.
        is_ignored: `[R, M]`.
        thresholds: `[R]` similarity that a match needs.

    Returns:
        `[R, N]` index of the label of each of `pairs.order`; -1 for none.
    """
    matches = np.full((len(thresholds), len(pairs.order)), -1, np.int64)
    is_taken = np.zeros((len(thresholds), len(labels)), bool)
    # COCO's tool lowers the threshold by a hair, so that 1 can be reached.
    needed = np.minimum(thresholds, 1 - 1e-10)[:, None]
    for start, end in _runs(pairs.ranks[pairs.found]):
        # Detections of one rank are in different pictures, so none takes another's label.
        labelled, values = pairs.labelled[start:end], pairs.similarities[start:end]
        groups = np.array([first for first, _ in _runs(pairs.found[start:end])])
        is_free = ~is_taken[:, labelled] | labels.is_crowd[labelled]
        is_fit = is_free & (values >= needed)
        is_second = is_ignored[:, labelled]
        best = _last_best(is_fit & ~is_second, values, groups)
        second = _last_best(is_fit & is_second, values, groups)
        chosen = np.where(best >= 0, best, second)
        rows, columns = np.nonzero(chosen >= 0)
        label = labelled[chosen[rows, columns]]
        is_taken[rows, label] = True
        matches[rows, pairs.found[start:end][groups[columns]]] = label
    return matches


def pair_similarities(
    labels: Labels, keypoints: Array, labelled: Indices, found: Indices, sigmas: Array
) -> Array:
    """Object keypoint similarity of pairs, to the last bit as COCO's tool has it.

    To a label without keypoints the distance is that of each keypoint to the label's box, made three times as
    large.

    Args:
        labels: who is there.
        keypoints: `[N, K, 3]` of the detections.
        labelled: label of each pair.
        found: detection of each pair.
        sigmas: `[K]`.
    """
    similarities = np.zeros(len(found))
    variances = (np.asarray(sigmas, np.float64) * 2) ** 2
    is_labelled = labels.is_labelled
    counts = is_labelled.sum(axis=1)
    first = np.argsort(~is_labelled, axis=1, kind="stable")  # labelled keypoints first
    # Sums over as many numbers as COCO's tool adds round as they do there.
    for count in np.unique(counts[labelled]).tolist():
        for part in _chunks(np.flatnonzero(counts[labelled] == count)):
            label, one = labelled[part], found[part]
            if count:
                which = first[label, :count]
                squares = _squared_distances(labels.keypoints, keypoints, label, one, which)
                spread = variances[which]
            else:
                squares = _squared_distances_to_boxes(labels.boxes_xywh[label], keypoints[one])
                spread = variances
            exponents = squares / spread / (labels.areas[label] + np.spacing(1))[:, None] / 2
            similarities[part] = np.exp(-exponents).sum(axis=1) / exponents.shape[1]
    return similarities


def _squared_distances(
    references: Array, keypoints: Array, label: Indices, found: Indices, which: Indices
) -> Array:
    rows = label[:, None], which
    others = found[:, None], which
    x = keypoints[..., 0][others] - references[..., 0][rows]
    y = keypoints[..., 1][others] - references[..., 1][rows]
    return np.asarray(x**2 + y**2)


def _squared_distances_to_boxes(boxes_xywh: Array, keypoints: Array) -> Array:
    x, y, w, h = boxes_xywh.T[:, :, None]
    right = np.maximum(0, (x - w) - keypoints[..., 0]) + np.maximum(0, keypoints[..., 0] - (x + w * 2))
    down = np.maximum(0, (y - h) - keypoints[..., 1]) + np.maximum(0, keypoints[..., 1] - (y + h * 2))
    return np.asarray(right**2 + down**2)


def _best_first(
    labels: Labels, detections: Detections, max_per_image: int
) -> tuple[Indices, Indices, Indices]:
    """Detections that count, picture after picture and best first → indices, pictures, ranks."""
    if not len(labels.image_ids):
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, nothing
    positions = np.searchsorted(labels.image_ids, detections.image_ids).clip(max=len(labels.image_ids) - 1)
    order = np.lexsort((-detections.scores, positions))
    order = order[labels.image_ids[positions[order]] == detections.image_ids[order]]
    images = positions[order]
    starts = np.searchsorted(images, images)
    ranks = np.arange(len(order)) - starts
    is_kept = ranks < max_per_image
    return order[is_kept], images[is_kept], ranks[is_kept]


def _last_best(is_fit: Mask, values: Array, groups: Indices) -> Indices:
    """Per row and group of columns: the last column of the highest value that fits, or -1.

    Args:
        is_fit: one row per threshold, one column per pair.
        values: of the columns, above 0.
        groups: first column of each group.
    """
    fitting = np.where(is_fit, values, -1.0)
    highest = np.maximum.reduceat(fitting, groups, axis=1)
    sizes = np.diff(np.append(groups, len(values)))
    is_best = is_fit & (fitting == np.repeat(highest, sizes, axis=1))
    columns = np.where(is_best, np.arange(len(values)), -1)
    return np.asarray(np.maximum.reduceat(columns, groups, axis=1))


def _runs(values: Indices) -> Iterator[tuple[int, int]]:
    """Start and end of each run of equal values."""
    edges = np.flatnonzero(np.diff(values)) + 1
    yield from zip([0, *edges.tolist()], [*edges.tolist(), len(values)], strict=True) if len(values) else ()


def _chunks(indices: Indices) -> Iterator[Indices]:
    for start in range(0, len(indices), _CHUNK):
        yield indices[start : start + _CHUNK]

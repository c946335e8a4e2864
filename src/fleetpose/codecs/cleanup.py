"""Clean-up of decoded people: each rule is a function of its own, and says whom to keep.

All take people after decoding and return indices or a mask, such as `PoseResult.select` takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fleetpose.errors import ShapeError

Array = npt.NDArray[np.floating]
Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

#: See `remove_within`.
WITHIN_SHARE, WITHIN_BORDER = 0.9, 0.05


def keep_scores(scores: Array, *, at_least: float) -> Mask:
    """Keep people whose score `[N]` is high enough → `[N]`.

    >>> keep_scores(np.array([0.1, 0.5]), at_least=0.2).tolist()
    [False, True]
    """
    return np.asarray(scores >= at_least)


def keep_complete(keypoints: Array, *, at_least: int, above: float = 0.0) -> Mask:
    """Keep people `[N, K, 3]` that have so many keypoints with a score above the given one → `[N]`."""
    return np.asarray((keypoints[..., 2] > above).sum(axis=1) >= at_least)


def remove_redundant(
    keypoints: Array, scores: Array, *, sigmas: Sequence[float], threshold: float = 0.9, above: float = 0.0
) -> Indices:
    """Drop people that are nearly the same as a better one (non-maximum suppression by keypoint similarity).

    Two people are compared by their object keypoint similarity over the keypoints that both have, where the
    area is that of the box around those of the better one. People who share no keypoint are different.

    Args:
        keypoints: `[N, K, 3]` (x, y, score).
        scores: `[N]`.
        sigmas: `[K]` spread of annotators per keypoint, such as a skeleton's.
        threshold: people more similar than this to a kept one are dropped.
        above: a keypoint counts where its score is above this.

    Returns:
        Indices of the people to keep, by falling score.
    """
    if keypoints.ndim != 3 or keypoints.shape[1:] != (len(sigmas), 3) or len(scores) != len(keypoints):
        raise ShapeError("keypoints", f"of shape [{len(scores)}, {len(sigmas)}, 3]", list(keypoints.shape))
    similarity = _similarities(keypoints.astype(np.float64), np.asarray(sigmas, np.float64), above=above)
    kept: list[int] = []
    for person in np.argsort(-scores, kind="stable").tolist():
        if not (similarity[kept, person] > threshold).any():
            kept.append(person)
    return np.array(kept, np.intp)


def remove_within(keypoints: Array, scores: Array, *, score_share: float) -> Indices:
    """Drop people who lie within a much surer one: mostly that person again, squeezed into a part of it.

    Within is who has nine tenths of the found keypoints in the box around the other's, widened on all sides
    by a twentieth of its longer side.

    Args:
        keypoints: `[N, K, 3]` (x, y, score); a keypoint with score 0 was not found.
        scores: `[N]`.
        score_share: people with at most this share of a kept one's score, within whom they lie, are dropped;
            0 drops nobody.

    Returns:
        Indices of the people to keep, by falling score.
    """
    order = np.argsort(-scores, kind="stable").tolist()
    if not score_share:
        return np.array(order, np.intp)
    has = keypoints[..., 2] > 0
    points = keypoints[..., :2]
    low, high = _corners(points, has)
    border = WITHIN_BORDER * np.maximum(high - low, 0).max(axis=1, keepdims=True, initial=0)
    kept: list[int] = []
    for person in order:
        surer = [other for other in kept if scores[person] <= score_share * scores[other]]
        place = points[person][None]
        first, last = (low - border)[surer, None], (high + border)[surer, None]
        inside = ((place >= first) & (place <= last)).all(axis=2) & has[person]
        if not (inside.sum(axis=1) >= WITHIN_SHARE * max(has[person].sum(), 1)).any():
            kept.append(person)
    return np.array(kept, np.intp)


def remove_near_duplicates(keypoints: Array, *, distance: float = 3.0) -> Indices:
    """Drop people whose coordinates differ, on average, by less than a distance from a kept one's.

    The redundant-pose filter of EfficientHRNet (Neff et al., arXiv:2007.08090): in the order given, the mean
    runs over all keypoints and both coordinates, found or not.

    Args:
        keypoints: `[N, K, 3]` (x, y, score), in pixels.
        distance: in pixels.

    Returns:
        Indices of the people to keep, rising.
    """
    kept: list[int] = []
    for person in range(len(keypoints)):
        difference = np.abs(keypoints[kept, :, :2] - keypoints[person, :, :2])
        if not (difference.mean(axis=(1, 2)) < distance).any():
            kept.append(person)
    return np.array(kept, np.intp)


def _similarities(keypoints: Array, sigmas: Array, *, above: float) -> Array:
    """Object keypoint similarity of the row's person to the column's, by the row's area → `[N, N]`."""
    has = keypoints[..., 2] > above  # [N, K]
    points = keypoints[..., :2]
    low, high = _corners(points, has)
    sides = np.maximum(np.where(np.isfinite(high - low), high - low, 0), 1)
    areas = sides.prod(axis=1)
    shared = has[:, None] & has[None]  # [N, N, K]
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    alike = np.exp(-squared / (2 * areas[:, None, None] * (2 * sigmas) ** 2))
    return np.asarray(np.where(shared, alike, 0).sum(axis=-1) / np.maximum(shared.sum(axis=-1), 1))


def _corners(points: Array, has: Mask) -> tuple[Array, Array]:
    """Lowest and highest coordinates `[N, 2]` of those points `[N, K, 2]` that people have."""
    low = np.where(has[..., None], points, np.inf).min(axis=1, initial=np.inf)
    high = np.where(has[..., None], points, -np.inf).max(axis=1, initial=-np.inf)
    return low, high

"""Put together what two looks at the same people found."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

#: Two looks mean the same place if they differ by no more than this share of the root of the box's area. On
#: kept-out pictures 0.1 and 0.2 do alike, and both better than the surer place alone.
SAME_PLACE = 0.2


def join_looks(first: Array, second: Array, areas: npt.NDArray[np.floating]) -> Array:
    """Keypoints `[N, K, 3]` (x, y, score) of two looks at the same N people → one of each.

    Where both mean the same place, that is the mean of both, weighted by their scores, with the higher score;
    elsewhere the surer one stays.

    Args:
        first: keypoints of one look.
        second: keypoints of the other.
        areas: of the people's boxes `[N]`, in square pixels.

    >>> looks = np.array([[[0.0, 0, 0.2]]]), np.array([[[3.0, 0, 0.4]]])
    >>> join_looks(*looks, np.array([400.0])).tolist(), join_looks(*looks, np.array([100.0])).tolist()
    ([[[2.0, 0.0, 0.4]]], [[[3.0, 0.0, 0.4]]])
    """
    scores_a, scores_b = first[..., 2:], second[..., 2:]
    total = scores_a + scores_b
    share = np.divide(scores_b, total, out=np.full_like(total, 0.5), where=total > 0)
    distances = np.linalg.norm(first[..., :2] - second[..., :2], axis=-1, keepdims=True)
    is_same = distances <= SAME_PLACE * np.sqrt(areas)[:, None, None]
    between = np.concatenate(
        [first[..., :2] + share * (second[..., :2] - first[..., :2]), np.maximum(scores_a, scores_b)], axis=-1
    )
    surer = np.where(scores_b > scores_a, second, first)
    return np.asarray(np.where(is_same, between, surer), first.dtype)

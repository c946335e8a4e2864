"""Put together what two looks at the same people say."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


def join_looks(first: Array, second: Array, moves: Sequence[npt.NDArray[np.floating]]) -> Array:
    """Average the heatmaps `[N, K, h, w]` of two looks at the same N people, in the frames of the second.

    Where the first look saw nothing, beyond its frame, the second alone counts.

    Args:
        first: maps of one look.
        second: maps of the other, of the same shape.
        moves: N affine maps `[2, 3]`, from the cells of a person's first frame to the cells of the second.

    >>> first, second = np.full((1, 1, 1, 4), 0.5, np.float32), np.full((1, 1, 1, 4), 1, np.float32)
    >>> join_looks(first, second, [np.array([[1.0, 0, 2], [0, 1, 0]])]).tolist()
    [[[[1.0, 1.0, 0.75, 0.75]]]]
    """
    joined = np.empty_like(second)
    for person, move in enumerate(moves):
        moved = np.stack([_moved(one, move) for one in first[person]])
        share_seen = _moved(np.ones_like(first[person, 0]), move)
        joined[person] = (moved + second[person]) / (share_seen + 1)
    return joined


def _moved(heatmap: Array, move: npt.NDArray[np.floating]) -> Array:
    """Draw one map `[h, w]` where an affine map brings it, with 0 beyond it."""
    h, w = heatmap.shape
    return np.asarray(cv2.warpAffine(heatmap, move, (w, h), flags=cv2.INTER_LINEAR), np.float32)

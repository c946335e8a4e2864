"""Object keypoint similarity: 1 for the same pose, falling with distance in units of a person's size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fleetpose.errors import ShapeError

Array = npt.NDArray[np.floating]


def oks(keypoints: Array, references: Array, *, areas: Array, sigmas: Sequence[float]) -> Array:
    """Object keypoint similarity of every person with every reference person (COCO's definition).

    It is the mean, over the keypoints that the reference has, of exp(-d² / (2 area (2 sigma)²)).

    Args:
        keypoints: `[N, K, 2+]` (x, y, …); all count, found or not.
        references: `[M, K, 3]` (x, y, v or score); those with the third above 0 count.
        areas: `[M]` areas of the reference people, in square pixels.
        sigmas: `[K]` spread of annotators per keypoint, as a share of sqrt(area).

    Returns:
        `[N, M]` in [0, 1]; 0 for a reference without any keypoint.

    >>> person = np.array([[[10.0, 10.0, 2.0]]])
    >>> oks(person, person, areas=np.array([100.0]), sigmas=[0.1]).tolist()
    [[1.0]]
    """
    if keypoints.ndim != 3 or keypoints.shape[1:2] != (len(sigmas),):
        raise ShapeError("keypoints", f"of shape [N, {len(sigmas)}, 2 or more]", list(keypoints.shape))
    if references.ndim != 3 or references.shape[1:] != (len(sigmas), 3):
        raise ShapeError("references", f"of shape [M, {len(sigmas)}, 3]", list(references.shape))
    difference = keypoints[:, None, :, :2].astype(np.float64) - references[None, :, :, :2]
    variances = (2 * np.asarray(sigmas, np.float64)) ** 2
    scale = 2 * variances * (np.asarray(areas, np.float64)[:, None] + np.spacing(1))  # [M, K]
    similarity = np.exp(-(difference**2).sum(axis=-1) / scale)  # [N, M, K]
    is_labelled = references[..., 2] > 0
    return np.asarray(
        np.where(is_labelled, similarity, 0).sum(axis=-1) / np.maximum(is_labelled.sum(axis=-1), 1)
    )

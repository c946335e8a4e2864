"""Percentage of correct keypoints: how many lie within a share of the torso's diagonal of their label.

The torso's diagonal is the distance from the left shoulder to the right hip, as on Leeds Sports Pose; where
one of these is not labelled, from the right shoulder to the left hip; people with neither are not scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetpose.errors import ShapeError
from fleetpose.geometry import box_ious
from fleetpose.skeletons import Skeleton

Array = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]

#: The twelve keypoints whose mean is reported: every built-in skeleton has them.
LIMB_KEYPOINTS = tuple(
    f"{side}_{name}"
    for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for side in ("left", "right")
)


@dataclass(frozen=True, slots=True)
class PckScores:
    """Percentage of correct keypoints, as shares from 0 to 1.

    Attributes:
        mean: mean over the twelve limb keypoints that were labelled at all; NaN where none was.
        per_keypoint: share per keypoint name; NaN where it was never labelled.
        people: how many labelled people were scored.
    """

    mean: float
    per_keypoint: Mapping[str, float]
    people: int

    def named(self) -> dict[str, float]:
        """Shares per pair of limb keypoints and their mean, by the names that papers use."""
        columns = {}
        for name in LIMB_KEYPOINTS[::2]:
            pair = [self.per_keypoint.get(side + name[4:], np.nan) for side in ("left", "right")]
            columns[name.removeprefix("left_").capitalize()] = float(np.mean(pair))
        return {**columns, "PCK@0.2": self.mean}


def torso_diagonals(keypoints: Array, skeleton: Skeleton) -> Array:
    """Torso diagonals of people `[N, K, 3]` (x, y, v) → `[N]` in pixels, NaN where not labelled."""
    diagonals = np.full(len(keypoints), np.nan)
    for shoulder, hip in (("right_shoulder", "left_hip"), ("left_shoulder", "right_hip")):
        if not {shoulder, hip} <= set(skeleton.keypoints):
            continue  # a hand, say, has no torso
        a, b = keypoints[:, skeleton.index(shoulder)], keypoints[:, skeleton.index(hip)]
        is_labelled = (a[:, 2] > 0) & (b[:, 2] > 0)
        diagonals[is_labelled] = np.hypot(*(a - b)[is_labelled, :2].T)
    return diagonals


def match_by_box(labelled_boxes: Array, predicted_boxes: Array) -> npt.NDArray[np.intp]:
    """Predicted person with the highest box IoU per labelled one → `[M]` indices, -1 where no box touches.

    Args:
        labelled_boxes: `[M, 4]` xyxy.
        predicted_boxes: `[N, 4]` xyxy.
    """
    if not len(predicted_boxes):
        return np.full(len(labelled_boxes), -1, np.intp)
    ious = box_ious(labelled_boxes, predicted_boxes)
    return np.where(ious.max(axis=1) > 0, ious.argmax(axis=1), -1)


def keypoint_hits(
    predicted: Array, labelled: Array, skeleton: Skeleton, *, fraction: float = 0.2
) -> tuple[Mask, Mask]:
    """Say which keypoints are labelled on a person with a torso, and which of them are predicted correctly.

    Args:
        predicted: `[N, K, 3]` (x, y, score); a score of 0 is a keypoint that was not found, and wrong.
        labelled: `[N, K, 3]` (x, y, v) of the same people.
        skeleton: names of the K keypoints.
        fraction: a correct keypoint is at most this share of the torso's diagonal away.

    Returns:
        is_correct `[N, K]` and is_counted `[N, K]`.
    """
    if predicted.shape != labelled.shape or labelled.shape[1:] != (len(skeleton), 3):
        raise ShapeError(
            "predicted and labelled",
            f"both of shape [N, {len(skeleton)}, 3]",
            f"{list(predicted.shape)} and {list(labelled.shape)}",
        )
    limits = fraction * torso_diagonals(labelled, skeleton)[:, None]  # [N, 1]
    is_counted = (labelled[..., 2] > 0) & np.isfinite(limits)
    distances = np.hypot(*np.moveaxis(predicted[..., :2] - labelled[..., :2], -1, 0))
    is_correct = is_counted & (predicted[..., 2] > 0) & (distances <= limits)
    return is_correct, is_counted


def pck_scores(is_correct: Mask, is_counted: Mask, skeleton: Skeleton) -> PckScores:
    """Sum up what `keypoint_hits` said of all people.

    Args:
        is_correct: `[N, K]`.
        is_counted: `[N, K]`.
        skeleton: names of the K keypoints.
    """
    counts = is_counted.sum(axis=0)
    shares = np.where(counts > 0, is_correct.sum(axis=0) / np.maximum(counts, 1), np.nan)
    limbs = shares[[name in LIMB_KEYPOINTS for name in skeleton.keypoints]]
    return PckScores(
        mean=float(np.nanmean(limbs)) if np.isfinite(limbs).any() else float("nan"),
        per_keypoint=dict(zip(skeleton.keypoints, shares.tolist(), strict=True)),
        people=int(is_counted.any(axis=1).sum()),
    )

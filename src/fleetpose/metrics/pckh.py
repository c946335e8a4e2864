"""MPII's score: keypoints within a share of the head's size (Andriluka et al., CVPR 2014).

The size is 0.6 times the diagonal of the head's box. Only labelled keypoints count. Pelvis and thorax are
left out of the mean, and every other keypoint weighs as much as there are labels of it, as in the protocol
that all papers follow. That protocol's usual implementation prints as "@0.1" what is the score at 0.11;
both are here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetpose.errors import ConfigError, ShapeError
from fleetpose.skeletons import Skeleton

Array = npt.NDArray[np.floating]

#: A head's size as a share of its box's diagonal.
HEAD_SHARE = 0.6
#: Keypoints behind each column of the usual table.
GROUPS = {
    "Head": ("head_top",),
    "Shoulder": ("left_shoulder", "right_shoulder"),
    "Elbow": ("left_elbow", "right_elbow"),
    "Wrist": ("left_wrist", "right_wrist"),
    "Hip": ("left_hip", "right_hip"),
    "Knee": ("left_knee", "right_knee"),
    "Ankle": ("left_ankle", "right_ankle"),
}
#: Keypoints that the mean leaves out.
NOT_IN_MEAN = ("pelvis", "thorax")


@dataclass(frozen=True, slots=True)
class PckhScores:
    """Shares of correct keypoints, 0 to 1; NaN where none was labelled.

    Attributes:
        groups: share per column of the usual table, at half a head.
        mean: over all labelled keypoints but pelvis and thorax, at half a head.
        mean_01: the same at a tenth of a head.
        mean_011: the same at 0.11 of a head, which is often printed as "@0.1".
        per_keypoint: share per keypoint name, at half a head.
        people: how many labelled people were scored.
    """

    groups: Mapping[str, float]
    mean: float
    mean_01: float
    mean_011: float
    per_keypoint: Mapping[str, float]
    people: int

    def named(self) -> dict[str, float]:
        """Scores by the names that papers use."""
        return {**self.groups, "PCKh@0.5": self.mean, "PCKh@0.1": self.mean_01}


def head_sizes_of_boxes(boxes_xyxy: Array) -> Array:
    """Sizes of heads `[N]` in pixels from their boxes `[N, 4]`.

    >>> head_sizes_of_boxes(np.array([[10.0, 20.0, 40.0, 60.0]])).tolist()
    [30.0]
    """
    return np.asarray(HEAD_SHARE * np.hypot(*(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).T))


def pckh_scores(predicted: Array, labelled: Array, head_sizes: Array, skeleton: Skeleton) -> PckhScores:
    """Score people against their labels.

    Args:
        predicted: `[N, K, 3]` (x, y, score); a score of 0 is a keypoint that was not found, and wrong.
        labelled: `[N, K, 3]` (x, y, v) of the same people.
        head_sizes: `[N]` in pixels; people whose head has no size above 0 are not scored.
        skeleton: names of the K keypoints.

    Raises:
        ConfigError: the skeleton lacks a keypoint of the table.
    """
    if predicted.shape != labelled.shape or labelled.shape[1:] != (len(skeleton), 3):
        raise ShapeError(
            "predicted and labelled",
            f"both of shape [N, {len(skeleton)}, 3]",
            f"{list(predicted.shape)} and {list(labelled.shape)}",
        )
    lacking = [name for names in GROUPS.values() for name in names if name not in skeleton.keypoints]
    if lacking:
        raise ConfigError(f"PCKh needs the keypoint {lacking[0]}, which skeleton {skeleton.name} lacks")
    has_head = head_sizes > 0
    is_counted = (labelled[..., 2] > 0) & has_head[:, None]
    distances = np.hypot(*np.moveaxis(predicted[..., :2] - labelled[..., :2], -1, 0))
    shares = distances / np.where(has_head, head_sizes, 1.0)[:, None]
    shares[predicted[..., 2] <= 0] = np.inf
    counts = is_counted.sum(axis=0)
    correct = (is_counted & (shares <= 0.5)).sum(axis=0)
    in_mean = np.array([name not in NOT_IN_MEAN for name in skeleton.keypoints])

    def mean_at(limit: float) -> float:
        return _share((is_counted & (shares <= limit))[:, in_mean].sum(), counts[in_mean].sum())

    per_keypoint = {
        name: _share(right, count)
        for name, right, count in zip(skeleton.keypoints, correct.tolist(), counts.tolist(), strict=True)
    }
    return PckhScores(
        groups={
            column: float(np.mean([per_keypoint[name] for name in names])) for column, names in GROUPS.items()
        },
        mean=mean_at(0.5),
        mean_01=mean_at(0.1),
        mean_011=mean_at(0.11),
        per_keypoint=per_keypoint,
        people=int(is_counted.any(axis=1).sum()),
    )


def _share(right: float, count: float) -> float:
    return float(right) / float(count) if count else float("nan")

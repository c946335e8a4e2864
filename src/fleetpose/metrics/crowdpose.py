"""CrowdPose's table: average precision, also by how crowded a picture is (Li et al., arXiv:1812.00324).

It differs from COCO's in three ways. A person's area is 0.53 times that of the box, since nobody drew
outlines. There are no scores by size. And precision is told apart for easy, medium and hard pictures, by
the crowd index that the annotations give for each: the paper draws the lines at 0.1 and 0.8, but the
authors' tool, whose numbers everybody prints, at 0.2 and 0.8. We do as the tool does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fleetpose.metrics.precision import curves
from fleetpose.metrics.tables import Detections, Labels

#: Share of a person's box that the person is taken to cover.
AREA_OF_BOX = 0.53
#: Pictures with a crowd index below the first are easy, below the second medium, and else hard.
CROWD_LEVELS = (0.2, 0.8)

_AT_50, _AT_75 = 0, 5


@dataclass(frozen=True, slots=True)
class CrowdPoseScores:
    """The nine numbers of CrowdPose's table, 0 to 1; -1 where nobody labelled counts."""

    ap: float
    ap50: float
    ap75: float
    ap_easy: float
    ap_medium: float
    ap_hard: float
    ar: float
    ar50: float
    ar75: float

    def named(self) -> dict[str, float]:
        """Scores by the names that papers use."""
        names = ("AP", "AP50", "AP75", "AP-easy", "AP-medium", "AP-hard", "AR", "AR50", "AR75")
        return dict(zip(names, asdict(self).values(), strict=True))


def crowd_indices(data: Mapping[str, Any]) -> dict[int, float]:
    """Crowd index of each picture of an annotation file that gives one, by the picture's id."""
    return {
        image["id"]: float(image["crowdIndex"])
        for image in data["images"]
        if image.get("crowdIndex") is not None
    }


def crowdpose_scores(
    labels: Labels, detections: Detections, sigmas: Sequence[float], crowd_index: Mapping[int, float]
) -> CrowdPoseScores:
    """Score detections as CrowdPose's own tool does, but without rounding.

    Args:
        labels: who is there; their areas are not used.
        detections: who was found.
        sigmas: `[K]` spread of annotators per keypoint.
        crowd_index: from 0 to 1 by a picture's id; pictures without one count only in the whole.
    """
    boxes = labels.boxes_xywh
    labels = replace(labels, areas=boxes[:, 3] * boxes[:, 2] * AREA_OF_BOX)
    found = curves(labels, detections, sigmas)
    easy, medium, hard = (
        curves(labels.of_images(level), detections, sigmas).average_precision()
        for level in _levels(crowd_index)
    )
    return CrowdPoseScores(
        ap=found.average_precision(),
        ap50=found.average_precision(threshold=_AT_50),
        ap75=found.average_precision(threshold=_AT_75),
        ap_easy=easy,
        ap_medium=medium,
        ap_hard=hard,
        ar=found.average_recall(),
        ar50=found.average_recall(threshold=_AT_50),
        ar75=found.average_recall(threshold=_AT_75),
    )


def _levels(crowd_index: Mapping[int, float]) -> list[list[int]]:
    """Ids of the easy, the medium and the hard pictures."""
    levels: list[list[int]] = [[], [], []]
    for image_id, index in crowd_index.items():
        levels[sum(index >= limit for limit in CROWD_LEVELS)].append(image_id)
    return levels

"""CrowdPose (Li et al., arXiv:1812.00324): COCO's layout with 14 keypoints and a crowd index per picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Crowding = Literal["easy", "medium", "hard"]

#: Crowd indices (share of other people's keypoints in people's boxes) from which a picture is medium or hard.
MEDIUM, HARD = 0.1, 0.8


def crowd_indices(data: Mapping[str, Any]) -> dict[int, float]:
    """COCO data → crowd index in [0, 1] by picture id, of the pictures that have one.

    >>> crowd_indices({"images": [{"id": 7, "crowdIndex": 0.25}, {"id": 8}]})
    {7: 0.25}
    """
    return {record["id"]: float(record["crowdIndex"]) for record in data["images"] if "crowdIndex" in record}


def crowding(crowd_index: float) -> Crowding:
    """Crowd index → the part of CrowdPose's test set that such a picture belongs to.

    >>> [crowding(index) for index in (0.05, 0.1, 0.79, 0.8)]
    ['easy', 'medium', 'medium', 'hard']
    """
    return "easy" if crowd_index < MEDIUM else "medium" if crowd_index < HARD else "hard"

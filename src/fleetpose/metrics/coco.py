"""COCO's keypoint table: average precision and recall over object keypoint similarity.

The numbers equal those of COCO's own tool; they come several times as fast, because pairs of people are
compared all at once and only those that can match are looked at again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fleetpose.metrics.precision import ALL_SIZES, LARGE, MEDIUM, curves
from fleetpose.metrics.tables import (
    Detections,
    Labels,
    check_images,
    detections_from_coco,
    labels_from_coco,
)

#: Positions of 0.50 and 0.75 among the thresholds.
_AT_50, _AT_75 = 0, 5


@dataclass(frozen=True, slots=True)
class CocoScores:
    """The ten numbers of COCO's keypoint table, 0 to 1; -1 where nobody labelled counts, as COCO has it."""

    ap: float  # mean over OKS thresholds 0.50, 0.55, …, 0.95
    ap50: float
    ap75: float
    ap_medium: float  # people of 32² to 96² square pixels
    ap_large: float  # people of 96² square pixels and more
    ar: float
    ar50: float
    ar75: float
    ar_medium: float
    ar_large: float

    def to_dict(self) -> dict[str, float]:
        """Scores by name, for JSON and tables."""
        return asdict(self)

    def named(self) -> dict[str, float]:
        """Scores by the names that papers use."""
        names = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
        return dict(zip(names, asdict(self).values(), strict=True))


def coco_scores(labels: Labels, detections: Detections, sigmas: Sequence[float]) -> CocoScores:
    """Score detections as COCO's own tool does: 20 people per picture, crowds neither right nor wrong.

    Args:
        labels: who is there.
        detections: who was found; those in pictures that the labels do not list are left out.
        sigmas: `[K]` spread of annotators per keypoint.
    """
    found = curves(labels, detections, sigmas, sizes=(ALL_SIZES, MEDIUM, LARGE))
    return CocoScores(
        ap=found.average_precision(),
        ap50=found.average_precision(threshold=_AT_50),
        ap75=found.average_precision(threshold=_AT_75),
        ap_medium=found.average_precision(1),
        ap_large=found.average_precision(2),
        ar=found.average_recall(),
        ar50=found.average_recall(threshold=_AT_50),
        ar75=found.average_recall(threshold=_AT_75),
        ar_medium=found.average_recall(1),
        ar_large=found.average_recall(2),
    )


def coco_keypoint_scores(
    ground_truth: Mapping[str, Any] | Path, detections: Sequence[Mapping[str, Any]], sigmas: Sequence[float]
) -> CocoScores:
    """Score rows in COCO's results format; see `coco_scores`.

    Nothing is printed and neither argument is changed.

    Args:
        ground_truth: COCO annotations, or the JSON file of them. Every picture it lists counts.
        detections: rows in COCO's results format: `image_id`, `category_id`, `keypoints` `[3K]`, `score`.
        sigmas: `[K]` spread of annotators per keypoint.

    Raises:
        DatasetError: a detection is in a picture that is not listed, or has the wrong number of keypoints.
    """
    data: Mapping[str, Any] = (
        json.loads(ground_truth.read_text(encoding="utf-8"))
        if isinstance(ground_truth, Path)
        else ground_truth
    )
    labels = labels_from_coco(data, num_keypoints=len(sigmas))
    found = detections_from_coco(detections, num_keypoints=len(sigmas))
    check_images(found, labels.image_ids)
    return coco_scores(labels, found, sigmas)

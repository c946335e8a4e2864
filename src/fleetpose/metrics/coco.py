"""COCO's keypoint table: average precision and recall over object keypoint similarity."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fleetpose.errors import DatasetError, require


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


def coco_keypoint_scores(
    ground_truth: Mapping[str, Any] | Path, detections: Sequence[Mapping[str, Any]], sigmas: Sequence[float]
) -> CocoScores:
    """Score detections as COCO's own tool does: 20 people per picture, crowds neither right nor wrong.

    Nothing is printed and neither argument is changed.

    Args:
        ground_truth: COCO annotations, or the JSON file of them. Every picture it lists counts.
        detections: rows in COCO's results format: `image_id`, `category_id`, `keypoints` `[3K]`, `score`.
        sigmas: `[K]` spread of annotators per keypoint.

    Raises:
        DatasetError: a detection is in a picture that is not listed, or has the wrong number of keypoints.
        MissingExtraError: the `evaluate` extra is not installed.
    """
    evaluator = require("faster_coco_eval", extra="evaluate")
    data: Mapping[str, Any] = (
        json.loads(ground_truth.read_text(encoding="utf-8"))
        if isinstance(ground_truth, Path)
        else ground_truth
    )
    _check_detections(data, detections, num_keypoints=len(sigmas))
    truth = evaluator.COCO(_complete(data, num_keypoints=len(sigmas)))
    found = truth.loadRes([dict(row) for row in detections])
    evaluation = evaluator.COCOeval_faster(truth, found, iouType="keypoints", kpt_oks_sigmas=list(sigmas))
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return CocoScores(*(float(value) for value in np.asarray(evaluation.stats)[:10]))


def _complete(ground_truth: Mapping[str, Any], *, num_keypoints: int) -> dict[str, Any]:
    """Copy the annotations; fill in what crowds and people without keypoints may lack, and number from 1.

    The evaluation marks what is matched by its number, so an annotation numbered 0 would count as unmatched.
    """
    annotations = []
    for number, annotation in enumerate(ground_truth["annotations"], start=1):
        keypoints = annotation.get("keypoints") or [0] * (3 * num_keypoints)
        labelled = sum(v > 0 for v in keypoints[2::3])
        annotations.append(
            {"iscrowd": 0, "num_keypoints": labelled, **annotation, "keypoints": keypoints, "id": number}
        )
    return {
        "images": [dict(image) for image in ground_truth["images"]],
        "annotations": annotations,
        "categories": [dict(category) for category in ground_truth["categories"]],
    }


def _check_detections(
    ground_truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], *, num_keypoints: int
) -> None:
    known = {image["id"] for image in ground_truth["images"]}
    for row in detections:
        if row["image_id"] not in known:
            raise DatasetError(f"detections name image {row['image_id']}, which the annotations do not list")
        if len(row["keypoints"]) != 3 * num_keypoints:
            raise DatasetError(
                f"a detection in image {row['image_id']} has {len(row['keypoints'])} keypoint numbers, "
                f"expected {3 * num_keypoints}"
            )

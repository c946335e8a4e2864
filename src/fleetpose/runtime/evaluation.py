"""Evaluation of a whole model on annotated pictures, for the command line and for training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetpose.data.annotations import load_coco_json
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.geometry import boxes_from_coco
from fleetpose.metrics.coco import CocoScores, coco_keypoint_scores
from fleetpose.metrics.pck import PckScores, keypoint_hits, match_by_box, pck_scores
from fleetpose.results import PoseResult
from fleetpose.skeletons import COCO, Skeleton


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What a model reached on annotated pictures.

    Attributes:
        coco: average precision and recall over all pictures.
        pck: correct keypoints at a fifth of the torso, each labelled person taken with the predicted one
            whose box overlaps most.
        detections: all predicted people in COCO's results format.
        num_images: pictures that were evaluated.
        num_people: labelled people in them, without crowds.
    """

    coco: CocoScores
    pck: PckScores
    detections: Sequence[Mapping[str, Any]]
    num_images: int
    num_people: int


def evaluate(
    predict: Callable[[Path], PoseResult],
    annotations: Path,
    images: Path,
    *,
    skeleton: Skeleton = COCO,
    every: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Predict every picture that a COCO keypoint file lists, and score the result.

    Args:
        predict: from a picture's path to the people in it.
        annotations: COCO keypoint JSON.
        images: folder of its pictures.
        skeleton: keypoints of the file and of the predictions.
        every: take only the pictures whose id is a multiple of this; 10 is the kept-out tenth of `lspet`.
        progress: told how many pictures are done, and of how many, after each.

    Raises:
        DatasetError: the file lacks something, or does not fit the skeleton, or a picture is missing.
        ConfigError: the predictions have another skeleton, or `every` is not a positive number.
        MissingExtraError: the `evaluate` extra is not installed.
    """
    if every < 1:
        raise ConfigError(f"every must be at least 1, got {every}")
    truth = _subset(load_coco_json(annotations), every=every)
    _check_pictures(truth, annotations, images, every=every)
    _check_people(truth, annotations, skeleton)
    category_id = _person_category(truth, annotations)
    people_by_image = _people_by_image(truth)

    detections: list[dict[str, Any]] = []
    hits: list[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]] = []
    for done, image in enumerate(truth["images"], start=1):
        result = predict(images / image["file_name"])
        if result.skeleton.keypoints != skeleton.keypoints:
            raise ConfigError(
                f"predictions have the keypoints of {result.skeleton.name}, but {skeleton.name} is evaluated"
            )
        detections += result.to_coco(image["id"], category_id=category_id)
        hits.append(_hits(result, people_by_image.get(image["id"], []), skeleton))
        if progress is not None:
            progress(done, len(truth["images"]))
    is_correct, is_counted = (np.concatenate(masks) for masks in zip(*hits, strict=True))
    return Evaluation(
        coco=coco_keypoint_scores(truth, detections, skeleton.sigmas),
        pck=pck_scores(is_correct, is_counted, skeleton),
        detections=detections,
        num_images=len(truth["images"]),
        num_people=sum(len(people) for people in people_by_image.values()),
    )


def _subset(data: Mapping[str, Any], *, every: int) -> dict[str, Any]:
    images = [image for image in data["images"] if image["id"] % every == 0]
    kept = {image["id"] for image in images}
    annotations = [item for item in data["annotations"] if item["image_id"] in kept]
    return {"images": images, "annotations": annotations, "categories": data["categories"]}


def _check_pictures(truth: Mapping[str, Any], path: Path, images: Path, *, every: int) -> None:
    if not truth["images"]:
        which = "no picture" if every == 1 else f"no picture whose id is a multiple of {every}"
        raise DatasetError(f"{path} lists {which}")
    absent = [image["file_name"] for image in truth["images"] if not (images / image["file_name"]).is_file()]
    if absent:
        raise DatasetError(
            f"{len(absent)} of the {len(truth['images'])} pictures of {path.name} are not in {images}, "
            f"the first is {absent[0]}"
        )


def _check_people(truth: Mapping[str, Any], path: Path, skeleton: Skeleton) -> None:
    for annotation in truth["annotations"]:
        where = f"{path}: annotation {annotation.get('id')}"
        missing = [key for key in ("bbox", "area", "category_id") if key not in annotation]
        if missing:
            raise DatasetError(f"{where} lacks {', '.join(missing)}")
        numbers = len(annotation.get("keypoints") or ())
        # Crowds may come without keypoints; people may not.
        if numbers != 3 * len(skeleton) and not (numbers == 0 and annotation.get("iscrowd")):
            raise DatasetError(
                f"{where} has {numbers} keypoint numbers, but {skeleton.name} needs {3 * len(skeleton)}"
            )


def _person_category(truth: Mapping[str, Any], path: Path) -> int:
    """Id of the category that has keypoints, or of the only one."""
    categories = truth["categories"]
    named = [category for category in categories if category.get("keypoints")] or categories
    if not named:
        raise DatasetError(f"{path} has no category")
    return int(named[0]["id"])


def _people_by_image(truth: Mapping[str, Any]) -> dict[int, list[Mapping[str, Any]]]:
    people: dict[int, list[Mapping[str, Any]]] = {}
    for annotation in truth["annotations"]:
        if not annotation.get("iscrowd") and any(v > 0 for v in annotation["keypoints"][2::3]):
            people.setdefault(annotation["image_id"], []).append(annotation)
    return people


def _hits(
    result: PoseResult, people: Sequence[Mapping[str, Any]], skeleton: Skeleton
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Correct and counted keypoints `[M, K]` of the labelled people of one picture."""
    labelled = np.array([person["keypoints"] for person in people], float).reshape(-1, len(skeleton), 3)
    boxes = boxes_from_coco(np.array([person["bbox"] for person in people], float).reshape(-1, 4))
    chosen = match_by_box(boxes, result.boxes)
    # One person more, with nothing found, stands in where no predicted box touches.
    candidates = np.concatenate([result.keypoints, np.zeros((1, len(skeleton), 3))])
    return keypoint_hits(candidates[chosen], labelled, skeleton)

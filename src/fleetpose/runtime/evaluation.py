"""Evaluation on annotated pictures: of a model, or of the detections that any tool has written to a file.

Both go the same way. A model's people become rows in COCO's results format, and only those are scored, so
that a file of them gives the same numbers later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetpose.data.annotations import load_coco_json
from fleetpose.data.layouts import Split
from fleetpose.errors import ConfigError, DatasetError, UnknownNameError
from fleetpose.geometry import boxes_from_coco, xywh_to_xyxy
from fleetpose.metrics.breakdown import Breakdown, break_down
from fleetpose.metrics.coco import CocoScores, coco_scores
from fleetpose.metrics.crowdpose import crowd_indices, crowdpose_scores
from fleetpose.metrics.pck import PckScores, keypoint_hits, match_by_box, pck_scores
from fleetpose.metrics.pckh import head_sizes_of_boxes, pckh_scores
from fleetpose.metrics.sigmas import guess_sigmas
from fleetpose.metrics.tables import (
    Detections,
    check_images,
    detections_from_coco,
    read_rows,
)
from fleetpose.results import PoseResult
from fleetpose.runtime.truth import Truth, box_around, check_people, check_pictures, load_truth, ordered
from fleetpose.skeletons import COCO, SKELETONS, Skeleton

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What a model reached on annotated pictures.

    Attributes:
        metric: name of the table (`METRICS`).
        scores: that table, shares from 0 to 1 by the names that papers use; -1 or NaN where nobody counts.
        coco: average precision and recall over all pictures.
        pck: correct keypoints at a fifth of the torso, each labelled person taken with the predicted one
            whose box overlaps most.
        detections: all predicted people in COCO's results format; where the annotation file names the same
            keypoints in another order than the skeleton, they are in the file's.
        num_images: pictures that were evaluated.
        num_people: labelled people in them, without crowds.
        breakdown: errors by kind, where asked for.
    """

    metric: str
    scores: Mapping[str, float]
    coco: CocoScores
    pck: PckScores
    detections: Sequence[Mapping[str, Any]]
    num_images: int
    num_people: int
    breakdown: Breakdown | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Comparison:
    """All that a metric may need: everybody found, and the best found person for each labelled one."""

    truth: Truth
    detections: Detections
    labelled: Array  # [M, K, 3] (x, y, v)
    predicted: Array  # [M, K, 3] (x, y, score), of the same people


def evaluate(
    predict: Callable[[Path], PoseResult],
    annotations: Path,
    images: Path,
    *,
    skeleton: Skeleton = COCO,
    metric: str | None = None,
    every: int = 1,
    split: Split = "test",
    has_breakdown: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Predict every picture that a COCO keypoint file lists, and score the result.

    Args:
        predict: from a picture's path to the people in it, in pixels of the file as stored.
        annotations: COCO keypoint JSON.
        images: folder of its pictures.
        skeleton: keypoints of the predictions; those of the file are found by their names, and only a file
            without names must have the same ones.
        metric: name of a table in `METRICS`; None for the one that is usual for the skeleton.
        every: take only the pictures whose id is a multiple of this; 10 is the kept-out tenth of `lspet`.
        split: part to take of a file that holds training and test pictures.
        has_breakdown: sort the errors by kind too.
        progress: told how many pictures are done, and of how many, after each.

    Raises:
        DatasetError: the file lacks something, or does not fit the skeleton, or a picture is missing.
        ConfigError: the predictions have another skeleton, the metric is unknown or does not fit, or `every`
            is not a positive number.
    """
    metric = _metric(metric, skeleton)
    truth = load_truth(annotations, skeleton, every=every, split=split, has_areas=metric in _WITH_AREAS)
    check_pictures(truth, images, every=every)
    rows: list[dict[str, Any]] = []
    for done, image in enumerate(truth.images, start=1):
        result = predict(images / image["file_name"])
        if result.skeleton.keypoints != skeleton.keypoints:
            raise ConfigError(
                f"predictions have the keypoints of {result.skeleton.name}, but {skeleton.name} is evaluated"
            )
        rows += result.to_coco(image["id"], category_id=truth.category_id)
        if progress is not None:
            progress(done, len(truth.images))
    evaluation = _score(truth, rows, metric=metric, has_breakdown=has_breakdown)
    if truth.order is None:
        return evaluation
    return replace(evaluation, detections=_rearranged(rows, np.argsort(truth.order)))


def evaluate_detections(
    detections: Path,
    annotations: Path,
    *,
    skeleton: Skeleton | None = None,
    metric: str | None = None,
    every: int = 1,
    split: Split = "test",
    has_breakdown: bool = False,
) -> Evaluation:
    """Score a file of detections in COCO's results format, whichever tool has written it.

    Args:
        detections: JSON list of `image_id`, `category_id`, `keypoints` `[3K]`, `score` and maybe `bbox`.
        annotations: COCO keypoint JSON.
        skeleton: keypoints of both; None for those that the annotations name. Where the annotations name the
            same ones in another order, that order is the detections' too.
        metric: see `evaluate`.
        every: see `evaluate`; detections in other pictures of the file are left out.
        split: see `evaluate`.
        has_breakdown: see `evaluate`.

    Raises:
        DatasetError: a file lacks something, or they do not fit each other.
        ConfigError: the metric is unknown or does not fit, or `every` is not a positive number.
    """
    skeleton = skeleton_of(annotations) if skeleton is None else skeleton
    metric = _metric(metric, skeleton)
    truth = load_truth(annotations, skeleton, every=every, split=split, has_areas=metric in _WITH_AREAS)
    rows = read_rows(detections)
    if truth.order is not None:
        rows = _rearranged(rows, truth.order)
    return _score(truth, rows, metric=metric, has_breakdown=has_breakdown)


def check_labels(
    annotations: Path,
    images: Path,
    *,
    skeleton: Skeleton,
    metric: str | None = None,
    every: int = 1,
    split: Split = "test",
) -> None:
    """Make sure that `evaluate` can score a model on annotated pictures, before there is one.

    Raises:
        DatasetError: the file lacks something, does not fit the skeleton or labels nobody, or a picture is
            missing.
        ConfigError: the metric is unknown, or `every` is not a positive number.
    """
    has_areas = _metric(metric, skeleton) in _WITH_AREAS
    truth = load_truth(annotations, skeleton, every=every, split=split, has_areas=has_areas)
    check_pictures(truth, images, every=every)
    check_people(truth)


def skeleton_of(annotations: Path) -> Skeleton:
    """Return the skeleton of a COCO keypoint file, by the names of its keypoints.

    Names that no built-in skeleton has make a skeleton of their own, with the `sigmas` of the category, a
    list of one number per keypoint; without those they are guessed by name, and a warning says so.

    Raises:
        DatasetError: the file names no keypoints.
    """
    categories = load_coco_json(annotations)["categories"]
    category = next((item for item in categories if item.get("keypoints")), None)
    if category is None:
        raise DatasetError(f"{annotations} names no keypoints; say which skeleton it has with --skeleton")
    names = tuple(category["keypoints"])
    known = next((item for item in SKELETONS.values() if item.keypoints == names), None)
    if known is not None:
        return known
    limbs = [[names[a - 1], names[b - 1]] for a, b in category.get("skeleton", ())]  # COCO counts from 1
    sigmas = category.get("sigmas") or guess_sigmas(names)
    return Skeleton.from_dict(
        {"name": "custom", "keypoints": list(names), "limbs": limbs, "sigmas": list(sigmas)}
    )


def _metric(name: str | None, skeleton: Skeleton) -> str:
    """Name of the metric that was asked for, or of the usual one."""
    if name is None:
        return _USUAL.get(skeleton.name, "coco")
    if name not in METRICS:
        raise UnknownNameError("metric", name, METRICS)
    return name


def _score(
    truth: Truth, rows: Sequence[Mapping[str, Any]], *, metric: str, has_breakdown: bool
) -> Evaluation:
    detections = detections_from_coco(rows, num_keypoints=len(truth.skeleton))
    check_images(detections, truth.all_image_ids)
    labelled, predicted = _side_by_side(truth, rows, detections)
    comparison = _Comparison(truth, detections, labelled, predicted)
    is_ours = truth.labels.categories == truth.category_id
    return Evaluation(
        metric=metric,
        scores=METRICS[metric](comparison),
        coco=coco_scores(truth.labels, detections, truth.skeleton.sigmas),
        pck=_pck(comparison),
        detections=rows,
        num_images=len(truth.images),
        num_people=len(truth.people),
        breakdown=(
            break_down(truth.labels.select(is_ours), detections, truth.skeleton) if has_breakdown else None
        ),
    )


def _rearranged(rows: Sequence[Mapping[str, Any]], order: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    """Bring the keypoints of each row into another order; rows with too many or too few stay as they are."""
    return [
        {**row, "keypoints": ordered(row["keypoints"], order)}
        if isinstance(row.get("keypoints"), list) and len(row["keypoints"]) == 3 * len(order)
        else dict(row)
        for row in rows
    ]


def _side_by_side(
    truth: Truth, rows: Sequence[Mapping[str, Any]], detections: Detections
) -> tuple[Array, Array]:
    """Labelled people and, for each, the predicted one whose box overlaps most → `[M, K, 3]` twice."""
    keypoints = detections.keypoints.copy()
    if not (keypoints[..., 2] > 0).any():
        keypoints[..., 2] = 1.0  # a tool that does not score keypoints has found them all
    boxes = _boxes(row.get("bbox") or box_around(points) for row, points in zip(rows, keypoints, strict=True))
    people_boxes = _boxes(item["bbox"] for item in truth.people)
    found = _by_image(detections.image_ids.tolist())
    labelled = np.array([item["keypoints"] for item in truth.people], np.float64)
    labelled = labelled.reshape(-1, len(truth.skeleton), 3)
    predicted = np.zeros_like(labelled)
    nobody = np.zeros((1, len(truth.skeleton), 3))
    for image_id, members in _by_image(item["image_id"] for item in truth.people).items():
        candidates = found.get(image_id, [])
        chosen = match_by_box(people_boxes[members], boxes[candidates])
        # One person more, with nothing found, stands in where no predicted box touches.
        predicted[members] = np.concatenate([keypoints[candidates], nobody])[chosen]
    return labelled, predicted


def _boxes(boxes_xywh: Iterable[Sequence[float]]) -> Array:
    return np.asarray(boxes_from_coco(np.array(list(boxes_xywh), np.float64).reshape(-1, 4)))


def _by_image(image_ids: Iterable[int]) -> dict[int, list[int]]:
    """Positions by image id, in the order of first appearance."""
    positions: dict[int, list[int]] = {}
    for position, image_id in enumerate(image_ids):
        positions.setdefault(image_id, []).append(position)
    return positions


def _pck(comparison: _Comparison) -> PckScores:
    skeleton = comparison.truth.skeleton
    return pck_scores(*keypoint_hits(comparison.predicted, comparison.labelled, skeleton), skeleton)


def _coco_table(comparison: _Comparison) -> dict[str, float]:
    truth = comparison.truth
    scores = coco_scores(truth.labels, comparison.detections, truth.skeleton.sigmas)
    return {**scores.named(), "PCK@0.2": _pck(comparison).mean}


def _crowdpose_table(comparison: _Comparison) -> dict[str, float]:
    truth = comparison.truth
    index = crowd_indices(truth.data)
    return crowdpose_scores(truth.labels, comparison.detections, truth.skeleton.sigmas, index).named()


def _mpii_table(comparison: _Comparison) -> dict[str, float]:
    people = comparison.truth.people
    without = next((item.get("id") for item in people if len(item.get("head_box") or ()) != 4), None)
    if without is not None:
        raise DatasetError(
            f"{comparison.truth.path}: annotation {without} lacks head_box, four numbers x, y, w, h of the "
            "head's box, over which PCKh is defined"
        )
    boxes = np.array([item["head_box"] for item in people], np.float64).reshape(-1, 4)
    sizes = head_sizes_of_boxes(xywh_to_xyxy(boxes))
    skeleton = comparison.truth.skeleton
    return pckh_scores(comparison.predicted, comparison.labelled, sizes, skeleton).named()


def _pck_table(comparison: _Comparison) -> dict[str, float]:
    return _pck(comparison).named()


#: Tables by the name that a user asks for. OCHuman's average precision is COCO's on its own pictures.
METRICS: dict[str, Callable[[_Comparison], dict[str, float]]] = {
    "coco": _coco_table,
    "crowdpose": _crowdpose_table,
    "ochuman": _coco_table,
    "mpii": _mpii_table,
    "pck": _pck_table,
}
#: Tables that need the areas of the annotations; others do with what boxes tell.
_WITH_AREAS = {"coco", "ochuman"}
#: Usual table per skeleton; COCO's for all others.
_USUAL = {"crowdpose14": "crowdpose", "mpii16": "mpii", "lsp14": "pck"}

"""How far a written model strays from the network it came from: in pixels, and in average precision."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetpose.codecs.assignment import assign_greatest
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.metrics.coco import coco_keypoint_scores
from fleetpose.results import PoseResult

#: Weaker people are not asked to be found again: they come and go with rounding.
SURE_SCORE = 0.1
#: Beyond this many pixels two keypoints are of different people or of none, in shares of a person's size.
_REACH = 0.5
_CATEGORY = 1


@dataclass(frozen=True, slots=True)
class Parity:
    """What came of the same pictures through two runs of one network."""

    pictures: int
    people: int  # sure ones, in the reference
    lost: int  # of these, without a counterpart
    median_shift_px: float  # over keypoints that both found
    shift_99_px: float  # only one keypoint in a hundred moves more
    largest_shift_px: float
    reference_ap: float  # in percent; 100 where the reference's own people are the labels
    ap: float
    labels: str  # what the average precision was measured against

    @property
    def drop(self) -> float:
        """How many points of average precision were lost; below 0 if some were won."""
        return self.reference_ap - self.ap

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the report."""
        rounded = {
            key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(self).items()
        }
        return {**rounded, "drop": round(self.drop, 3)}


def look(predict: Callable[[Path], PoseResult], pictures: Sequence[Path]) -> list[PoseResult]:
    """Predict all pictures, with everybody, however unsure.

    Raises:
        ConfigError: there is no picture.
    """
    if not pictures:
        raise ConfigError("parity needs at least one picture")
    return [predict(path) for path in pictures]


def compare(
    expected: Sequence[PoseResult],
    found: Sequence[PoseResult],
    *,
    labels: Mapping[str, Any] | None = None,
    names: Sequence[str] = (),
) -> Parity:
    """Compare what two runs found in the same pictures.

    Args:
        expected: of the reference, one result per picture.
        found: of the candidate, in the same order.
        labels: COCO annotations of the pictures; None to take the reference's sure people as labels.
        names: file names of the pictures, as the labels have them; needed with `labels`.

    Raises:
        DatasetError: the labels lack one of the pictures.
    """
    shifts: list[npt.NDArray[np.floating]] = [np.zeros(0)]
    people = lost = 0
    for before, after in zip(expected, found, strict=True):
        sure = before.select(before.scores >= SURE_SCORE)
        moved, missing = _shifts(sure, after)
        shifts.append(moved)
        people += len(sure)
        lost += missing
    all_shifts = np.concatenate(shifts)
    ids = list(range(1, len(expected) + 1))
    truth = _own_labels(expected, ids)
    if labels is not None:
        truth, ids = _given_labels(labels, names)
    reference_ap, ap = (_ap(truth, results, ids) for results in (expected, found))
    return Parity(
        pictures=len(expected),
        people=people,
        lost=lost,
        median_shift_px=float(np.median(all_shifts)) if len(all_shifts) else 0.0,
        shift_99_px=float(np.percentile(all_shifts, 99)) if len(all_shifts) else 0.0,
        largest_shift_px=float(all_shifts.max(initial=0.0)),
        reference_ap=reference_ap,
        ap=ap,
        labels="the reference's own people" if labels is None else "annotations",
    )


def read_labels(path: Path) -> dict[str, Any]:
    """Read COCO annotations.

    Raises:
        DatasetError: the file cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read the labels {path}: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict) or not {"images", "annotations", "categories"} <= data.keys():
        raise DatasetError(f"{path} holds no COCO annotations: images, annotations and categories")
    return data


def _shifts(sure: PoseResult, found: PoseResult) -> tuple[npt.NDArray[np.floating], int]:
    """Distances of keypoints that both found, and how many people have no counterpart."""
    if not len(sure) or not len(found):
        return np.zeros(0), len(sure)
    both = (sure.keypoints[:, None, :, 2] > 0) & (found.keypoints[None, :, :, 2] > 0)
    distance = np.linalg.norm(
        sure.keypoints[:, None, :, :2].astype(float) - found.keypoints[None, :, :, :2].astype(float), axis=-1
    )
    size = np.maximum((sure.boxes[:, 2:] - sure.boxes[:, :2]).max(axis=1), 1.0)
    near = np.clip(1 - distance / (_REACH * size[:, None, None]), 0, None)
    partner = assign_greatest((near * both).sum(axis=-1))
    person = np.flatnonzero(partner >= 0)
    is_shared = both[person, partner[person]]
    return distance[person, partner[person]][is_shared], int((partner < 0).sum())


def _own_labels(results: Sequence[PoseResult], ids: Sequence[int]) -> dict[str, Any]:
    """COCO annotations that call the sure people of `results` true."""
    rows: list[dict[str, Any]] = []
    for image_id, result in zip(ids, results, strict=True):
        for row in result.select(result.scores >= SURE_SCORE).to_coco(image_id, category_id=_CATEGORY):
            points = np.reshape(row["keypoints"], (-1, 3))
            points[:, 2] = np.where(points[:, 2] > 0, 2, 0)
            rows.append(
                {
                    **row,
                    "id": len(rows) + 1,
                    "keypoints": points.ravel().tolist(),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                    "iscrowd": 0,
                }
            )
    skeleton = results[0].skeleton
    return {
        "images": [
            {
                "id": image_id,
                "file_name": str(image_id),
                "height": one.image_size[0],
                "width": one.image_size[1],
            }
            for image_id, one in zip(ids, results, strict=True)
        ],
        "annotations": rows,
        "categories": [{"id": _CATEGORY, "name": "person", "keypoints": list(skeleton.keypoints)}],
    }


def _given_labels(labels: Mapping[str, Any], names: Sequence[str]) -> tuple[dict[str, Any], list[int]]:
    """Annotations of the named pictures only, and the ids of these."""
    known = {image["file_name"]: image["id"] for image in labels["images"]}
    absent = [name for name in names if name not in known]
    if absent:
        raise DatasetError(
            f"the labels lack {len(absent)} of {len(names)} pictures, the first is {absent[0]}"
        )
    ids = [known[name] for name in names]
    chosen = set(ids)
    return {
        "images": [image for image in labels["images"] if image["id"] in chosen],
        "annotations": [row for row in labels["annotations"] if row["image_id"] in chosen],
        "categories": labels["categories"],
    }, ids


def _ap(truth: Mapping[str, Any], results: Sequence[PoseResult], ids: Sequence[int]) -> float:
    """Average precision in percent; 0 where nobody is labelled."""
    category = int(truth["categories"][0]["id"])
    rows = [
        row
        for image_id, result in zip(ids, results, strict=True)
        for row in result.to_coco(image_id, category_id=category)
    ]
    if not truth["annotations"]:
        return 0.0
    return 100 * max(0.0, coco_keypoint_scores(truth, rows, results[0].skeleton.sigmas).ap)

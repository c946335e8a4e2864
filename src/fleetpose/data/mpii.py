"""MPII Human Pose (Andriluka et al., CVPR 2014) as COCO data: its Matlab file and two common JSON forms.

Matlab counts pixels from 1, and so do the JSON files made from it; 1 is taken off everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fleetpose.errors import DatasetError
from fleetpose.skeletons import MPII

Split = Literal["train", "test"]

#: MPII's `scale` is a person's height over this many pixels.
PIXELS_PER_SCALE = 200.0


def mpii_from_mat(release: Any, file: Path, *, split: Split) -> dict[str, Any]:  # noqa: ANN401 - of scipy
    """`RELEASE` of the official file, as scipy reads it with `squeeze_me`, → COCO data.

    Only pictures in which somebody's keypoints are labelled are taken: the labels of the official test
    pictures were never published. A person without keypoints becomes a region to ignore.
    """
    try:
        pictures = np.atleast_1d(release.annolist)
        is_train = np.atleast_1d(release.img_train).astype(bool)
        if len(pictures) != len(is_train):
            raise DatasetError(f"{file} has {len(pictures)} pictures but {len(is_train)} split marks")
        chosen = [number for number in range(len(pictures)) if is_train[number] == (split == "train")]
        people = {
            number: [_person_of_mat(person) for person in np.atleast_1d(pictures[number].annorect)]
            for number in chosen
        }
        records: list[dict[str, Any]] = [
            {"id": number + 1, "file_name": str(pictures[number].image.name)}
            for number in chosen
            if any("keypoints" in person for person in people[number])
        ]
    except (AttributeError, TypeError, ValueError) as error:
        raise DatasetError(f"{file} is no MPII release: {error}") from error
    return _coco(records, {record["id"]: people[record["id"] - 1] for record in records})


def mpii_from_json(entries: Sequence[Mapping[str, Any]], file: Path, *, split: Split) -> dict[str, Any]:
    """List with one person per entry → COCO data.

    Two forms are known: `image`, `joints`, `joints_vis`, `center`, `scale` (one file per split, so that
    `split` has nothing to choose), and `img_paths`, `joint_self`, `objpos`, `scale_provided`, `isValidation`.
    """
    people: dict[str, list[dict[str, Any]]] = {}
    try:
        for entry in entries:
            if bool(entry.get("isValidation", split == "test")) == (split == "test"):
                name, person = _person_of_json(entry)
                people.setdefault(name, []).append(person)
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{file} is no MPII file: an entry lacks or garbles {error}") from error
    records: list[dict[str, Any]] = [
        {"id": number, "file_name": name} for number, name in enumerate(people, start=1)
    ]
    return _coco(records, {record["id"]: people[str(record["file_name"])] for record in records})


def _coco(records: list[dict[str, Any]], people: Mapping[int, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for record in records:
        for person in people[record["id"]]:
            whose = {"id": len(annotations) + 1, "image_id": record["id"], "category_id": 1, "iscrowd": 0}
            annotations.append({**whose, **person})
    categories = [{"id": 1, "name": "person", "keypoints": list(MPII.keypoints)}]
    return {"images": records, "annotations": annotations, "categories": categories}


def _person_of_mat(person: Any) -> dict[str, Any]:  # noqa: ANN401 - a Matlab structure
    """Keypoints where there are some, else the square that person fills; and the head's box for PCKh."""
    found: dict[str, Any] = {}
    points = np.atleast_1d(getattr(getattr(person, "annopoints", None), "point", np.array([])))
    if len(points):
        keypoints = np.zeros((len(MPII), 3))
        for point in points:
            is_visible = _number(getattr(point, "is_visible", None))
            v = 1 if is_visible == 0 else 2  # head and neck often carry no mark and are in view
            keypoints[int(point.id)] = (float(point.x) - 1, float(point.y) - 1, v)
        found["keypoints"] = keypoints.ravel().tolist()
    else:
        scale, place = _number(getattr(person, "scale", None)), getattr(person, "objpos", None)
        centre = (_number(getattr(place, "x", None)), _number(getattr(place, "y", None)))
        found |= _square(centre, scale)
    head = [_number(getattr(person, side, None)) for side in ("x1", "y1", "x2", "y2")]
    if None not in head:
        x1, y1, x2, y2 = (side - 1 for side in head if side is not None)
        found["head_box"] = [x1, y1, x2 - x1, y2 - y1]
    return found


def _person_of_json(entry: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Entry → name of the picture, person."""
    if "joint_self" in entry:
        points = np.array(entry["joint_self"], float).reshape(len(MPII), 3)
        is_labelled, is_visible = (points[:, :2] != 0).any(axis=1), points[:, 2] > 0
        name, centre, scale = entry["img_paths"], entry.get("objpos"), entry.get("scale_provided")
    else:
        points = np.array(entry["joints"], float).reshape(len(MPII), 2)
        is_labelled = np.array(entry["joints_vis"], float).reshape(len(MPII)) > 0
        is_visible = is_labelled
        name, centre, scale = entry["image"], entry.get("center"), entry.get("scale")
    if not is_labelled.any():
        return str(name), _square(centre, scale)
    v = np.where(is_labelled, np.where(is_visible, 2, 1), 0)
    keypoints = np.where(is_labelled[:, None], np.column_stack([points[:, :2] - 1, v]), 0)
    return str(name), {"keypoints": keypoints.ravel().tolist()}


def _square(centre: Sequence[float | None] | None, scale: float | None) -> dict[str, Any]:
    """Box, in COCO's form, of a person of whom only place and height are known."""
    if scale is None or centre is None or centre[0] is None or centre[1] is None:
        return {}
    side = PIXELS_PER_SCALE * scale
    # From pixels counted from 1 to edges counted from the first pixel's corner.
    return {"bbox": [centre[0] - 0.5 - side / 2, centre[1] - 0.5 - side / 2, side, side]}


def _number(value: object) -> float | None:
    """Matlab number, or number in letters, or nothing."""
    values = np.asarray(value).reshape(-1)
    return None if value is None or values.size == 0 or str(values[0]) == "" else float(values[0])

"""Readers of annotation files: COCO keypoints, Leeds Sports Pose in the same layout, folders without people."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetpose.errors import DatasetError
from fleetpose.geometry import boxes_from_coco
from fleetpose.skeletons import Skeleton

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One picture and what is labelled in it.

    Attributes:
        path: the file.
        image_id: its number in the annotation file.
        keypoints: `[N, K, 3]` float32 (x, y, v) in pixels, in the order of the wanted skeleton.
        is_known: `[N, K]` False where nobody looked for that keypoint of that person.
        boxes: `[N, 4]` xyxy in pixels.
        ignored: COCO segmentations (polygons or run lengths) of crowds and of people without keypoints.
    """

    path: Path
    image_id: int
    keypoints: npt.NDArray[np.float32]
    is_known: npt.NDArray[np.bool_]
    boxes: npt.NDArray[np.float32]
    ignored: tuple[Any, ...] = ()


def read_pictures(folder: Path, *, num_keypoints: int) -> list[Picture]:
    """List the pictures of a folder that shows no people: hard negatives and backgrounds.

    Raises:
        DatasetError: the folder is missing or holds no picture.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder of pictures")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise DatasetError(
            f"{folder} holds no picture; expected files ending in {', '.join(sorted(PICTURE_SUFFIXES))}"
        )
    return [
        Picture(
            path=path,
            image_id=number,
            keypoints=np.zeros((0, num_keypoints, 3), np.float32),
            is_known=np.ones((0, num_keypoints), bool),
            boxes=np.zeros((0, 4), np.float32),
        )
        for number, path in enumerate(paths)
    ]


def read_coco(
    annotations: Path, images: Path, *, skeleton: Skeleton, is_zero_unknown: bool = False
) -> list[Picture]:
    """Read a COCO keypoint file and bring its keypoints, by name, into the order of `skeleton`.

    Keypoints of `skeleton` that the file does not name are unknown for all its people. An optional `votes` list of
    an annotation, one number per keypoint, marks with -1 the labels that are probably wrong: they become unknown.

    Args:
        annotations: COCO JSON with one category that names its keypoints.
        images: folder of the pictures.
        skeleton: wanted keypoints.
        is_zero_unknown: v = 0 means that nobody looked, rather than that the keypoint is not in view.

    Raises:
        DatasetError: the file cannot be read, or its parts do not hold together.
    """
    data = load_coco_json(annotations)
    names = _keypoint_names(data, annotations)
    order = [names.index(name) if name in names else -1 for name in skeleton.keypoints]
    if not any(position >= 0 for position in order):
        raise DatasetError(
            f"{annotations} names none of the keypoints of {skeleton.name}: it has {', '.join(names)}"
        )
    by_image = defaultdict(list)
    for annotation in data["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    return [
        _picture(
            images / record["file_name"],
            record["id"],
            by_image[record["id"]],
            order,
            len(names),
            is_zero_unknown,
        )
        for record in data["images"]
    ]


def load_coco_json(path: Path) -> dict[str, Any]:
    """Read a COCO file and check that images, annotations and categories are there.

    Raises:
        DatasetError: the file is missing, no JSON, or lacks a part.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"cannot read annotations {path}: {error.strerror}") from error
    except ValueError as error:
        raise DatasetError(f"{path} is no valid JSON: {error}") from error
    missing = [
        key
        for key in ("images", "annotations", "categories")
        if not isinstance(data, dict) or key not in data
    ]
    if missing:
        raise DatasetError(f"{path} is no COCO file: it lacks {', '.join(missing)}")
    return dict(data)


def _keypoint_names(data: dict[str, Any], path: Path) -> list[str]:
    for category in data["categories"]:
        if category.get("keypoints"):
            return list(category["keypoints"])
    raise DatasetError(f"{path} has no category that names its keypoints")


def _picture(
    path: Path,
    image_id: int,
    annotations: Sequence[dict[str, Any]],
    order: Sequence[int],
    num_given: int,
    is_zero_unknown: bool,  # noqa: FBT001 - a private step of `read_coco`
) -> Picture:
    people, known, boxes, ignored = [], [], [], []
    for annotation in annotations:
        flat = annotation.get("keypoints") or [0] * (3 * num_given)
        if len(flat) != 3 * num_given:
            raise DatasetError(
                f"annotation {annotation.get('id')} of {path.name} has {len(flat)} keypoint numbers, "
                f"expected {3 * num_given}"
            )
        given = np.vstack([np.asarray(flat, np.float32).reshape(-1, 3), np.zeros((1, 3), np.float32)])
        if annotation.get("iscrowd") or not (given[:, 2] > 0).any():
            if annotation.get("segmentation"):
                ignored.append(annotation["segmentation"])
            continue
        votes = np.array([*annotation.get("votes", [1] * num_given), 0])[list(order)]
        points = given[list(order)]
        is_known = (np.array(order) >= 0) & (votes >= 0)
        if is_zero_unknown:
            is_known &= points[:, 2] > 0
        points[~is_known] = 0
        people.append(points)
        known.append(is_known)
        boxes.append(annotation["bbox"])
    return Picture(
        path=path,
        image_id=image_id,
        keypoints=np.array(people, np.float32).reshape(-1, len(order), 3),
        is_known=np.array(known, bool).reshape(-1, len(order)),
        boxes=boxes_from_coco(np.array(boxes, np.float32).reshape(-1, 4)),
        ignored=tuple(ignored),
    )

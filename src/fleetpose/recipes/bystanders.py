"""People in view whom nobody labelled: a detector's boxes, and keypoints on which teachers agree.

Photos that were cut out around one labelled person, such as those of Leeds Sports Pose, show others too.
Where two networks agree on their keypoints they are training data; where not, they are at least no
background.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetpose.data.annotations import load_coco_json
from fleetpose.data.framing import around_keypoints
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.geometry import Image, box_areas, box_ious, boxes_from_coco
from fleetpose.recipes.voting import SAME, Teacher, keypoint_category, places_of, read_stored

Array = npt.NDArray[np.float64]

#: Boxes of a lower score are not looked into, but may hold somebody.
LEAST_BOX_SCORE = 0.4
#: Pixels of a box's height from which on teachers can say something.
LEAST_HEIGHT = 32
#: So many keypoints must be confirmed, and this share of those that two teachers know.
FEWEST_CONFIRMED = 4
CONFIRMED_SHARE = 0.5
#: A box is a labelled person's own above this intersection over union, or with this share inside theirs.
_OWN_OVERLAP, _OWN_SHARE = 0.3, 0.6


def add_bystanders(
    annotations: Path,
    images: Path,
    detections: Sequence[Mapping[str, Any]],
    teachers: Sequence[Teacher],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Add people to pictures that do not label everybody → the file's data with them, and what was added.

    The first teacher says where keypoints are, the others confirm them. Whom they do not confirm becomes a
    region to ignore (`iscrowd`).

    Args:
        annotations: COCO keypoint file, or one of another known layout.
        images: folder of its pictures.
        detections: people's boxes in COCO's results format, `image_id`, `bbox` and `score`.
        teachers: two or more.
        progress: told how many pictures are done, and of how many, after each.

    Raises:
        ConfigError: there are fewer than two teachers.
        DatasetError: the file or a picture cannot be read, or a detection lacks something.
    """
    if len(teachers) < 2:
        raise ConfigError(f"bystanders need two or more teachers who agree, got {len(teachers)}")
    data = load_coco_json(annotations)
    category = keypoint_category(data, annotations)
    names = list(category["keypoints"])
    labelled = defaultdict(list)
    for one in data["annotations"]:
        points = np.array(one.get("keypoints") or [0, 0, 0], np.float32).reshape(-1, 3)
        if (points[:, 2] > 0).any():
            labelled[one["image_id"]].append(around_keypoints(points[None])[0])
    found = defaultdict(list)
    for detection in detections:
        if not {"image_id", "bbox", "score"} <= detection.keys() or len(detection["bbox"]) != 4:
            raise DatasetError(
                f"a detection needs image_id, score and a bbox of 4 numbers, got {dict(detection)}"
            )
        found[detection["image_id"]].append(detection)
    added: list[dict[str, Any]] = []
    for done, record in enumerate(data["images"], start=1):
        others = _others(found[record["id"]], np.array(labelled[record["id"]]).reshape(-1, 4))
        image = read_stored(images / record["file_name"]) if others else None
        added += [_look(image, detection, names, teachers) for detection in others if image is not None]
        if progress is not None:
            progress(done, len(data["images"]))
    first = max((int(one["id"]) for one in data["annotations"]), default=0) + 1
    numbered = [{**one, "id": first + n, "category_id": category["id"]} for n, one in enumerate(added)]
    return {**data, "annotations": [*data["annotations"], *numbered]}, numbered


def _others(detections: Sequence[Mapping[str, Any]], people: Array) -> list[Mapping[str, Any]]:
    """Detections that are nobody's whose labels we have."""
    others = []
    for detection in detections:
        box = boxes_from_coco(np.array(detection["bbox"], float))
        low, high = np.maximum(people[:, :2], box[:2]), np.minimum(people[:, 2:], box[2:])
        inside = box_areas(np.concatenate([low, high], axis=1)) / max(float(box_areas(box)), 1.0)
        is_own = (box_ious(box[None], people)[0] > _OWN_OVERLAP) | (inside > _OWN_SHARE)
        if not is_own.any():
            others.append(detection)
    return others


def _look(
    image: Image, detection: Mapping[str, Any], names: Sequence[str], teachers: Sequence[Teacher]
) -> dict[str, Any]:
    """Annotation of a detection: a person, or a region to ignore."""
    ignored = {"image_id": detection["image_id"], "bbox": list(detection["bbox"]), "iscrowd": 1}
    if detection["score"] < LEAST_BOX_SCORE or detection["bbox"][3] < LEAST_HEIGHT:
        return ignored
    box = np.asarray(boxes_from_coco(np.array(detection["bbox"], float)), np.float64)
    said = np.stack([places_of(teacher, names, image, box) for teacher in teachers])
    is_kept, share = confirmed(said, reach=SAME * float(np.hypot(*(box[2:] - box[:2]))))
    if is_kept.sum() < FEWEST_CONFIRMED or share < CONFIRMED_SHARE:
        return ignored
    points = np.where(is_kept[:, None], np.concatenate([said[0], np.ones((len(names), 1))], axis=1), 0)
    return {**ignored, "iscrowd": 0, "keypoints": [round(float(value), 2) for value in points.ravel()]}


def confirmed(said: Array, *, reach: float) -> tuple[npt.NDArray[np.bool_], float]:
    """Which keypoints of the first teacher another confirms `[K]`, and their share of those that others name.

    Keypoints that no other teacher names, such as the face for one without it, are believed.

    Args:
        said: `[T, K, 2]` what each teacher says, NaN for nothing.
        reach: pixels within which two places are the same.
    """
    is_said = np.asarray(np.isfinite(said).all(axis=2))
    is_named_by_others = np.asarray(is_said[1:].any(axis=0))
    apart = np.linalg.norm(said[1:] - said[:1], axis=2)
    agrees = np.asarray((apart <= reach).any(axis=0))
    judged = int((is_said[0] & is_named_by_others).sum())
    share = int((is_said[0] & agrees).sum()) / max(judged, 1)
    return is_said[0] & (agrees | ~is_named_by_others), share

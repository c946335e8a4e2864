"""OCHuman (Zhang et al., CVPR 2019): people who hide one another, in its own JSON, as COCO data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleetpose.errors import DatasetError

#: OCHuman's 19 keypoints, which its file names too.
KEYPOINTS = (
    *("right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist"),
    *("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
    *("head", "neck", "right_ear", "left_ear", "nose", "right_eye", "left_eye"),
)
#: Its marks: 0 missing, 1 visible, 2 behind the own body, 3 behind somebody else → COCO's.
VISIBILITY = {0: 0, 1: 2, 2: 1, 3: 1}


def ochuman_from_json(data: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Official `ochuman.json` → COCO data; a person without keypoints becomes a region to ignore."""
    names = list(data.get("keypoint_names") or KEYPOINTS)
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    try:
        for number, picture in enumerate(data["images"], start=1):
            size = {side: picture[side] for side in ("width", "height") if side in picture}
            records.append({"id": number, "file_name": picture["file_name"], **size})
            for person in picture["annotations"]:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": 1,
                        "iscrowd": 0,
                        **_person(person, len(names)),
                    }
                )
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{file} is no OCHuman file: an entry lacks or garbles {error}") from error
    categories = [{"id": 1, "name": "person", "keypoints": names}]
    return {"images": records, "annotations": annotations, "categories": categories}


def _person(person: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Corners, keypoints and outline of one person; holes in the outline are not taken over."""
    x1, y1, x2, y2 = person["bbox"]
    found: dict[str, Any] = {"bbox": [x1, y1, x2 - x1, y2 - y1]}
    if person.get("keypoints"):
        flat = list(person["keypoints"])
        if len(flat) != 3 * count:
            raise ValueError(f"keypoints: {len(flat)} numbers instead of {3 * count}")
        flat[2::3] = [VISIBILITY[int(mark)] for mark in flat[2::3]]
        found["keypoints"] = flat
    outline = (person.get("segms") or {}).get("outer")
    return found | ({"segmentation": outline} if outline else {})

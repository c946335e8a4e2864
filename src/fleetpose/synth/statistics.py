"""Statistics of a COCO keypoint file: sizes, visibility, poses and overlap, to compare data sets."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from fleetpose.errors import DatasetError
from fleetpose.geometry import box_ious, boxes_from_coco
from fleetpose.skeletons import COCO
from fleetpose.synth.arrays import Array


def read_annotations(path: Path) -> dict[str, Any]:
    """Parse a COCO keypoint file."""
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read annotations {path}: {error}") from error
    if not isinstance(data, dict) or not {"images", "annotations"} <= data.keys():
        raise DatasetError(f"{path} is no COCO keypoint file: it lacks images or annotations")
    return data


def describe(data: dict[str, Any]) -> dict[str, float]:
    """Name and value of each statistic of a parsed COCO keypoint file; crowds are left out."""
    people = [a for a in data["annotations"] if not a.get("iscrowd") and a.get("num_keypoints", 1) > 0]
    if not people:
        raise DatasetError("the file labels nobody; there is nothing to describe")
    sizes = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
    points = np.array([a["keypoints"] for a in people], np.float64).reshape(len(people), -1, 3)[:, :17]
    boxes = boxes_from_coco(np.array([a["bbox"] for a in people], np.float64))
    share = np.array([(b[3] - b[1]) / sizes[a["image_id"]][0] for a, b in zip(people, boxes, strict=True)])
    v = points[..., 2]
    result = {
        "pictures": float(len(sizes)),
        "people": float(len(people)),
        "people per picture": len(people) / max(len(sizes), 1),
        **{f"box height / picture, p{q}": float(np.quantile(share, q / 100)) for q in (10, 25, 50, 75, 90)},
        **{f"share of keypoints with v={k}": float((v == k).mean()) for k in (0, 1, 2)},
        "keypoints labelled per person": float((v > 0).sum(axis=1).mean()),
        "people with a face keypoint": float((v[:, :3] == 2).any(axis=1).mean()),
        "people with both ankles": float((v[:, 15:17] > 0).all(axis=1).mean()),
    }
    return result | pose_statistics(points) | overlap_statistics(people, boxes)


def pose_statistics(points: Array) -> dict[str, float]:
    """Facing, uprightness, knees and arms, over people `[N, 17, 3]` with the keypoints it takes."""
    names = COCO.keypoints
    place = {name: points[:, names.index(name)] for name in names}
    shoulders = (place["left_shoulder"][:, :2] + place["right_shoulder"][:, :2]) / 2
    hips = (place["left_hip"][:, :2] + place["right_hip"][:, :2]) / 2
    trunk = _labelled(place, "left_shoulder", "right_shoulder", "left_hip", "right_hip")
    up = shoulders - hips
    length = np.linalg.norm(up, axis=1)
    usable = trunk & (length > 8)
    tilt = np.degrees(np.arctan2(np.abs(up[:, 0]), -up[:, 1]))
    across = place["left_shoulder"][:, 0] - place["right_shoulder"][:, 0]
    result = {
        "trunk tilt, median deg": _median(tilt[usable]),
        "trunk tilted over 45 deg": _mean(tilt[usable] > 45),
        "left shoulder on the right (facing)": _mean(across[usable] > 0),
        "shoulder width / trunk, median": _median((np.abs(across) / np.maximum(length, 1))[usable]),
    }
    for name, chain in (("knee", ("hip", "knee", "ankle")), ("elbow", ("shoulder", "elbow", "wrist"))):
        bends = []
        for side in ("left", "right"):
            a, b, c = (place[f"{side}_{part}"] for part in chain)
            chosen = (a[:, 2] > 0) & (b[:, 2] > 0) & (c[:, 2] > 0)
            first, second = a[chosen, :2] - b[chosen, :2], c[chosen, :2] - b[chosen, :2]
            norm = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
            cosine = (first * second).sum(axis=1) / np.maximum(norm, 1e-6)
            bends.append(180 - np.degrees(np.arccos(np.clip(cosine, -1, 1))))
        result[f"{name} bend, median deg"] = _median(np.concatenate(bends))
        result[f"{name} bent over 60 deg"] = _mean(np.concatenate(bends) > 60)
    raised = place["left_wrist"][:, 1] < place["left_shoulder"][:, 1]
    both = _labelled(place, "left_wrist", "left_shoulder")
    result["left wrist above shoulder"] = _mean(raised[both])
    return result


def overlap_statistics(people: list[dict[str, Any]], boxes: Array) -> dict[str, float]:
    """How much boxes overlap within pictures."""
    groups = defaultdict(list)
    for number, person in enumerate(people):
        groups[person["image_id"]].append(number)
    largest = []
    for members in groups.values():
        ious = box_ious(boxes[members], boxes[members])
        np.fill_diagonal(ious, 0)
        largest += ious.max(axis=1).tolist()
    highest = np.array(largest)
    return {
        "largest box IoU, mean": float(highest.mean()),
        "people with a box IoU over 0.3": float((highest > 0.3).mean()),
    }


def _labelled(place: dict[str, Array], *names: str) -> Array:
    result: Array = np.all([place[name][:, 2] > 0 for name in names], axis=0)
    return result


def _median(values: Array) -> float:
    return float(np.median(values)) if values.size else float("nan")


def _mean(values: Array) -> float:
    return float(np.mean(values)) if values.size else float("nan")

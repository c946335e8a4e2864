"""How many labelled people a finder proposes a box for, by their size, whatever its score.

    python benchmarks/found_people.py COCO/person_keypoints.json litepose-plain --short-side 96 160 256 416

Tells people who were never found from people whom the second look got wrong. A person counts as found if the
box around some predicted keypoints overlaps the labelled box by 0.5 (or 0.3) of their union.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import fleetpose
from fleetpose.data.annotations import load_coco_json
from fleetpose.geometry import box_ious, boxes_from_coco, keypoint_boxes

#: Sides of a square of the labelled area, in pixels: COCO's small and large begin at 32 and 96.
SIZES = (0, 64, 96, 160, float("inf"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("model", help="name or file of a bottom-up model")
    parser.add_argument("--images", type=Path, help="by default `images` beside the labels")
    parser.add_argument("--short-side", type=int, nargs="+", default=[96, 160, 256, 416])
    parser.add_argument("--threshold", type=float, default=0.03, help="lowest score of a proposal")
    arguments = parser.parse_args()
    model = fleetpose.load(
        arguments.model, threshold=arguments.threshold, short_side=tuple(arguments.short_side)
    )
    images = arguments.images or arguments.labels.parent / "images"
    data = load_coco_json(arguments.labels)
    people: dict[int, list[dict[str, Any]]] = {picture["id"]: [] for picture in data["images"]}
    for person in data["annotations"]:
        if not person.get("iscrowd") and any(person["keypoints"][2::3]):
            people[person["image_id"]].append(person)
    proposals, sides, overlaps = 0, [], []
    for picture in data["images"]:
        found = model(images / picture["file_name"])
        boxes = keypoint_boxes(found.keypoints, found.image_size)
        proposals += len(boxes)
        for person in people[picture["id"]]:
            box = boxes_from_coco(np.array([person["bbox"]], np.float32))
            sides.append(float(person["area"]) ** 0.5)
            overlaps.append(float(box_ious(box, boxes).max()) if len(boxes) else 0.0)
    print(f"{proposals / len(data['images']):.1f} proposals per picture")
    print("| side of labelled people, px | number | found at 0.5 | at 0.3 |\n| --- | ---: | ---: | ---: |")
    side, overlap = np.array(sides), np.array(overlaps)
    for low, high in (*pairwise(SIZES), (SIZES[0], SIZES[-1])):
        is_in = (side >= low) & (side < high)
        if is_in.any():
            shares = " | ".join(f"{100 * (overlap[is_in] >= least).mean():.0f} %" for least in (0.5, 0.3))
            print(f"| {low:g} to {high:g} | {is_in.sum()} | {shares} |")


if __name__ == "__main__":
    main()

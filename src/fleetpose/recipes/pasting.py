"""Pictures of real people where they were not: cut out along their outlines and put before other backgrounds.

What one photo shows of a person, such pictures show small and large, beside and behind others, and with all
around them known to be empty (arXiv:2012.07177).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fleetpose.data.annotations import read_coco
from fleetpose.data.paste import Cutouts, PasteSettings, paste_people
from fleetpose.data.samples import Sample, people_in_view
from fleetpose.data.scenes import SceneMaker, SceneSettings, Source
from fleetpose.errors import ConfigError
from fleetpose.geometry import box_areas, boxes_to_coco
from fleetpose.media.images import write_image
from fleetpose.skeletons import Skeleton
from fleetpose.train.checkpoint import open_folder

#: File of the labels, beside the pictures.
LABELS = "person_keypoints_train.json"
#: A background as it is: whole or zoomed into, mirrored or not, in its own light.
_BACKGROUND = SceneSettings(tiles=(1, 0, 0), zoom=(1.0, 1.6), rotation_deg=0, shift=0, light=0)


def write_pasted(
    annotations: Path,
    images: Path,
    backgrounds: Path,
    out: Path,
    *,
    skeleton: Skeleton,
    count: int,
    size: tuple[int, int],
    settings: PasteSettings,
    seed: int = 0,
    held_out_every: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write a data set of pasted people: pictures, and their labels in COCO's format as `LABELS`.

    Keypoints that nobody labelled, or that are not on what was cut out, have v = 0, so that training needs
    `is_zero_unknown` (`read_coco`). Picture k follows from `seed` and k. An interruption loses no
    picture: the labels of those that are drawn are written still.

    Args:
        annotations: COCO keypoint file with outlines.
        images: folder of its pictures.
        backgrounds: folder of pictures without people.
        out: folder to write; pictures in it are replaced.
        skeleton: keypoints to write.
        count: number of pictures.
        size: (h, w) of the pictures in pixels.
        settings: how people are pasted; the chance counts for nothing, every picture gets somebody if there
            is a place.
        seed: decides everything that is drawn.
        held_out_every: people of pictures whose id this divides are left out (0: none).
        progress: told how many pictures are done, and of how many, after each.

    Returns:
        The number of people in all pictures.

    Raises:
        ConfigError: the count, the size, the seed or the folder to write is impossible.
        DatasetError: a file cannot be read, or nobody has an outline.
    """
    if count < 1 or min(size) < 1:
        raise ConfigError(f"pasting needs at least one picture of at least one pixel, got {count} of {size}")
    if seed < 0:
        raise ConfigError(f"seed must be 0 or more, got {seed}")
    pictures = read_coco(annotations, images, skeleton=skeleton, is_zero_unknown=True, has_outlines=True)
    if held_out_every:
        pictures = [picture for picture in pictures if picture.image_id % held_out_every]
    cutouts = Cutouts(pictures, skeleton)
    maker = SceneMaker([Source(backgrounds)], skeleton, _BACKGROUND)
    maker.check_pictures()
    drawing = replace(settings, chance=1.0)
    open_folder(out)
    records: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    try:
        for number in range(count):
            rng = np.random.default_rng([seed, number])
            sample = people_in_view(paste_people(maker.make(rng, size), cutouts, rng, drawing))
            name = f"{number + 1:06d}.jpg"
            write_image(out / name, sample.image)
            records.append({"id": number + 1, "file_name": name, "height": size[0], "width": size[1]})
            for one in _people(sample):
                people.append({"id": len(people) + 1, "image_id": number + 1, **one})
            if progress is not None:
                progress(number + 1, count)
    finally:  # what was drawn before an interruption can be trained on
        if records:
            _write_labels(out / LABELS, records, people, skeleton)
    return len(people)


def _write_labels(
    path: Path, records: list[dict[str, Any]], people: list[dict[str, Any]], skeleton: Skeleton
) -> None:
    category = {
        "id": 1,
        "name": "person",
        "keypoints": list(skeleton.keypoints),
        "skeleton": (skeleton.limb_indices + 1).tolist(),
    }
    labels = {"images": records, "annotations": people, "categories": [category]}
    try:
        path.write_text(json.dumps(labels), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error


def _people(sample: Sample) -> list[dict[str, Any]]:
    """What COCO's format says of each person of a sample, ids aside."""
    boxes = np.round(boxes_to_coco(sample.boxes), 2)
    return [
        {
            "category_id": 1,
            "iscrowd": 0,
            "bbox": box.tolist(),
            "area": round(float(area), 2),
            "keypoints": [round(float(value), 2) for value in points.ravel()],
            "num_keypoints": int((points[:, 2] > 0).sum()),
        }
        for points, box, area in zip(sample.keypoints, boxes, box_areas(sample.boxes), strict=True)
    ]

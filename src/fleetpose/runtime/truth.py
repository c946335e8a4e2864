"""What an annotation file says of the pictures that are scored, in the order of the wanted keypoints."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetpose.data.annotations import load_coco_json
from fleetpose.data.layouts import Split
from fleetpose.data.matching import match_keypoints
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.metrics.crowdpose import AREA_OF_BOX
from fleetpose.metrics.tables import Labels, labels_from_coco
from fleetpose.skeletons import Skeleton

logger = logging.getLogger(__name__)

Array = npt.NDArray[np.float64]
Annotation = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What the annotations say of the pictures that count.

    Attributes:
        path: the annotation file.
        data: its content in COCO's format, with keypoints, a box and an area of everybody.
        all_image_ids: pictures of the file, those included that do not count.
        category_id: of people.
        skeleton: keypoints of the people in `data`, `labels` and `people`.
        labels: the people as arrays.
        people: those with labelled keypoints.
        order: `[K]` position in the file of each keypoint where the file has the same ones in another order,
            None where the order is the skeleton's or the file has others.
    """

    path: Path
    data: Mapping[str, Any]
    all_image_ids: npt.NDArray[np.int64]
    category_id: int
    skeleton: Skeleton
    labels: Labels
    people: Sequence[Annotation]
    order: npt.NDArray[np.int64] | None = None

    @property
    def images(self) -> Sequence[Mapping[str, Any]]:
        """Pictures that count."""
        return list(self.data["images"])


def load_truth(
    path: Path, skeleton: Skeleton, *, every: int = 1, split: Split = "test", has_areas: bool = False
) -> Truth:
    """Read an annotation file and bring its keypoints, by name, into the order of `skeleton`.

    Keypoints that the file does not name count as not labelled, and a warning names them. The keypoints of a
    file without names have to be those of the skeleton.

    Args:
        path: COCO keypoint JSON, or a file of another layout that `load_coco_json` knows.
        skeleton: wanted keypoints.
        every: take only the pictures whose id is a multiple of this.
        split: part to take of a file that holds training and test pictures.
        has_areas: refuse people without a box or an area.

    Raises:
        DatasetError: the file lacks something, or does not fit the skeleton.
        ConfigError: `every` is not a positive number.
    """
    if every < 1:
        raise ConfigError(f"every must be at least 1, got {every}")
    data = load_coco_json(path, split=split)
    kept = _subset(data, every=every)
    category = _person_category(kept, path)
    order = _order(category, path, skeleton)
    _check_keypoints(kept, path, skeleton, category)
    if has_areas:
        _check_areas(kept, path)
    completed = [
        _completed(item, skeleton, order if item["category_id"] == category["id"] else None)
        for item in kept["annotations"]
    ]
    truth = {**kept, "annotations": completed}
    is_permutation = order is not None and sorted(order) == list(range(len(category["keypoints"])))
    return Truth(
        path=path,
        data=truth,
        all_image_ids=np.array([image["id"] for image in data["images"]], np.int64),
        category_id=int(category["id"]),
        skeleton=skeleton,
        labels=labels_from_coco(truth, num_keypoints=len(skeleton)),
        people=[item for item in completed if _is_person(item)],
        order=order if is_permutation else None,
    )


def check_pictures(truth: Truth, images: Path, *, every: int) -> None:
    """Make sure that there are pictures and that their files are in the folder.

    Raises:
        DatasetError: the file lists none, or some are missing.
    """
    if not truth.images:
        which = "no picture" if every == 1 else f"no picture whose id is a multiple of {every}"
        raise DatasetError(f"{truth.path} lists {which}")
    absent = [image["file_name"] for image in truth.images if not (images / image["file_name"]).is_file()]
    if absent:
        raise DatasetError(
            f"{len(absent)} of the {len(truth.images)} pictures of {truth.path.name} are not in {images}, "
            f"the first is {absent[0]}"
        )


def check_people(truth: Truth) -> None:
    """Make sure that somebody can be scored.

    Raises:
        DatasetError: nobody in the pictures has a labelled keypoint of the skeleton.
    """
    labels = truth.labels
    if not ((labels.categories == truth.category_id) & ~labels.is_ignored).any():
        raise DatasetError(
            f"{truth.path}: nobody in its {len(truth.images)} pictures has a labelled keypoint of "
            f"{truth.skeleton.name}, so that nothing can be scored; label some people or take other pictures"
        )


def box_around(keypoints: Array) -> list[float]:
    """Box xywh around the keypoints `[K, 3]` whose third number is above 0; zeros without any."""
    points = keypoints[keypoints[:, 2] > 0, :2]
    if not len(points):
        return [0.0, 0.0, 0.0, 0.0]
    return [*points.min(axis=0).tolist(), *np.ptp(points, axis=0).tolist()]


def ordered(flat: Sequence[float], order: npt.NDArray[np.int64]) -> list[float]:
    """Pick the keypoints (x, y, v) at `order`, zeros at -1, where there are any."""
    picked = [flat[3 * at : 3 * at + 3] if at >= 0 else (0, 0, 0) for at in order.tolist()]
    return [number for point in picked for number in point] if flat else []


def _subset(data: Mapping[str, Any], *, every: int) -> dict[str, Any]:
    images = [image for image in data["images"] if image["id"] % every == 0]
    kept = {image["id"] for image in images}
    annotations = [item for item in data["annotations"] if item["image_id"] in kept]
    return {"images": images, "annotations": annotations, "categories": data["categories"]}


def _person_category(data: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """Category that has keypoints, or the only one."""
    categories = data["categories"]
    named = [category for category in categories if category.get("keypoints")] or categories
    if not named:
        raise DatasetError(f"{path} has no category")
    return dict(named[0])


def _order(category: Mapping[str, Any], path: Path, skeleton: Skeleton) -> npt.NDArray[np.int64] | None:
    """Position in the file of each keypoint of `skeleton`, -1 without one; None where all stay in place."""
    names = category.get("keypoints")
    if not names or tuple(names) == skeleton.keypoints:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DatasetError(f"{path}: the keypoints of a category must be a list of names, got {names!r}")
    order = match_keypoints(names, skeleton)
    if (order < 0).all():
        raise DatasetError(
            f"{path} names none of the keypoints of {skeleton.name}: it has {', '.join(names)}, expected "
            f"some of {', '.join(skeleton.keypoints)}; take the file's skeleton or rename its keypoints"
        )
    if (order < 0).any():
        missing = [name for name, at in zip(skeleton.keypoints, order, strict=True) if at < 0]
        logger.warning(
            "%s does not name %s: only the other keypoints of %s are scored",
            *(path, ", ".join(missing), skeleton.name),
        )
    return order


def _check_keypoints(
    data: Mapping[str, Any], path: Path, skeleton: Skeleton, category: Mapping[str, Any]
) -> None:
    names = category.get("keypoints") or skeleton.keypoints
    owner = skeleton.name if len(names) == len(skeleton) else f"a category with {len(names)} names"
    for annotation in data["annotations"]:
        where = f"{path}: annotation {annotation.get('id')}"
        if "category_id" not in annotation:
            raise DatasetError(f"{where} lacks category_id")
        is_ours = annotation["category_id"] == category["id"]
        numbers = len(annotation.get("keypoints") or ())
        expected, whose = (len(names), owner) if is_ours else (len(skeleton), skeleton.name)
        # MPII and OCHuman list people whom nobody labelled: like crowds, they are neither right nor wrong.
        if numbers not in {0, 3 * expected}:
            raise DatasetError(f"{where} has {numbers} keypoint numbers, but {whose} needs {3 * expected}")
    if data["annotations"] and not any(annotation.get("keypoints") for annotation in data["annotations"]):
        raise DatasetError(f"{path}: no annotation has keypoints, so that nobody can be scored")


def _check_areas(data: Mapping[str, Any], path: Path) -> None:
    for annotation in data["annotations"]:
        missing = [key for key in ("bbox", "area") if key not in annotation]
        if missing:
            raise DatasetError(f"{path}: annotation {annotation.get('id')} lacks {', '.join(missing)}")


def _completed(
    annotation: Annotation, skeleton: Skeleton, order: npt.NDArray[np.int64] | None
) -> dict[str, Any]:
    """Fill in a box around the labelled keypoints and an area, which not every file has; order keypoints."""
    given = annotation.get("keypoints") or []
    box = annotation.get("bbox") or box_around(np.reshape(given, (-1, 3)))
    keypoints = (given if order is None else ordered(given, order)) or [0] * (3 * len(skeleton))
    completed = {"area": AREA_OF_BOX * box[2] * box[3], **annotation, "keypoints": keypoints, "bbox": box}
    if order is not None and annotation.get("num_keypoints"):
        completed["num_keypoints"] = sum(v > 0 for v in keypoints[2::3])
    return completed


def _is_person(annotation: Annotation) -> bool:
    return not annotation.get("iscrowd") and any(v > 0 for v in annotation["keypoints"][2::3])

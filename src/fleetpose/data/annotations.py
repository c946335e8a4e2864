"""Pictures with labelled people: readers of annotation files and of folders without people."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetpose.data.layouts import Split, load_annotations
from fleetpose.data.matching import match_keypoints
from fleetpose.data.outlines import outline_problem
from fleetpose.errors import DatasetError
from fleetpose.geometry import boxes_from_coco, keypoint_boxes
from fleetpose.media.images import is_image_file
from fleetpose.skeletons import Skeleton

#: Side of a picture of unknown size, in pixels.
_ENDLESS = 2**31
#: No picture reaches farther than so many pixels, and few drawing functions do.
FARTHEST = 1e6


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
        outlines: COCO segmentation of each of the N people, None where there is none; empty unless asked for.
        crowd_index: CrowdPose's measure of crowding in [0, 1], None where the file has none.
    """

    path: Path
    image_id: int
    keypoints: npt.NDArray[np.float32]
    is_known: npt.NDArray[np.bool_]
    boxes: npt.NDArray[np.float32]
    ignored: tuple[Any, ...] = ()
    outlines: tuple[Any, ...] = ()
    crowd_index: float | None = None


def read_pictures(folder: Path, *, num_keypoints: int) -> list[Picture]:
    """List the pictures of a folder that shows no people: hard negatives and backgrounds.

    Raises:
        DatasetError: the folder is missing or holds no picture.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder of pictures")
    paths = sorted(path for path in folder.iterdir() if path.is_file() and is_image_file(path))
    if not paths:
        raise DatasetError(f"{folder} holds no picture; expected files such as .jpg or .png")
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
    annotations: Path,
    images: Path,
    *,
    skeleton: Skeleton,
    is_zero_unknown: bool = False,
    has_outlines: bool = False,
    least_agreement: float = 0.0,
    least_votes: int = 0,
    split: Split = "train",
) -> list[Picture]:
    """Read an annotation file and bring its keypoints, by name, into the order of `skeleton`.

    The file is COCO's or of another layout that `load_annotations` knows.

    Keypoints of `skeleton` that the file does not name are unknown for all its people. A person without a box
    gets one around the keypoints. Annotations of pictures that the file does not list are left out, and so
    are those of other categories.

    An annotation may say what other networks, the teachers, think of it: its `votes`, one number per
    keypoint, are the teachers who agree with the label, or -1 if they agree on another place, so that the
    label is probably wrong; its `agreement` is the share of the keypoints with which a teacher agrees.

    Args:
        annotations: COCO JSON with one category that names its keypoints, or a file of another layout.
        images: folder of the pictures.
        skeleton: wanted keypoints.
        is_zero_unknown: v = 0 means that nobody looked, rather than that the keypoint is not in view.
        has_outlines: keep people's outlines, which copying people into other pictures needs.
        least_agreement: a person whose `agreement` is lower becomes a region to ignore.
        least_votes: a keypoint with fewer `votes` becomes unknown; -1 believes every label.
        split: part to take of a file that holds training and test pictures.

    Raises:
        DatasetError: the file cannot be read, or its parts do not hold together.
    """
    data = load_coco_json(annotations, split=split)
    category = _keypoint_category(data, annotations)
    reader = _PersonReader(
        annotations,
        list(category["keypoints"]),
        skeleton,
        is_zero_unknown=is_zero_unknown,
        has_outlines=has_outlines,
        least_agreement=least_agreement,
        least_votes=least_votes,
    )
    records = _records_by_id(data["images"], annotations)
    by_image = defaultdict(list)
    for annotation in data["annotations"]:
        if annotation.get("category_id", category.get("id")) == category.get("id"):
            if "image_id" not in annotation:
                raise DatasetError(f"{annotations}: annotation {annotation.get('id')} has no image_id")
            by_image[annotation["image_id"]].append(annotation)
    if by_image and not by_image.keys() & records.keys():
        raise DatasetError(
            f"{annotations}: no annotation belongs to a listed picture; "
            f"image_id {next(iter(by_image))!r}, for one, is the id of none"
        )
    return [
        reader.picture(images / record["file_name"], record, by_image[image_id])
        for image_id, record in records.items()
    ]


def check_pictures(pictures: Sequence[Picture]) -> None:
    """Make sure that the files are there.

    Raises:
        DatasetError: some are not; the message names the first and says how many.
    """
    missing = [picture.path for picture in pictures if not picture.path.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(pictures)} pictures are missing, the first is {missing[0]}"
        )


def load_coco_json(path: Path, *, split: Split = "train") -> dict[str, Any]:
    """Read an annotation file → COCO data, in which images, annotations and categories are there.

    Raises:
        DatasetError: the file is missing, no JSON, or lacks a part.
    """
    return load_annotations(path, split=split)


def _keypoint_category(data: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    for category in data["categories"]:
        if category.get("keypoints"):
            return dict(category)
    raise DatasetError(f"{path} has no category that names its keypoints")


def _records_by_id(images: Sequence[dict[str, Any]], path: Path) -> dict[int, dict[str, Any]]:
    """Index the list of pictures, which must each have a name and a number of their own."""
    for record in images:
        if not isinstance(record.get("id"), int) or not isinstance(record.get("file_name"), str):
            raise DatasetError(f"{path}: a picture needs a whole number as id and a file_name, got {record}")
    counts = Counter(record["id"] for record in images)
    twice = [image_id for image_id, count in counts.items() if count > 1]
    if twice:
        raise DatasetError(f"{path}: {len(twice)} picture ids occur more than once, the first is {twice[0]}")
    return {record["id"]: record for record in images}


class _PersonReader:
    """Turns the annotations of one file into people of the wanted skeleton."""

    def __init__(
        self,
        file: Path,
        names: Sequence[str],
        skeleton: Skeleton,
        *,
        is_zero_unknown: bool,
        has_outlines: bool,
        least_agreement: float,
        least_votes: int,
    ) -> None:
        order = match_keypoints(names, skeleton)
        if (order < 0).all():
            raise DatasetError(
                f"{file} names none of the keypoints of {skeleton.name}: it has {', '.join(names)}"
            )
        self.file = file
        self.names = names
        self.is_named = order >= 0
        self.order = np.maximum(order, 0)
        self.is_zero_unknown = is_zero_unknown
        self.has_outlines = has_outlines
        self.least_agreement = least_agreement
        self.least_votes = least_votes

    def picture(
        self, path: Path, record: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]]
    ) -> Picture:
        """Sort the annotations of a picture into people and regions to ignore."""
        people, known, boxes, outlines, ignored = [], [], [], [], []
        size = (record.get("height") or _ENDLESS, record.get("width") or _ENDLESS)
        for annotation in annotations:
            given = self._keypoints(annotation)
            if annotation.get("iscrowd") or not (given[:, 2] > 0).any() or self._is_doubtful(annotation):
                ignored += self._region(annotation)
                continue
            points, is_known = self._in_order(given, annotation)
            people.append(points)
            known.append(is_known)
            boxes.append(self._box(annotation, given, size))
            if annotation.get("segmentation") and self.has_outlines:
                self._check_outline(annotation)
            outlines.append(annotation.get("segmentation") or None)
        num_keypoints = len(self.order)
        return Picture(
            path=path,
            image_id=record["id"],
            keypoints=np.array(people, np.float32).reshape(-1, num_keypoints, 3),
            is_known=np.array(known, bool).reshape(-1, num_keypoints),
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            ignored=tuple(ignored),
            outlines=tuple(outlines) if self.has_outlines else (),
            crowd_index=record.get("crowdIndex"),
        )

    def _is_doubtful(self, annotation: Mapping[str, Any]) -> bool:
        """Tell whether too few of a person's keypoints are where others see them."""
        agreement = annotation.get("agreement", 1.0)
        if isinstance(agreement, bool) or not isinstance(agreement, int | float):
            raise self._error(annotation, f"has an agreement that is no number: {agreement!r}")
        return bool(agreement < self.least_agreement)

    def _keypoints(self, annotation: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """`[K', 3]` (x, y, v) as the file has them, all 0 where there are none."""
        flat = annotation.get("keypoints") or [0] * (3 * len(self.names))
        if not isinstance(flat, list):
            raise self._error(annotation, f"has keypoints that are no list of numbers: {flat!r}")
        if len(flat) != 3 * len(self.names):
            raise self._error(annotation, f"has {len(flat)} keypoint numbers, expected {3 * len(self.names)}")
        try:
            given = np.array(flat, np.float32).reshape(-1, 3)
        except (TypeError, ValueError) as error:
            raise self._error(annotation, "has keypoints that are no numbers") from error
        given[given[:, 2] == 0] = 0  # whatever a tool writes for a keypoint that is not there, such as NaN
        if not np.isfinite(given).all():
            raise self._error(annotation, "has a labelled keypoint that is no finite number")
        if np.abs(given[:, :2]).max(initial=0) > FARTHEST:
            raise self._error(annotation, f"has a keypoint more than {FARTHEST:.0f} pixels away")
        return given

    def _in_order(
        self, given: npt.NDArray[np.float32], annotation: Mapping[str, Any]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Keypoints `[K, 3]` and whether they are known `[K]`, in the wanted order."""
        votes = self._votes(annotation)
        points = given[self.order]
        is_known = self.is_named.copy()
        if votes is not None:
            # Nobody votes on what is not labelled.
            is_known &= (votes[self.order] >= self.least_votes) | (points[:, 2] == 0)
        if self.is_zero_unknown:
            is_known &= points[:, 2] > 0
        points[~is_known] = 0
        return points, is_known

    def _votes(self, annotation: Mapping[str, Any]) -> npt.NDArray[np.floating] | None:
        """Votes `[K']` in the file's order, None where nobody was asked."""
        votes = annotation.get("votes")
        if votes is None:
            return None
        if not isinstance(votes, list):
            raise self._error(annotation, f"has votes that are no list of numbers: {votes!r}")
        if len(votes) != len(self.names):
            raise self._error(annotation, f"has {len(votes)} votes, expected {len(self.names)}")
        try:
            return np.array(votes, float)
        except (TypeError, ValueError) as error:
            raise self._error(annotation, f"has votes that are no numbers: {votes}") from error

    def _box(
        self, annotation: Mapping[str, Any], given: npt.NDArray[np.float32], size: tuple[int, int]
    ) -> npt.NDArray[np.floating]:
        if not annotation.get("bbox"):
            return np.asarray(keypoint_boxes(given[None], size)[0])
        try:
            box = np.array(annotation["bbox"], np.float32).reshape(4)
        except (TypeError, ValueError) as error:
            raise self._error(
                annotation, f"has a bbox that is no x, y, width, height: {annotation['bbox']}"
            ) from error
        if not np.isfinite(box).all():
            raise self._error(annotation, "has a bbox that is no finite number")
        return np.asarray(boxes_from_coco(box))

    def _region(self, annotation: Mapping[str, Any]) -> list[Any]:
        """COCO segmentations of one annotation: its outline, else its box, else nothing."""
        if annotation.get("segmentation"):
            self._check_outline(annotation)
            return [annotation["segmentation"]]
        if not annotation.get("bbox"):
            return []
        self._box(annotation, np.zeros((0, 3), np.float32), (0, 0))  # which names a box that is none
        x, y, w, h = annotation["bbox"]
        return [[[x, y, x + w, y, x + w, y + h, x, y + h]]]

    def _check_outline(self, annotation: Mapping[str, Any]) -> None:
        problem = outline_problem(annotation["segmentation"])
        if problem:
            raise self._error(annotation, f"has an outline with {problem}")

    def _error(self, annotation: Mapping[str, Any], what: str) -> DatasetError:
        return DatasetError(f"{self.file}: annotation {annotation.get('id')} {what}")

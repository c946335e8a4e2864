"""Votes of teachers on labels: which keypoints other networks see where they are labelled.

Noisy labels can then be used in part, see `least_votes` and `least_agreement` of
`fleetpose.data.scenes.Source`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetpose.data.annotations import load_coco_json
from fleetpose.errors import ConfigError, DatasetError, MediaError
from fleetpose.geometry import Image
from fleetpose.media.images import read_image
from fleetpose.runtime.predictor import load
from fleetpose.train.teachers import LiteRtModel

Array = npt.NDArray[np.float64]

#: Two places are the same if they lie within this share of the diagonal of the person's keypoints.
SAME = 0.09
#: A teacher with a lower score does not vote.
LEAST_SCORE = 0.2
#: A tflite teacher sees the person's keypoints with this share of their longer side around them.
ROOM = 0.2


@dataclass(frozen=True, slots=True)
class Teacher:
    """A network that names one person's keypoints.

    Attributes:
        names: of its keypoints.
        find: RGB picture and a box (x1, y1, x2, y2) around the person → keypoints `[K, 3]` (x, y, score) in
            pixels of the picture.
    """

    names: tuple[str, ...]
    find: Callable[[Image, Array], npt.NDArray[np.floating]]


def open_voter(path: Path) -> Teacher:
    """Load a teacher: a tflite file of EfficientPose's or MoveNet's kind, or one of our top-down models.

    Raises:
        ConfigError: the file is of no such kind.
        CheckpointError: it cannot be read.
    """
    if path.suffix == ".tflite":
        model = LiteRtModel(path)
        return Teacher(model.names, lambda image, box: _in_crop(model, image, box))
    if path.suffix != ".onnx":
        raise ConfigError(f"a teacher must be a .tflite or .onnx file, got {path}")
    return open_top_down(path)


def open_top_down(path: Path, *, has_flip_test: bool = False) -> Teacher:
    """Load a teacher that is one of our top-down models.

    Args:
        path: of the model.
        has_flip_test: average with what it says of the mirrored picture: better and half as fast.

    Raises:
        ConfigError: the model finds people by itself.
        CheckpointError: it cannot be read.
    """
    predictor = load(path, threshold=0.0, threads=1, has_flip_test=has_flip_test)
    if not predictor.needs_boxes:
        raise ConfigError(f"{path} finds people by itself; a teacher must be a top-down model")
    return Teacher(
        predictor.skeleton.keypoints, lambda image, box: predictor(image, boxes=box[None]).keypoints[0]
    )


def _in_crop(model: LiteRtModel, image: Image, box: Array) -> npt.NDArray[np.floating]:
    room = ROOM * float((box[2:] - box[:2]).max())
    h, w = image.shape[:2]
    x1, y1 = np.clip(np.floor(box[:2] - room), 0, (w - 1, h - 1)).astype(int)
    x2, y2 = np.maximum(np.ceil(box[2:] + room), (x1 + 1, y1 + 1)).astype(int)
    return np.asarray(model.find(np.ascontiguousarray(image[y1:y2, x1:x2])) + np.array([x1, y1, 0]))


def add_votes(
    annotations: Path,
    images: Path,
    teachers: Sequence[Teacher],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Ask teachers about every labelled person → the file's data with `votes` and `agreement`.

    A vote is the number of teachers who agree with a label; -1 if none does, but two agree with each other on
    another place. Keypoints that no teacher knows, or that are not labelled, have 0; `agreement` is the share
    of the labelled keypoints that teachers know with a vote of at least 1. People with a single labelled
    keypoint are not judged.

    Args:
        annotations: COCO keypoint file, or one of another known layout.
        images: folder of its pictures.
        teachers: two or more find wrong labels; one can only agree.
        progress: told how many people are done, and of how many, after each.

    Raises:
        DatasetError: the file or a picture cannot be read.
    """
    data = load_coco_json(annotations)
    names = list(keypoint_category(data, annotations)["keypoints"])
    judged = {
        id(person): _judge(person, names, image, teachers)
        for person, image in labelled_people(data, images, progress=progress)
    }
    return {**data, "annotations": [{**one, **judged.get(id(one), {})} for one in data["annotations"]]}


def labelled_people(
    data: Mapping[str, Any], images: Path, *, progress: Callable[[int, int], None] | None = None
) -> Iterator[tuple[Mapping[str, Any], Image]]:
    """Yield the annotation of everybody who has a labelled keypoint, crowds aside, and the whole picture.

    Each picture is read once.

    Args:
        data: of an annotation file.
        images: folder of its pictures.
        progress: told how many people are done, and of how many, after each.

    Raises:
        DatasetError: a picture cannot be read.
    """
    paths = {record["id"]: images / record["file_name"] for record in data["images"]}
    people = [one for one in data["annotations"] if _is_labelled(one) and one.get("image_id") in paths]
    image, shown = np.zeros((0, 0, 3), np.uint8), None
    for done, person in enumerate(sorted(people, key=lambda one: str(paths[one["image_id"]])), start=1):
        path = paths[person["image_id"]]
        if path != shown:
            image, shown = read_stored(path), path
        yield person, image
        if progress is not None:
            progress(done, len(people))


def keypoint_category(data: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The category of a file's data that names its keypoints.

    Raises:
        DatasetError: there is none.
    """
    for category in data["categories"]:
        if category.get("keypoints"):
            return dict(category)
    raise DatasetError(f"{path} has no category that names its keypoints")


def numbers_of(person: Mapping[str, Any], key: str, count: int, file: Path) -> Array:
    """One of a person's lists of numbers as an array `[count]`.

    Raises:
        DatasetError: it has another length, or holds something else.
    """
    try:
        return np.array(person[key], float).reshape(count)
    except (TypeError, ValueError) as error:
        raise DatasetError(
            f"{file}: the {key} of annotation {person.get('id')} must be {count} numbers, got {person[key]}"
        ) from error


def _is_labelled(annotation: Mapping[str, Any]) -> bool:
    return not annotation.get("iscrowd") and any(annotation.get("keypoints", ())[2::3])


def read_stored(path: Path) -> Image:
    """Read a picture of a data set, in the pixels that its labels refer to.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        return read_image(path, is_as_stored=True)
    except MediaError as error:
        raise DatasetError(f"cannot read the picture {path}: it is missing or broken") from error


def _judge(
    person: Mapping[str, Any], names: Sequence[str], image: Image, teachers: Sequence[Teacher]
) -> dict[str, Any]:
    """`votes` and, if a teacher knows a labelled keypoint, `agreement` of one person."""
    points = np.array(person["keypoints"], float).reshape(len(names), 3)
    is_labelled = points[:, 2] > 0
    low, high = points[is_labelled, :2].min(axis=0), points[is_labelled, :2].max(axis=0)
    reach = SAME * float(np.hypot(*(high - low)))
    if reach == 0:  # a single keypoint does not tell how large the person is
        return {}
    box = np.concatenate([low - 0.5, high + 0.5])
    said = [places_of(teacher, names, image, box) for teacher in teachers]
    votes = [
        count_votes(label, np.array([one[k] for one in said]), reach=reach) if is_labelled[k] else 0
        for k, label in enumerate(points[:, :2])
    ]
    is_known = is_labelled & np.any(
        [[name in teacher.names for name in names] for teacher in teachers], axis=0
    )
    if not is_known.any():
        return {"votes": votes}
    agreement = float(np.mean(np.array(votes)[is_known] > 0))
    return {"votes": votes, "agreement": round(agreement, 3)}


def places_of(teacher: Teacher, names: Sequence[str], image: Image, box: Array) -> Array:
    """Places `[K, 2]` of the keypoints in the file's order, NaN where the teacher says nothing."""
    found = keypoints_of(teacher, names, image, box)
    return np.where(found[:, 2:] >= LEAST_SCORE, found[:, :2], np.nan)


def keypoints_of(teacher: Teacher, names: Sequence[str], image: Image, box: Array) -> Array:
    """Keypoints `[K, 3]` (x, y, score) in the file's order, NaN where the teacher knows no such keypoint."""
    found = teacher.find(image, box)
    keypoints = np.full((len(names), 3), np.nan)
    for k, name in enumerate(names):
        if name in teacher.names:
            keypoints[k] = found[teacher.names.index(name)]
    return keypoints


def count_votes(label: Array, said: Array, *, reach: float) -> int:
    """Number of teachers who agree with a label, or -1 if two agree on another place.

    Args:
        label: (x, y).
        said: `[T, 2]` what each teacher says, NaN for nothing.
        reach: pixels within which two places are the same.

    >>> count_votes(np.array([0.0, 0.0]), np.array([[1.0, 0.0], [9.0, 0.0]]), reach=2)
    1
    >>> count_votes(np.array([0.0, 0.0]), np.array([[8.0, 0.0], [9.0, 0.0]]), reach=2)
    -1
    """
    agree = int((np.linalg.norm(said - label, axis=1) <= reach).sum())
    if agree:
        return agree
    apart = np.linalg.norm(said[:, None] - said[None], axis=-1)
    return -1 if (apart[np.triu_indices(len(said), 1)] <= reach).any() else 0

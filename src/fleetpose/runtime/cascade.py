"""Where a top-down model's boxes come from: given, a callable, the whole picture, or a bottom-up model.

The last is the cascade: no person detector is needed, since the people that one look at the whole picture
finds are the boxes that the second model refines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from fleetpose.codecs.description import ModelDescription
from fleetpose.codecs.top_down import CODEC_TYPE
from fleetpose.errors import ConfigError, DatasetError, MediaError
from fleetpose.geometry import Image, boxes_from_coco, boxes_to_coco, keypoint_boxes
from fleetpose.results import PoseResult
from fleetpose.runtime.timing import Stopwatch
from fleetpose.runtime.top_down import TopDown, boxes_around, check_boxes

Array = npt.NDArray[np.float32]

#: What to say of boxes that a model does not take.
NO_BOXES = "model {name} is bottom-up and takes no boxes: it finds people by itself; leave boxes out"

#: Of refined people more alike than this (object keypoint similarity) the surer stays. Found people may share
#: a crop's person, above all those of several sizes; 0.7 was best on the kept-out `lspet`, of 0.5 to 0.9.
SAME_REFINED = 0.7
#: Refined people within another whose score is at most this share of that one's are dropped. On rendered
#: validation pictures that drops 7 of 179 people, for 0.1 AP less and 0.2 AP50 more.
WITHIN_REFINED = 0.5

#: Size (h, w) of a picture of unknown size.
_ENDLESS = (2**31, 2**31)

#: Takes the picture itself as the only person's box.
WHOLE: Literal["whole"] = "whole"


class BoxTable:
    """Boxes of pictures that are known by name, such as those of a file."""

    def __init__(self, boxes: Mapping[str, npt.ArrayLike], *, source: str) -> None:
        """Take boxes `[N, 4]` or `[N, 5]` by file name; `source` says in messages where they come from."""
        self._boxes = {name: check_boxes(rows) for name, rows in boxes.items()}
        self._source = source

    def __contains__(self, name: str) -> bool:
        return name in self._boxes

    def of(self, name: str | None) -> Array:
        """Boxes `[N, 5]` of a picture.

        Raises:
            MediaError: the picture is not in the table.
        """
        key = Path(name).name if name else None
        if key not in self._boxes:
            raise MediaError(f"there are no boxes for {name or 'a picture without name'} in {self._source}")
        return self._boxes[key]


#: An array `[N, 4]` or `[N, 5]`, a callable from a picture to one, the whole picture, or boxes by file name.
BoxSource: TypeAlias = Literal["whole"] | npt.ArrayLike | Callable[[Image], npt.ArrayLike] | BoxTable


class Finder(Protocol):
    """Finds people in a picture."""

    description: ModelDescription

    def find(self, image: Image, watch: Stopwatch, *, name: str | None = None) -> PoseResult:
        """Find the people in an RGB picture, which bears a name or not."""


class Boxed:
    """A top-down model and the source of its boxes.

    Attributes:
        description: of the top-down model.
    """

    def __init__(self, refiner: TopDown, boxes: BoxSource, *, threshold: float) -> None:
        """Take boxes from a source; people below the threshold are left out.

        Raises:
            ConfigError: the source is a word that says nothing.
        """
        if isinstance(boxes, str) and not _is_whole(boxes):
            raise ConfigError(f"boxes must be an array, a callable or {WHOLE!r}, got {boxes!r}")
        self.description = refiner.description
        self._refiner = refiner
        self._boxes = boxes
        self._threshold = threshold

    def find(self, image: Image, watch: Stopwatch, *, name: str | None = None) -> PoseResult:
        """Find the people in an RGB picture."""
        boxes = self._boxes_of(image, name)
        if callable(self._boxes):
            watch.lap("boxes")
        found = self._refiner.find(image, boxes, watch, are_boxes_rough=_is_whole(self._boxes))
        if _is_whole(self._boxes):
            # The frame says nothing about the person.
            found = replace(found, boxes=keypoint_boxes(found.keypoints, found.image_size))
        return found.select(found.scores >= self._threshold)

    def _boxes_of(self, image: Image, name: str | None) -> Array:
        source = self._boxes
        if isinstance(source, BoxTable):
            return source.of(name)
        if _is_whole(source):
            h, w = image.shape[:2]
            return np.array([[-0.5, -0.5, w - 0.5, h - 0.5, 1]], np.float32)
        return check_boxes(source(image) if callable(source) else source)


def _is_whole(source: BoxSource) -> bool:
    return isinstance(source, str) and source == WHOLE


class Cascade:
    """A bottom-up model whose people a top-down model refines.

    Attributes:
        description: of the top-down model, whose keypoints are the result.
    """

    def __init__(self, finder: Finder, refiner: TopDown, *, threshold: float) -> None:
        """Take both models; people whom the second one scores below the threshold are left out too."""
        self.description = refiner.description
        self._threshold = threshold
        self._finder = finder
        self._refiner = refiner

    def find(self, image: Image, watch: Stopwatch, *, name: str | None = None) -> PoseResult:
        """Find the people in an RGB picture."""
        first = self._finder.find(image, watch, name=name)
        found = self._refiner.find(image, boxes_around(first), watch, are_boxes_rough=True)
        return found.select(found.scores >= self._threshold)


def read_boxes(path: Path, *, names: Mapping[int, str] | None = None) -> BoxTable:
    """Read people's boxes from a COCO file.

    Args:
        path: JSON: annotations with their list of pictures, or a list of results, as detectors write it.
        names: file name per picture id, for a list of results.

    Raises:
        DatasetError: the file cannot be read, or a part of it is missing or wrong.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"cannot read boxes {path}: {error.strerror}") from error
    except ValueError as error:
        raise DatasetError(f"{path} is no valid JSON: {error}") from error
    if isinstance(data, dict) and "images" in data and "annotations" in data:
        return coco_boxes(data, source=str(path))
    if not isinstance(data, list):
        raise DatasetError(f"{path} holds no boxes: expected COCO annotations or a list of COCO results")
    if names is None:
        raise DatasetError(
            f"{path} is a list of results, which has numbers but no names of pictures; "
            "expected COCO annotations with a list of images"
        )
    return _table(data, names, source=str(path))


def coco_boxes(data: Mapping[str, Any], *, source: str) -> BoxTable:
    """Boxes by file name of the people of COCO annotations, without crowds and people without keypoints.

    Where there is no box, the one around the keypoints is taken.

    Raises:
        DatasetError: a part is missing or wrong.
    """
    rows = [
        _with_box(row)
        for row in data["annotations"]
        if not row.get("iscrowd") and any(v > 0 for v in row.get("keypoints", [1] * 3)[2::3])
    ]
    names = {image["id"]: image["file_name"] for image in data["images"]}
    return _table(rows, names, source=source)


def _with_box(row: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in a box around the keypoints, for files such as MPII's that have none."""
    if row.get("bbox") or not row.get("keypoints"):
        return dict(row)
    points = np.array(row["keypoints"], float).reshape(1, -1, 3)
    return {**row, "bbox": boxes_to_coco(keypoint_boxes(points, _ENDLESS)[0]).tolist()}


def _table(rows: list[dict[str, Any]], names: Mapping[int, str], *, source: str) -> BoxTable:
    boxes: dict[str, list[list[float]]] = {Path(name).name: [] for name in names.values()}
    if len(boxes) != len(names):
        raise DatasetError(f"{source}: some pictures share a file name, so their boxes cannot be told apart")
    for row in rows:
        if "bbox" not in row or len(row["bbox"]) != 4:
            raise DatasetError(f"{source}: a row of picture {row.get('image_id')} has no bbox of 4 numbers")
        if row.get("image_id") in names:
            box = boxes_from_coco(np.array(row["bbox"], float)).tolist()
            boxes[Path(names[row["image_id"]]).name].append([*box, float(row.get("score", 1))])
    return BoxTable(boxes, source=source)


def is_top_down(description: ModelDescription) -> bool:
    """Whether a model sees one person at a time, and so needs boxes."""
    return bool(description.codec["type"] == CODEC_TYPE)


def check_combination(
    description: ModelDescription,
    *,
    refiner: ModelDescription | None,
    has_boxes: bool,
    has_bottom_up_settings: bool,
    has_closer_look: bool,
) -> None:
    """Refuse models and settings that do not go together.

    Raises:
        ConfigError: one line that says what to do instead.
    """
    name = description.name
    if is_top_down(description):
        if refiner is not None:
            raise ConfigError(
                f"model {name} is top-down and finds nobody by itself, so that {refiner.name} could refine "
                "them; the first model must be bottom-up"
            )
        if has_bottom_up_settings:
            raise ConfigError(
                f"model {name} is top-down and sees crops of one size: leave short side, scales and zoom out"
            )
    elif has_boxes:
        raise ConfigError(NO_BOXES.format(name=name))
    elif has_closer_look and refiner is None:
        raise ConfigError(
            f"model {name} is bottom-up and a closer look is a top-down model's: name one that refines its "
            "people, or let it zoom"
        )
    if refiner is not None and not is_top_down(refiner):
        raise ConfigError(f"model {refiner.name} is bottom-up and refines nobody; name a top-down one")

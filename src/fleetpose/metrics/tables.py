"""What is labelled and what was found, as arrays: the form in which people are scored.

COCO's files hold one mapping per person. Scoring reads each number many times, so it is done on arrays, and a
caller who has arrays need not write files first.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetpose.errors import DatasetError, ShapeError

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labelled people of a set of pictures.

    Attributes:
        image_ids: ids of all pictures that count, ascending, those without people too.
        images: `[M]` position in `image_ids` of each person's picture.
        categories: `[M]` category of each person.
        keypoints: `[M, K, 3]` (x, y, v).
        boxes_xywh: `[M, 4]` as COCO's files hold them.
        areas: `[M]` in square pixels.
        is_crowd: `[M]` True for a region with people whom nobody labelled one by one.
        is_ignored: `[M]` True for crowds and people without a keypoint: finding them is neither right nor
            wrong.
    """

    image_ids: Indices
    images: Indices
    categories: Indices
    keypoints: Array
    boxes_xywh: Array
    areas: Array
    is_crowd: Mask
    is_ignored: Mask

    def __len__(self) -> int:
        return len(self.images)

    @property
    def is_labelled(self) -> Mask:
        """`[M, K]` True where a keypoint has a label."""
        return np.asarray(self.keypoints[..., 2] > 0)

    def select(self, people: Mask) -> Labels:
        """Keep some people, given as `[M]`; all pictures stay."""
        return replace(
            self,
            images=self.images[people],
            categories=self.categories[people],
            keypoints=self.keypoints[people],
            boxes_xywh=self.boxes_xywh[people],
            areas=self.areas[people],
            is_crowd=self.is_crowd[people],
            is_ignored=self.is_ignored[people],
        )

    def of_images(self, image_ids: Iterable[int]) -> Labels:
        """Keep some of the pictures and the people in them."""
        kept = np.isin(self.image_ids, np.fromiter(image_ids, np.int64))
        part = self.select(kept[self.images])
        return replace(part, image_ids=self.image_ids[kept], images=(np.cumsum(kept) - 1)[part.images])


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """People whom a model found.

    Attributes:
        image_ids: `[N]` id of each person's picture.
        categories: `[N]` category of each person.
        keypoints: `[N, K, 3]` (x, y, score).
        scores: `[N]` one per person.
        areas: `[N]` in square pixels: of the box where there is one, else of the keypoints' extent.
    """

    image_ids: Indices
    categories: Indices
    keypoints: Array
    scores: Array
    areas: Array

    def __post_init__(self) -> None:
        if not np.isfinite(self.scores).all() or not np.isfinite(self.keypoints[..., :2]).all():
            raise ShapeError("detections", "finite numbers", "NaN or infinity")

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, people: Mask) -> Detections:
        """Keep some people, given as `[N]`."""
        return replace(
            self,
            image_ids=self.image_ids[people],
            categories=self.categories[people],
            keypoints=self.keypoints[people],
            scores=self.scores[people],
            areas=self.areas[people],
        )


def labels_from_coco(data: Mapping[str, Any], *, num_keypoints: int) -> Labels:
    """Annotations in COCO's format → arrays.

    Crowds may lack keypoints, and anybody may lack `iscrowd` and `num_keypoints`. People in pictures that the
    file does not list are left out.

    Raises:
        DatasetError: an annotation has the wrong number of keypoints.
    """
    image_ids = np.unique(_column(data["images"], "id", np.int64))
    people = data["annotations"]
    nothing = [0] * (3 * num_keypoints)
    keypoints = _keypoints([item.get("keypoints") or nothing for item in people], people, num_keypoints)
    is_crowd = np.array([bool(item.get("iscrowd", 0)) for item in people], bool)
    counted = (keypoints[..., 2] > 0).sum(axis=1)
    given = (item.get("num_keypoints", n) for item, n in zip(people, counted.tolist(), strict=True))
    owners = _column(people, "image_id", np.int64)
    positions = np.searchsorted(image_ids, owners)
    labels = Labels(
        image_ids=image_ids,
        images=positions,
        categories=_column(people, "category_id", np.int64),
        keypoints=keypoints,
        boxes_xywh=np.array([item["bbox"] for item in people], np.float64).reshape(-1, 4),
        areas=_column(people, "area", np.float64),
        is_crowd=is_crowd,
        is_ignored=is_crowd | (np.fromiter(given, np.int64, len(people)) == 0),
    )
    return labels.select(np.isin(owners, image_ids))


def detections_from_coco(rows: Sequence[Mapping[str, Any]], *, num_keypoints: int) -> Detections:
    """Rows in COCO's results format (`image_id`, `category_id`, `keypoints` `[3K]`, `score`) → arrays.

    As in COCO's own tool a person's area is that of the `bbox`, where the row has one.

    Raises:
        DatasetError: a row lacks something or has the wrong number of keypoints.
    """
    try:
        scores = _column(rows, "score", np.float64)
        image_ids = _column(rows, "image_id", np.int64)
        categories = _column(rows, "category_id", np.int64)
        keypoints = _keypoints([row["keypoints"] for row in rows], rows, num_keypoints)
        areas = _areas(rows, keypoints)
    except KeyError as error:
        raise DatasetError(
            f"a detection lacks {error}; expected image_id, category_id, keypoints and score"
        ) from error
    except DatasetError:
        raise
    except (TypeError, ValueError) as error:
        raise DatasetError(f"a detection holds something else than numbers: {error}") from error
    return Detections(
        image_ids=image_ids, categories=categories, keypoints=keypoints, scores=scores, areas=areas
    )


def load_detections(path: Path, *, num_keypoints: int) -> Detections:
    """Read a file in COCO's results format → arrays.

    Raises:
        DatasetError: the file is missing, is no list of detections, or a row does not fit.
    """
    rows = read_rows(path)
    return detections_from_coco(rows, num_keypoints=num_keypoints)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a file in COCO's results format.

    Raises:
        DatasetError: the file is missing, no JSON, or no list of detections.
    """
    try:
        with _no_garbage_collection():
            rows = json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"cannot read detections {path}: {error.strerror}") from error
    except ValueError as error:
        raise DatasetError(f"{path} is no valid JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DatasetError(f"{path} holds no detections: expected a list of mappings, as COCO's results are")
    return rows


def check_images(detections: Detections, image_ids: Indices) -> None:
    """Make sure that all detections are in listed pictures.

    Raises:
        DatasetError: one is not.
    """
    is_strange = ~np.isin(detections.image_ids, image_ids)
    if is_strange.any():
        raise DatasetError(
            f"detections name image {detections.image_ids[is_strange][0]}, which the annotations do not list"
        )


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep Python from looking for cycles among millions of numbers, which takes half of the reading."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _column(rows: Sequence[Mapping[str, Any]], key: str, dtype: type[np.generic]) -> npt.NDArray[Any]:
    return np.array([row[key] for row in rows], dtype)


def _keypoints(
    listed: Sequence[Sequence[float]], rows: Sequence[Mapping[str, Any]], num_keypoints: int
) -> Array:
    """Lists of 3K numbers → `[N, K, 3]`."""
    lengths = np.fromiter(map(len, listed), np.int64, len(listed))
    wrong = np.flatnonzero(lengths != 3 * num_keypoints)
    if len(wrong):
        row = rows[int(wrong[0])]
        kind = "a detection" if "score" in row else f"annotation {row.get('id')}"
        raise DatasetError(
            f"{kind} in image {row['image_id']} has {lengths[wrong[0]]} keypoint numbers, "
            f"expected {3 * num_keypoints}"
        )
    flat = np.fromiter(chain.from_iterable(listed), np.float64, 3 * num_keypoints * len(listed))
    return flat.reshape(-1, num_keypoints, 3)


def _areas(rows: Sequence[Mapping[str, Any]], keypoints: Array) -> Array:
    extent = np.ptp(keypoints[..., :2], axis=1) if keypoints.size else np.zeros((len(rows), 2))
    areas = extent[:, 0] * extent[:, 1]
    boxed = [n for n, row in enumerate(rows) if row.get("bbox")]
    if boxed:
        sides = np.array([rows[n]["bbox"][2:] for n in boxed], np.float64)
        areas[boxed] = sides[:, 0] * sides[:, 1]
    return np.asarray(areas)

"""Outlines of people in COCO's format: polygons, or run lengths of a mask."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.errors import DatasetError, require


def outline_problem(segmentation: Any) -> str:  # noqa: ANN401 - whatever a file holds
    """Say what is wrong with an outline in the words of a message; "" if nothing is.

    >>> outline_problem([[0, 0, 4, 0, 4]])
    'a polygon of 5 numbers, which must be pairs of x and y'
    >>> outline_problem({"counts": [4, 2], "size": [2, 3]})
    ''
    """
    if isinstance(segmentation, list):
        return next((problem for flat in segmentation if (problem := _polygon_problem(flat))), "")
    return _runs_problem(segmentation)


def segmentation_mask(segmentation: Any, size: tuple[int, int]) -> npt.NDArray[np.uint8]:  # noqa: ANN401
    """COCO polygons or run lengths → `[H, W]` uint8, 1 inside.

    Polygons are drawn on a canvas of `size` (h, w); run lengths bring their own size.

    Raises:
        DatasetError: it is neither, or broken.
        MissingExtraError: compressed run lengths need faster-coco-eval.
    """
    problem = outline_problem(segmentation)
    if problem:
        raise DatasetError(f"an outline has {problem}")
    if isinstance(segmentation, list):
        mask = np.zeros(size, np.uint8)
        polygons = [_corners(flat) for flat in segmentation if flat]
        cv2.fillPoly(mask, polygons, 1)
        return mask
    runs, (h, w) = segmentation["counts"], segmentation["size"]
    if isinstance(runs, list):  # lengths of 0s, 1s, 0s, … down one column after the other
        return np.repeat(np.arange(len(runs), dtype=np.uint8) % 2, runs).reshape(w, h).T
    coco_mask = require("faster_coco_eval.core.mask", extra="train")
    try:
        return np.asarray(coco_mask.decode(segmentation), np.uint8)
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        raise DatasetError(f"an outline has compressed run lengths that cannot be read: {error}") from error


def _corners(flat: list[float]) -> npt.NDArray[np.int32]:
    try:
        points = np.asarray(flat, float).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"an outline has a polygon of what are no numbers: {_shown(flat)}") from error
    if not np.isfinite(points).all():
        raise DatasetError("an outline has a polygon with a number that is not finite")
    return np.asarray(np.rint(points), np.int32)


def _runs_problem(segmentation: Any) -> str:  # noqa: ANN401
    if not isinstance(segmentation, dict) or not {"counts", "size"} <= segmentation.keys():
        return f"{_shown(segmentation)} in the place of polygons, or of run lengths with counts and size"
    runs, size = segmentation["counts"], segmentation["size"]
    if not _are_lengths(size) or len(size) != 2:
        return f"run lengths whose size is {_shown(size)}, not height and width"
    if isinstance(runs, str | bytes):
        return ""
    if not _are_lengths(runs):
        return f"run lengths whose counts are {_shown(runs)}, neither whole numbers nor a text"
    if sum(runs) != size[0] * size[1]:
        return f"run lengths that cover {sum(runs)} pixels of {size[0]} x {size[1]}"
    return ""


def _polygon_problem(flat: Any) -> str:  # noqa: ANN401
    if not isinstance(flat, list):
        return f"{_shown(flat)} in the place of a polygon"
    if len(flat) % 2:
        return f"a polygon of {len(flat)} numbers, which must be pairs of x and y"
    return ""


def _are_lengths(values: Any) -> bool:  # noqa: ANN401
    return isinstance(values, list) and all(isinstance(value, int) and value >= 0 for value in values)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

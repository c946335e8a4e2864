"""What the parts of an annotation file must be before anything is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fleetpose.errors import DatasetError


def check_shape(data: Mapping[str, Any], path: Path) -> None:
    """Make sure that pictures, annotations and categories are objects whose values are of the right kind.

    What an annotation's keypoints, box and votes hold is for whoever reads them.

    Raises:
        DatasetError: something is not; the message names the first.
    """
    for kind in ("images", "annotations", "categories"):
        for number, entry in enumerate(data[kind]):
            if not isinstance(entry, Mapping):
                raise DatasetError(
                    f"{path}: entry {number} of its {kind} must be an object with names and values, "
                    f"got {_shown(entry)}"
                )
    _check_categories(data["categories"], path)
    for record in data["images"]:
        _check_picture(record, path)
    for annotation in data["annotations"]:
        for name in ("image_id", "category_id"):
            if isinstance(annotation.get(name), list | dict):
                raise DatasetError(
                    f"{path}: the {name} of annotation {_shown(annotation.get('id'))} must be a number, "
                    f"got {_shown(annotation[name])}"
                )


def _check_categories(categories: Sequence[Mapping[str, Any]], path: Path) -> None:
    for category in categories:
        names = category.get("keypoints")
        if names and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise DatasetError(
                f"{path}: the keypoints of a category must be a list of names, got {_shown(names)}"
            )


def _check_picture(record: Mapping[str, Any], path: Path) -> None:
    for side in ("width", "height"):
        value = record.get(side)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise DatasetError(
                f"{path}: the {side} of picture {_shown(record.get('id'))} must be a number of pixels, "
                f"got {_shown(value)}"
            )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

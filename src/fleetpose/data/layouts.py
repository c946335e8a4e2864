"""Annotation files of every known layout, as COCO data.

JSON of COCO, CrowdPose, OCHuman and MPII, and the Matlab files of MPII and of both Leeds Sports Poses are
told apart by what they hold.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fleetpose.data.lsp import lsp_from_mat
from fleetpose.data.mpii import mpii_from_json, mpii_from_mat
from fleetpose.data.ochuman import ochuman_from_json
from fleetpose.data.shapes import check_shape
from fleetpose.errors import DatasetError, require

#: Part of a file that holds both; other files are taken whole.
Split = Literal["train", "test"]


def load_annotations(path: Path, *, split: Split = "train") -> dict[str, Any]:
    """Read an annotation file of any known layout → COCO data: images, annotations, categories.

    Args:
        path: a .json or .mat file.
        split: part to take of a file that holds training and test pictures.

    Raises:
        DatasetError: the file is missing, broken or of no known layout.
        MissingExtraError: a .mat file needs SciPy.
    """
    if path.suffix.lower() == ".mat":
        return _from_mat(path, split)
    data = read_json(path)
    if isinstance(data, list) and data:
        if not all(isinstance(entry, dict) for entry in data):
            raise DatasetError(f"{path} is neither a COCO file nor a list of MPII's people")
        return mpii_from_json(data, path, split=split)
    if _is_ochuman(data):
        return ochuman_from_json(data, path)
    missing = [
        key
        for key in ("images", "annotations", "categories")
        if not isinstance(data, dict) or not isinstance(data.get(key), list)
    ]
    if missing:
        raise DatasetError(f"{path} is no COCO file: it lacks a list of {', '.join(missing)}")
    check_shape(data, path)
    return dict(data)


def holds_parts(path: Path) -> bool:
    """Tell whether a file may hold training and test pictures, so that the split chooses among them."""
    if path.suffix.lower() == ".mat":
        return True
    try:
        with path.open("rb") as file:
            is_list = file.read(64).lstrip().startswith(b"[")
        return is_list and b'"isValidation"' in path.read_bytes()
    except OSError:  # whoever reads the file says why
        return False


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever it holds
    """Content of a JSON file.

    Raises:
        DatasetError: it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"cannot read annotations {path}: {error.strerror}") from error
    except ValueError as error:
        raise DatasetError(f"{path} is no valid JSON: {error}") from error


def _from_mat(path: Path, split: Split) -> dict[str, Any]:
    if not path.is_file():
        raise DatasetError(f"cannot read annotations {path}: no such file")
    matlab = require("scipy.io", extra="train")
    try:
        content = matlab.loadmat(str(path), struct_as_record=False, squeeze_me=True)
    except (matlab.matlab.MatReadError, ValueError, TypeError, NotImplementedError, OSError) as error:
        raise DatasetError(f"{path} is no Matlab file of version 4 to 7: {error}") from error
    if "RELEASE" in content:
        return mpii_from_mat(content["RELEASE"], path, split=split)
    if "joints" in content:
        points = np.asarray(content["joints"], float)
        return lsp_from_mat(points[..., None] if points.ndim == 2 else points, path, split=split)
    names = ", ".join(name for name in content if not name.startswith("__"))
    raise DatasetError(
        f"{path} must hold RELEASE (MPII) or joints (Leeds Sports Pose), got {names or 'nothing'}"
    )


def _is_ochuman(data: object) -> bool:
    """Tell whether people stand within the pictures' entries."""
    images = data.get("images") if isinstance(data, dict) else None
    is_listed = isinstance(images, list) and bool(images) and isinstance(images[0], dict)
    return is_listed and "annotations" in images[0] and "annotations" not in data  # type: ignore[operator,index]

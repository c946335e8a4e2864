"""Leeds Sports Pose and its extended set (Johnson & Everingham, BMVC 2010 and CVPR 2011) as COCO data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fleetpose.errors import DatasetError
from fleetpose.skeletons import LSP


def lsp_from_mat(
    given: npt.NDArray[np.floating], file: Path, *, split: Literal["train", "test"]
) -> dict[str, Any]:
    """`joints` of the official `joints.mat` → COCO data.

    `[3, 14, N]` is Leeds Sports Pose: the third row marks hidden keypoints, the first half of the pictures
    is for training and the second for testing. `[14, 3, N]` is the extended set: the third column marks
    keypoints that are labelled, and all pictures are for training. Matlab counts pixels from 1, which is
    taken off. Pictures are `im0001.jpg` and `im00001.jpg`, counted from 1 like their ids.
    """
    is_extended = given.shape[:2] == (len(LSP), 3)
    if given.ndim != 3 or not (is_extended or given.shape[:2] == (3, len(LSP))):
        raise DatasetError(
            f"{file}: joints must be [3, {len(LSP)}, N] or [{len(LSP)}, 3, N], got {list(given.shape)}"
        )
    if is_extended and split == "test":
        raise DatasetError(f"{file}: the extended Leeds Sports Pose has no test pictures")
    points = given.transpose(2, 0, 1) if is_extended else given.transpose(2, 1, 0)
    v = np.where(points[..., 2] > 0, 2, 0) if is_extended else np.where(points[..., 2] > 0, 1, 2)
    keypoints = np.concatenate([points[..., :2] - 1, v[..., None]], axis=-1)
    keypoints[v == 0] = 0
    half = len(points) if is_extended else len(points) // 2
    numbers = range(half) if split == "train" else range(half, len(points))
    digits = 5 if is_extended else 4
    return {
        "images": [{"id": k + 1, "file_name": f"im{k + 1:0{digits}d}.jpg"} for k in numbers],
        "annotations": [
            {
                "id": k + 1,
                "image_id": k + 1,
                "category_id": 1,
                "iscrowd": 0,
                "keypoints": keypoints[k].ravel().tolist(),
            }
            for k in numbers
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(LSP.keypoints)}],
    }

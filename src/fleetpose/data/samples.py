"""One training sample: a picture and its labels, which every operation moves together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.data.annotations import Picture
from fleetpose.data.outlines import segmentation_mask
from fleetpose.data.pictures import PictureCache
from fleetpose.errors import DatasetError
from fleetpose.geometry import PADDING, transform_points, warp

#: The trusted surroundings of a lone labelled person reach this share of the box beyond each side.
TRUSTED_MARGIN = 0.15


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A picture with its labels in pixels.

    Attributes:
        image: `[H, W, 3]` uint8 RGB; not to be written to.
        keypoints: `[N, K, 3]` float32 (x, y, v).
        is_known: `[N, K]` False where nobody looked for that keypoint.
        boxes: `[N, 4]` xyxy.
        counts: `[H, W]` uint8, 1 where labels hold, 0 where they are to be ignored.
    """

    image: npt.NDArray[np.uint8]
    keypoints: npt.NDArray[np.float32]
    is_known: npt.NDArray[np.bool_]
    boxes: npt.NDArray[np.float32]
    counts: npt.NDArray[np.uint8]


def load_sample(
    picture: Picture, *, is_single_person: bool = False, cache: PictureCache | None = None
) -> Sample:
    """Read a picture and mark what its labels do not cover.

    Args:
        picture: file and labels.
        is_single_person: only one person is labelled and others may be in view: everything outside that
            person's box, slightly widened, is ignored.
        cache: what reads the picture, and may have it still.

    Raises:
        DatasetError: the picture is missing or broken, or a mask is of another size.
    """
    image = (cache or PictureCache()).read(picture.path)
    size = (image.shape[0], image.shape[1])
    counts = np.ones(size, np.uint8)
    if is_single_person and len(picture.boxes):
        counts[:] = 0
        for box in picture.boxes:
            _paint_box(counts, box, value=1, margin=TRUSTED_MARGIN)
    for segmentation in picture.ignored:
        try:
            mask = segmentation_mask(segmentation, size)
        except DatasetError as error:
            raise DatasetError(f"labels of {picture.path}: {error}") from error
        if mask.shape != size:
            raise DatasetError(
                f"{picture.path} has {size[0]} rows and {size[1]} columns, "
                f"but one of its masks {mask.shape[0]} and {mask.shape[1]}"
            )
        counts[mask > 0] = 0
    return Sample(
        image=image,
        keypoints=picture.keypoints,
        is_known=picture.is_known,
        boxes=picture.boxes,
        counts=counts,
    )


def warp_sample(
    sample: Sample,
    affine: npt.NDArray[np.floating],
    size: tuple[int, int],
    *,
    flip_permutation: npt.NDArray[np.int64],
) -> Sample:
    """Move picture, keypoints, boxes and ignored regions by one affine map onto a canvas of `size` (h, w).

    A map that mirrors also swaps left and right keypoints. Keypoints that leave the canvas become unlabelled
    (v = 0), and boxes become those around the moved corners. Canvas that the picture does not cover counts as
    empty, but as ignored if parts of the picture are.
    """
    keypoints = transform_points(sample.keypoints, affine).astype(np.float32)
    is_known = sample.is_known
    if np.linalg.det(affine[:, :2]) < 0:
        keypoints, is_known = keypoints[:, flip_permutation], is_known[:, flip_permutation]
    keypoints = drop_outside(keypoints, (-0.5, -0.5, size[1] - 0.5, size[0] - 0.5))
    corners = sample.boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    moved = transform_points(corners, affine)
    boxes = np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1).astype(np.float32)
    return Sample(
        image=warp(sample.image, affine, size, fill=PADDING),
        keypoints=keypoints,
        is_known=is_known,
        boxes=boxes,
        counts=warp(
            sample.counts, affine, size, fill=int(sample.counts.min()), interpolation=cv2.INTER_NEAREST
        ),
    )


def drop_outside(keypoints: npt.NDArray[np.float32], box: Sequence[float]) -> npt.NDArray[np.float32]:
    """Set v = 0 (and x = y = 0) for keypoints `[N, K, 3]` outside `box` (x1, y1, x2, y2)."""
    x, y = keypoints[..., 0], keypoints[..., 1]
    is_out = (x < box[0]) | (y < box[1]) | (x >= box[2]) | (y >= box[3]) | (keypoints[..., 2] == 0)
    kept = keypoints.copy()
    kept[is_out] = 0
    return kept


def people_in_view(sample: Sample) -> Sample:
    """Leave out people without a labelled keypoint, unless their unknown keypoints need the mask."""
    x1, y1 = sample.boxes[:, 0], sample.boxes[:, 1]
    x2, y2 = sample.boxes[:, 2], sample.boxes[:, 3]
    h, w = sample.image.shape[:2]
    touches = (x2 > 0) & (y2 > 0) & (x1 < w) & (y1 < h)
    keep = (sample.keypoints[..., 2] > 0).any(axis=1) | (touches & ~sample.is_known.all(axis=1))
    return replace(
        sample, keypoints=sample.keypoints[keep], is_known=sample.is_known[keep], boxes=sample.boxes[keep]
    )


def _paint_box(
    canvas: npt.NDArray[np.uint8], box: npt.NDArray[np.floating], *, value: int, margin: float
) -> None:
    grow = margin * max(float(box[2] - box[0]), float(box[3] - box[1]))
    x1, y1, x2, y2 = (
        round(float(side)) for side in (box[0] - grow, box[1] - grow, box[2] + grow, box[3] + grow)
    )
    canvas[max(y1, 0) : max(y2, 0) + 1, max(x1, 0) : max(x2, 0) + 1] = value

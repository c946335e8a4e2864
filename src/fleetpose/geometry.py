"""Boxes, affine maps, flips, pixels and cells: the one place for all coordinate conventions.

Pixel centres lie at whole coordinates: an image of width W covers -0.5 to W - 0.5 and its mirror
image has x' = W - 1 - x. A cell of a map with stride s covers s pixels, and its centre lies in the
middle of them. Points are (x, y), sizes (h, w), boxes (x1, y1, x2, y2). `docs/conventions.md` shows each with
an example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
Image = npt.NDArray[np.uint8]

#: Mean and spread of red, green and blue in 0 to 255 over ImageNet; inputs are (rgb - mean) / std.
IMAGE_MEAN = (123.675, 116.28, 103.53)
IMAGE_STD = (58.395, 57.12, 57.375)

#: Colour (R, G, B) of canvas that no picture covers: the mean, 0 after normalisation.
PADDING = (124, 116, 104)

#: A person's box reaches this share of its size beyond the outermost keypoints on each side.
KEYPOINT_BOX_MARGIN = 0.1


def pixels_to_cells(pixels: Array, stride: float, *, is_corner_aligned: bool = False) -> Array:
    """Coordinates in input pixels → coordinates in cells of a map with `stride` pixels per cell.

    With `is_corner_aligned`, cell 0 is centred on pixel 0, as in networks that others trained so.

    >>> float(pixels_to_cells(np.array(1.5), 4))
    0.0
    """
    return pixels / stride if is_corner_aligned else (pixels + 0.5) / stride - 0.5


def cells_to_pixels(cells: Array, stride: float, *, is_corner_aligned: bool = False) -> Array:
    """Coordinates in cells → coordinates in input pixels; inverse of `pixels_to_cells`.

    >>> float(cells_to_pixels(np.array(0.0), 4))
    1.5
    """
    return cells * stride if is_corner_aligned else (cells + 0.5) * stride - 0.5


def touched_cells(boxes_xyxy: Array, stride: int) -> npt.NDArray[np.int64]:
    """Boxes `[..., 4]` in input pixels → the cells that they touch, as slices have them: x2, y2 are left out.

    >>> touched_cells(np.array([-0.5, 3.5, 7.5, 9.0]), 4).tolist()
    [0, 1, 2, 3]
    """
    edges = (boxes_xyxy + 0.5) / stride
    return np.concatenate([np.floor(edges[..., :2]), np.ceil(edges[..., 2:])], axis=-1).astype(np.int64)


def is_inside(points: Array, image_size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Whether points `[..., 2+]` (x, y, …) lie on an image of size (h, w) → `[...]`.

    >>> is_inside(np.array([[-0.5, 0.0], [639.5, 0.0]]), (480, 640)).tolist()
    [True, False]
    """
    x, y = points[..., 0], points[..., 1]
    h, w = image_size
    return np.asarray((x >= -0.5) & (y >= -0.5) & (x < w - 0.5) & (y < h - 0.5))


def flip_points(points: Array, width: int) -> Array:
    """Mirror points `[..., 2+]` (x, y, …) left to right in an image of `width` pixels.

    >>> flip_points(np.array([[0.0, 5.0]]), width=10).tolist()
    [[9.0, 5.0]]
    """
    flipped = np.array(points, copy=True)
    flipped[..., 0] = width - 1 - flipped[..., 0]
    return flipped


def flip_boxes(boxes_xyxy: Array, width: int) -> Array:
    """Mirror boxes `[..., 4]` left to right in an image of `width` pixels.

    >>> flip_boxes(np.array([[0.0, 0.0, 3.0, 5.0]]), width=10).tolist()
    [[6.0, 0.0, 9.0, 5.0]]
    """
    flipped = np.array(boxes_xyxy, copy=True)
    flipped[..., [0, 2]] = width - 1 - flipped[..., [2, 0]]
    return flipped


def scaling(factor_x: float, factor_y: float) -> Array:
    """Affine map `[2, 3]` of resizing an image: edges go to edges, so centres shift by half a pixel.

    >>> transform_points(np.array([[0.0, 0.0]]), scaling(2.0, 2.0)).tolist()
    [[0.5, 0.5]]
    """
    return np.array([[factor_x, 0.0, 0.5 * (factor_x - 1)], [0.0, factor_y, 0.5 * (factor_y - 1)]])


def similarity(
    *,
    source_xy: Sequence[float] | Array,
    target_xy: Sequence[float] | Array,
    scale: float,
    angle_deg: float = 0.0,
    is_mirrored: bool = False,
) -> Array:
    """Affine map `[2, 3]` that mirrors, scales and rotates about `source_xy` and puts it on `target_xy`.

    `angle_deg` turns clockwise as seen in the picture (y points down).

    >>> similarity(source_xy=(1, 1), target_xy=(0, 0), scale=2.0).tolist()
    [[2.0, 0.0, -2.0], [0.0, 2.0, -2.0]]
    """
    angle = math.radians(angle_deg)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    mirror = -1.0 if is_mirrored else 1.0
    linear = np.array([[mirror * cos, -sin], [mirror * sin, cos]]) + 0.0  # + 0.0 turns -0.0 into 0.0
    offset = np.asarray(target_xy, float) - linear @ np.asarray(source_xy, float)
    return np.column_stack([linear, offset])


def compose(first: Array, then: Array) -> Array:
    """Affine map `[2, 3]` that applies `first` and `then` the other."""
    linear = then[:, :2] @ first[:, :2]
    return np.column_stack([linear, then[:, :2] @ first[:, 2] + then[:, 2]])


def invert(affine: Array) -> Array:
    """Inverse of an affine map `[2, 3]`."""
    linear = np.linalg.inv(affine[:, :2])
    return np.column_stack([linear, -linear @ affine[:, 2]])


def transform_points(points: Array, affine: Array) -> Array:
    """Move points `[..., 2+]` (x, y, …) by an affine map `[2, 3]`; further columns stay as they are."""
    moved = np.array(points, dtype=np.result_type(points, np.float32), copy=True)
    moved[..., :2] = points[..., :2] @ affine[:, :2].T + affine[:, 2]
    return moved


def affine_of_cells(affine: Array, stride: float, *, is_corner_aligned: bool = False) -> Array:
    """Affine map between pixels of two inputs → the same between cells of their maps.

    >>> affine_of_cells(np.array([[2.0, 0.0, 8.0], [0.0, 2.0, 0.0]]), 4).round(6).tolist()
    [[2.0, 0.0, 2.375], [0.0, 2.0, 0.375]]
    """
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    pixels = cells_to_pixels(corners, stride, is_corner_aligned=is_corner_aligned)
    moved = pixels_to_cells(transform_points(pixels, affine), stride, is_corner_aligned=is_corner_aligned)
    return np.stack([moved[1] - moved[0], moved[2] - moved[0], moved[0]], axis=1)


def affine_scale(affine: Array) -> float:
    """Mean scale of an affine map `[2, 3]`: square root of how much areas grow."""
    return math.sqrt(abs(float(np.linalg.det(affine[:, :2]))))


def warp(
    image: npt.NDArray[np.uint8],
    affine: Array,
    size: tuple[int, int],
    *,
    fill: int | tuple[int, int, int] = 0,
    interpolation: int = cv2.INTER_LINEAR,
) -> npt.NDArray[np.uint8]:
    """Draw `image` `[H, W]` or `[H, W, C]` moved by `affine` on a canvas of `size` (h, w).

    Before a strong reduction the image is halved, as often as need be, so that fine texture does not alias.
    """
    scale = affine_scale(affine)
    while interpolation == cv2.INTER_LINEAR and scale < 0.5 and max(image.shape[:2]) > 1:
        image = _halved(image)
        affine, scale = compose(scaling(2.0, 2.0), affine), 2 * scale
    border = fill if isinstance(fill, tuple) else (fill, fill, fill)
    return np.asarray(
        cv2.warpAffine(image, affine, size[::-1], flags=interpolation, borderValue=border), dtype=image.dtype
    )


def _halved(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Average 2 x 2 pixels into one; an odd last row or column is doubled first, so that none moves."""
    h, w = image.shape[:2]
    if h % 2 or w % 2:
        image = np.asarray(cv2.copyMakeBorder(image, 0, h % 2, 0, w % 2, cv2.BORDER_REPLICATE), image.dtype)
    size = (image.shape[1] // 2, image.shape[0] // 2)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), image.dtype)


def fit_canvas(
    image_size: tuple[int, int], *, short_side: int, multiple: int, max_side: int = 2048
) -> tuple[Array, tuple[int, int]]:
    """Affine map and canvas size (h, w) that bring an image to `short_side` pixels without distortion.

    The canvas is the smallest whose sides are multiples of `multiple`; the image lies centred on it. Images
    so long that a side would pass `max_side` are made smaller instead. (HigherHRNet's resize rule,
    arXiv:1908.10357, without its rounding of the short side to 64.)

    >>> fit_canvas((480, 640), short_side=256, multiple=32)[1]
    (256, 352)
    """
    h, w = image_size
    factor = min(short_side / min(h, w), max_side / max(h, w))
    canvas_h, canvas_w = (max(1, math.ceil(round(side * factor, 3) / multiple)) * multiple for side in (h, w))
    affine = similarity(
        source_xy=((w - 1) / 2, (h - 1) / 2),
        target_xy=((canvas_w - 1) / 2, (canvas_h - 1) / 2),
        scale=factor,
    )
    return affine, (canvas_h, canvas_w)


def fit_canvas_64(
    image_size: tuple[int, int], *, short_side: int, scale: float = 1.0, min_scale: float = 1.0
) -> tuple[Array, tuple[int, int]]:
    """Affine map and canvas size (h, w) of HigherHRNet's code (arXiv:1908.10357), to reproduce figures.

    The short side is first rounded up to a multiple of 64, so 480 pixels become 512, and fills the canvas
    exactly; the long side's canvas is the next multiple of 64. Of several scales the smallest is rounded, and
    the others follow from it. Where the picture has an odd side, it lies half a pixel off the middle, as
    there.

    Args:
        image_size: (h, w) of the picture.
        short_side: of the canvas at scale 1, before rounding.
        scale: of this canvas.
        min_scale: the smallest of all scales used together.

    >>> fit_canvas_64((480, 640), short_side=480)[1]
    (512, 704)
    """
    h, w = image_size
    shorter, longer = min(h, w), max(h, w)
    base_short = int((min_scale * short_side + 63) // 64 * 64)
    base_long = int((base_short / shorter * longer + 63) // 64 * 64)
    canvas_short, canvas_long = (int(side * scale / min_scale) for side in (base_short, base_long))
    canvas_h, canvas_w = (canvas_long, canvas_short) if w < h else (canvas_short, canvas_long)
    affine = similarity(
        source_xy=(int(w / 2 + 0.5) - 0.5, int(h / 2 + 0.5) - 0.5),
        target_xy=((canvas_w - 1) / 2, (canvas_h - 1) / 2),
        scale=canvas_short / shorter,
    )
    return affine, (canvas_h, canvas_w)


def fit_box(
    box_xyxy: Array,
    size: tuple[int, int],
    *,
    padding: float = 1.0,
    angle_deg: float = 0.0,
    is_mirrored: bool = False,
) -> Array:
    """Affine map `[2, 3]` from an image to a crop of `size` (h, w) around a box.

    The box, widened by the factor `padding` about its centre, lies centred in the crop and touches two of
    its edges: nothing is distorted, and the shorter direction shows more of the image. (The rule of
    SimpleBaseline, arXiv:1804.06208, with edges on edges instead of its half-pixel shifts.)

    Args:
        box_xyxy: `[4]`; sides under a pixel count as one.
        size: of the crop, in pixels.
        padding: 1.25 in the papers.
        angle_deg: the crop's content turns clockwise by this about the box's centre.
        is_mirrored: the crop's content is mirrored left to right.

    >>> fit_box(np.array([-0.5, -0.5, 99.5, 49.5]), (200, 200)).tolist()
    [[2.0, 0.0, 0.5], [0.0, 2.0, 50.5]]
    """
    h, w = size
    box_w, box_h = np.maximum(box_xyxy[2:] - box_xyxy[:2], 1.0) * padding
    return similarity(
        source_xy=(box_xyxy[:2] + box_xyxy[2:]) / 2,
        target_xy=((w - 1) / 2, (h - 1) / 2),
        scale=min(h / float(box_h), w / float(box_w)),
        angle_deg=angle_deg,
        is_mirrored=is_mirrored,
    )


def xywh_to_xyxy(boxes_xywh: Array) -> Array:
    """Boxes `[..., 4]` as corner and size → as two corners.

    >>> xywh_to_xyxy(np.array([1.0, 2.0, 3.0, 4.0])).tolist()
    [1.0, 2.0, 4.0, 6.0]
    """
    return np.concatenate([boxes_xywh[..., :2], boxes_xywh[..., :2] + boxes_xywh[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes_xyxy: Array) -> Array:
    """Boxes `[..., 4]` as two corners → as corner and size.

    >>> xyxy_to_xywh(np.array([1.0, 2.0, 4.0, 6.0])).tolist()
    [1.0, 2.0, 3.0, 4.0]
    """
    return np.concatenate([boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]], axis=-1)


def boxes_from_coco(boxes_xywh: Array) -> Array:
    """COCO's boxes `[..., 4]` (corner and size, counted from the first pixel's corner) → xyxy in pixels.

    >>> boxes_from_coco(np.array([0.0, 0.0, 640.0, 480.0])).tolist()
    [-0.5, -0.5, 639.5, 479.5]
    """
    return xywh_to_xyxy(boxes_xywh) - 0.5


def boxes_to_coco(boxes_xyxy: Array) -> Array:
    """Boxes xyxy `[..., 4]` in pixels → COCO's corner and size; inverse of `boxes_from_coco`."""
    return xyxy_to_xywh(boxes_xyxy + 0.5)


def box_areas(boxes_xyxy: Array) -> Array:
    """Areas `[...]` of boxes `[..., 4]`, in square pixels; zero for a box turned inside out."""
    sides = np.maximum(boxes_xyxy[..., 2:] - boxes_xyxy[..., :2], 0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def box_ious(boxes_a: Array, boxes_b: Array) -> Array:
    """Intersection over union of every box `[N, 4]` with every box `[M, 4]` → `[N, M]` in [0, 1]."""
    low = np.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    high = np.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    shared = box_areas(np.concatenate([low, high], axis=-1))
    union = box_areas(boxes_a)[:, None] + box_areas(boxes_b)[None] - shared
    return np.asarray(shared / np.maximum(union, np.finfo(np.float32).tiny))


def keypoint_boxes(
    keypoints: Array, image_size: tuple[int, int], *, even_margin: float | None = None
) -> Array:
    """Boxes `[N, 4]` around the keypoints `[N, K, 3]` whose score is above 0, widened and cut to the image.

    They hold at least the pixels around their keypoints, so that nobody's box on the image is empty. A person
    without any such keypoint gets the box (0, 0, 0, 0).

    Args:
        keypoints: (x, y, score).
        image_size: (h, w).
        even_margin: widen all sides alike, by this share of the greater extent, since arms and heads are as
            wide on thin people; None for `KEYPOINT_BOX_MARGIN` of each extent.

    >>> keypoint_boxes(np.array([[[5.0, 5.0, 0.9], [25.0, 7.0, 0.2]]]), (480, 640)).tolist()
    [[3.0, 4.5, 27.0, 7.5]]
    """
    present = keypoints[..., 2:3] > 0
    points = keypoints[..., :2]
    low = np.where(present, points, np.inf).min(axis=1, initial=np.inf)
    high = np.where(present, points, -np.inf).max(axis=1, initial=-np.inf)
    extent = high - low
    if even_margin is None:
        margin = np.maximum(KEYPOINT_BOX_MARGIN * extent, 0.5)
    else:
        margin = np.maximum(even_margin * extent.max(axis=1, keepdims=True, initial=0), 0.5)
    h, w = image_size
    limit = np.array([w - 0.5, h - 0.5])
    boxes = np.concatenate([np.clip(low - margin, -0.5, limit), np.clip(high + margin, -0.5, limit)], axis=-1)
    boxes[~present.any(axis=(1, 2))] = 0
    return boxes.astype(keypoints.dtype)

"""Draw people on pictures: limbs by side of the body, keypoints by person, boxes, ids and masks."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.geometry import Image
from fleetpose.results import PoseResult
from fleetpose.skeletons import side_of

Color = tuple[int, int, int]

#: Limbs by side, apart for colour-blind eyes too (blue, orange and green of Okabe and Ito's palette).
LEFT_COLOR: Color = (86, 180, 233)
RIGHT_COLOR: Color = (230, 159, 0)
MIDDLE_COLOR: Color = (0, 158, 115)

#: A line is this share of the picture's shorter side wide.
LINE_SHARE = 1 / 200
MASK_OPACITY = 0.4
#: Fractional bits of the coordinates given to OpenCV, so that slow motion does not jump by pixels.
_SHIFT = 4
_GOLDEN_ANGLE = 0.618034  # turns of the colour wheel between people: neighbours never look alike


@dataclass(frozen=True, slots=True)
class DrawSettings:
    """What is drawn."""

    threshold: float = 0.1  # keypoints with a lower score, and their limbs, are left out
    has_boxes: bool = False
    has_ids: bool = True  # track ids, where the result has them
    has_masks: bool = True  # where the result has them


def draw_people(image: Image, result: PoseResult, settings: DrawSettings | None = None) -> Image:
    """Draw the people of a result on a copy of its RGB picture `[H, W, 3]`."""
    settings = settings or DrawSettings()
    canvas = image.copy()
    width = line_width(image.shape[:2])
    colors = [person_color(person) for person in _numbers(result)]
    if settings.has_masks and result.masks is not None:
        for mask, color in zip(result.masks, colors, strict=True):
            _blend(canvas, mask, color)
    _draw_skeletons(canvas, result, colors, threshold=max(settings.threshold, 0.0))
    for person, (box, color) in enumerate(zip(result.boxes, colors, strict=True)):
        if settings.has_boxes:
            upper, lower = _fixed(box.reshape(2, 2))
            cv2.rectangle(canvas, upper, lower, color, width, cv2.LINE_AA, _SHIFT)
        if settings.has_ids and result.track_ids is not None:
            _draw_label(canvas, str(result.track_ids[person]), box, color, width)
    return canvas


def line_width(size: tuple[int, ...]) -> int:
    """Width of limbs in a picture of `size` (h, w), in pixels.

    >>> line_width((256, 400)), line_width((2160, 3840))
    (1, 11)
    """
    return max(1, round(min(size) * LINE_SHARE))


def side_color(start: str, end: str) -> Color:
    """Colour of the limb between two keypoints, by the side of the body that their names tell."""
    sides = {side_of(name) for name in (start, end)} - {""}
    if len(sides) != 1:
        return MIDDLE_COLOR
    return LEFT_COLOR if sides == {"left"} else RIGHT_COLOR


def person_color(number: int) -> Color:
    """Colour that belongs to a person's number, bright and unlike its neighbours'."""
    rgb = colorsys.hsv_to_rgb(number * _GOLDEN_ANGLE % 1.0, 0.65, 1.0)
    return round(rgb[0] * 255), round(rgb[1] * 255), round(rgb[2] * 255)


def _numbers(result: PoseResult) -> list[int]:
    """One number per person that stays with a tracked person through a video."""
    return list(range(len(result))) if result.track_ids is None else [int(i) for i in result.track_ids]


def _draw_skeletons(canvas: Image, result: PoseResult, colors: list[Color], *, threshold: float) -> None:
    width = line_width(canvas.shape[:2])
    radius = round(1.5 * width * 2**_SHIFT)
    limb_colors = [side_color(*limb) for limb in result.skeleton.limbs]
    limbs = list(zip(result.skeleton.limb_indices.tolist(), limb_colors, strict=True))
    for keypoints, color in zip(result.keypoints, colors, strict=True):
        is_seen = keypoints[:, 2] > threshold
        points = _fixed(keypoints[:, :2])
        for (start, end), limb_color in limbs:
            if is_seen[start] and is_seen[end]:
                cv2.line(canvas, points[start], points[end], limb_color, width, cv2.LINE_AA, _SHIFT)
        for k in np.flatnonzero(is_seen):
            cv2.circle(canvas, points[k], radius, color, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _draw_label(canvas: Image, text: str, box: npt.NDArray[np.float32], color: Color, width: int) -> None:
    """Write a text on a plate at the upper left of a box, within the picture."""
    scale = 0.4 * (width + 1) / 2
    (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, width)
    x, y = max(0, round(float(box[0]))), max(h + 2 * width, round(float(box[1])))
    cv2.rectangle(canvas, (x, y - h - 2 * width), (x + w + 2 * width, y), color, cv2.FILLED)
    cv2.putText(
        canvas, text, (x + width, y - width), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), width, cv2.LINE_AA
    )


def _blend(canvas: Image, mask: npt.NDArray[np.bool_], color: Color) -> None:
    """Tint the picture where the mask is True."""
    tint = np.array(color) * MASK_OPACITY
    canvas[mask] = np.rint(canvas[mask] * (1 - MASK_OPACITY) + tint).astype(np.uint8)


def _fixed(points: npt.NDArray[np.float32]) -> list[tuple[int, int]]:
    """Points `[P, 2]` as OpenCV's fixed-point numbers; its pixel centres are whole, as ours."""
    return [(x, y) for x, y in np.rint(points * 2**_SHIFT).astype(int).tolist()]

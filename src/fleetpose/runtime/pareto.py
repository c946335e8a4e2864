"""Speed against accuracy as a picture, drawn with OpenCV."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.runtime.benchmark_rows import Row, pareto

#: (h, w) of the picture, and the room around its axes: left, top, right, bottom.
_SIZE = (480, 720)
_ROOM = (70, 40, 30, 50)
_INK, _GRID, _FRONT, _DOT = (40, 40, 40), (225, 225, 225), (214, 39, 40), (31, 119, 180)

Canvas = npt.NDArray[np.uint8]


def draw_pareto(rows: Sequence[Row]) -> Canvas | None:
    """Draw milliseconds to find people, on a logarithmic axis, against average precision → `[H, W, 3]` RGB.

    A line joins the rows that no other one beats in both. None if no row's accuracy is known.
    """
    known = [row for row in rows if row.accuracy is not None]
    if not known:
        return None
    canvas = np.full((*_SIZE, 3), 255, np.uint8)
    places = _places(known)
    left, top, right, bottom = _ROOM[0], _ROOM[1], _SIZE[1] - _ROOM[2], _SIZE[0] - _ROOM[3]
    for row, (x, y) in zip(known, places, strict=True):
        cv2.line(canvas, (x, bottom), (x, bottom + 5), _INK, 1)
        cv2.line(canvas, (left, y), (right, y), _GRID, 1)
        _write(canvas, f"{row.accuracy:g}", (left - 8, y + 4), share_before=1.0)
        _write(canvas, f"{row.find_ms:.1f}", (x, bottom + 18), share_before=0.5)
    cv2.rectangle(canvas, (left, top), (right, bottom), _INK, 1)
    front = [places[known.index(row)] for row in pareto(known)]
    cv2.polylines(canvas, [np.array(front, np.int32)], isClosed=False, color=_FRONT, thickness=2)
    for row, (x, y) in zip(known, places, strict=True):
        cv2.circle(canvas, (x, y), 5, _FRONT if (x, y) in front else _DOT, cv2.FILLED, cv2.LINE_AA)
        is_right = x > (left + right) / 2
        _write(canvas, row.label, (x - 9 if is_right else x + 9, y - 7), share_before=float(is_right))
    _write(canvas, "milliseconds from a decoded picture to people", ((left + right) // 2, bottom + 38), 0.5)
    _write(canvas, "AP, measured or by the models' cards", (left, top - 14))
    return canvas


def _places(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """Pixels (x, y) of rows whose accuracy is known."""
    values = np.array([(math.log(max(row.find_ms, 1e-6)), row.accuracy or 0.0) for row in rows])
    low, span = values.min(axis=0), np.ptp(values, axis=0)
    # A lone value stands in the middle.
    share = np.where(span > 0, (values - low) / np.where(span > 0, span, 1), 0.5)
    inner_w, inner_h = _SIZE[1] - _ROOM[0] - _ROOM[2] - 60, _SIZE[0] - _ROOM[1] - _ROOM[3] - 60
    xs = np.rint(_ROOM[0] + 30 + share[:, 0] * inner_w).astype(int)
    ys = np.rint(_SIZE[0] - _ROOM[3] - 30 - share[:, 1] * inner_h).astype(int)
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def _write(canvas: Canvas, text: str, place: tuple[int, int], share_before: float = 0.0) -> None:
    """Put text on its base line, `share_before` of its width to the left of the place (x, y)."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.42
    width = cv2.getTextSize(text, font, scale, 1)[0][0]
    x = min(max(2, place[0] - round(share_before * width)), _SIZE[1] - width - 2)
    cv2.putText(canvas, text, (x, place[1]), font, scale, _INK, 1, cv2.LINE_AA)

"""Curves of a run as a picture, drawn with OpenCV: in milliseconds, and with nothing more to install."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.media.images import write_image
from fleetpose.train.log import read_rows

#: (h, w) of a panel in pixels, and the room around its axes: left, top, right, bottom.
_PANEL = (260, 400)
_ROOM = (64, 30, 16, 26)
#: More points of a curve than these nobody can see.
_MAX_POINTS = 2000
#: Columns that say when, not how well.
_NO_CURVE = frozenset({"step", "scenes", "seconds", "waiting"})
#: So many points are told one by one; of more, the running mean over this share of them shows the trend.
_FEW_POINTS, _MEAN_SHARE = 20, 0.1
_INK, _GRID, _CURVE, _PALE = (40, 40, 40), (225, 225, 225), (31, 119, 180), (174, 206, 229)

Canvas = npt.NDArray[np.uint8]


def draw_curves(tables: Mapping[str, Path], picture: Path) -> None:
    """Draw the columns of the given CSV tables over `step`, one panel each, into a picture file.

    All panels show the same steps. Curves of many points are pale, with their running mean over them. Nothing
    is written as long as the tables hold no row.
    """
    curves = {
        f"{title}: {column}": points
        for title, path in tables.items()
        for column, points in _columns(read_rows(path)).items()
        if points
    }
    if not curves:
        return
    steps = [step for points in curves.values() for step, _ in points]
    panels = [_panel(title, points, (min(steps), max(steps))) for title, points in curves.items()]
    across = min(4, len(panels))
    panels += [np.full((*_PANEL, 3), 255, np.uint8)] * (-len(panels) % across)
    lines = [np.hstack(panels[start : start + across]) for start in range(0, len(panels), across)]
    write_image(picture, np.vstack(lines))


def _columns(rows: Sequence[Mapping[str, str]]) -> dict[str, list[tuple[int, float]]]:
    """Points (step, value) of every column worth a curve; of a long table, every n-th row and the last."""
    thinned = rows[:: -max(1, -(-len(rows) // _MAX_POINTS))][::-1]
    names = [name for name in (rows[-1] if rows else ()) if name not in _NO_CURVE]
    return {
        name: [
            (int(row["step"]), float(row[name]))
            for row in thinned
            if row.get(name) and math.isfinite(float(row[name]))
        ]
        for name in names
    }


def _panel(title: str, points: Sequence[tuple[int, float]], steps: tuple[int, int]) -> Canvas:
    """One curve with its axes, which reach from the first to the last of `steps` → `[H, W, 3]` RGB."""
    canvas = np.full((*_PANEL, 3), 255, np.uint8)
    left, top, right, bottom = _ROOM[0], _ROOM[1], _PANEL[1] - _ROOM[2], _PANEL[0] - _ROOM[3]
    values = np.array(points, float)
    x_low, (y_low, y_high) = steps[0], (values[:, 1].min(), values[:, 1].max())
    x_span, y_span = (steps[1] - x_low) or 1, (y_high - y_low) or abs(y_high) or 1.0
    xs = left + (values[:, 0] - x_low) / x_span * (right - left)
    ys = bottom - (values[:, 1] - y_low) / y_span * (bottom - top)
    for value in _ticks(y_low, y_low + y_span):
        y = round(bottom - (value - y_low) / y_span * (bottom - top))
        cv2.line(canvas, (left, y), (right, y), _GRID, 1)
        _write(canvas, f"{value:.4g}", (left - 6, y + 4), share_before=1.0)
    for value in filter(float.is_integer, _ticks(x_low, x_low + x_span)):
        x = round(left + (value - x_low) / x_span * (right - left))
        cv2.line(canvas, (x, top), (x, bottom), _GRID, 1)
        _write(canvas, f"{value:.6g}", (x, bottom + 18), share_before=0.5)
    cv2.rectangle(canvas, (left, top), (right, bottom), _INK, 1)
    _write(canvas, f"{title}  {values[-1, 1]:.4g}", (left, top - 10))
    if len(points) < _FEW_POINTS:
        for x, y in _line(canvas, xs, ys, _CURVE).tolist():
            cv2.circle(canvas, (x, y), 3 * 16, _CURVE, cv2.FILLED, cv2.LINE_AA, shift=4)
    else:
        _line(canvas, xs, ys, _PALE)
        _line(canvas, xs, _running_mean(ys), _CURVE)
    return canvas


def _line(
    canvas: Canvas, xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64], color: tuple[int, int, int]
) -> npt.NDArray[np.int32]:
    """Draw a line → its points, with four fractional bits, so that it is smooth."""
    curve = np.rint(np.stack([xs, ys], axis=1) * 16).astype(np.int32)
    cv2.polylines(canvas, [curve], isClosed=False, color=color, thickness=1, lineType=cv2.LINE_AA, shift=4)
    return curve


def _running_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean of each value and its neighbours on both sides, of whom there are fewer at the ends.

    >>> _running_mean(np.arange(20.0))[[0, 9, 19]].tolist()
    [0.5, 9.0, 18.5]
    """
    reach = max(1, round(_MEAN_SHARE * len(values) / 2))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    return np.asarray((sums[high] - sums[low]) / (high - low))


def _ticks(low: float, high: float) -> list[float]:
    """Two to five round numbers from `low` to `high`.

    >>> _ticks(0.0, 11.0)
    [0.0, 5.0, 10.0]
    """
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [number * step for number in range(first, last + 1)]


def _write(canvas: Canvas, text: str, place: tuple[int, int], *, share_before: float = 0.0) -> None:
    """Put text on its base line, `share_before` of its width to the left of the place (x, y)."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    width = cv2.getTextSize(text, font, scale, 1)[0][0]
    x = place[0] - round(share_before * width)
    cv2.putText(canvas, text, (x, place[1]), font, scale, _INK, 1, cv2.LINE_AA)

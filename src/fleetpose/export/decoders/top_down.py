"""Decode the heatmaps of a top-down FleetPose network with NumPy alone; FleetPose writes this beside a model.

    python decode.py description.json maps.npz    # prints the person as JSON

The network's input is a crop `[1, 3, H, W]` float32 around one person, (rgb - mean) / std as
`description.json` says; `maps.npz` holds its output by name, without the batch axis. Whole coordinates are
pixel centres. Licence: Apache-2.0.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

#: Smoothing kernels of OpenCV by their length; longer ones follow from the rule below.
SMALL = {1: [1], 3: [1, 2, 1], 5: [1, 4, 6, 4, 1], 7: [2, 7, 14, 18, 14, 7, 2]}
SMALL[9] = [4, 13, 30, 51, 60, 51, 30, 13, 4]


def decode(maps: dict[str, Any], about: dict[str, Any]) -> tuple[Any, Any]:
    """Heatmaps `[K, h, w]` by name → keypoints `[1, K, 3]` (x, y, score) in crop pixels, scores `[1]`."""
    (heat,), s, (field,) = maps.values(), about["codec"], about["fields"]
    points = np.zeros((1, len(heat), 3))
    if s["decoding"] == "expected_oks":
        found = [expected(one.astype(float), sigma, s) for one, sigma in zip(heat, s["sigmas"], strict=True)]
        points[0] = [(*to_pixels((x, y), field, s), score) if score else (0, 0, 0) for x, y, score in found]
        return points, np.sqrt((points[..., 2] ** 2).mean(axis=1))
    for k, one in enumerate(heat):
        y, x = np.unravel_index(one.argmax(), one.shape)
        if one[y, x] > 0:
            cell = top(one.astype(float), int(x), int(y), s)
            points[0, k] = *to_pixels(cell, field, s), min(one[y, x], 1)
    return points, points[..., 2].mean(axis=1)


def to_pixels(cell: Any, field: dict[str, Any], s: dict[str, Any]) -> Any:  # noqa: ANN401 - arrays
    """Place in cells → in crop pixels."""
    shift = 0 if s["is_corner_aligned"] else 0.5
    return (np.array(cell) + shift) * field["stride"] - shift


def expected(one: Any, sigma: float, s: dict[str, Any]) -> tuple[float, float, float]:  # noqa: ANN401
    """Where the expected similarity of one map is highest → (x, y, score) in cells."""
    h, w = one.shape
    odds = np.clip(one, 1e-5, 1 - 1e-5)
    odds /= 1 - odds
    spread = max(0.7, 2 * sigma * s["person_share"] * h)
    down, across = (
        np.exp(-0.5 * (np.subtract.outer(range(side), range(side)) / spread) ** 2) for side in (h, w)
    )
    blurred = down @ (odds / odds.sum()) @ across
    y, x = (int(place) for place in np.unravel_index(blurred.argmax(), (h, w)))
    score = np.sqrt(min(max(one.max(), 0), 1) * min(blurred[y, x], 1))
    return *top(blurred, x, y, {"decoding": "parabola"}), score


def top(one: Any, x: int, y: int, s: dict[str, Any]) -> tuple[float, float]:  # noqa: ANN401 - an array
    """Top of the peak at a cell of one map → (x, y) in cells."""
    h, w = one.shape
    if s["decoding"] == "quarter":
        if not (1 < x < w - 1 and 1 < y < h - 1):
            return x, y
        dx, dy = one[y, x + 1] - one[y, x - 1], one[y + 1, x] - one[y - 1, x]
        return x + 0.25 * np.sign(dx), y + 0.25 * np.sign(dy)
    if s["decoding"] == "parabola":
        logs = np.log(np.maximum(one, max(1e-3 * one[y, x], np.finfo(np.float32).tiny)))
        return parabola(logs[y], x), parabola(logs[:, x], y)
    if not (2 <= x < w - 2 and 2 <= y < h - 2):
        return x, y
    kernel, reach = taps(s["kernel_cells"]), s["kernel_cells"] // 2
    patch = np.pad(one, reach)[y - 2 : y + 3 + 2 * reach, x - 2 : x + 3 + 2 * reach]
    rows = np.apply_along_axis(np.convolve, 0, patch, kernel, "valid")
    smooth = np.apply_along_axis(np.convolve, 1, rows, kernel, "valid")
    a = np.log(np.maximum(smooth * one[y, x] / smooth.max() if smooth.max() > 0 else 0 * smooth, 1e-10))
    slope = np.array([a[2, 3] - a[2, 1], a[3, 2] - a[1, 2]]) / 2
    xx, yy = (a[2, 4] - 2 * a[2, 2] + a[2, 0]) / 4, (a[4, 2] - 2 * a[2, 2] + a[0, 2]) / 4
    xy = (a[3, 3] - a[1, 3] - a[3, 1] + a[1, 1]) / 4
    if xx * yy == xy**2:
        return x, y
    dx, dy = -np.linalg.solve([[xx, xy], [xy, yy]], slope)
    return (x + dx, y + dy) if max(abs(dx), abs(dy)) <= 2 else (x, y)


def parabola(logs: Any, peak: int) -> float:  # noqa: ANN401 - an array
    """Top of the parabola through three logarithms of a line, within half a cell of the peak."""
    if len(logs) < 3:
        return peak
    middle = min(max(peak, 1), len(logs) - 2)
    a, b, c = logs[middle - 1 : middle + 2]
    bend = a - 2 * b + c
    return float(np.clip(middle + 0.5 * (a - c) / bend, peak - 0.5, peak + 0.5)) if bend < 0 else peak


def taps(length: int) -> Any:  # noqa: ANN401 - an array
    """Gaussian of so many cells, as OpenCV has it."""
    sigma = 0.3 * ((length - 1) * 0.5 - 1) + 0.8
    line = np.exp(-((np.arange(length) - length // 2) ** 2) / (2 * sigma**2))
    line = np.array(SMALL.get(length, line), float)
    return line / line.sum()


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123 - as short as can be
        people = decode(dict(np.load(sys.argv[2])), json.load(file))
    found = [{"score": s, "keypoints": p} for p, s in zip(*(one.tolist() for one in people), strict=True)]
    sys.stdout.write(json.dumps(found) + "\n")

"""Decode an EfficientPose network of FleetPose with NumPy alone; FleetPose writes this beside a model.

    python decode.py description.json maps.npz    # prints the person as JSON

The network's input is `[1, 3, H, W]` float32, (rgb - mean) / std as `description.json` says; `maps.npz` holds
its outputs by name, without the batch axis. Whole coordinates are pixel centres. Finds one person, at the
highest place of each heatmap. Licence: Apache-2.0.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np


def decode(maps: dict[str, Any], about: dict[str, Any]) -> tuple[Any, Any]:
    """Maps by name → keypoints `[N, K, 3]` (x, y, score) in input pixels, scores `[N]`; N is 0 or 1."""
    s, wanted = about["codec"], about["skeleton"]["keypoints"]
    if s["max_people"] > 1 or not s["is_upscaled"]:
        raise SystemExit("decode.py finds one person in upscaled heatmaps; this model asks for more")
    field = [one for one in about["fields"] if one["kind"] == "heatmaps"][-1]
    heat = maps[f"heatmaps_s{field['stride']}" + (field["label"] and "_" + field["label"])].astype(float)
    down, across = (upscaling(size, field["stride"], s["is_blurred"]) for size in heat.shape[1:])
    points = np.zeros((1, len(wanted), 3))
    for name, one in zip(s["keypoints"], heat, strict=True):
        pixels = down @ one @ across.T
        y, x = np.unravel_index(pixels.argmax(), pixels.shape)
        if name in wanted and pixels[y, x] > 0 and pixels[y, x] >= s["detection_threshold"]:
            points[0, wanted.index(name)] = x, y, pixels[y, x]
    kept = points[: int((points[..., 2] > 0).any())]
    return kept, kept[..., 2].sum(axis=1) / len(heat)


def upscaling(size: int, factor: int, is_blurred: bool) -> Any:  # noqa: ANN401, FBT001 - an array; as described
    """What each pixel of a line takes of each cell → `[size * factor, size]`: doublings, then a blur."""
    weights = np.eye(size)
    while len(weights) < size * factor:
        doubled = np.zeros((2 * len(weights) + 2, size))
        for step, share in enumerate((0.25, 0.75, 0.75, 0.25)):
            doubled[step : step + 2 * len(weights) : 2] += share * weights
        weights = doubled[1:-1]
    if not is_blurred:
        return weights
    line = np.exp(-0.5 * np.arange(-4, 5) ** 2)  # spread of a pixel; beyond the border they follow in reverse
    padded = np.pad(weights, ((4, 4), (0, 0)), mode="symmetric")
    return sum(s * padded[n : n + len(weights)] for n, s in enumerate(line / line.sum()))


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123 - as short as can be
        people = decode(dict(np.load(sys.argv[2])), json.load(file))
    found = [{"score": s, "keypoints": p} for p, s in zip(*(one.tolist() for one in people), strict=True)]
    sys.stdout.write(json.dumps(found) + "\n")

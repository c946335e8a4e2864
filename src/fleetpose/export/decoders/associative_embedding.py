"""Decode the maps of a bottom-up FleetPose network with NumPy alone; FleetPose writes this beside a model.

    python decode.py description.json maps.npz    # prints the people as JSON

The network's input is `[1, 3, H, W]` float32, (rgb - mean) / std as `description.json` says; `maps.npz` holds
its outputs by name, without the batch axis. Whole coordinates are pixel centres. Licence: Apache-2.0.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

#: Heads, shoulders, hips … first: what is found most surely. Other skeletons go as they stand.
ORDER = [0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16]


def decode(maps: dict[str, Any], about: dict[str, Any]) -> tuple[Any, Any]:
    """Maps `[K, h, w]` by name → keypoints `[N, K, 3]` (x, y, score) in input pixels, scores `[N]`."""
    s = about["codec"]["grouping"]
    fields = [one for one in about["fields"] if one["kind"] == "heatmaps"]
    names = [f"heatmaps_s{one['stride']}" + (one["label"] and "_" + one["label"]) for one in fields]
    count, h, w = max((maps[name].shape for name in names), key=lambda shape: shape[1])
    heat = np.mean([resized(maps[name], h, w) for name in names], axis=0).astype(np.float32)
    tags = resized(next(maps[name] for name in maps if name.startswith("tags")), h, w)
    k, y, x = peaks(heat, s)
    tag, score = tags[k, y, x], heat[k, y, x].astype(float)
    members = np.full((s["max_people"], count), -1)  # peak of each person's keypoints
    for part in s["keypoint_order"] or (ORDER[:count] if count in (14, 17) else range(count)):
        mine = np.flatnonzero(k == part)
        new = int((members >= 0).any(axis=1).sum())
        means = np.array([tag[one[one >= 0]].mean() for one in members[:new]])
        gain = s["tag_threshold"] ** 2 - (tag[mine, None] - means) ** 2
        for peak, owner in zip(mine, assign(np.where(gain > 0, gain + score[mine, None], 0.0)), strict=True):
            if owner >= 0:
                members[owner, part] = peak
            elif new < s["max_people"]:
                members[new, part], new = peak, new + 1
    members = members[(members >= 0).sum(axis=1) >= max(1, s["min_keypoints"])]
    found = members >= 0
    points = np.zeros((*members.shape, 3))
    points[found] = np.column_stack([tops(heat, k, y, x), score])[members[found]]
    scores = points[..., 2].mean(axis=1)
    if s["is_refined"]:
        fill_in(points, heat, tags, [tag[one[one >= 0]].mean() for one in members], s)
    stride = min(one["stride"] for one in fields)
    points[..., :2] = np.where(points[..., 2:] > 0, (points[..., :2] + 0.5) * stride - 0.5, 0)
    by_score = np.argsort(-scores, kind="stable")
    return points[by_score], scores[by_score]


def fill_in(points: Any, heat: Any, tags: Any, means: list[Any], s: dict[str, Any]) -> None:  # noqa: ANN401 - arrays
    """Find missing keypoints among weak maxima whose tags agree, then, if asked, in all cells; in place."""
    is_top = heat == sliding_window_view(bordered(heat, 1), (3, 3), (1, 2)).max(axis=(3, 4))
    k, y, x = best_of(heat, np.nonzero(is_top & (heat > s["refine_threshold"])), 4 * s["max_people"])
    for n, part in np.argwhere(points[..., 2] == 0):
        far = ((tags[part] - means[n]) / s["tag_threshold"]) ** 2
        cell = highest(heat[part] * (1 - far / 0.5**2), y[k == part], x[k == part])
        if cell:
            points[n, part] = *tops(heat, *(np.array([one]) for one in (part, *cell)))[0], heat[part][cell]
        elif s["has_flank_search"]:
            cells = np.nonzero(heat[part] > s["refine_threshold"])
            cell = highest(heat[part] * (1 - far / 0.75**2), *cells)
            points[n, part] = (*cell[::-1], heat[part][cell]) if cell else 0


def highest(merits: Any, y: Any, x: Any) -> Any:  # noqa: ANN401 - arrays
    """The cell (y, x) of most merit among some; None if none has any."""
    best = merits[y, x].argmax() if len(y) else 0
    return (y[best], x[best]) if merits[y, x].max(initial=0) > 0 else None


def resized(maps: Any, h: int, w: int) -> Any:  # noqa: ANN401 - an array
    """Bilinear, edges to edges: `[K, h', w']` → `[K, h, w]`."""
    for axis, length in ((1, h), (2, w)):
        size = maps.shape[axis]
        place = np.clip((np.arange(length) + 0.5) * size / length - 0.5, 0, size - 1)
        low, shape = place.astype(int), [-1 if one == axis else 1 for one in range(3)]
        share = (place - low).reshape(shape)
        maps = maps.take(low, axis) * (1 - share) + maps.take(np.minimum(low + 1, size - 1), axis) * share
    return maps


def bordered(heat: Any, margin: int) -> Any:  # noqa: ANN401 - an array
    """Maps with cells of minus infinity around."""
    return np.pad(heat, ((0, 0), (margin,) * 2, (margin,) * 2), constant_values=-np.inf)


def peaks(heat: Any, s: dict[str, Any]) -> Any:  # noqa: ANN401 - arrays
    """Highest of their window; of equal cells the first, moved to the middle of those that touch it."""
    window, (k, y, x) = s["window"], np.nonzero(heat > s["detection_threshold"])
    around = sliding_window_view(bordered(heat, window // 2), (window, window), (1, 2))[k, y, x]
    around, height = around.reshape(len(k), window**2), heat[k, y, x][:, None]
    earlier, later = around[:, : window**2 // 2], around[:, window**2 // 2 + 1 :]
    is_top = (earlier < height).all(axis=1) & (later <= height).all(axis=1)
    k, y, x = best_of(heat, (k[is_top], y[is_top], x[is_top]), s["max_people"])
    near = sliding_window_view(bordered(heat, 2), (5, 5), (1, 2))[k, y, x][:, 2:].reshape(len(k), 15)
    is_equal = near == heat[k, y, x][:, None]
    steps = np.array([(dy, dx) for dy in range(3) for dx in range(-2, 3)])
    dy, dx = np.trunc(is_equal @ steps / is_equal.sum(axis=1, keepdims=True)).astype(int).T
    return k, y + dy, x + dx


def best_of(heat: Any, cells: Any, limit: int) -> Any:  # noqa: ANN401 - arrays
    """The highest `limit` of the cells (k, y, x) of each map, falling."""
    k, y, x = cells
    by_height = np.lexsort((-heat[cells], k))
    kept = by_height[np.arange(len(k)) - np.searchsorted(k, k) < limit]
    return k[kept], y[kept], x[kept]


def tops(heat: Any, k: Any, y: Any, x: Any) -> Any:  # noqa: ANN401 - arrays
    """Top of the parabola through three logarithms per axis → `[C, 2]` (x, y)."""
    floor, found = np.maximum(1e-3 * heat[k, y, x], np.finfo(np.float32).tiny), []
    for size, peak, axis in ((heat.shape[2], x, 0), (heat.shape[1], y, 1)):
        middle = np.clip(peak, 1, size - 2)
        lines = [heat[k, middle + d if axis else y, x if axis else middle + d] for d in (-1, 0, 1)]
        a, b, c = (np.log(np.maximum(line, floor).astype(float)) for line in lines)
        bend = a - 2 * b + c
        top = np.clip(middle + 0.5 * (a - c) / np.where(bend < 0, bend, 1), peak - 0.5, peak + 0.5)
        found.append(np.where(bend < 0, top, peak))
    return np.column_stack(found)


def assign(gain: Any) -> Any:  # noqa: ANN401 - an array
    """Column per row so that the sum of gains is greatest, -1 where nothing is gained (Hungarian method)."""
    rows, columns = gain.shape
    cost = np.pad(-gain, ((1, 0), (1, rows)))  # each row may stay alone in a column of its own
    cost[0] = cost[:, 0] = 0
    u, v, owner = np.zeros(rows + 1), np.zeros(cost.shape[1]), np.zeros(cost.shape[1], int)
    for row in range(1, rows + 1):
        owner[0], at = row, 0
        least, came, done = np.full(len(v), np.inf), np.zeros(len(v), int), np.zeros(len(v), bool)
        while owner[at]:
            done[at] = True
            step = cost[owner[at]] - u[owner[at]] - v
            closer = ~done & (step < least)
            least[closer], came[closer] = step[closer], at
            at = int(np.where(done, np.inf, least).argmin())
            delta = least[at]
            u[owner[done]] += delta
            v[done] -= delta
            least[~done] -= delta
        while at:
            owner[at], at = owner[came[at]], came[at]
    answer = np.full(rows, -1)
    taken = np.flatnonzero(owner[1 : columns + 1])
    answer[owner[taken + 1] - 1] = np.where(gain[owner[taken + 1] - 1, taken] > 0, taken, -1)
    return answer


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123 - as short as can be
        people = decode(dict(np.load(sys.argv[2])), json.load(file))
    found = [{"score": s, "keypoints": p} for p, s in zip(*(one.tolist() for one in people), strict=True)]
    sys.stdout.write(json.dumps(found) + "\n")

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

#: Heads, shoulders, hips … first: what is found most surely. Other skeletons go as they stand.
ORDER = [0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16]
DEFAULTS: dict[str, Any] = {"detection_threshold": 0.1, "tag_threshold": 1.0, "window": 5, "max_people": 30}
DEFAULTS |= {"is_refined": True, "refine_threshold": 0.01, "min_keypoints": 1, "keypoint_order": None}
DEFAULTS |= {"has_flank_search": False}


def decode(maps: dict[str, Any], description: dict[str, Any]) -> tuple[Any, Any]:
    """Maps `[K, h, w]` by name → keypoints `[N, K, 3]` (x, y, score) in input pixels, scores `[N]`."""
    s = DEFAULTS | description["codec"].get("grouping", {})
    heat_fields = [f for f in description["fields"] if f["kind"] == "heatmaps"]
    stride = min(f["stride"] for f in heat_fields)
    names = {f["stride"]: f"heatmaps_s{f['stride']}" + (f["label"] and "_" + f["label"]) for f in heat_fields}
    h, w = maps[names[stride]].shape[1:]
    heat = np.mean([resized(maps[name], h, w) for name in names.values()], axis=0).astype(np.float32)
    tags = next(maps[name] for name in maps if name.startswith("tags"))
    k, y, x = peaks(heat, s["detection_threshold"], s["window"] // 2, s["max_people"])
    tag, score, count = sampled(tags, k, y, x, h), heat[k, y, x].astype(float), len(heat)
    members = np.full((s["max_people"], count), -1)
    order = s["keypoint_order"] or (ORDER[:count] if count in (14, 17) else range(count))
    for part in order:
        mine = np.flatnonzero(k == part)
        known = np.flatnonzero((members >= 0).any(axis=1))
        means = np.array([tag[members[n][members[n] >= 0]].mean() for n in known])
        gain = s["tag_threshold"] ** 2 - (tag[mine, None] - means) ** 2
        gain = np.where(gain > 0, gain + score[mine, None], 0.0)
        new = len(known)
        for peak, owner in zip(mine, assign(gain), strict=True):
            if owner >= 0:
                members[owner, part] = peak
            elif new < s["max_people"]:
                members[new, part], new = peak, new + 1
    members = members[(members >= 0).sum(axis=1) >= max(1, s["min_keypoints"])]
    found = members >= 0
    points = np.zeros((*members.shape, 3))
    points[found] = np.column_stack([tops(heat, k, y, x), score])[members[found]]
    scores = points[..., 2].mean(axis=1)
    if s["is_refined"]:  # look for what is missing among weak maxima whose tags agree
        k, y, x = maxima(heat, s["refine_threshold"], 4 * s["max_people"])
        weak = sampled(tags, k, y, x, h)
        for n, part in np.argwhere(~found):
            mine = np.flatnonzero(k == part)
            distance = (weak[mine] - tag[members[n][found[n]]].mean()) ** 2
            merit = heat[part, y[mine], x[mine]] * (1 - distance / (0.5 * s["tag_threshold"]) ** 2)
            if len(mine) and merit.max() > 0:
                best = mine[[merit.argmax()]]
                points[n, part, :2] = tops(heat, k[best], y[best], x[best])
                points[n, part, 2] = heat[part, y[best], x[best]][0]
        search_flanks(points, heat, tags, s, lambda n: tag[members[n][found[n]]].mean())
    points[..., :2] = np.where(points[..., 2:] > 0, (points[..., :2] + 0.5) * stride - 0.5, 0)
    by_score = np.argsort(-scores, kind="stable")
    return points[by_score], scores[by_score]


def search_flanks(points: Any, heat: Any, tags: Any, s: Any, mean_tag: Any) -> None:  # noqa: ANN401 - arrays
    """If asked for, look for what is still missing in all cells whose tags agree, in place."""
    for n, part in np.argwhere(points[..., 2] == 0) if s["has_flank_search"] else ():
        y, x = np.nonzero(heat[part] > s["refine_threshold"])
        distance = (sampled(tags, np.full(len(y), part), y, x, heat.shape[1]) - mean_tag(n)) ** 2
        merit = heat[part, y, x] * (1 - distance / (0.75 * s["tag_threshold"]) ** 2)
        if len(merit) and merit.max() > 0:
            best = merit.argmax()
            points[n, part] = x[best], y[best], heat[part, y[best], x[best]]


def resized(maps: Any, h: int, w: int) -> Any:  # noqa: ANN401 - an array
    """Bilinear, edges to edges: `[K, h', w']` → `[K, h, w]`."""
    for axis, length in ((1, h), (2, w)):
        size = maps.shape[axis]
        place = np.clip((np.arange(length) + 0.5) * size / length - 0.5, 0, size - 1)
        low = place.astype(int)
        share = (place - low).reshape([-1 if a == axis else 1 for a in range(3)])
        high = np.minimum(low + 1, size - 1)
        maps = np.take(maps, low, axis) * (1 - share) + np.take(maps, high, axis) * share
    return maps


def peaks(heat: Any, threshold: float, reach: int, limit: int) -> Any:  # noqa: ANN401 - arrays
    """Highest of their window; of equal cells the first, moved to the middle of those that touch it."""
    _, h, w = heat.shape
    around = np.pad(heat, ((0, 0), (2 * reach, 2 * reach), (2 * reach, 2 * reach)), constant_values=-np.inf)
    top = heat > threshold
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            other = around[:, 2 * reach + dy :, 2 * reach + dx :][:, :h, :w]
            top &= (heat > other) if (dy, dx) < (0, 0) else (heat >= other)
    k, y, x = best_of(heat, top, limit)
    steps = np.array([(dy, dx) for dy in range(3) for dx in range(-2, 3)])
    cells = around[k[:, None], y[:, None] + 2 * reach + steps[:, 0], x[:, None] + 2 * reach + steps[:, 1]]
    is_equal = cells == heat[k, y, x][:, None]
    shift = np.trunc((is_equal @ steps) / is_equal.sum(axis=1, keepdims=True)).astype(int)
    return k, y + shift[:, 0], x + shift[:, 1]


def maxima(heat: Any, threshold: float, limit: int) -> Any:  # noqa: ANN401 - arrays
    """Cells above the threshold and not below any of their 8 neighbours."""
    _, h, w = heat.shape
    around = np.pad(heat, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    shifts = [(dy, dx) for dy in range(3) for dx in range(3)]
    top = np.all([heat >= around[:, dy : dy + h, dx : dx + w] for dy, dx in shifts], axis=0)
    return best_of(heat, top & (heat > threshold), limit)


def best_of(heat: Any, top: Any, limit: int) -> Any:  # noqa: ANN401 - arrays
    """The highest `limit` marked cells of each map, falling → k, y, x."""
    k, y, x = np.nonzero(top)
    by_height = np.lexsort((-heat[k, y, x], k))
    kept = by_height[np.arange(len(k)) - np.searchsorted(k, k) < limit]
    return k[kept], y[kept], x[kept]


def tops(heat: Any, k: Any, y: Any, x: Any) -> Any:  # noqa: ANN401 - arrays
    """Top of the parabola through three logarithms per axis → `[C, 2]` (x, y)."""
    floor = np.maximum(1e-3 * heat[k, y, x], np.finfo(np.float32).tiny)
    found = np.column_stack([x, y]).astype(float)
    for axis, (size, peak) in enumerate(((heat.shape[2], x), (heat.shape[1], y))):
        middle = np.clip(peak, 1, size - 2)
        lines = [(k, y, middle + d) if axis == 0 else (k, middle + d, x) for d in (-1, 0, 1)]
        a, b, c = (np.log(np.maximum(heat[line], floor).astype(float)) for line in lines)
        bend = a - 2 * b + c
        top = middle + 0.5 * (a - c) / np.where(bend < 0, bend, 1)
        found[:, axis] = np.where(bend < 0, np.clip(top, peak - 0.5, peak + 0.5), peak)
    return found


def sampled(tags: Any, k: Any, y: Any, x: Any, h: int) -> Any:  # noqa: ANN401 - arrays
    """Tags at cells of heatmaps that are `h` cells high, interpolated → `[C]`."""
    ratio, (th, tw) = h / tags.shape[1], tags.shape[1:]
    row, column = np.clip((y + 0.5) / ratio - 0.5, 0, th - 1), np.clip((x + 0.5) / ratio - 0.5, 0, tw - 1)
    y0, x0 = row.astype(int), column.astype(int)
    y1, x1, fy, fx = np.minimum(y0 + 1, th - 1), np.minimum(x0 + 1, tw - 1), row - y0, column - x0
    upper = tags[k, y0, x0] * (1 - fx) + tags[k, y0, x1] * fx
    return upper * (1 - fy) + (tags[k, y1, x0] * (1 - fx) + tags[k, y1, x1] * fx) * fy


def assign(gain: Any) -> Any:  # noqa: ANN401 - an array
    """Column per row so that the sum of gains is greatest, -1 where nothing is gained (Hungarian method)."""
    rows, columns = gain.shape
    cost = np.zeros((rows + 1, columns + rows + 1))
    cost[1:, 1 : columns + 1] = -gain
    u, v = np.zeros(rows + 1), np.zeros(columns + rows + 1)
    owner = np.zeros(columns + rows + 1, int)
    for row in range(1, rows + 1):
        owner[0], at = row, 0
        least, came = np.full(len(v), np.inf), np.zeros(len(v), int)
        done = np.zeros(len(v), bool)
        while owner[at]:
            done[at] = True
            here = owner[at]
            step = cost[here] - u[here] - v
            closer = ~done & (step < least)
            least[closer], came[closer] = step[closer], at
            nearest = int(np.where(done, np.inf, least)[1:].argmin()) + 1
            delta = least[nearest]
            u[owner[done]] += delta
            v[done] -= delta
            least[~done] -= delta
            at = nearest
        while at:
            owner[at], at = owner[came[at]], came[at]
    answer = np.full(rows, -1)
    for column in np.flatnonzero(owner[1 : columns + 1]):
        if gain[owner[column + 1] - 1, column] > 0:
            answer[owner[column + 1] - 1] = column
    return answer


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123 - as short as can be
        about = json.load(file)
    keypoints, scores = decode(dict(np.load(sys.argv[2])), about)
    people = [{"score": s, "keypoints": p} for s, p in zip(scores.tolist(), keypoints.tolist(), strict=True)]
    sys.stdout.write(json.dumps(people) + "\n")

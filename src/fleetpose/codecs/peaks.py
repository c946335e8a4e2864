"""Peaks of heatmaps: where they are, to a fraction of a cell, without touching more cells than needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.errors import ShapeError

Array = npt.NDArray[np.floating]
Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

#: Logarithms are taken of at least this share of a peak's height, so that noise around zero stays harmless.
LOG_FLOOR = 1e-3


#: Steps (dy, dx) to a cell's nearest neighbours; after these, about one cell per peak is left.
NEAREST = ((0, -1), (0, 1), (-1, 0), (1, 0))


@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """Local maxima of heatmaps, sorted by keypoint and within a keypoint by falling score.

    Attributes:
        keypoint: `[C]` channel of each peak.
        x: `[C]` column of each peak, in whole cells.
        y: `[C]` row of each peak, in whole cells.
        score: `[C]` height of each peak.
    """

    keypoint: Indices
    x: Indices
    y: Indices
    score: Array

    def __len__(self) -> int:
        return len(self.score)


def find_peaks(heatmaps: Array, *, threshold: float, window: int, limit: int) -> Peaks:
    """Find the highest local maxima of each heatmap.

    Only cells above the threshold are looked at, about one in a thousand. Of equal cells that touch, as
    quantised networks return them, the one in their middle stands for all.

    Args:
        heatmaps: `[K, h, w]`.
        threshold: a peak is higher than this.
        window: a peak is the highest of `window` by `window` cells around it; odd, at least 3.
        limit: at most so many peaks per keypoint, the highest.

    Raises:
        ShapeError: a cell holds NaN or infinity.

    >>> heatmaps = np.zeros((1, 5, 7)); heatmaps[0, 3, 4] = 0.8
    >>> peaks = find_peaks(heatmaps, threshold=0.1, window=5, limit=30)
    >>> peaks.x.tolist(), peaks.y.tolist(), peaks.score.tolist()
    ([4], [3], [0.8])
    """
    _, h, w = heatmaps.shape
    flat = heatmaps.reshape(-1)
    # "Not at most" rather than "more", so that NaN counts as a candidate and is seen by the check.
    found = np.flatnonzero(~(flat <= threshold))
    if not np.isfinite(flat[found]).all():
        raise ShapeError("heatmaps", "finite numbers", "NaN or infinity")
    reach = range(-(window // 2), window // 2 + 1)
    others = [(dy, dx) for dy in reach for dx in reach if (dy, dx) != (0, 0) and (dy, dx) not in NEAREST]
    found = _not_beaten(flat, found, (*NEAREST, *others), size=(h, w))
    keypoint = found // (h * w)
    order = np.lexsort((-flat[found], keypoint))
    first = np.searchsorted(keypoint, keypoint)  # cells rise, so keypoints do
    found = found[order[np.arange(len(order)) - first < limit]]
    keypoint, score = found // (h * w), flat[found]
    found = _plateau_middles(flat, found, size=(h, w))
    return Peaks(keypoint, found % w, found // w % h, score)


def find_local_maxima(
    heatmaps: Array, channels: Indices, *, threshold: float, limit: int
) -> tuple[Indices, Indices, Indices]:
    """Find cells that are above a low threshold and not below any of their 8 neighbours.

    Unlike that of `find_peaks`, its time does not depend on how many cells pass the threshold.

    Args:
        heatmaps: `[K, h, w]` float32.
        channels: heatmaps to look at, rising.
        threshold: a maximum is higher than this.
        limit: at most so many per heatmap, the highest.

    Returns:
        Channel, column and row `[C]` of each, sorted by channel only.
    """
    _, h, w = heatmaps.shape
    neighbourhood = np.ones((3, 3), np.uint8)
    found = [np.zeros(0, np.intp)]
    for k in channels.tolist():
        heatmap = heatmaps[k]
        cells = np.flatnonzero((heatmap >= cv2.dilate(heatmap, neighbourhood)) & (heatmap > threshold))
        if len(cells) > limit:
            cells = cells[np.argpartition(heatmap.reshape(-1)[cells], -limit)[-limit:]]
        found.append(cells + k * h * w)
    cells = np.concatenate(found)
    return cells // (h * w), cells % w, cells // w % h


def subcell_tops(heatmaps: Array, keypoint: Indices, x: Indices, y: Indices) -> Array:
    """Tops of the Gaussians under the peaks at whole cells → `[C, 2]` (x, y) in cells.

    A Gaussian is a parabola in log space, so three samples per axis locate its top exactly (after DARK,
    arXiv:1910.06278). At a border the three outermost samples are used. The top stays within half a cell.

    Args:
        heatmaps: `[K, h, w]`.
        keypoint: `[C]` channel per peak.
        x: `[C]` column per peak.
        y: `[C]` row per peak.

    >>> gaussian = np.exp(-((np.arange(9) - 4.3) ** 2) / 8)[None, None]
    >>> subcell_tops(gaussian, np.array([0]), np.array([4]), np.array([0])).round(6).tolist()
    [[4.3, 0.0]]
    """
    _, h, w = heatmaps.shape
    return tops_among(lambda column, row: heatmaps[keypoint, row, column], x, y, size=(h, w))


def tops_among(
    read: Callable[[Indices, Indices], Array], x: Indices, y: Indices, *, size: tuple[int, int]
) -> Array:
    """Do what `subcell_tops` does, on cells wherever they are kept.

    Args:
        read: from column and row `[C]`, at most two cells away, to the height of each peak's map there.
        x: `[C]` column per peak.
        y: `[C]` row per peak.
        size: (h, w) of the maps.
    """
    tops = np.stack([x, y])
    axes = [axis for axis in (0, 1) if size[1 - axis] >= 3]
    if not axes:
        return tops.T.astype(np.float64)
    peak, lengths = tops[axes], np.array([[size[1 - axis]] for axis in axes])
    middle = np.minimum(np.maximum(peak, 1), lengths - 2)
    samples = [
        read(place + step, y) if axis == 0 else read(x, place + step)
        for axis, place in zip(axes, middle, strict=True)
        for step in (-1, 0, 1)
    ]
    floor = np.maximum(LOG_FLOOR * read(x, y), np.finfo(np.float32).tiny)
    logs = np.log(np.maximum(samples, floor).astype(np.float64)).reshape(len(axes), 3, -1)
    offset, has_top = _parabola_top(logs[:, 0], logs[:, 1], logs[:, 2])
    nearby = np.minimum(np.maximum(middle + offset, peak - 0.5), peak + 0.5)
    moved = tops.astype(np.float64)
    moved[axes] = np.where(has_top, nearby, peak)
    return moved.T


def quarter_offset_tops(heatmaps: Array, keypoint: Indices, x: Indices, y: Indices) -> Array:
    """Move peaks at whole cells a quarter of a cell towards the higher neighbour → `[C, 2]` (x, y).

    As the bottom-up family does it (Newell et al., arXiv:1611.05424): between equal neighbours it moves
    left and up, and at a border the peak itself stands in for the missing neighbour.
    """
    _, h, w = heatmaps.shape
    left, right = heatmaps[keypoint, y, np.maximum(x - 1, 0)], heatmaps[keypoint, y, np.minimum(x + 1, w - 1)]
    above, below = (
        heatmaps[keypoint, np.maximum(y - 1, 0), x],
        heatmaps[keypoint, np.minimum(y + 1, h - 1), x],
    )
    return np.stack(
        [x + np.where(right > left, 0.25, -0.25), y + np.where(below > above, 0.25, -0.25)], axis=1
    )


def _parabola_top(before: Array, centre: Array, after: Array) -> tuple[Array, Mask]:
    """Offset of the top of a parabola through three samples from the middle one, and whether it has a top."""
    bend = before - 2 * centre + after
    has_top = bend < 0
    return 0.5 * (before - after) / np.where(has_top, bend, 1.0), np.asarray(has_top)


def _not_beaten(
    flat: Array, cells: Indices, steps: Sequence[tuple[int, int]], *, size: tuple[int, int]
) -> Indices:
    """Cells higher than each neighbour one step (dy, dx) away; of equals the first in reading order."""
    h, w = size
    row, column, height = cells // w % h, cells % w, flat[cells]
    for dy, dx in steps:
        neighbours = flat.take(cells + (dy * w + dx), mode="clip")
        is_earlier = (dy, dx) < (0, 0)
        is_kept = height > neighbours if is_earlier else height >= neighbours
        # The neighbour of a cell at the border is none.
        if dy:
            is_kept |= row < -dy if dy < 0 else row >= h - dy
        if dx:
            is_kept |= column < -dx if dx < 0 else column >= w - dx
        cells, row, column, height = cells[is_kept], row[is_kept], column[is_kept], height[is_kept]
    return cells


def _plateau_middles(flat: Array, cells: Indices, *, size: tuple[int, int]) -> Indices:
    """Move each first cell of a plateau to its middle, as far as two cells away; others stay.

    Of an even number of cells it is the one before the middle: the parabola through it adds the half.
    """
    h, w = size
    row, column = cells // w % h, cells % w
    steps = np.array([(dy, dx) for dy in range(3) for dx in range(-2, 3)])
    rows, columns = row[:, None] + steps[:, 0], column[:, None] + steps[:, 1]
    is_inside = (rows < h) & (columns >= 0) & (columns < w)
    neighbours = flat.take(cells[:, None] + steps[:, 0] * w + steps[:, 1], mode="clip")
    is_equal = is_inside & (neighbours == flat[cells][:, None])
    middle = (is_equal @ steps) / np.maximum(is_equal.sum(axis=1, keepdims=True), 1)
    shift = np.trunc(middle).astype(np.intp)
    return np.asarray(cells + shift[:, 0] * w + shift[:, 1])

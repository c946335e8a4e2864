"""DARK: the top of a heatmap's peak from a Taylor expansion (Zhang et al., arXiv:1910.06278, section 3.1).

A network's heatmap is smoothed first, because it may have several maxima about its peak, and then taken for a
Gaussian, whose logarithm is a parabola.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
Indices = npt.NDArray[np.intp]

#: Smallest value of which a logarithm is taken, as the authors have it.
LOG_FLOOR = 1e-10
#: Second differences over two cells either way need so many cells beside the peak.
REACH = 2


def dark_tops(heatmaps: Array, keypoint: Indices, x: Indices, y: Indices, *, kernel_cells: int) -> Array:
    """Tops of the Gaussians under the peaks at whole cells → `[C, 2]` (x, y) in cells.

    A peak in the two outermost rows or columns stays where it is. So does one whose surroundings are flat, or
    so far from a Gaussian that the step would leave the cells it was computed from (the authors take it).

    Args:
        heatmaps: `[K, h, w]`.
        keypoint: `[C]` channel per peak.
        x: `[C]` column of each peak.
        y: `[C]` row of each peak.
        kernel_cells: side of the smoothing kernel, odd; 11 suits Gaussians of two cells.
    """
    _, h, w = heatmaps.shape
    tops = np.stack([x, y], axis=1).astype(np.float64)
    inner = np.flatnonzero((x >= REACH) & (x < w - REACH) & (y >= REACH) & (y < h - REACH))
    if len(inner):
        peaks = keypoint[inner], x[inner], y[inner]
        windows = smooth_windows(heatmaps, *peaks, kernel_cells=kernel_cells)
        tops[inner] += _newton_steps(np.log(np.maximum(windows, LOG_FLOOR)))
    return tops


def smooth_windows(heatmaps: Array, keypoint: Indices, x: Indices, y: Indices, *, kernel_cells: int) -> Array:
    """Smoothed heatmaps in the 5 x 5 cells around each peak → `[C, 5, 5]`.

    They are scaled so that their highest cell is as high as the peak was; beyond its borders a map is 0. Only
    the cells that the windows need are smoothed.
    """
    _, h, w = heatmaps.shape
    border = REACH + kernel_cells // 2
    span = np.arange(-border, border + 1)
    rows, columns = y[:, None, None] + span[:, None], x[:, None, None] + span
    is_inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    nearest = keypoint[:, None, None], np.clip(rows, 0, h - 1), np.clip(columns, 0, w - 1)
    patches = np.where(is_inside, heatmaps[nearest], 0).astype(np.float64)
    taps = cv2.getGaussianKernel(kernel_cells, 0).ravel()  # OpenCV derives the spread, as the authors let it
    band = np.stack([np.pad(taps, (step, 2 * REACH - step)) for step in range(2 * REACH + 1)])
    windows = band @ patches @ band.T
    tops = windows.max(axis=(1, 2))
    has_top = tops > 0
    scales = np.where(has_top, patches[:, border, border] / np.where(has_top, tops, 1), 0)
    return np.asarray(windows * scales[:, None, None])


def _newton_steps(logs: Array) -> Array:
    """Offsets `[C, 2]` (x, y) from the middle of windows `[C, 5, 5]` to where their slope vanishes."""
    middle = logs[:, 2, 2]
    slope_x = (logs[:, 2, 3] - logs[:, 2, 1]) / 2
    slope_y = (logs[:, 3, 2] - logs[:, 1, 2]) / 2
    bend_xx = (logs[:, 2, 4] - 2 * middle + logs[:, 2, 0]) / 4
    bend_yy = (logs[:, 4, 2] - 2 * middle + logs[:, 0, 2]) / 4
    bend_xy = (logs[:, 3, 3] - logs[:, 1, 3] - logs[:, 3, 1] + logs[:, 1, 1]) / 4
    determinant = bend_xx * bend_yy - bend_xy**2
    is_bent = determinant != 0
    steps = np.stack([bend_xy * slope_y - bend_yy * slope_x, bend_xy * slope_x - bend_xx * slope_y], axis=1)
    steps /= np.where(is_bent, determinant, 1)[:, None]
    is_near = is_bent & (np.abs(steps) <= REACH).all(axis=1)
    return np.asarray(np.where(is_near[:, None], steps, 0))

"""Peaks of heatmaps, against positions known beforehand and against a search of all cells."""

import numpy as np
import pytest
from scipy.ndimage import maximum_filter

from fleetpose.codecs.peaks import find_local_maxima, find_peaks, quarter_offset_tops, subcell_tops
from fleetpose.errors import ShapeError

SETTINGS = {"threshold": 0.1, "window": 5, "limit": 30}


def gaussian(x, y, *, size=(32, 40), sigma=2.0, height=0.9):
    ys, xs = np.mgrid[: size[0], : size[1]]
    return (height * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * sigma**2))).astype(np.float32)


def places(peaks):
    return list(zip(peaks.keypoint.tolist(), peaks.x.tolist(), peaks.y.tolist(), strict=True))


@pytest.mark.parametrize("window", [3, 5, 7])
@pytest.mark.parametrize("seed", range(3))
def test_peaks_are_the_cells_that_a_search_of_all_cells_finds(seed, window):
    heatmaps = np.random.default_rng(seed).uniform(size=(3, 21, 34)).astype(np.float32)

    peaks = find_peaks(heatmaps, threshold=0.4, window=window, limit=10_000)

    is_peak = (heatmaps == maximum_filter(heatmaps, (1, window, window))) & (heatmaps > 0.4)
    expected = {(int(k), int(x), int(y)) for k, y, x in np.argwhere(is_peak)}
    assert set(places(peaks)) == expected
    assert len(peaks) == len(expected)


def test_peaks_come_by_keypoint_and_then_by_falling_score():
    heatmaps = np.zeros((2, 16, 16), np.float32)
    heatmaps[1, 2, 2], heatmaps[0, 3, 9], heatmaps[0, 9, 3], heatmaps[0, 14, 14] = 0.9, 0.3, 0.7, 0.5

    peaks = find_peaks(heatmaps, **SETTINGS)

    assert places(peaks) == [(0, 3, 9), (0, 14, 14), (0, 9, 3), (1, 2, 2)]
    np.testing.assert_array_equal(peaks.score, np.array([0.7, 0.5, 0.3, 0.9], np.float32))


def test_only_the_highest_of_each_keypoint_are_kept():
    heatmaps = np.zeros((2, 8, 32), np.float32)
    heatmaps[:, 4, 2::6] = [0.2, 0.4, 0.3, 0.6, 0.5]

    peaks = find_peaks(heatmaps, threshold=0.1, window=5, limit=2)

    assert places(peaks) == [(0, 20, 4), (0, 26, 4), (1, 20, 4), (1, 26, 4)]


def test_a_peak_at_the_threshold_is_none():
    heatmaps = np.zeros((1, 8, 8), np.float32)
    heatmaps[0, 4, 4] = 0.5

    assert len(find_peaks(heatmaps, threshold=0.5, window=5, limit=30)) == 0
    assert len(find_peaks(heatmaps, threshold=0.49, window=5, limit=30)) == 1


def test_peaks_of_neighbouring_maps_and_rows_do_not_disturb_each_other():
    heatmaps = np.zeros((2, 6, 6), np.float32)
    heatmaps[0, 5, 5], heatmaps[1, 0, 0] = 0.5, 0.9  # neighbours in memory
    heatmaps[0, 2, 5], heatmaps[0, 3, 0] = 0.6, 0.7

    peaks = find_peaks(heatmaps, threshold=0.1, window=3, limit=30)

    assert set(places(peaks)) == {(0, 5, 5), (0, 5, 2), (0, 0, 3), (1, 0, 0)}


@pytest.mark.parametrize(("width", "height"), [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3), (3, 3)])
@pytest.mark.parametrize("corner", [(0, 0), (4, 3)])
def test_a_plateau_is_one_peak_in_its_middle(width, height, corner):
    x, y = corner
    heatmaps = np.zeros((1, 10, 11), np.float32)
    heatmaps[0, y : y + height, x : x + width] = 0.8

    peaks = find_peaks(heatmaps, **SETTINGS)

    tops = subcell_tops(heatmaps, peaks.keypoint, peaks.x, peaks.y)
    assert len(peaks) == 1
    if corner != (0, 0):
        np.testing.assert_allclose(tops, [[x + (width - 1) / 2, y + (height - 1) / 2]], atol=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_cell_that_is_not_finite_is_refused(value):
    heatmaps = np.zeros((1, 8, 8), np.float32)
    heatmaps[0, 7, 7] = value

    with pytest.raises(ShapeError, match="heatmaps must be finite"):
        find_peaks(heatmaps, **SETTINGS)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("seed", range(20))
def test_the_top_of_a_gaussian_is_found_to_a_thousandth_of_a_cell(seed, sigma):
    x, y = np.random.default_rng(seed).uniform(3, [36, 28])
    heatmaps = gaussian(x, y, sigma=sigma)[None]

    peaks = find_peaks(heatmaps, **SETTINGS)
    tops = subcell_tops(heatmaps, peaks.keypoint, peaks.x, peaks.y)

    np.testing.assert_allclose(tops, [[x, y]], atol=1e-3)


@pytest.mark.parametrize(("x", "y"), [(0.3, 10.0), (38.8, 10.2), (20.0, 0.4), (20.4, 30.7), (-0.4, 31.4)])
def test_the_top_of_a_gaussian_at_the_border_is_found_too(x, y):
    heatmaps = gaussian(x, y)[None]

    peaks = find_peaks(heatmaps, **SETTINGS)
    tops = subcell_tops(heatmaps, peaks.keypoint, peaks.x, peaks.y)

    np.testing.assert_allclose(tops, [[x, y]], atol=1e-3)


def test_the_parabola_is_nearer_to_the_truth_than_the_quarter_offset_even_with_noise():
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(200):
        truth = rng.uniform(8, 24, 2)
        heatmaps = (gaussian(*truth) + rng.normal(0, 0.01, (32, 40)).astype(np.float32))[None]
        peak = find_peaks(heatmaps, threshold=0.5, window=5, limit=1)
        where = (heatmaps, peak.keypoint, peak.x, peak.y)
        errors.append([np.hypot(*(tops(*where)[0] - truth)) for tops in (subcell_tops, quarter_offset_tops)])

    parabola, quarter = np.mean(errors, axis=0)

    assert parabola < 0.08
    assert quarter > 2 * parabola


def test_a_top_stays_within_half_a_cell_of_its_peak():
    heatmaps = np.zeros((1, 5, 5), np.float32)
    heatmaps[0, 2] = [0, 0, 0.5, 0.4999, -0.3]

    tops = subcell_tops(heatmaps, np.array([0]), np.array([2]), np.array([2]))

    assert 2.4 < tops[0, 0] <= 2.5


@pytest.mark.parametrize(
    ("row", "top"),
    [
        ([0.5, 0.3, 0.15, 0, 0], -0.5),  # the parabola's top lies two cells outside
        ([0.5, 0.3, 0.2, 0, 0], 0.0),  # in log space these are no hill
        ([0, 0, 0.15, 0.3, 0.5], 4.5),
        ([0, 0, 0.2, 0.3, 0.5], 4.0),
    ],
)
def test_a_peak_at_the_border_of_an_odd_hill_stays_in_its_cell(row, top):
    heatmaps = np.zeros((1, 5, 5), np.float32)
    heatmaps[0, 2] = row
    heatmaps[0, 1] = heatmaps[0, 3] = np.array(row) / 2

    tops = subcell_tops(heatmaps, np.array([0]), np.array([np.argmax(row)]), np.array([2]))

    np.testing.assert_allclose(tops, [[top, 2]], atol=1e-9)


def test_cells_below_zero_are_no_obstacle():
    heatmaps = np.full((1, 5, 5), -0.5, np.float32)
    heatmaps[0, 2, 2] = 0.9

    tops = subcell_tops(heatmaps, np.array([0]), np.array([2]), np.array([2]))

    np.testing.assert_allclose(tops, [[2, 2]], atol=1e-9)


def test_the_quarter_offset_goes_to_the_higher_neighbour_and_else_left_and_up():
    heatmaps = np.zeros((1, 5, 5), np.float32)
    heatmaps[0, 2, 3], heatmaps[0, 3, 2] = 0.2, 0.2
    heatmaps[0, 2, 2] = 0.9
    k, at = np.array([0, 0]), np.array([2, 0])

    tops = quarter_offset_tops(heatmaps, k, at, at)

    assert tops.tolist() == [[2.25, 2.25], [-0.25, -0.25]]


def test_local_maxima_are_found_in_the_wanted_maps_only():
    heatmaps = np.zeros((3, 8, 8), np.float32)
    heatmaps[0, 1, 1] = heatmaps[1, 2, 5] = heatmaps[2, 7, 0] = 0.05
    heatmaps[1, 2, 6] = 0.04  # beside a higher one
    heatmaps[1, 6, 6] = 0.01  # at the threshold

    found = find_local_maxima(heatmaps, np.array([1, 2]), threshold=0.01, limit=9)

    assert np.stack(found, axis=1).tolist() == [[1, 5, 2], [2, 0, 7]]


def test_only_the_highest_local_maxima_of_each_map_are_kept():
    heatmaps = np.zeros((2, 4, 16), np.float32)
    heatmaps[:, 1, 1::3] = [0.02, 0.06, 0.03, 0.05, 0.04]

    keypoint, x, _ = find_local_maxima(heatmaps, np.array([0, 1]), threshold=0.01, limit=2)

    assert sorted(zip(keypoint.tolist(), x.tolist(), strict=True)) == [(0, 4), (0, 10), (1, 4), (1, 10)]

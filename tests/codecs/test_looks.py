"""Two looks at the same people, made by hand."""

import numpy as np
import pytest

from fleetpose.codecs.looks import join_looks

SAME_FRAME = np.array([[1.0, 0, 0], [0, 1, 0]])


def maps(*peaks, size=(12, 10)):
    """One person's maps, each with one peak (x, y, height)."""
    made = np.zeros((1, len(peaks), *size), np.float32)
    for k, (x, y, height) in enumerate(peaks):
        made[0, k, y, x] = height
    return made


def test_in_the_same_frame_maps_are_averaged():
    joined = join_looks(maps((2, 3, 0.2), (4, 4, 0.8)), maps((2, 3, 0.6), (5, 4, 0.4)), [SAME_FRAME])

    expected = maps((2, 3, 0.4), (4, 4, 0.4))
    expected[0, 1, 4, 5] = 0.2
    np.testing.assert_allclose(joined, expected, atol=1e-6)


def test_the_first_look_is_moved_into_the_frame_of_the_second():
    # Twice as close, about cell (1, 2): what was at (3, 4) is now at (5, 6).
    closer = np.array([[2.0, 0, -1], [0, 2, -2]])

    joined = join_looks(maps((3, 4, 1.0)), maps((0, 0, 0.0)), [closer])

    assert np.unravel_index(joined.argmax(), joined.shape) == (0, 0, 6, 5)
    assert joined.max() == pytest.approx(0.5)
    assert joined[0, 0, 6, 4] == pytest.approx(0.25)  # between two cells of the first look


def test_beyond_the_first_frame_the_second_look_counts_alone():
    moved_right = np.array([[1.0, 0, 4], [0, 1, 0]])
    second = np.full((1, 1, 12, 10), 0.6, np.float32)

    joined = join_looks(np.zeros_like(second), second, [moved_right])

    np.testing.assert_allclose(joined[0, 0, :, :4], 0.6)
    np.testing.assert_allclose(joined[0, 0, :, 4:], 0.3)


def test_each_person_moves_by_itself():
    first = np.concatenate([maps((3, 4, 1.0)), maps((3, 4, 1.0))])
    down = np.array([[1.0, 0, 0], [0, 1, 2]])

    joined = join_looks(first, np.zeros_like(first), [SAME_FRAME, down])

    tops = [np.unravel_index(one[0].argmax(), one[0].shape) for one in joined]
    assert tops == [(4, 3), (6, 3)]
    assert joined.dtype == np.float32


def test_nobody_is_nobody():
    nobody = np.zeros((0, 17, 12, 10), np.float32)

    assert join_looks(nobody, nobody, []).shape == (0, 17, 12, 10)

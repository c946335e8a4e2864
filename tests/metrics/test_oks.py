"""Object keypoint similarity, by numbers worked out by hand."""

import numpy as np
import pytest

from fleetpose.errors import ShapeError
from fleetpose.metrics.oks import oks


def test_a_keypoint_one_sigma_off_counts_exp_of_minus_one_eighth():
    # d = sigma * sqrt(area) = 0.1 * 20 = 2, so the exponent is d² / (2 * area * (2 sigma)²) = 4 / 32.
    reference = np.array([[[10.0, 10.0, 2.0]]])

    similarity = oks(np.array([[[12.0, 10.0, 1.0]]]), reference, areas=np.array([400.0]), sigmas=[0.1])

    assert similarity[0, 0] == pytest.approx(np.exp(-1 / 8), abs=1e-12)


def test_it_is_the_mean_over_labelled_keypoints_only():
    reference = np.array([[[0.0, 0, 1], [0, 0, 2], [0, 0, 0]]])
    person = np.array([[[0.0, 0], [1e6, 0], [1e6, 0]]])

    similarity = oks(person, reference, areas=np.array([100.0]), sigmas=[0.1, 0.1, 0.1])

    assert similarity[0, 0] == pytest.approx(0.5)


def test_each_reference_has_its_own_area_and_each_keypoint_its_own_sigma():
    references = np.zeros((2, 2, 3))
    references[0, 0, 2] = references[1, 1, 2] = 1
    person = np.full((1, 2, 2), 3.0)  # d² = 18

    similarity = oks(person, references, areas=np.array([100.0, 50.0]), sigmas=[0.1, 0.3])

    expected = [np.exp(-18 / (2 * 100 * 0.04)), np.exp(-18 / (2 * 50 * 0.36))]
    np.testing.assert_allclose(similarity, [expected], rtol=1e-12)


def test_rows_are_people_and_columns_references():
    people, references = np.zeros((3, 1, 2)), np.ones((2, 1, 3))
    people[1] = 1

    similarity = oks(people, references, areas=np.ones(2), sigmas=[0.1])

    assert similarity.shape == (3, 2)
    assert (similarity == 1).tolist() == [[False, False], [True, True], [False, False]]


def test_a_reference_without_keypoints_is_like_nobody():
    assert oks(np.zeros((1, 1, 2)), np.zeros((1, 1, 3)), areas=np.ones(1), sigmas=[0.1]).tolist() == [[0.0]]


def test_nobody_makes_an_empty_table():
    assert oks(np.zeros((0, 2, 3)), np.zeros((4, 2, 3)), areas=np.ones(4), sigmas=[0.1] * 2).shape == (0, 4)
    assert oks(np.zeros((4, 2, 3)), np.zeros((0, 2, 3)), areas=np.ones(0), sigmas=[0.1] * 2).shape == (4, 0)


@pytest.mark.parametrize(
    ("name", "people", "references"),
    [("keypoints", (1, 3, 3), (1, 2, 3)), ("references", (1, 2, 3), (1, 2, 2))],
)
def test_keypoints_of_another_skeleton_are_refused_by_name(name, people, references):
    with pytest.raises(ShapeError, match=name):
        oks(np.zeros(people), np.zeros(references), areas=np.ones(1), sigmas=[0.1, 0.1])

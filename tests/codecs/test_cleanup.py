"""Clean-up rules, on people made by hand."""

import numpy as np
import pytest

from fleetpose.codecs.cleanup import (
    keep_complete,
    keep_scores,
    remove_near_duplicates,
    remove_redundant,
    remove_within,
)
from fleetpose.errors import ShapeError

SIGMAS = [0.1, 0.1]


def people(*places, score=0.9):
    """People of two keypoints, 100 pixels apart both ways, the first of them at the places."""
    return np.array([[[x, y, score], [x + 100, y + 100, score]] for x, y in places], float)


def test_scores_below_the_least_are_dropped_and_the_least_is_kept():
    assert keep_scores(np.array([0.19, 0.2, 0.3]), at_least=0.2).tolist() == [False, True, True]


def test_people_with_too_few_keypoints_are_dropped():
    keypoints = np.zeros((3, 4, 3))
    keypoints[0, :1, 2] = keypoints[1, :2, 2] = 0.5
    keypoints[2, :4, 2] = 0.05

    assert keep_complete(keypoints, at_least=2).tolist() == [False, True, True]
    assert keep_complete(keypoints, at_least=2, above=0.1).tolist() == [False, True, False]


def test_of_two_alike_people_the_better_stays():
    kept = remove_redundant(people((0, 0), (1, 0)), np.array([0.5, 0.8]), sigmas=SIGMAS)

    assert kept.tolist() == [1]


def test_people_apart_stay_and_come_by_falling_score():
    kept = remove_redundant(people((0, 0), (300, 0)), np.array([0.5, 0.8]), sigmas=SIGMAS)

    assert kept.tolist() == [1, 0]


def test_similarity_is_measured_in_sigmas_of_the_better_persons_size():
    # d = 20, area = 100 x 100, sigma = 0.1: exp(-400 / (2 * 10000 * 0.04)) = exp(-0.5) = 0.607.
    pair, scores = people((0, 0), (20, 0)), np.array([0.8, 0.5])

    assert len(remove_redundant(pair, scores, sigmas=SIGMAS, threshold=0.60)) == 1
    assert len(remove_redundant(pair, scores, sigmas=SIGMAS, threshold=0.61)) == 2


def test_a_small_person_on_a_large_one_is_measured_by_the_better_ones_size():
    # 50 pixels of difference in the second keypoint: alike by the size of 100, not by that of 50.
    pair = people((0, 0), (0, 0))
    pair[1, 1, :2] = 50, 50
    by_large = (1 + np.exp(-5000 / (2 * 10000 * 0.04))) / 2
    by_small = (1 + np.exp(-5000 / (2 * 2500 * 0.04))) / 2
    between = (by_large + by_small) / 2

    assert len(remove_redundant(pair, np.array([0.8, 0.5]), sigmas=SIGMAS, threshold=between)) == 1
    assert len(remove_redundant(pair, np.array([0.5, 0.8]), sigmas=SIGMAS, threshold=between)) == 2


def test_only_keypoints_that_both_have_are_compared():
    pair = people((0, 0), (0, 0))
    pair[1, 1] = 900, 900, 0.05

    assert len(remove_redundant(pair, np.array([0.8, 0.5]), sigmas=SIGMAS)) == 2
    assert len(remove_redundant(pair, np.array([0.8, 0.5]), sigmas=SIGMAS, above=0.1)) == 1


def test_people_without_a_keypoint_in_common_are_different():
    pair = people((0, 0), (0, 0))
    pair[0, 0, 2] = pair[1, 1, 2] = 0

    assert len(remove_redundant(pair, np.array([0.8, 0.5]), sigmas=SIGMAS)) == 2


def test_a_dropped_person_drops_nobody():
    # Each is like the next, but the first is not like the third.
    row = people((0, 0), (8, 0), (16, 0))

    kept = remove_redundant(row, np.array([0.9, 0.8, 0.7]), sigmas=SIGMAS, threshold=0.9)

    assert kept.tolist() == [0, 2]


def test_nobody_is_no_problem():
    assert remove_redundant(np.zeros((0, 2, 3)), np.zeros(0), sigmas=SIGMAS).tolist() == []
    assert remove_near_duplicates(np.zeros((0, 2, 3))).tolist() == []


def test_people_of_another_skeleton_are_refused():
    with pytest.raises(ShapeError, match=r"\[1, 2, 3\]"):
        remove_redundant(np.zeros((1, 3, 3)), np.zeros(1), sigmas=SIGMAS)


def test_the_first_of_people_less_than_three_pixels_apart_stays():
    # The mean runs over both coordinates, so 6 pixels in x alone are 3 on average.
    kept = remove_near_duplicates(people((0, 0), (5.9, 0), (6.0, 0)))

    assert kept.tolist() == [0, 2]


def spread(low, high, *, count=10):
    """A person `[count, 3]` whose keypoints go from one corner of a box to the other."""
    return np.column_stack([np.linspace(low, high, count), np.ones(count)]).astype(np.float32)


@pytest.mark.parametrize(
    ("low", "high", "score", "kept"),
    [
        ((20, 20), (40, 60), 0.4, [1]),  # within, and half as sure
        ((20, 20), (40, 60), 0.41, [1, 0]),  # surer than half
        ((-9, -9), (40, 60), 0.4, [1]),  # in the widened box
        ((-40, -40), (40, 60), 0.4, [1, 0]),  # a third outside
        ((120, 20), (150, 60), 0.4, [1, 0]),  # beside
    ],
)
def test_who_lies_within_a_much_surer_person_is_dropped(low, high, score, kept):
    both = np.stack([spread(low, high), spread((0, 0), (100, 200))])

    found = remove_within(both, np.array([score, 0.8]), score_share=0.5)

    assert found.tolist() == kept


def test_keypoints_that_were_not_found_say_nothing_of_who_lies_within():
    small, large = spread((20, 20), (40, 60)), spread((0, 0), (100, 200))
    small[:4] = 0
    small[:4, :2] = 999  # not found, wherever
    large[-1] = 0  # the last one found is at (88.9, 177.8)

    found = remove_within(np.stack([small, large]), np.array([0.1, 0.8]), score_share=0.5)

    assert found.tolist() == [1]


def test_without_a_share_nobody_within_is_dropped_and_nobody_is_no_problem():
    both = np.stack([spread((20, 20), (40, 60)), spread((0, 0), (100, 200))])

    assert remove_within(both, np.array([0.1, 0.8]), score_share=0).tolist() == [1, 0]
    assert remove_within(both[:0], np.zeros(0), score_share=0.5).tolist() == []

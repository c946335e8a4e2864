"""MPII's score, on people whose head measures 100 pixels."""

import numpy as np
import pytest

from fleetpose.errors import ConfigError, ShapeError
from fleetpose.metrics.pckh import head_sizes_of_boxes, pckh_scores
from fleetpose.skeletons import COCO, MPII


def people(count=1):
    keypoints = np.full((count, 16, 3), 50.0)
    keypoints[..., 2] = 1
    return keypoints


def scores_of(predicted, labelled, size=100.0):
    return pckh_scores(predicted, labelled, np.full(len(labelled), size), MPII)


def moved(keypoint, by, count=1):
    predicted = people(count)
    predicted[0, MPII.index(keypoint), 0] += by
    return predicted


def test_a_heads_size_is_three_fifths_of_its_boxs_diagonal():
    assert head_sizes_of_boxes(np.array([[0.0, 0.0, 30.0, 40.0]])).tolist() == [30.0]


@pytest.mark.parametrize(
    ("by", "at_05", "at_01", "at_011"),
    [(10.0, 1, 1, 1), (10.9, 1, 0, 1), (11.1, 1, 0, 0), (50.0, 1, 0, 0), (50.1, 0, 0, 0)],
)
def test_a_keypoint_is_right_up_to_the_share_of_the_head(by, at_05, at_01, at_011):
    scores = scores_of(moved("left_wrist", by), people())

    assert scores.per_keypoint["left_wrist"] == at_05
    assert scores.mean == pytest.approx((13 + at_05) / 14)
    assert scores.mean_01 == pytest.approx((13 + at_01) / 14)
    assert scores.mean_011 == pytest.approx((13 + at_011) / 14)


@pytest.mark.parametrize("keypoint", ["pelvis", "thorax"])
def test_pelvis_and_thorax_are_not_in_the_mean(keypoint):
    scores = scores_of(moved(keypoint, 1000), people())

    assert scores.mean == 1.0
    assert scores.per_keypoint[keypoint] == 0


def test_the_neck_is_in_the_mean_but_in_no_column():
    scores = scores_of(moved("neck", 1000), people())

    assert scores.mean == pytest.approx(13 / 14)
    assert set(scores.groups.values()) == {1.0}


def test_a_column_is_the_mean_of_left_and_right_and_the_mean_weighs_labels():
    labelled = people(4)
    labelled[1:, MPII.index("left_wrist"), 2] = 0

    scores = scores_of(moved("left_wrist", 1000, 4), labelled)

    assert scores.groups["Wrist"] == 0.5
    assert scores.mean == pytest.approx(1 - 1 / (4 * 14 - 3))


def test_a_keypoint_that_was_not_found_is_wrong():
    predicted = people()
    predicted[0, MPII.index("head_top"), 2] = 0

    assert scores_of(predicted, people()).groups["Head"] == 0


def test_people_whose_heads_size_is_unknown_are_not_scored():
    scores = pckh_scores(people(2), people(2), np.array([0.0, 100.0]), MPII)

    assert scores.people == 1
    assert np.isnan(pckh_scores(people(), people(), np.array([np.nan]), MPII).mean)


def test_the_columns_are_those_of_the_usual_table():
    assert list(scores_of(people(), people()).named()) == [
        *("Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle"),
        *("PCKh@0.5", "PCKh@0.1"),
    ]


def test_a_skeleton_without_a_head_is_refused():
    with pytest.raises(ConfigError, match="head_top, which skeleton coco17 lacks"):
        pckh_scores(np.zeros((1, 17, 3)), np.zeros((1, 17, 3)), np.ones(1), COCO)


def test_people_of_another_skeleton_are_refused():
    with pytest.raises(ShapeError, match=r"\[N, 16, 3\]"):
        scores_of(np.zeros((1, 17, 3)), np.zeros((1, 17, 3)))

"""Percentage of correct keypoints, on people drawn with round numbers."""

import numpy as np
import pytest

from fleetpose.errors import ShapeError
from fleetpose.metrics.pck import LIMB_KEYPOINTS, keypoint_hits, match_by_box, pck_scores, torso_diagonals
from fleetpose.skeletons import COCO, LSP, Skeleton

LEFT_SHOULDER, RIGHT_SHOULDER = COCO.index("left_shoulder"), COCO.index("right_shoulder")
LEFT_HIP, RIGHT_HIP = COCO.index("left_hip"), COCO.index("right_hip")


def person(v=2):
    """A person whose torso measures 50 pixels from left shoulder to right hip, the other way 100."""
    keypoints = np.zeros((1, 17, 3))
    keypoints[0, :, 2] = v
    keypoints[0, LEFT_SHOULDER, :2] = 30, 0
    keypoints[0, RIGHT_HIP, :2] = 0, 40
    keypoints[0, RIGHT_SHOULDER, :2] = 0, 0
    keypoints[0, LEFT_HIP, :2] = 60, 80
    return keypoints


def hits_of(predicted, labelled):
    return keypoint_hits(predicted, labelled, COCO)


def test_the_torso_goes_from_the_left_shoulder_to_the_right_hip():
    assert torso_diagonals(person(), COCO).tolist() == [50.0]


def test_the_other_diagonal_stands_in_where_a_label_is_missing():
    labelled = person()
    labelled[0, RIGHT_HIP, 2] = 0

    assert torso_diagonals(labelled, COCO).tolist() == [100.0]


def test_a_keypoint_is_correct_up_to_a_fifth_of_the_torso():
    predicted = person()
    predicted[0, 9, 0] += 10.0
    predicted[0, 10, 1] += 10.01

    is_correct, is_counted = hits_of(predicted, person())

    assert is_counted.all()
    assert np.flatnonzero(~is_correct[0]).tolist() == [10]


def test_a_keypoint_that_was_not_found_is_wrong_even_where_it_would_be_right():
    predicted = person()
    predicted[0, 9, 2] = 0

    is_correct, is_counted = hits_of(predicted, person())

    assert np.flatnonzero(~is_correct[0]).tolist() == [9]
    assert is_counted.all()


def test_a_keypoint_without_a_label_is_not_counted():
    labelled = person()
    labelled[0, 9, 2] = 0

    is_correct, is_counted = hits_of(person(), labelled)

    assert np.flatnonzero(~is_counted[0]).tolist() == [9]
    assert not is_correct[0, 9]


def test_a_hidden_keypoint_with_a_label_counts():
    assert hits_of(person(), person(v=1))[1].all()


def test_a_person_without_a_torso_is_not_counted():
    labelled = person()
    labelled[0, [LEFT_SHOULDER, RIGHT_SHOULDER], 2] = 0

    is_correct, is_counted = hits_of(person(), labelled)

    assert not is_counted.any()
    assert not is_correct.any()


def test_the_mean_is_over_the_twelve_limb_keypoints_and_the_face_is_left_out():
    predicted = np.repeat(person(), 2, axis=0)
    predicted[:, :5, 2] = 0  # all faces wrong
    predicted[0, 9, 2] = 0  # one of two left wrists wrong

    scores = pck_scores(*hits_of(predicted, np.repeat(person(), 2, axis=0)), COCO)

    assert scores.mean == pytest.approx(11.5 / 12)
    assert scores.per_keypoint["nose"] == 0
    assert scores.per_keypoint["left_wrist"] == 0.5
    assert scores.people == 2


def test_a_keypoint_never_labelled_is_not_a_number_and_not_in_the_mean():
    labelled = person()
    labelled[0, 9, 2] = 0

    scores = pck_scores(*hits_of(person(), labelled), COCO)

    assert np.isnan(scores.per_keypoint["left_wrist"])
    assert scores.mean == 1.0


def test_without_people_the_mean_is_not_a_number():
    nobody = np.zeros((0, 17, 3))

    scores = pck_scores(*hits_of(nobody, nobody), COCO)

    assert np.isnan(scores.mean)
    assert scores.people == 0


def test_every_skeleton_with_limbs_can_be_scored():
    assert len(LIMB_KEYPOINTS) == 12
    assert set(LIMB_KEYPOINTS) <= set(LSP.keypoints)


def test_each_labelled_person_takes_the_prediction_whose_box_overlaps_most():
    labelled = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10], [100, 100, 110, 110]])
    predicted = np.array([[21.0, 0, 31, 10], [5, 0, 15, 10], [0, 0, 10, 9]])

    assert match_by_box(labelled, predicted).tolist() == [2, 0, -1]


def test_without_predictions_nobody_is_matched():
    assert match_by_box(np.ones((2, 4)), np.zeros((0, 4))).tolist() == [-1, -1]


def test_people_of_another_skeleton_are_refused():
    with pytest.raises(ShapeError, match=r"\[N, 17, 3\]"):
        keypoint_hits(np.zeros((1, 14, 3)), np.zeros((1, 14, 3)), COCO)


def test_the_columns_are_means_of_left_and_right():
    predicted = person()
    predicted[0, 9, 2] = 0  # the left wrist

    named = pck_scores(*hits_of(predicted, person()), COCO).named()

    assert list(named) == ["Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "PCK@0.2"]
    assert named["Wrist"] == 0.5
    assert named["Elbow"] == 1.0


def test_a_skeleton_without_a_torso_has_no_score():
    hand = Skeleton(name="hand", keypoints=("thumb", "palm"), limbs=(), flip_pairs=(), sigmas=(0.1, 0.1))
    labelled = np.ones((1, 2, 3))

    scores = pck_scores(*keypoint_hits(labelled, labelled, hand), hand)

    assert np.isnan(scores.mean)
    assert np.isnan(list(scores.named().values())).all()
    assert scores.people == 0

"""Intersection over union, on pictures of a few pixels."""

import numpy as np
import pytest

from fleetpose.errors import ShapeError
from fleetpose.metrics.segmentation import CITYSCAPES_CLASSES, confusion, iou_scores


def test_shares_are_those_counted_by_hand():
    labelled = np.array([[0, 0, 0, 1], [1, 1, 2, 255]], np.uint8)
    predicted = np.array([[0, 0, 1, 1], [1, 0, 2, 2]], np.uint8)

    scores = iou_scores(confusion(predicted, labelled, num_classes=3), ("a", "b", "c"))

    assert scores.per_class == {"a": 2 / 4, "b": 2 / 4, "c": 1.0}
    assert scores.mean == pytest.approx(2 / 3)
    assert scores.accuracy == pytest.approx(5 / 7)


def test_ignored_pixels_count_for_nothing_whatever_is_predicted_there():
    labelled = np.array([255, 255, 4], np.uint8)

    first = confusion(np.array([3, 250, 4]), labelled, num_classes=19)
    second = confusion(np.array([4, 4, 4]), labelled, num_classes=19)

    assert (first == second).all()
    assert first.sum() == 1


def test_a_class_that_is_nowhere_is_not_in_the_mean_but_one_that_is_only_predicted_is():
    counts = confusion(np.array([0, 0, 1]), np.array([0, 0, 0]), num_classes=3)

    scores = iou_scores(counts, ("a", "b", "c"))

    assert scores.per_class["b"] == 0
    assert np.isnan(scores.per_class["c"])
    assert scores.mean == pytest.approx((2 / 3 + 0) / 2)


def test_counts_of_pictures_add_up_to_those_of_all():
    rng = np.random.default_rng(0)
    labelled, predicted = rng.integers(0, 19, (2, 6, 8, 8))

    parts = [confusion(p, t, num_classes=19) for p, t in zip(predicted, labelled, strict=True)]

    np.testing.assert_array_equal(np.sum(parts, axis=0), confusion(predicted, labelled, num_classes=19))
    assert len(iou_scores(np.sum(parts, axis=0)).per_class) == len(CITYSCAPES_CLASSES) == 19


def test_without_pixels_there_is_no_score():
    scores = iou_scores(np.zeros((2, 2), np.int64), ("a", "b"))

    assert np.isnan([scores.mean, scores.accuracy]).all()


@pytest.mark.parametrize(
    ("predicted", "labelled", "message"),
    [
        ([0, 1], [0], r"the labels' shape \[1\], but got \[2\]"),
        ([0], [2], "labelled classes must be 0 to 1 or 255, but got 2"),
        ([-1], [0], "predicted classes must be 0 to 1 or 255, but got -1"),
    ],
)
def test_what_is_no_class_is_refused(predicted, labelled, message):
    with pytest.raises(ShapeError, match=message):
        confusion(np.array(predicted), np.array(labelled), num_classes=2)


def test_counts_of_other_classes_than_names_are_refused():
    with pytest.raises(ShapeError, match="a square of 19 classes"):
        iou_scores(np.zeros((2, 2), np.int64))

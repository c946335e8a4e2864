"""Accuracy of classified pictures."""

import numpy as np
import pytest

from fleetpose.errors import ShapeError
from fleetpose.metrics.classification import top_accuracy


def test_the_right_class_counts_up_to_its_place():
    scores = np.array([[0.9, 0.5, 0.4, 0.3, 0.2, 0.1]] * 6)
    labels = np.arange(6)

    shares = [top_accuracy(scores, labels, top=top) for top in range(1, 7)]

    assert shares == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0])


def test_equal_scores_are_not_all_first():
    assert top_accuracy(np.zeros((4, 4)), np.arange(4)) == 0.25


def test_without_pictures_there_is_no_score():
    assert np.isnan(top_accuracy(np.zeros((0, 3)), np.zeros(0, int)))


@pytest.mark.parametrize(
    ("scores", "labels", "top", "message"),
    [
        (np.zeros((2, 3)), np.zeros(3, int), 1, r"\[2, 3\] and \[3\]"),
        (np.zeros((2, 3)), np.array([0, 3]), 1, "0 to 2, but got 0 to 3"),
        (np.zeros((2, 3)), np.zeros(2, int), 4, "1 to the 3 classes, but got 4"),
        (np.full((2, 3), np.nan), np.zeros(2, int), 1, "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(scores, labels, top, message):
    with pytest.raises(ShapeError, match=message):
        top_accuracy(scores, labels, top=top)

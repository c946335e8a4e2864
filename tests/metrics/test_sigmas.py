"""Sigmas of one's own skeleton."""

import logging

import numpy as np
import pytest

from fleetpose.errors import DatasetError, ShapeError
from fleetpose.metrics.sigmas import guess_sigmas, sigmas_from_repeated_labels


def labelled_twice(rng, sigmas, *, count=4000):
    """People of many sizes whose two labels both stray from the truth, as far as area and sigma allow."""
    areas = rng.uniform(1e3, 1e5, count)
    truth = rng.uniform(0, 500, (count, len(sigmas), 2))
    # Sigma is the root of the mean squared distance, so each of the two directions has half its square.
    spread = np.sqrt(areas)[:, None, None] * np.array(sigmas)[:, None] / np.sqrt(2)
    return *(
        np.concatenate([truth + rng.normal(size=truth.shape) * spread, np.full((*truth.shape[:2], 1), 2)], -1)
        for _ in range(2)
    ), areas


def test_the_spread_of_repeated_labels_is_found_again():
    first, second, areas = labelled_twice(np.random.default_rng(0), [0.03, 0.08, 0.15])

    assert sigmas_from_repeated_labels(first, second, areas) == pytest.approx([0.03, 0.08, 0.15], rel=0.05)


def test_only_keypoints_that_both_labelled_count():
    first, second, areas = labelled_twice(np.random.default_rng(1), [0.05], count=2000)
    second[::2, 0] = 0

    assert sigmas_from_repeated_labels(first, second, areas) == pytest.approx([0.05], rel=0.1)


def test_copied_labels_do_not_make_a_sigma_of_zero():
    first, _, areas = labelled_twice(np.random.default_rng(2), [0.05], count=20)

    assert sigmas_from_repeated_labels(first, first, areas) == (0.025,)


def test_too_few_repeats_are_refused():
    first, second, areas = labelled_twice(np.random.default_rng(3), [0.05, 0.05], count=20)
    second[5:, 1, 2] = 0

    with pytest.raises(
        DatasetError, match="keypoint 1 was labelled twice on 5 people only, expected at least 10"
    ):
        sigmas_from_repeated_labels(first, second, areas)


def test_labels_of_different_people_are_refused():
    with pytest.raises(ShapeError, match="twice"):
        sigmas_from_repeated_labels(np.zeros((2, 3, 3)), np.zeros((1, 3, 3)), np.ones(2))


def test_guessed_sigmas_go_by_name_and_are_told(caplog):
    with caplog.at_level(logging.WARNING):
        sigmas = guess_sigmas(["left_ankle", "tail"])

    assert sigmas == (0.089, 0.079)
    assert "0.079 for tail" in caplog.text
    assert "not with published figures" in caplog.text

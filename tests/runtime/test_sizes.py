"""A picture in several sizes: everybody once, whatever size shows them best."""

import numpy as np
import pytest

from fleetpose.errors import ConfigError
from fleetpose.runtime.predictor import load
from fleetpose.runtime.sizes import surest


def test_people_found_in_several_sizes_are_told_once(dots_model, draw_dots, stick_person):
    people = [stick_person, stick_person + np.array([256, 20])]
    image = draw_dots(people, (256, 400))

    once = load(dots_model, short_side=256, threads=1)(image)
    twice = load(dots_model, short_side=(128, 256), threads=1)(image)

    assert len(once) == len(twice) == 2
    found = twice.keypoints[np.argsort(twice.keypoints[:, :, 0].mean(axis=1))]
    np.testing.assert_allclose(found[..., :2], people, atol=2)
    assert twice.scores.tolist() == sorted(twice.scores.tolist(), reverse=True)


def test_a_person_whom_only_one_size_shows_is_found(dots_model, draw_dots, stick_person):
    large = (stick_person + 0.5) * 4 - 0.5
    small = stick_person + np.array([750, 0])
    image = draw_dots([large], (960, 960), radius=24)
    image = np.maximum(image, draw_dots([small], (960, 960)))

    by_size = {side: load(dots_model, short_side=side, threads=1)(image) for side in (240, 960)}
    both = load(dots_model, short_side=(240, 960), threads=1)(image)

    def near(result, person):
        return bool((np.abs(result.keypoints[:, 0, :2] - person[0]).max(axis=1) < 10).any())

    assert [near(by_size[240], person) for person in (large, small)] == [True, False]
    assert near(by_size[960], small)
    assert near(both, large)
    assert near(both, small)


def test_of_two_boxes_the_surer_person_stays_and_strangers_stay_both():
    boxes = np.array(
        [[0, 0, 10, 20], [0, 0, 10, 19], [2, 0, 12, 20], [50, 0, 60, 20]], float
    )  # IoU 0.95, 0.65
    scores = np.array([0.5, 0.9, 0.4, 0.2])

    kept = surest(boxes, scores, overlap=0.7)

    assert kept.tolist() == [1, 2, 3]
    assert surest(boxes, scores, overlap=0.6).tolist() == [1, 3]
    assert surest(boxes[:0], scores[:0], overlap=0.6).tolist() == []


def test_no_size_at_all_is_refused(dots_model):
    with pytest.raises(ConfigError, match="short_side must be a number of pixels, or several, got none"):
        load(dots_model, short_side=(), threads=1)

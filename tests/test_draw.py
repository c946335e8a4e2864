from dataclasses import replace

import numpy as np
import pytest

from fleetpose.draw import (
    LEFT_COLOR,
    MIDDLE_COLOR,
    RIGHT_COLOR,
    DrawSettings,
    draw_people,
    line_width,
    person_color,
    side_color,
)
from fleetpose.results import PoseResult
from fleetpose.skeletons import Skeleton

SKELETON = Skeleton(
    name="stick",
    keypoints=("head", "left_hand", "right_hand"),
    limbs=(("head", "left_hand"), ("head", "right_hand")),
    flip_pairs=(("left_hand", "right_hand"),),
    sigmas=(0.1, 0.1, 0.1),
)
SIZE = (200, 300)


def _result(*people, **fields):
    """People as [(x, y, score) of head, left hand, right hand]."""
    keypoints = np.array(people, np.float32).reshape(-1, 3, 3)
    boxes = np.tile(np.array([50, 60, 250, 150], np.float32), (len(keypoints), 1))
    scores = np.ones(len(keypoints), np.float32)
    return PoseResult(
        keypoints=keypoints, boxes=boxes, scores=scores, image_size=SIZE, skeleton=SKELETON, **fields
    )


def _like(color):
    """Lines one pixel wide are mixed with the ground a little."""
    return pytest.approx(color, abs=40)


PERSON = [(150, 60, 0.9), (60, 140, 0.9), (240, 140, 0.9)]


@pytest.fixture
def image():
    return np.full((*SIZE, 3), 20, np.uint8)


def test_limbs_are_coloured_by_side_of_the_body(image):
    drawn = draw_people(image, _result(PERSON))

    assert tuple(drawn[100, 105]) == _like(LEFT_COLOR)
    assert tuple(drawn[100, 195]) == _like(RIGHT_COLOR)
    assert tuple(drawn[20, 20]) == (20, 20, 20)


def test_keypoints_are_coloured_by_person(image):
    second = [(x, y + 45, score) for x, y, score in PERSON]

    drawn = draw_people(image, _result(PERSON, second))

    assert tuple(drawn[60, 150]) == person_color(0)
    assert tuple(drawn[105, 150]) == person_color(1)
    assert person_color(0) != person_color(1)


def test_the_picture_itself_stays_as_it_was(image):
    draw_people(image, _result(PERSON))

    assert (image == 20).all()


def test_a_keypoint_below_the_threshold_is_left_out_with_its_limbs(image):
    unsure = [PERSON[0], (60, 140, 0.3), PERSON[2]]

    drawn = draw_people(image, _result(unsure), DrawSettings(threshold=0.5))

    assert tuple(drawn[140, 60]) == (20, 20, 20)
    assert tuple(drawn[100, 105]) == (20, 20, 20)
    assert tuple(drawn[100, 195]) == _like(RIGHT_COLOR)


def test_a_keypoint_that_was_not_found_is_never_drawn(image):
    drawn = draw_people(image, _result([(0, 0, 0.0)] * 3), DrawSettings(threshold=-1.0))

    assert (drawn == 20).all()


def test_keypoints_outside_the_picture_do_no_harm(image):
    drawn = draw_people(image, _result([(-500, -500, 0.9), (60, 140, 0.9), (5000, 140, 0.9)]))

    assert tuple(drawn[140, 60]) == person_color(0)


def test_lines_grow_with_the_picture():
    large = np.zeros((1000, 1500, 3), np.uint8)
    person = [(x * 5, y * 5, score) for x, y, score in PERSON]

    drawn = draw_people(large, replace(_result(person), image_size=(1000, 1500)))

    column = (drawn[:, 525] == LEFT_COLOR).all(axis=1).sum()
    assert line_width((1000, 1500)) == 5
    assert 5 <= column <= 9


def test_boxes_are_drawn_on_demand(image):
    without = draw_people(image, _result(PERSON))
    drawn = draw_people(image, _result(PERSON), DrawSettings(has_boxes=True))

    assert tuple(without[60, 80]) == (20, 20, 20)
    for y, x in ((60, 80), (150, 80), (100, 50), (100, 250)):
        assert tuple(drawn[y, x]) == _like(person_color(0))


def test_a_tracked_person_keeps_id_and_colour(image):
    ids = np.array([7])

    drawn = draw_people(image, _result(PERSON, track_ids=ids))
    bare = draw_people(image, _result(PERSON, track_ids=ids), DrawSettings(has_ids=False))

    assert tuple(drawn[60, 150]) == person_color(7)
    assert (drawn[50:60, 50:60] == person_color(7)).all(axis=2).any(), "the plate"
    assert (bare[50:60, 50:60] == 20).all()


def test_masks_tint_and_leave_the_rest(image):
    masks = np.zeros((1, *SIZE), bool)
    masks[0, 160:, :100] = True

    drawn = draw_people(image, _result(PERSON, masks=masks))

    expected = np.rint(0.6 * 20 + 0.4 * np.array(person_color(0)))
    np.testing.assert_array_equal(drawn[180, 50], expected)
    assert tuple(drawn[180, 150]) == (20, 20, 20)


@pytest.mark.parametrize(
    ("limb", "color"),
    [
        (("left_hip", "left_knee"), LEFT_COLOR),
        (("neck", "right_shoulder"), RIGHT_COLOR),
        (("left_hip", "right_hip"), MIDDLE_COLOR),
        (("head", "neck"), MIDDLE_COLOR),
        (("hip_l", "knee_l"), LEFT_COLOR),
        (("neck", "RShoulder"), RIGHT_COLOR),
    ],
)
def test_a_limb_belongs_to_the_side_that_its_names_tell(limb, color):
    assert side_color(*limb) == color


def test_a_picture_without_people_comes_back_alike(image):
    np.testing.assert_array_equal(draw_people(image, _result()), image)


def test_a_picture_of_one_pixel_can_be_drawn_on():
    result = replace(_result(PERSON), image_size=(1, 1))

    assert draw_people(np.zeros((1, 1, 3), np.uint8), result).shape == (1, 1, 3)

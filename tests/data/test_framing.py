"""Boxes of people whose pictures were cut out around them."""

import numpy as np
import pytest

from fleetpose.data.framing import single_person_boxes

GIVEN = [0.0, 0.0, 200.0, 100.0]


@pytest.mark.parametrize(
    ("labelled", "expected"),
    [
        (0, GIVEN),
        (1, GIVEN),
        (2, GIVEN),
        (3, [10 - 6, 20 - 6, 60 + 6, 40 + 6]),  # 0.12 of the 50 pixels between them on all sides
    ],
)
def test_a_box_around_too_few_keypoints_is_the_given_one(labelled, expected):
    keypoints = np.array([[[10, 20, 2], [60, 30, 1], [30, 40, 2]]], np.float32)
    keypoints[:, labelled:] = 0

    boxes = single_person_boxes(keypoints, np.array([GIVEN], np.float32))

    np.testing.assert_allclose(boxes, [expected])


def test_each_person_has_a_box_of_its_own():
    three = [[10, 20, 2], [60, 30, 1], [30, 40, 2]]
    keypoints = np.array([three, np.zeros((3, 3))], np.float32)

    boxes = single_person_boxes(keypoints, np.array([GIVEN, [1, 2, 3, 4]], np.float32))

    np.testing.assert_allclose(boxes, [[4, 14, 66, 46], [1, 2, 3, 4]])

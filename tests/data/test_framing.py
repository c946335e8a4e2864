"""Boxes of people whose pictures were cut out around them."""

import json

import numpy as np
import pytest

from fleetpose.data.framing import single_person_boxes
from fleetpose.data.scenes import Source, read_source
from fleetpose.geometry import boxes_from_coco
from fleetpose.skeletons import Skeleton

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


def test_single_people_whose_only_wanted_keypoint_would_be_their_box_train_on_the_labelled_one(tmp_path):
    person = {"id": 1, "image_id": 1, "bbox": [10, 20, 30, 40], "keypoints": [15, 25, 2, 30, 50, 2]}
    data = {
        "images": [{"id": 1, "file_name": "1.png", "height": 100, "width": 100}],
        "annotations": [person],
        "categories": [{"id": 1, "keypoints": ["nose", "left_hip"]}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(data))
    source = Source(images=tmp_path, annotations=tmp_path / "labels.json", is_single_person=True)
    nose = Skeleton(name="one", keypoints=("nose",), limbs=(), flip_pairs=(), sigmas=(0.05,))

    (picture,) = read_source(source, nose)

    np.testing.assert_allclose(picture.boxes, boxes_from_coco(np.array([person["bbox"]], float)))

import dataclasses
import json
import sys

import numpy as np
import pytest

from fleetpose.errors import MissingExtraError, ShapeError, UnknownNameError
from fleetpose.results import TABLE_COLUMNS, PoseResult
from fleetpose.skeletons import COCO, Skeleton

PAIR = Skeleton(
    name="pair",
    keypoints=("left_hand", "right_hand"),
    limbs=(("left_hand", "right_hand"),),
    flip_pairs=(("left_hand", "right_hand"),),
    sigmas=(0.1, 0.1),
)
KEYPOINTS = np.array(
    [[[1.25, 2, 0.5], [0, 0, 0]], [[3, 4, 0.75], [5, 6, 1]], [[7, 8, 0.25], [0, 0, 0]]], np.float32
)
BOXES = np.array([[0.5, 1.5, 1.5, 2.5], [2.5, 3.5, 5.5, 7.5], [6, 7, 9, 9.5]], np.float32)
SCORES = np.array([0.25, 0.875, 0.125], np.float32)


def _result(**changes):
    parts = {
        "keypoints": KEYPOINTS,
        "boxes": BOXES,
        "scores": SCORES,
        "image_size": (10, 12),
        "skeleton": PAIR,
        "track_ids": np.array([7, 8, 9]),
        "masks": np.arange(3)[:, None, None] == np.ones((3, 10, 12)),
        "frame_index": 5,
        "timestamp_s": 0.2,
        "source": "clip.mp4",
    }
    return PoseResult(**{**parts, **changes})


def test_its_length_is_the_number_of_people():
    assert len(_result()) == 3


def test_a_picture_without_people_is_a_result_too():
    empty = PoseResult.empty((480, 640), COCO)

    assert len(empty) == 0
    assert empty.keypoints.shape == (0, 17, 3)
    assert empty.to_coco() == []
    assert empty.to_openpose()["people"] == []
    assert list(empty.rows()) == []
    assert len(empty.select(np.zeros(0, bool))) == 0


def test_a_keypoint_is_found_by_name_for_all_people():
    np.testing.assert_array_equal(_result()["right_hand"], [[0, 0, 0], [5, 6, 1], [0, 0, 0]])


@pytest.mark.parametrize("name", ["left_hnd", 0])
def test_a_name_that_is_no_keypoint_is_refused(name):
    with pytest.raises(UnknownNameError, match=f"unknown keypoint of skeleton pair {name!r}"):
        _result()[name]


@pytest.mark.parametrize("people", [np.array([False, True, True]), np.array([1, 2])])
def test_selected_people_keep_all_that_is_theirs(people):
    kept = _result().select(people)

    np.testing.assert_array_equal(kept.keypoints, KEYPOINTS[1:])
    np.testing.assert_array_equal(kept.boxes, BOXES[1:])
    np.testing.assert_array_equal(kept.scores, SCORES[1:])
    np.testing.assert_array_equal(kept.track_ids, [8, 9])
    np.testing.assert_array_equal(kept.masks.any(axis=(1, 2)), [True, False])
    assert (kept.frame_index, kept.timestamp_s, kept.source) == (5, 0.2, "clip.mp4")


def test_people_without_ids_and_masks_can_be_selected_too():
    kept = _result(track_ids=None, masks=None).select(np.array([2]))

    assert kept.track_ids is None
    assert kept.masks is None
    np.testing.assert_array_equal(kept.boxes, BOXES[2:])


def test_a_result_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        _result().scores = SCORES


def _with(array, place, value):
    changed = array.copy()
    changed[place] = value
    return changed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": None}, "scores must be an array of floating, but got NoneType"),
        ({"scores": [0.1, 0.2, 0.3]}, "scores must be an array of floating, but got list"),
        ({"scores": np.array([1, 0, 1])}, "scores must be an array of floating, but got int64"),
        ({"scores": np.array(0.5)}, r"scores must be of shape \[N\], but got \[\]"),
        ({"scores": SCORES[:2]}, r"keypoints must be of shape \[2, 2, 3\], but got \[3, 2, 3\]"),
        ({"skeleton": COCO}, r"keypoints must be of shape \[3, 17, 3\], but got \[3, 2, 3\]"),
        ({"boxes": BOXES[:, :3]}, r"boxes must be of shape \[3, 4\], but got \[3, 3\]"),
        ({"track_ids": np.array([1.0, 2.0, 3.0])}, "track_ids must be an array of integer, but got float64"),
        ({"track_ids": np.array([1, 2])}, r"track_ids must be of shape \[3\], but got \[2\]"),
        (
            {"masks": np.ones((3, 12, 10), bool)},
            r"masks must be of shape \[3, 10, 12\], but got \[3, 12, 10\]",
        ),
        ({"masks": np.ones((3, 10, 12))}, "masks must be an array of bool, but got float64"),
        ({"keypoints": _with(KEYPOINTS, (1, 0, 0), np.nan)}, "keypoints must be finite numbers"),
        ({"boxes": _with(BOXES, (0, 2), np.inf)}, "boxes must be finite numbers"),
        ({"scores": _with(SCORES, 0, np.nan)}, "scores must be finite numbers"),
        ({"scores": _with(SCORES, 1, 1.5)}, "scores must be from 0 to 1, but got 0.125 to 1.5"),
        ({"keypoints": _with(KEYPOINTS, (0, 1, 2), -0.5)}, "scores of keypoints must be from 0 to 1"),
        ({"boxes": _with(BOXES, (2, 0), 9.5)}, "boxes must be .* with x1 <= x2 and y1 <= y2"),
        ({"boxes": _with(BOXES, (2, 3), 6.5)}, "boxes must be .* with x1 <= x2 and y1 <= y2"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ShapeError, match=message):
        _result(**changes)


def test_coco_rows_hold_what_its_evaluation_reads():
    rows = _result().to_coco(42)

    assert rows[1] == {
        "image_id": 42,
        "category_id": 1,
        "keypoints": [3.0, 4.0, 0.75, 5.0, 6.0, 1.0],
        "score": 0.875,
        "bbox": [3.0, 4.0, 3.0, 4.0],
        "area": 12.0,
        "track_id": 8,
    }
    assert [row["keypoints"][0] for row in rows] == [1.25, 3.0, 7.0]


def test_coco_boxes_start_at_the_first_pixels_corner():
    whole = _result(boxes=np.tile(np.array([-0.5, -0.5, 11.5, 9.5], np.float32), (3, 1)))

    row = whole.to_coco()[0]

    assert row["bbox"] == [0.0, 0.0, 12.0, 10.0]
    assert row["area"] == 120.0


def test_without_tracking_there_are_no_track_ids_anywhere():
    result = _result(track_ids=None)

    assert "track_id" not in result.to_coco()[0]
    assert {row["track_id"] for row in result.rows()} == {""}
    assert [person["person_id"] for person in result.to_openpose()["people"]] == [[-1]] * 3


def test_openpose_lists_each_person_in_the_skeletons_order():
    people = _result().to_openpose()["people"]

    assert people[1] == {"person_id": [8], "pose_keypoints_2d": [3.0, 4.0, 0.75, 5.0, 6.0, 1.0]}


@pytest.mark.parametrize("export", [PoseResult.to_coco, PoseResult.to_openpose, lambda one: list(one.rows())])
def test_exports_are_plain_data(export):
    exported = export(_result())

    assert json.loads(json.dumps(exported)) == exported


def test_table_rows_are_the_found_keypoints_of_each_person():
    rows = list(_result().rows())

    assert [(row["person"], row["keypoint"]) for row in rows] == [
        (0, "left_hand"),
        (1, "left_hand"),
        (1, "right_hand"),
        (2, "left_hand"),
    ]
    assert rows[0] == {
        "source": "clip.mp4",
        "frame": 5,
        "time_s": 0.2,
        "person": 0,
        "track_id": 7,
        "person_score": 0.25,
        "keypoint": "left_hand",
        "x": 1.25,
        "y": 2.0,
        "score": 0.5,
    }


def test_table_columns_are_those_of_the_rows():
    assert tuple(next(_result().rows())) == TABLE_COLUMNS


def test_a_picture_without_a_name_has_an_empty_one_in_the_table():
    assert next(_result(source=None).rows())["source"] == ""


@pytest.mark.filterwarnings("default")  # the package warns of its own future on import
def test_supervision_gets_points_and_their_scores():
    pytest.importorskip("supervision")

    points = _result().to_supervision()

    np.testing.assert_array_equal(points.xy, KEYPOINTS[..., :2])
    np.testing.assert_array_equal(points.keypoint_confidence, KEYPOINTS[..., 2])


@pytest.mark.filterwarnings("default")
def test_supervision_gets_an_empty_set_for_a_picture_without_people():
    pytest.importorskip("supervision")

    assert len(PoseResult.empty((4, 4), COCO).to_supervision()) == 0


def test_without_supervision_the_pip_line_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'fleetpose\[supervision\]'"):
        _result().to_supervision()

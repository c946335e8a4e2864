"""Annotation files of other data sets: small ones are written by hand, and what must be read is known."""

import json

import numpy as np
import pytest
from scipy.io import savemat

from fleetpose.data.annotations import read_coco
from fleetpose.data.crowdpose import crowd_indices
from fleetpose.data.layouts import load_annotations
from fleetpose.data.matching import match_keypoints
from fleetpose.data.ochuman import KEYPOINTS as OCHUMAN_KEYPOINTS
from fleetpose.errors import DatasetError, MissingExtraError
from fleetpose.skeletons import COCO, CROWDPOSE, LSP, MPII, Skeleton


def _point(number, x, y, is_visible):
    return {"x": float(x), "y": float(y), "id": float(number), "is_visible": is_visible}


@pytest.fixture
def mpii_mat(tmp_path, matlab_cells):
    """Official layout: pictures of two people for training, of one for testing, and of nobody."""
    points = matlab_cells([_point(9, 11, 21, np.array([])), _point(0, 31, 91, "1"), _point(5, 41, 92, "0")])
    labelled = {
        "x1": 5.0,
        "y1": 15.0,
        "x2": 17.0,
        "y2": 31.0,
        "scale": 0.5,
        "objpos": {"x": 30.0, "y": 50.0},
        "annopoints": {"point": points},
    }
    unlabelled = {
        **dict.fromkeys(("x1", "y1", "x2", "y2"), np.array([])),
        "scale": 0.25,
        "objpos": {"x": 100.5, "y": 60.5},
        "annopoints": np.array([]),
    }
    annolist = matlab_cells(
        [
            {"image": {"name": "train.jpg"}, "annorect": matlab_cells([labelled, unlabelled])},
            {"image": {"name": "test.jpg"}, "annorect": {"scale": 1.0, "objpos": {"x": 1.0, "y": 1.0}}},
            {"image": {"name": "empty.jpg"}, "annorect": np.array([])},
        ]
    )
    path = tmp_path / "mpii.mat"
    savemat(path, {"RELEASE": {"annolist": annolist, "img_train": np.array([1, 0, 1])}})
    return path


def test_mpiis_matlab_file_gives_its_training_people_in_pixels_from_zero(mpii_mat, tmp_path):
    (picture,) = read_coco(mpii_mat, tmp_path, skeleton=MPII)

    assert picture.path == tmp_path / "train.jpg"
    assert picture.image_id == 1
    assert picture.keypoints.shape == (1, 16, 3)
    for name, expected in (
        ("head_top", (10, 20, 2)),  # without a mark: in view
        ("right_ankle", (30, 90, 2)),
        ("left_ankle", (40, 91, 1)),
    ):
        np.testing.assert_array_equal(picture.keypoints[0, MPII.index(name)], expected)
    assert (picture.keypoints[0, :, 2] > 0).sum() == 3


def test_a_person_of_mpii_without_keypoints_is_a_region_to_ignore(mpii_mat, tmp_path):
    (picture,) = read_coco(mpii_mat, tmp_path, skeleton=MPII)

    # 0.25 * 200 pixels wide around (100.5, 60.5), counted from 1, as edges from the first pixel's corner.
    assert picture.ignored == ([[75, 35, 125, 35, 125, 85, 75, 85]],)


def test_mpiis_head_box_is_kept_for_pckh(mpii_mat):
    first, second = load_annotations(mpii_mat)["annotations"]

    assert first["head_box"] == [4, 14, 12, 16]
    assert "head_box" not in second


def test_mpiis_test_pictures_are_not_taken_for_training(mpii_mat):
    assert [record["file_name"] for record in load_annotations(mpii_mat)["images"]] == ["train.jpg"]
    assert load_annotations(mpii_mat, split="test")["images"] == []


def _mpii_entry(**values):
    joints = [[-1.0, -1.0]] * 16
    visible = [0] * 16
    joints[9], visible[9] = [11.0, 21.0], 1
    return {
        "image": "a.jpg",
        "joints": joints,
        "joints_vis": visible,
        "center": [30, 50],
        "scale": 0.5,
        **values,
    }


def test_mpiis_json_groups_people_by_picture(tmp_path):
    path = tmp_path / "mpii_train.json"
    entries = [_mpii_entry(), _mpii_entry(image="b.jpg"), _mpii_entry(joints_vis=[0] * 16)]
    path.write_text(json.dumps(entries))

    first, second = read_coco(path, tmp_path, skeleton=MPII)

    assert (first.path.name, second.path.name) == ("a.jpg", "b.jpg")
    assert (len(first.keypoints), len(second.keypoints)) == (1, 1)
    np.testing.assert_array_equal(first.keypoints[0, 9], [10, 20, 2])
    assert (first.keypoints[0, :, 2] > 0).sum() == 1
    assert len(first.ignored) == 1


def test_mpiis_other_json_marks_hidden_keypoints_and_validation_people(tmp_path):
    points = [[0, 0, 0]] * 16
    points[0], points[1] = [31, 91, 1], [33, 71, 0]
    entry = {"img_paths": "a.jpg", "joint_self": points, "objpos": [30, 50], "scale_provided": 0.5}
    path = tmp_path / "mpii_annotations.json"
    path.write_text(
        json.dumps(
            [{**entry, "isValidation": 0.0}, {**entry, "isValidation": 1.0, "img_paths": "validation.jpg"}]
        )
    )

    (picture,) = read_coco(path, tmp_path, skeleton=MPII)

    assert picture.path.name == "a.jpg"
    np.testing.assert_array_equal(picture.keypoints[0, :3], [[30, 90, 2], [32, 70, 1], [0, 0, 0]])
    (validation,) = read_coco(path, tmp_path, skeleton=MPII, split="test")
    assert validation.path.name == "validation.jpg"


def _lsp(count):
    """`[count, 14, 3]`: keypoint k of person n at (10 n + k + 1, k + 2), and 1 for keypoint 3, else 0."""
    points = np.zeros((count, 14, 3))
    points[..., 0] = 10 * np.arange(count)[:, None] + np.arange(14) + 1
    points[..., 1] = np.arange(14) + 2
    points[:, 3, 2] = 1
    return points


def test_leeds_sports_pose_is_read_by_halves_with_hidden_keypoints(tmp_path):
    path = tmp_path / "joints.mat"
    savemat(path, {"joints": _lsp(4).transpose(2, 1, 0)})

    train = read_coco(path, tmp_path / "images", skeleton=LSP)
    test = read_coco(path, tmp_path / "images", skeleton=LSP, split="test")

    assert [picture.path.name for picture in train] == ["im0001.jpg", "im0002.jpg"]
    assert [picture.image_id for picture in test] == [3, 4]
    np.testing.assert_array_equal(train[1].keypoints[0, 2:5], [[12, 3, 2], [13, 4, 1], [14, 5, 2]])


def test_extended_leeds_sports_pose_marks_what_is_labelled(tmp_path):
    path = tmp_path / "joints.mat"
    savemat(path, {"joints": _lsp(2).transpose(1, 2, 0)})

    first, second = read_coco(path, tmp_path, skeleton=LSP, is_zero_unknown=True)

    assert second.path.name == "im00002.jpg"
    np.testing.assert_array_equal(first.keypoints[0, 2:5], [[0, 0, 0], [3, 4, 2], [0, 0, 0]])
    assert first.is_known[0].tolist() == [k == 3 for k in range(14)]
    with pytest.raises(DatasetError, match="no test pictures"):
        load_annotations(path, split="test")


def test_leeds_sports_pose_gives_the_limbs_of_coco_and_leaves_the_face_unknown(tmp_path):
    path = tmp_path / "joints.mat"
    savemat(path, {"joints": _lsp(2).transpose(2, 1, 0)})

    (picture,) = read_coco(path, tmp_path, skeleton=COCO)

    np.testing.assert_array_equal(picture.keypoints[0, COCO.index("right_ankle")], [0, 1, 2])
    np.testing.assert_array_equal(picture.keypoints[0, COCO.index("left_wrist")], [11, 12, 2])
    assert picture.is_known[0].tolist() == [False] * 5 + [True] * 12


def test_crowdpose_keeps_its_crowd_index(tmp_path):
    points = [0] * 42
    points[:3], points[36:39] = [1, 2, 2], [8, 9, 1]
    path = tmp_path / "crowdpose.json"
    path.write_text(
        json.dumps(
            {
                "images": [
                    {"id": 100, "file_name": "a.jpg", "height": 9, "width": 9, "crowdIndex": 0.5},
                    {"id": 101, "file_name": "b.jpg", "height": 9, "width": 9},
                ],
                "annotations": [
                    {"id": 1, "image_id": 100, "category_id": 1, "keypoints": points, "bbox": [0, 0, 9, 9]}
                ],
                "categories": [{"id": 1, "name": "person", "keypoints": list(CROWDPOSE.keypoints)}],
            }
        )
    )

    indexed, plain = read_coco(path, tmp_path, skeleton=CROWDPOSE)

    assert (indexed.crowd_index, plain.crowd_index) == (0.5, None)
    np.testing.assert_array_equal(indexed.keypoints[0, [0, 12]], [[1, 2, 2], [8, 9, 1]])
    assert crowd_indices(load_annotations(path)) == {100: 0.5}


def _ochuman_person(**values):
    points = [0] * 57
    points[:12] = [10, 20, 1, 11, 21, 2, 12, 22, 3, 13, 23, 0]
    return {
        "bbox": [5, 6, 15, 26],
        "keypoints": points,
        "segms": {"outer": [[5, 6, 15, 6, 15, 26]], "inner": []},
        **values,
    }


def test_ochuman_is_read_with_corners_marks_and_outlines(tmp_path):
    path = tmp_path / "ochuman.json"
    people = [_ochuman_person(), _ochuman_person(keypoints=None), _ochuman_person(keypoints=None, segms=None)]
    picture = {"file_name": "a.jpg", "image_id": "x1", "width": 30, "height": 40, "annotations": people}
    path.write_text(json.dumps({"images": [picture], "keypoint_names": list(OCHUMAN_KEYPOINTS)}))

    (read,) = read_coco(path, tmp_path, skeleton=COCO, has_outlines=True)

    np.testing.assert_array_equal(read.boxes, [[4.5, 5.5, 14.5, 25.5]])
    for name, expected in (
        ("right_shoulder", (10, 20, 2)),
        ("right_elbow", (11, 21, 1)),
        ("right_wrist", (12, 22, 1)),
        ("left_shoulder", (0, 0, 0)),
    ):
        np.testing.assert_array_equal(read.keypoints[0, COCO.index(name)], expected)
    assert read.outlines == ([[5, 6, 15, 6, 15, 26]],)
    assert read.ignored == ([[5, 6, 15, 6, 15, 26]], [[5, 6, 15, 6, 15, 26, 5, 26]])


def test_outlines_are_kept_only_where_asked_for(write_coco, arrow):
    outline = [[1, 1, 5, 1, 5, 5]]
    person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "segmentation": outline}
    files = write_coco(
        [np.zeros((9, 9, 3), np.uint8)], [{**person, "keypoints": [1, 1, 2, 3, 3, 2, 4, 4, 2]}]
    )

    assert read_coco(*files, skeleton=arrow)[0].outlines == ()
    assert read_coco(*files, skeleton=arrow, has_outlines=True)[0].outlines == (outline,)


def test_between_built_in_skeletons_the_place_on_the_body_counts_not_the_name():
    def found(given, skeleton, name):
        position = match_keypoints(given.keypoints, skeleton)[skeleton.index(name)]
        return given.keypoints[position] if position >= 0 else None

    assert found(MPII, LSP, "neck") == "thorax"
    assert found(MPII, CROWDPOSE, "neck") == "thorax"
    assert found(MPII, CROWDPOSE, "head") == "head_top"
    assert found(LSP, MPII, "thorax") == "neck"
    assert found(LSP, MPII, "neck") is None
    assert found(MPII, MPII, "neck") == "neck"
    assert found(COCO, MPII, "left_knee") == "left_knee"
    assert found(COCO, MPII, "pelvis") is None


def test_a_users_own_names_mean_what_they_say():
    bee = Skeleton.from_dict({"keypoints": ["head", "neck", "thorax"], "sigmas": [0.1] * 3})

    assert match_keypoints(MPII.keypoints, bee).tolist() == [-1, 8, 7]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"other": np.zeros(3)}, "RELEASE .* got other"),
        ({"joints": np.zeros((5, 14, 2))}, r"joints must be .* got \[5, 14, 2\]"),
        ({"RELEASE": {"annolist": 1}}, "is no MPII release"),
    ],
)
def test_a_matlab_file_of_something_else_is_refused(tmp_path, content, message):
    path = tmp_path / "other.mat"
    savemat(path, content)

    with pytest.raises(DatasetError, match=message):
        load_annotations(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no matlab file at all" * 20,
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400),  # HDF5, which scipy does not read
    ],
    ids=["empty", "text", "version 7.3"],
)
def test_a_broken_or_absent_matlab_file_is_refused(tmp_path, content):
    path = tmp_path / "broken.mat"
    path.write_bytes(content)

    with pytest.raises(DatasetError, match=r"broken\.mat is no Matlab file"):
        load_annotations(path)
    with pytest.raises(DatasetError, match="no such file"):
        load_annotations(tmp_path / "absent.mat")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"image": "a.jpg"}], "is no MPII file"),
        ({"images": [{"file_name": "a.jpg", "annotations": [{}]}]}, "is no OCHuman file"),
        (
            {"images": [{"file_name": "a.jpg", "annotations": [_ochuman_person(keypoints=[1, 2, 1])]}]},
            "3 numbers instead of 57",
        ),
    ],
)
def test_json_that_breaks_its_layout_is_refused(tmp_path, content, message):
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(content))

    with pytest.raises(DatasetError, match=message):
        load_annotations(path)


def test_a_matlab_file_without_scipy_names_the_line_to_run(tmp_path, monkeypatch):
    path = tmp_path / "joints.mat"
    savemat(path, {"joints": np.zeros((3, 14, 2))})
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'fleetpose\[train\]'"):
        load_annotations(path)

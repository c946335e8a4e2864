"""People in view whom nobody labelled: who is added, who is ignored, and who is left alone."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from fleetpose.errors import ConfigError, DatasetError
from fleetpose.recipes.bystanders import add_bystanders, confirmed
from fleetpose.recipes.voting import Teacher

NAMES = ("nose", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle")
#: Of a person in the box (100, 20) to (140, 120), as both teachers see it.
SEEN = {
    "nose": (120, 25),
    "left_hip": (110, 70),
    "right_hip": (130, 70),
    "left_knee": (110, 95),
    "right_knee": (130, 95),
    "left_ankle": (110, 118),
}
STRANGER = {"image_id": 1, "bbox": [100, 20, 40, 100], "score": 0.8}


@pytest.fixture
def labelled(tmp_path):
    """Annotation file of a picture with one labelled person on its left."""
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((140, 200, 3), np.uint8))
    points = [[20, 20, 2], [20, 60, 2], [40, 60, 2], [20, 90, 2], [40, 90, 2], [20, 115, 2]]
    content = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "annotations": [{"id": 7, "image_id": 1, "category_id": 3, "keypoints": np.ravel(points).tolist()}],
        "categories": [{"id": 3, "keypoints": list(NAMES)}],
    }
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    return path


def teacher(shift=0.0, *, without=(), score=0.9):
    """Teacher that sees the stranger, `shift` pixels to the right."""
    names = tuple(name for name in NAMES if name not in without)
    rows = [(SEEN[name][0] + shift, SEEN[name][1], score) for name in names]
    return Teacher(names, lambda image, box: np.array(rows, float))  # noqa: ARG005


def test_whom_two_teachers_see_alike_becomes_a_person(labelled):
    teachers = [teacher(), teacher(3, without=("nose",))]

    data, added = add_bystanders(labelled, labelled.parent, [STRANGER], teachers)

    (person,) = added
    assert data["annotations"][-1] == person
    assert (person["id"], person["category_id"], person["iscrowd"]) == (8, 3, 0)
    found = np.array(person["keypoints"]).reshape(-1, 3)
    np.testing.assert_allclose(found, [(*SEEN[name], 1) for name in NAMES])


def test_whom_teachers_see_differently_is_a_region_to_ignore(labelled):
    for doubted in ([teacher(), teacher(30)], [teacher(score=0.1), teacher()]):
        _, (region,) = add_bystanders(labelled, labelled.parent, [STRANGER], doubted)

        assert region["iscrowd"] == 1
        assert region["bbox"] == STRANGER["bbox"]


@pytest.mark.parametrize("change", [{"score": 0.39}, {"bbox": [100, 20, 40, 31]}])
def test_unsure_and_small_boxes_are_ignored(labelled, change):
    _, (region,) = add_bystanders(labelled, labelled.parent, [STRANGER | change], [teacher(), teacher()])

    assert region["iscrowd"] == 1


@pytest.mark.parametrize("box", [[14, 14, 32, 108], [18, 40, 24, 40]])
def test_boxes_of_the_labelled_person_or_of_a_part_add_nobody(labelled, box):
    own = {"image_id": 1, "bbox": box, "score": 0.9}

    data, added = add_bystanders(labelled, labelled.parent, [own], [teacher(), teacher()])

    assert added == []
    assert len(data["annotations"]) == 1


def test_only_confirmed_keypoints_are_kept():
    first = np.array([[0, 0], [10, 0], [20, 0], [np.nan, 0]], float)
    second = np.array([[1, 0], [18, 0], [np.nan, np.nan], [30, 0]], float)

    is_kept, share = confirmed(np.stack([first, second]), reach=5)

    assert is_kept.tolist() == [True, False, True, False]
    assert share == 0.5


def test_one_teacher_and_broken_detections_are_refused(labelled):
    with pytest.raises(ConfigError, match="two or more teachers who agree, got 1"):
        add_bystanders(labelled, labelled.parent, [STRANGER], [teacher()])
    with pytest.raises(DatasetError, match="a detection needs image_id, score and a bbox"):
        add_bystanders(labelled, labelled.parent, [{"image_id": 1}], [teacher(), teacher()])


def test_the_command_says_what_it_added(labelled, capsys):
    pytest.importorskip("onnxruntime")
    from fleetpose.cli import main
    from fleetpose.weights import find_model

    boxes, out = labelled.parent / "boxes.json", labelled.parent / "more.json"
    boxes.write_text(json.dumps([STRANGER | {"score": 0.2}]))
    model = str(find_model("slimdeconv-plain"))

    arguments = ["data", "bystanders", str(labelled), "--boxes", str(boxes), "--out", str(out)]
    code = main([*arguments, "--teacher", model, "--teacher", model])

    assert code == 0
    assert "0 people more, 1 regions to ignore" in capsys.readouterr().out
    assert len(json.loads(out.read_text())["annotations"]) == 2

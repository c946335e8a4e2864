"""Teachers vote on labels: who agrees, who agrees elsewhere, and who says nothing."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from fleetpose.data.annotations import read_coco
from fleetpose.errors import ConfigError
from fleetpose.recipes.voting import Teacher, add_votes, count_votes, open_voter
from fleetpose.skeletons import Skeleton
from fleetpose.weights import find_model

NAMES = ("tip", "left_end", "right_end", "tail")
#: The diagonal of the keypoints is 50 pixels, so that 4.5 pixels are the same place.
LABELS = [[20, 20, 2], [60, 20, 2], [20, 50, 2], [60, 50, 0]]


@pytest.fixture
def labelled(tmp_path):
    """Annotation file of a picture with one labelled person, a crowd and somebody without keypoints."""
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((80, 100, 3), np.uint8))
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": np.ravel(LABELS).tolist()}
    crowd = {**person, "id": 2, "iscrowd": 1}
    nobody = {"id": 3, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
    content = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "annotations": [person, crowd, nobody],
        "categories": [{"id": 1, "keypoints": list(NAMES)}],
    }
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    return path


def teacher(**places):
    """Teacher that sees each named keypoint at (x, y, score)."""
    names = tuple(places)
    return Teacher(names, lambda image, box: np.array([places[name] for name in names], float))  # noqa: ARG005


def test_votes_count_who_agrees_and_mark_where_two_agree_elsewhere(labelled):
    first = teacher(right_end=(80, 70, 0.9), tip=(22, 21, 0.9), left_end=(64, 20, 0.9))
    second = teacher(tip=(20, 24, 0.9), left_end=(65, 20, 0.9), right_end=(82, 72, 0.9))

    judged, crowd, nobody = add_votes(labelled, labelled.parent, [first, second])["annotations"]

    assert judged["votes"] == [2, 1, -1, 0]
    assert judged["agreement"] == pytest.approx(2 / 3, abs=1e-3)
    assert "votes" not in crowd | nobody


def test_a_teacher_that_is_unsure_or_does_not_know_a_keypoint_does_not_vote(labelled):
    unsure = teacher(tip=(20, 20, 0.1), left_end=(60, 20, 0.9))

    judged, *_ = add_votes(labelled, labelled.parent, [unsure])["annotations"]

    assert judged["votes"] == [0, 1, 0, 0]
    assert judged["agreement"] == 0.5  # of the two that it knows


def test_one_teacher_alone_cannot_call_a_label_wrong():
    assert count_votes(np.zeros(2), np.array([[50.0, 50.0]]), reach=5) == 0


def test_whoever_shows_a_single_keypoint_is_not_judged(labelled):
    content = json.loads(labelled.read_text())
    content["annotations"][0]["keypoints"][5::3] = [0, 0, 0]
    labelled.write_text(json.dumps(content))

    alone, *_ = add_votes(labelled, labelled.parent, [teacher(tip=(80, 70, 0.9))])["annotations"]

    assert "votes" not in alone


def test_what_teachers_wrote_is_what_training_leaves_out(labelled):
    both = [teacher(tip=(80, 70, 0.9), left_end=(60, 20, 0.9)) for _ in range(2)]
    labelled.write_text(json.dumps(add_votes(labelled, labelled.parent, both)))
    skeleton = Skeleton.from_dict({"name": "kite", "keypoints": list(NAMES), "sigmas": [0.05] * 4})

    (picture,) = read_coco(labelled, labelled.parent, skeleton=skeleton)

    assert picture.is_known[0].tolist() == [False, True, True, True]


def test_a_top_down_model_of_ours_votes_and_no_other_file_does(tmp_path):
    pytest.importorskip("onnxruntime")

    voter = open_voter(find_model("slimdeconv-plain"))
    found = voter.find(np.zeros((80, 100, 3), np.uint8), np.array([10.0, 10, 60, 70]))

    assert found.shape == (17, 3)
    assert voter.names[0] == "nose"
    with pytest.raises(ConfigError, match="must be a top-down model"):
        open_voter(find_model("litepose-plain"))
    with pytest.raises(ConfigError, match=r"a \.tflite or \.onnx file"):
        open_voter(tmp_path / "a.pt")


def test_the_command_writes_the_votes_beside_the_labels(labelled, capsys):
    pytest.importorskip("onnxruntime")
    from fleetpose.cli import main

    out = labelled.parent / "voted.json"
    category = {"id": 1, "keypoints": ["nose", "left_eye", "right_eye", "left_ear"]}
    labelled.write_text(json.dumps({**json.loads(labelled.read_text()), "categories": [category]}))

    model = str(find_model("slimdeconv-plain"))

    code = main(["data", "vote", str(labelled), "--out", str(out), "--teacher", model])

    assert code == 0
    assert "wrote" in capsys.readouterr().out
    assert len(json.loads(out.read_text())["annotations"][0]["votes"]) == 4

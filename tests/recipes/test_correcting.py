"""Labels are corrected: each decision by hand, who is left out, and what else the file says."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from fleetpose.data.annotations import read_coco
from fleetpose.errors import ConfigError, DatasetError, UnknownNameError
from fleetpose.recipes.correcting import correct_labels
from fleetpose.recipes.voting import Teacher, open_top_down
from fleetpose.skeletons import COCO, Skeleton

NAMES = ("head", "left_hand", "right_hand", "left_foot", "right_foot", "tail")
#: The diagonal of the labelled keypoints is 100 pixels.
LABELS = [[20, 20, 2], [80, 20, 1], [20, 100, 2], [80, 100, 2], [50, 60, 2], [0, 0, 0]]
FOOT = NAMES.index("right_foot")


@pytest.fixture
def write(tmp_path):
    """Function that writes an annotation file of a picture with one person, changed as it is told."""

    def write_file(**changes):
        cv2.imwrite(str(tmp_path / "1.png"), np.zeros((140, 160, 3), np.uint8))
        person = {
            "id": 7,
            "image_id": 1,
            "category_id": 3,
            "bbox": [5, 6, 100, 120],
            "area": 9000,
            "keypoints": np.ravel(LABELS).tolist(),
            "num_keypoints": 5,
            "votes": [1, 1, 1, 1, 0, 0],
            "agreement": 0.8,
        }
        content = {
            "images": [{"id": 1, "file_name": "1.png"}],
            "annotations": [person | changes],
            "categories": [{"id": 3, "keypoints": list(NAMES)}],
        }
        path = tmp_path / "labels.json"
        path.write_text(json.dumps(content))
        return path

    return write_file


def teacher(**places):
    """Teacher that sees each named keypoint at (x, y, score)."""
    names = tuple(places)
    return Teacher(names, lambda image, box: np.array([places[name] for name in names], float))  # noqa: ARG005


def correct(path, model, **settings):
    """Correct a file → its only person, the keypoints `[K, 3]`, and the tally."""
    data, tally = correct_labels(path, path.parent, model, **settings)
    (person,) = data["annotations"]
    return person, np.reshape(person["keypoints"], (-1, 3)).tolist(), tally


@pytest.mark.parametrize(
    ("vote", "away", "score", "outcome"),
    [
        (1, 60, 0.9, "kept"),
        (2, 60, 0.1, "kept"),
        (0, 11.5, 0.9, "kept"),
        (0, 12.5, 0.9, "moved"),
        (0, 12.5, 0.39, "kept"),
        (0, 14.5, 0.39, "kept"),
        (0, 15.5, 0.39, "unknown"),
        (0, 12.5, 0.41, "moved"),
        (0, 60, 0.41, "moved"),
        (-1, 0, 0.36, "moved"),
        (-1, 60, 0.36, "moved"),
        (-1, 0, 0.34, "unknown"),
        (-1, 60, 0.34, "unknown"),
    ],
)
def test_votes_distance_and_score_decide_about_a_label(write, vote, away, score, outcome):
    path = write(votes=[1, 1, 1, 1, vote, 0])

    _, points, tally = correct(path, teacher(right_foot=(50 + away, 60, score)))

    expected = {"kept": [50, 60, 2], "moved": [50 + away, 60, 1], "unknown": [0, 0, 0]}
    assert points == [*LABELS[:FOOT], expected[outcome], LABELS[5]]
    counts = {name: getattr(tally, name) for name in expected}
    assert counts == {"kept": 4, "moved": 0, "unknown": 0} | {outcome: 5 if outcome == "kept" else 1}


def test_labels_that_nobody_voted_on_are_judged_as_those_without_agreement(write):
    path = write(votes=None)

    _, points, _ = correct(path, teacher(head=(20, 30, 0.9), right_foot=(90, 60, 0.9)))

    assert points == [*LABELS[:FOOT], [90, 60, 1], LABELS[5]]


@pytest.mark.parametrize(("vote", "outcome"), [(0, [50, 60, 2]), (-1, [90, 60, 1])])
def test_named_keypoints_are_kept_unless_votes_call_them_wrong(write, vote, outcome):
    path = write(votes=[1, 1, 1, 1, vote, 0])

    _, points, _ = correct(path, teacher(right_foot=(90, 60, 0.9)), keep=["right_foot"])

    assert points[FOOT] == outcome


@pytest.mark.parametrize(("score", "outcome"), [(0.51, [33.33, 44, 1]), (0.49, [0, 0, 0])])
def test_what_nobody_labelled_is_added_where_the_model_is_sure(write, score, outcome):
    person, points, tally = correct(write(), teacher(tail=(33.333, 44, score)))

    assert points == [*LABELS[:5], outcome]
    assert person["num_keypoints"] == 5 + tally.added
    assert tally.added == (score > 0.5)


@pytest.mark.parametrize(("vote", "outcome"), [(0, [50, 60, 2]), (-1, [0, 0, 0])])
def test_a_keypoint_that_the_model_does_not_know_stays_unless_votes_call_it_wrong(write, vote, outcome):
    path = write(votes=[1, 1, 1, 1, vote, 0])

    _, points, _ = correct(path, teacher(head=(20, 20, 0.9)))

    assert points[FOOT] == outcome


def test_what_spoke_of_the_old_labels_goes_and_all_else_stays(write):
    path = write()
    before = json.loads(path.read_text())

    data, _ = correct_labels(path, path.parent, teacher(right_foot=(90, 60, 0.1)))

    (old,), (person,) = before.pop("annotations"), data.pop("annotations")
    assert data == before
    assert old.keys() - person.keys() == {"votes", "agreement"}
    assert {key for key in person if person[key] != old[key]} == {"keypoints", "num_keypoints"}
    assert person["num_keypoints"] == 4


def test_whoever_has_too_few_keypoints_left_becomes_a_region_to_ignore(write):
    path = write(votes=[1, 1, 1, 0, 0, 0])
    unsure = teacher(left_foot=(20, 20, 0.1), right_foot=(90, 60, 0.1))
    skeleton = Skeleton.from_dict({"name": "kite", "keypoints": list(NAMES), "sigmas": [0.05] * 6})

    data, tally = correct_labels(path, path.parent, unsure)

    path.write_text(json.dumps(data))
    (picture,) = read_coco(path, path.parent, skeleton=skeleton)
    assert len(picture.keypoints) == 0
    assert picture.ignored == ([[5, 6, 105, 6, 105, 126, 5, 126]],)
    assert data["annotations"][0]["num_keypoints"] == 0
    assert (tally.left_out, tally.kept, tally.unknown) == (1, 0, 0)


def test_the_region_of_a_person_without_a_box_lies_around_the_labels(write):
    path = write(bbox=None, votes=[-1] * 5 + [0])

    person, _, _ = correct(path, teacher(head=(20, 20, 0.1)))

    # 60 by 80 pixels, and 12 % of the longer side as room; COCO's boxes begin at the corner of a pixel.
    assert person["bbox"] == pytest.approx([10.9, 10.9, 79.2, 99.2])
    assert person["iscrowd"] == 1


def test_people_are_framed_by_their_labelled_keypoints(write):
    asked = []

    def find(image, box):
        asked.append((image.shape, box.tolist()))
        return np.array([[20.0, 20, 0.9]])

    correct(write(), Teacher(("head",), find))

    ((shape, box),) = asked
    assert shape == (140, 160, 3)
    assert box == pytest.approx([10.4, 10.4, 89.6, 109.6], abs=1e-4)


def test_keypoints_in_one_place_are_kept_without_asking(write):
    path = write(keypoints=[50, 60, 2] * 5 + [0, 0, 0], votes=None)

    _, points, tally = correct(path, teacher(head=(90, 60, 0.9), tail=(90, 60, 0.9)))

    assert points == [[50, 60, 2]] * 5 + [[0, 0, 0]]
    assert tally.kept == 5


def test_crowds_and_people_without_keypoints_stay_as_they_are(write):
    for untouched in ({"iscrowd": 1}, {"keypoints": [0] * 18}):
        path = write(**untouched)
        (before,) = json.loads(path.read_text())["annotations"]

        person, _, tally = correct(path, teacher(tail=(30, 30, 0.9)))

        assert person == before
        assert tally.left_out == 0


@pytest.mark.parametrize("change", [{"votes": [1, 2]}, {"votes": ["a"] * 6}, {"keypoints": [1, 2, 2]}])
def test_wrong_counts_are_told_with_file_and_annotation(write, change):
    (key,) = change

    with pytest.raises(DatasetError, match=rf"labels\.json: the {key} of annotation 7 must be \d+ numbers"):
        correct(write(**change), teacher(head=(20, 20, 0.9)))


def test_a_name_to_keep_that_the_file_lacks_is_refused(write):
    with pytest.raises(UnknownNameError, match=r"'lefthand'; did you mean left_hand"):
        correct(write(), teacher(head=(20, 20, 0.9)), keep=["lefthand"])


def test_progress_counts_people(write):
    told = []

    correct(write(), teacher(head=(20, 20, 0.9)), progress=lambda done, total: told.append((done, total)))

    assert told == [(1, 1)]


@pytest.fixture
def dots(tmp_path, draw_dots, stick_person):
    """Annotation file of a drawn person whose nose is labelled on a knee, and an ankle on the nose."""
    pytest.importorskip("onnxruntime")
    cv2.imwrite(str(tmp_path / "dots.png"), draw_dots([stick_person])[..., ::-1])
    points = np.column_stack([stick_person, np.full(17, 2)])
    points[0, :2] = points[COCO.index("left_knee"), :2]
    points[-1, :2] = stick_person[0]
    person = {"id": 1, "image_id": 1, "keypoints": points.ravel().tolist(), "votes": [0, *[1] * 15, 0]}
    content = {
        "images": [{"id": 1, "file_name": "dots.png"}],
        "annotations": [person],
        "categories": [{"id": 1, "keypoints": list(COCO.keypoints)}],
    }
    path = tmp_path / "dots.json"
    path.write_text(json.dumps(content))
    return path


def test_our_models_average_with_the_mirrored_picture_if_asked(crop_dots_model, draw_dots, stick_person):
    pytest.importorskip("onnxruntime")
    box = np.array([10.0, 0, 110, 215])
    image = draw_dots([stick_person])

    plain = open_top_down(crop_dots_model).find(image, box)
    both = open_top_down(crop_dots_model, has_flip_test=True).find(image, box)

    # In the mirrored picture this network, which goes by colours, takes left for right: half remains.
    assert both[0, 2] == pytest.approx(plain[0, 2], rel=0.1)
    assert both[1:, 2] == pytest.approx(plain[1:, 2] / 2, rel=0.2)


def test_the_command_writes_corrected_labels_and_says_what_it_did(
    dots, crop_dots_model, stick_person, capsys
):
    from fleetpose.cli import main

    out = dots.parent / "corrected.json"

    code = main(["data", "correct", str(dots), "--teacher", str(crop_dots_model), "--out", str(out)])

    # One side's ankle is unknown because the mirrored picture is asked too, see the test above.
    counts = "15 keypoints kept, 1 moved, 0 added, 1 made unknown; 0 people left out"
    assert code == 0
    assert capsys.readouterr().out == f"wrote {out}: {counts}\n"
    (person,) = json.loads(out.read_text())["annotations"]
    assert person["keypoints"][:2] == pytest.approx(stick_person[0], abs=1.5)


def test_the_command_keeps_the_keypoints_that_are_named(dots, crop_dots_model, capsys):
    from fleetpose.cli import main

    arguments = ["--teacher", str(crop_dots_model), "--out", str(dots.parent / "a.json")]

    code = main(["data", "correct", str(dots), *arguments, "--keep", "nose, left_eye"])

    assert code == 0
    assert "16 keypoints kept, 0 moved" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": "none.json"}, "cannot read annotations none.json"),
        ({"--teacher": "none.onnx"}, "cannot read the model none.onnx: no such file"),
        ({"--keep": "noses"}, "did you mean nose"),
        ({"--images": "nowhere"}, "cannot read the picture nowhere/dots.png"),
    ],
)
def test_the_command_refuses_in_one_line(dots, crop_dots_model, capsys, change, message):
    from fleetpose.cli import main

    options = {"--teacher": str(crop_dots_model), "--out": str(dots.parent / "a.json")} | change
    labels = options.pop("labels", str(dots))

    code = main(["data", "correct", labels, *(word for pair in options.items() for word in pair)])

    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert error.count("\n") == 1


def test_a_model_that_finds_people_by_itself_is_refused(dots, dots_model, capsys):
    from fleetpose.cli import main

    code = main(["data", "correct", str(dots), "--teacher", str(dots_model), "--out", "a.json"])

    assert code == 2
    assert "must be a top-down model" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="finds people by itself"):
        open_top_down(dots_model)

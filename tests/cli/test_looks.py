"""Options of `predict` and `evaluate` that say how pictures are looked at."""

import json

import numpy as np
import pytest

from fleetpose.media.images import write_image


@pytest.fixture
def wide(tmp_path, draw_dots, stick_person):
    """COCO file of one picture with two people and their boxes; neither's crop shows the other."""
    (tmp_path / "images").mkdir()
    people = [stick_person, stick_person + np.array([256, 20])]
    write_image(tmp_path / "images" / "1.png", draw_dots(people, (256, 400)))
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 0,
            "keypoints": np.column_stack([person, np.full(17, 2)]).ravel().tolist(),
            "num_keypoints": 17,
            "bbox": [*(person.min(axis=0) - 8).tolist(), 96, 209],
            "area": 11_000,
        }
        for number, person in enumerate(people, start=1)
    ]
    images = [{"id": 1, "file_name": "1.png", "width": 400, "height": 256}]
    data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "labels.json").write_text(json.dumps(data), encoding="utf-8")
    detections = [{"image_id": 1, "category_id": 1, "bbox": annotations[0]["bbox"], "score": 0.9}]
    (tmp_path / "detections.json").write_text(json.dumps(detections), encoding="utf-8")
    return data


def _scores(tmp_path):
    return json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["scores"]


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize(
    ("options", "ap"),
    [(["--boxes", "gt"], 1.0), (["--boxes", "detections.json"], 0.5)],
)
def test_a_top_down_model_is_scored_on_boxes(fleetpose_here, tmp_path, crop_dots_model, options, ap):
    code, _, err = fleetpose_here(
        "evaluate", "labels.json", "-m", crop_dots_model, "--json", "scores.json", *options
    )

    assert (code, err) == (0, "")
    assert _scores(tmp_path)["AP"] == pytest.approx(ap, abs=0.02)


@pytest.mark.usefixtures("wide")
def test_a_cascade_is_scored_without_boxes(fleetpose_here, tmp_path, dots_model, crop_dots_model):
    code, out, err = fleetpose_here(
        *("evaluate", "labels.json", "-m", dots_model, "--refine", crop_dots_model, "--json", "scores.json"),
        "--no-closer-look",  # dots look the same in a mirror
    )

    assert (code, err) == (0, "")
    assert "crop-dots: 2 people in 1 picture" in out
    assert _scores(tmp_path)["AP"] == pytest.approx(1, abs=0.02)


@pytest.mark.usefixtures("wide")
def test_the_papers_looks_can_be_had(fleetpose_here, tmp_path, dots_model):
    code, _, err = fleetpose_here(
        *("evaluate", "labels.json", "-m", dots_model, "--json", "scores.json"),
        *("--scales", "1,2", "--project", "--canvas-64"),
    )

    assert (code, err) == (0, "")
    assert _scores(tmp_path)["AP"] > 0.5


def _found(tmp_path):
    rows = json.loads((tmp_path / "mine" / "predictions.coco.json").read_text(encoding="utf-8"))
    return np.array([row["keypoints"] for row in rows]).reshape(-1, 17, 3)


def test_predict_takes_the_whole_picture_for_one_person(
    fleetpose_here, tmp_path, photo, crop_dots_model, stick_person
):
    for options in ([], ["--boxes", "whole"]):
        code, out, _ = fleetpose_here(
            *("predict", photo, "-m", crop_dots_model, "--save", "coco", "--out", "mine"),
            *("--no-closer-look", *options),  # dots look the same in a mirror
        )

        assert code == 0
        assert "1 picture, 1 person" in out
    np.testing.assert_allclose(_found(tmp_path)[0, :, :2], stick_person, atol=1)


def test_predict_takes_boxes_from_a_file(fleetpose_here, tmp_path, wide, crop_dots_model):
    code, _, err = fleetpose_here(
        *("predict", "images/1.png", "-m", crop_dots_model, "--boxes", "labels.json"),
        *("--save", "coco", "--out", "mine"),
    )

    assert (code, err) == (0, "")
    labelled = np.array([row["keypoints"] for row in wide["annotations"]]).reshape(-1, 17, 3)
    found = _found(tmp_path)
    found = found[np.argsort(found[:, 0, 0])]
    np.testing.assert_allclose(found[..., :2], labelled[..., :2], atol=1)


def test_a_picture_without_boxes_in_the_file_is_named_and_others_done(
    fleetpose_here, photo, wide, crop_dots_model
):
    del wide

    code, out, err = fleetpose_here(
        "predict", photo, "images/1.png", "-m", crop_dots_model, "--boxes", "labels.json", "--save", "csv"
    )

    assert code == 1
    assert "1 picture, 2 people" in out
    assert err == f"error: there are no boxes for {photo} in labels.json\n"


def test_predict_refines_scales_and_zooms(fleetpose_here, photo, dots_model, crop_dots_model):
    for options in (["--refine", crop_dots_model], ["--scales", "0.5,1"], ["--zoom"]):
        code, out, _ = fleetpose_here("predict", photo, "-m", dots_model, "--save", "csv", *options)

        assert code == 0
        assert "1 picture, 1 p" in out


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--boxes", "whole"], "model dots is bottom-up and takes no boxes"),
        (["--refine", "DOTS"], "model dots is bottom-up and refines nobody; name a top-down one"),
        (["--scales", "a,b"], "scales must be numbers such as 0.5,1,2, got 'a,b'"),
        (["--scales", "0.5,2"], "several scales must hold 1"),
    ],
)
def test_wrong_combinations_are_told_in_one_line(fleetpose_here, dots_model, options, message):
    options = [dots_model if option == "DOTS" else option for option in options]

    for verb in (["predict", "images/1.png"], ["evaluate", "labels.json"]):
        code, _, err = fleetpose_here(*verb, "-m", dots_model, *options)

        assert code == 2
        assert message in err
        assert err.count("\n") == 1


@pytest.mark.usefixtures("wide")
def test_wrong_options_of_a_top_down_model_are_told_in_one_line(fleetpose_here, crop_dots_model):
    for arguments, message in (
        (["evaluate", "labels.json"], "top-down and needs boxes: give --boxes gt"),
        (["evaluate", "labels.json", "--boxes", "gt", "--zoom"], "leave short side, scales and zoom out"),
        (["predict", "images/1.png", "--boxes", "gt"], "pictures have no labelled boxes here"),
        (["predict", "images/1.png", "--boxes", "detections.json"], "numbers but no names of pictures"),
        (["predict", "images/1.png", "--short-side", 128], "sees crops of one size"),
    ):
        code, _, err = fleetpose_here(*arguments, "-m", crop_dots_model)

        assert code == 2
        assert message in err
        assert err.count("\n") == 1

"""The verb `evaluate`."""

import json

import numpy as np
import pytest
from PIL import Image as Pil

from fleetpose.media.images import write_image


@pytest.fixture
def labelled(tmp_path, draw_dots, stick_person):
    """COCO file of three pictures with one person each; on the last one the label is wrong."""
    (tmp_path / "images").mkdir()
    images, annotations = [], []
    for number, shift in ((10, 0), (15, 8), (20, 60)):
        person = stick_person + np.array([shift, 0])
        write_image(tmp_path / "images" / f"{number}.png", draw_dots([person]))
        label = stick_person if number == 20 else person
        images.append({"id": number, "file_name": f"{number}.png", "width": 256, "height": 256})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "iscrowd": 0,
                "keypoints": np.column_stack([label, np.full(17, 2)]).ravel().tolist(),
                "num_keypoints": 17,
                "bbox": [10, 0, 100, 220],
                "area": 11_000,
            }
        )
    path = tmp_path / "labels.json"
    data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_evaluate_prints_cocos_table(fleetpose_here, labelled, dots_model):
    code, out, err = fleetpose_here("evaluate", "-m", dots_model, "--data", labelled, "--images", "images")

    assert (code, err) == (0, "")
    assert "dots: 3 people in 3 pictures" in out
    for column in ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl", "PCK@0.2"):
        assert f" {column} " in out
    row = next(line for line in out.splitlines() if "66." in line)
    cells = [cell.strip() for cell in row.strip("│┃").split("│")]
    assert cells[3] == "-", "nobody labelled is of medium size"
    assert float(cells[5]) == pytest.approx(66.7, abs=0.1)


def test_evaluate_writes_a_record_and_takes_a_part(fleetpose_here, tmp_path, labelled, dots_model):
    code, _, _ = fleetpose_here(
        *("evaluate", "-m", dots_model, "--data", labelled, "--images", "images"),
        *("--every", 15, "--json", "scores.json"),
    )

    record = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert code == 0
    assert record["model"] == "dots"
    assert record["images"] == 1
    assert record["coco"]["ap"] == pytest.approx(1.0)
    assert record["pck"]["mean"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "no.json", "--images", "images"], "no.json"),
        (["--data", "labels.json", "--images", "elsewhere"], "elsewhere"),
        (["--data", "labels.json", "--images", "images", "--json", "no/folder.json"], "no/folder.json"),
    ],
)
@pytest.mark.usefixtures("labelled")
def test_evaluate_names_what_is_missing_in_one_line(fleetpose_here, dots_model, arguments, message):
    code, _, err = fleetpose_here("evaluate", "-m", dots_model, *arguments)

    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_detections_written_to_a_file_score_the_same_without_a_model(
    fleetpose_here, tmp_path, labelled, dots_model
):
    fleetpose_here("evaluate", labelled, "-m", dots_model, "--detections", "found.json", "--json", "a.json")

    code, out, err = fleetpose_here(
        "evaluate", "--detections-in", "found.json", labelled, "--skeleton", "coco17", "--json", "b.json"
    )

    first, second = (
        json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in ("a.json", "b.json")
    )
    assert (code, err) == (0, "")
    assert "found.json: 3 people in 3 pictures" in out
    assert first["scores"] == second["scores"]
    assert (first.pop("model"), second.pop("model")) == ("dots", "found.json")
    assert first == second
    rows = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert {row["image_id"] for row in rows} == {10, 15, 20}


def test_breakdown_tells_what_to_mend(fleetpose_here, tmp_path, labelled, dots_model):
    code, out, _ = fleetpose_here(
        *("evaluate", labelled, "-m", dots_model, "--breakdown", "--json", "scores.json")
    )

    assert code == 0
    for word in ("jitter", "inversion", "swap", "miss", "background", "not found", "left_wrist", "hidden"):
        assert word in out
    assert "+33.7" in out, "the person with the wrong label is not found"
    breakdown = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["breakdown"]
    assert breakdown["people"]["large"]["labelled"] == 3
    assert breakdown["per_size"]["small"]["good"] == 0


def test_labels_refer_to_pixels_as_stored_whatever_the_exif_says(
    fleetpose_here, tmp_path, labelled, dots_model
):
    exif = Pil.Exif()
    exif[0x0112] = 6  # turned by a quarter
    path = tmp_path / "images" / "10.png"
    Pil.open(path).save(path, exif=exif)

    fleetpose_here("evaluate", labelled, "-m", dots_model, "--every", 10, "--json", "scores.json")

    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert scores["pck"]["mean"] == 0.5  # of pictures 10 and 20; the label of 20 is wrong


def test_a_metric_can_be_asked_for(fleetpose_here, labelled, dots_model):
    code, out, _ = fleetpose_here("evaluate", labelled, "-m", dots_model, "--metric", "pck")

    assert code == 0
    for column in ("Shoulder", "Wrist", "Ankle", "PCK@0.2"):
        assert f" {column} " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["labels.json", "--metric", "cocoo"], "unknown metric 'cocoo'; did you mean coco"),
        (["labels.json", "--detections-in", "no.json"], "keypoints"),
        (
            ["labels.json", "--detections-in", "no.json", "--skeleton", "coco17"],
            "cannot read detections no.json",
        ),
        (["labels.json", "--detections-in", "a.json", "-m", "b.onnx"], "exclude each other"),
        (["labels.json", "--detections-in", "labels.json", "--skeleton", "coco17"], "holds no detections"),
    ],
)
@pytest.mark.usefixtures("labelled")
def test_what_cannot_be_scored_is_told_in_one_line(fleetpose_here, dots_model, arguments, message):
    if "--metric" in arguments:
        arguments = [*arguments, "-m", dots_model]

    code, _, err = fleetpose_here("evaluate", *arguments)

    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_class_scores_are_scored_without_a_model(fleetpose_here, tmp_path):
    (tmp_path / "labels.csv").write_text("a,0\nb,1\n", encoding="utf-8")
    (tmp_path / "found.csv").write_text("a,0.9,0.1\nb,0.8,0.2\n", encoding="utf-8")

    code, out, err = fleetpose_here(
        *("evaluate", "labels.csv", "--metric", "top", "--detections-in", "found.csv", "--json", "s.json")
    )

    assert (code, err) == (0, "")
    assert "found.csv: 2 pictures, top" in out
    assert " top-1 " in out
    assert " 50.0 " in out
    assert json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["scores"] == {"top-1": 0.5}


def test_label_pictures_are_scored_without_a_model(fleetpose_here, tmp_path):
    for folder, rows in (("truth", [[0, 1]]), ("found", [[0, 0]])):
        (tmp_path / folder).mkdir()
        Pil.fromarray(np.array(rows, np.uint8)).save(tmp_path / folder / "a.png")

    code, out, err = fleetpose_here(
        *("evaluate", "truth", "--metric", "miou", "--detections-in", "found"),
        *("--label-map", "camvid-numbers"),
    )

    assert (code, err) == (0, "")
    assert " mIoU " in out
    assert " 25.0 " in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name it with --detections-in"),
        (("--detections-in", "found.csv", "-m", "dots"), "leave --model out"),
        (("--detections-in", "found.csv", "--breakdown"), "leave --breakdown out"),
        (("--detections-in", "found.csv", "--short-side", "96"), "leave --short-side out"),
        (("--detections-in", "found.csv", "--scales", "0.5,1"), "leave --scales out"),
        (("--detections-in", "found.csv", "--skeleton", "coco"), "leave --skeleton out"),
        (("--detections-in", "found.csv", "--threads", "1"), "leave --threads out"),
        (("--detections-in", "found.csv", "--every", "2"), "leave --every out"),
        (("--detections-in", "found.csv", "--split", "train"), "leave --split out"),
        (("--detections-in", "found.csv", "--flip"), "leave --flip-test out"),
        (("--detections-in", "found.csv", "--all-tags"), "leave --all-tags out"),
        (("--detections-in", "found.csv", "--project"), "leave --project out"),
        (("--detections-in", "found.csv", "--canvas-64"), "leave --canvas-64 out"),
        (("--detections-in", "found.csv", "--zoom"), "leave --zoom out"),
    ],
)
def test_what_a_metric_of_whole_pictures_cannot_use_is_refused(fleetpose_here, options, message):
    code, _, err = fleetpose_here("evaluate", "labels.csv", "--metric", "top", *options)

    assert code != 0
    assert message in err

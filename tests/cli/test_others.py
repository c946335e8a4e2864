"""The verbs `demo`, `evaluate` and `models`."""

import json

import numpy as np
import pytest

from fleetpose.cli.demo import PICTURE
from fleetpose.media.images import read_image, write_image


@pytest.fixture
def shelf(dots_model, monkeypatch):
    """Makes the fake network the bundled and the default model."""
    monkeypatch.setattr("fleetpose.weights.FOLDER", dots_model.parent)
    monkeypatch.setattr("fleetpose.weights.DEFAULT_MODEL", "dots")


@pytest.mark.usefixtures("shelf")
def test_demo_writes_an_annotated_picture_and_says_what_it_found(
    fleetpose_here, tmp_path, photo, monkeypatch
):
    monkeypatch.setattr("fleetpose.cli.demo.PICTURE", photo.rename(tmp_path / "demo.jpg"))

    code, out, err = fleetpose_here("demo")

    folder = tmp_path / "runs" / "demo"
    assert (code, err) == (0, "")
    assert "model dots: 1 person: score 0." in out
    assert "with 17 keypoints" in out
    assert "network" in out
    assert "pictures/s" in out
    assert "runs/demo/demo.jpg" in out
    assert read_image(folder / "demo.jpg").shape == (256, 256, 3)
    (entry,) = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert len(entry["people"][0]["keypoints"]) == 17


def test_the_demos_picture_is_bundled():
    assert min(read_image(PICTURE).shape[:2]) >= 256
    assert PICTURE.stat().st_size < 1e6


@pytest.mark.usefixtures("shelf")
def test_demo_can_be_run_again(fleetpose_here, tmp_path, photo, monkeypatch):
    monkeypatch.setattr("fleetpose.cli.demo.PICTURE", photo)

    fleetpose_here("demo")

    assert fleetpose_here("demo")[0] == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["demo"]


@pytest.mark.usefixtures("shelf")
def test_models_tells_size_licence_data_and_accuracy(fleetpose_here):
    code, out, _ = fleetpose_here("models")

    assert code == 0
    for word in ("dots *", "256", "17", "Apache-2.0", "drawn dots", "coco_dev/AP 12.34"):
        assert word in out


@pytest.mark.usefixtures("shelf")
def test_models_as_json_holds_the_whole_card(fleetpose_here):
    (row,) = json.loads(fleetpose_here("models", "--json")[1])

    assert row["name"] == "dots"
    assert row["params"] == 1234
    assert row["macs"] == 5_678_000
    assert row["data"] == ["drawn dots"]
    assert row["metrics"] == {"coco_dev/AP": 12.34}


def test_models_says_when_none_is_bundled(fleetpose_here, tmp_path, monkeypatch):
    monkeypatch.setattr("fleetpose.weights.FOLDER", tmp_path)

    assert "no model is bundled" in fleetpose_here("models")[1]
    assert json.loads(fleetpose_here("models", "--json")[1]) == []


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
    pytest.importorskip("faster_coco_eval")

    code, out, err = fleetpose_here("evaluate", "-m", dots_model, "--data", labelled, "--images", "images")

    assert (code, err) == (0, "")
    assert "dots: 3 people in 3 pictures" in out
    for column in ("AP", "AP50", "AP75", "APM", "APL", "AR"):
        assert f" {column} " in out
    row = next(line for line in out.splitlines() if "66." in line)
    cells = [cell.strip() for cell in row.strip("│┃").split("│")]
    assert cells[3] == "-", "nobody labelled is of medium size"
    assert float(cells[5]) == pytest.approx(66.7, abs=0.1)


def test_evaluate_writes_a_record_and_takes_a_part(fleetpose_here, tmp_path, labelled, dots_model):
    pytest.importorskip("faster_coco_eval")

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
    pytest.importorskip("faster_coco_eval")

    code, _, err = fleetpose_here("evaluate", "-m", dots_model, *arguments)

    assert code == 2
    assert message in err
    assert err.count("\n") == 1

"""The verbs `demo` and `models`."""

import json

import pytest

from fleetpose.cli.demo import PICTURE
from fleetpose.media.images import read_image


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
    monkeypatch.setattr("fleetpose.runtime.predictor.DEFAULT_SHORT_SIDES", (64, 128, 256))

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
    for word in ("dots *", "256", "17", "Apache-2.0", "  1. drawn dots", "coco_dev/AP 12.34"):
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

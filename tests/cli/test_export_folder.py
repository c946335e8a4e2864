"""`fleetpose export --to`: folders with proof, from model files and checkpoints."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from fleetpose.compress import delivery
from fleetpose.runtime.choice import is_installed
from fleetpose.runtime.predictor import load

pytest.importorskip("onnx")


@pytest.fixture
def pictures(tmp_path, photo):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "photo.png").write_bytes(photo.read_bytes())
    return folder


def test_a_model_file_becomes_a_folder_with_proof(fleetpose_here, dots_model, pictures, photo, tmp_path):
    code, out, err = fleetpose_here("export", dots_model, "mine", "--to", "onnx", "--pictures", pictures)

    assert (code, err) == (0, "")
    assert "onnx fp32: AP 100.0, from 100.0 (the reference's own people, 1 pictures)" in out
    assert "0 of 1 people lost" in out
    assert "mine/model.onnx" in out
    assert len(load(tmp_path / "mine", runtime="onnx")(photo)) == 1
    assert json.loads((tmp_path / "mine" / "parity.json").read_text())["onnx fp32"]["drop"] == 0


def test_int8_tells_what_each_layer_suffers(fleetpose_here, dots_model, pictures):
    code, out, _ = fleetpose_here(
        *("export", dots_model, "small", "--to", "onnx", "--precision", "int8"),
        *("--pictures", pictures, "--calibration", pictures),
    )

    assert code == 0
    assert "layers that 8 bits harm most" in out
    assert "nearness" in out
    assert "  onnx int8  Conv_" in out
    assert "onnx int8: AP" in out


@pytest.mark.slow
def test_a_checkpoint_becomes_all_formats_with_proof_against_pytorch(
    fleetpose_here, tmp_path, two_convolutions, pictures, photo
):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from fleetpose.models import build
    from fleetpose.train.checkpoint import save_checkpoint

    torch.manual_seed(0)
    network = build(two_convolutions, num_keypoints=17)
    checkpoint = {"model": two_convolutions, "num_keypoints": 17, "ema": network.state_dict()}
    save_checkpoint(tmp_path / "pose.pt", checkpoint)
    formats = ["onnx", "tensorrt", "web"]
    formats += ["openvino"] * is_installed("openvino")
    formats += ["ncnn"] * (is_installed("ncnn") and find_spec("pnnx") is not None)

    code, out, err = fleetpose_here(
        *("export", "pose.pt", "mine", "--to", ",".join(formats), "--precision", "fp16"),
        *("--pictures", pictures, "--max-drop", "5"),
    )

    assert (code, err) == (0, "")
    assert "mine/web/index.html: 0.00 MB" in out
    report = json.loads((tmp_path / "mine" / "parity.json").read_text())
    assert report.keys() == {f"{name} fp16" for name in formats}
    results = {
        name: load(tmp_path / "mine", runtime=name, threads=1, threshold=0)(photo)
        for name in formats
        if name not in {"tensorrt", "web"}
    }
    results["web"] = load(tmp_path / "mine" / "web", runtime="onnx", threshold=0)(photo)
    assert len(results["onnx"]) > 0
    for found in results.values():
        np.testing.assert_allclose(np.sort(found.scores), np.sort(results["onnx"].scores), atol=2e-3)


def test_labels_say_how_average_precision_changes(fleetpose_here, dots_model, pictures, photo, tmp_path):
    (person,) = load(dots_model)(photo).to_coco(1)
    points = np.reshape(person["keypoints"], (-1, 3))
    points[:, 2] = 2
    row = {**person, "id": 1, "keypoints": points.ravel().tolist(), "num_keypoints": 17, "iscrowd": 0}
    labels = {
        "images": [{"id": 1, "file_name": "photo.png", "height": 256, "width": 256}],
        "annotations": [row],
        "categories": [{"id": person["category_id"], "name": "person"}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(labels))

    code, out, _ = fleetpose_here(
        *("export", dots_model, "mine", "--to", "onnx", "--pictures", pictures, "--labels", "labels.json")
    )

    assert code == 0
    assert "onnx fp32: AP 100.0, from 100.0 (annotations, 1 pictures)" in out


def test_a_model_with_the_wrong_layer_in_8_bits_is_refused_with_the_reason(
    fleetpose_here, dots_model, pictures, tmp_path, monkeypatch
):
    # No layer may stay in floats, not even the one that tells colours apart by squares up to 65025.
    monkeypatch.setattr(delivery, "_SPARED", (0,))

    code, _, err = fleetpose_here(
        *("export", dots_model, "small", "--to", "onnx", "--precision", "int8"),
        *("--pictures", pictures, "--calibration", pictures),
    )

    assert code == 2
    assert "onnx int8 falls by" in err
    assert "at most 1 may be lost" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize(
    ("package", "extra"), [("openvino", "openvino"), ("ncnn", "ncnn"), ("pnnx", "export-ncnn")]
)
def test_a_missing_runtime_is_told_in_one_line(fleetpose_here, dots_model, monkeypatch, package, extra):
    if package == "ncnn" and find_spec("pnnx") is None:
        pytest.skip("the converter comes first, and is not installed")
    target = "openvino" if package == "openvino" else "ncnn"
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("fleetpose.export.ncnn.importlib.util.find_spec", _without(package))

    code, _, err = fleetpose_here("export", dots_model, "mine", "--to", target)

    assert code == 2
    assert f"pip install 'fleetpose[{extra}]'" in err
    assert err.count("\n") == 1
    assert not Path("mine").exists()


def _without(package):
    """The import system's search, as if a package were not there."""
    return lambda name: None if name == package else find_spec(name)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no model"),
        ({"model.onnx": "hello"}, "cannot read the model"),
        ({"a.onnx": "", "b.onnx": ""}, "holds several models"),
        pytest.param(
            {"model.ncnn.param": "hello"},
            "description.json",
            marks=pytest.mark.skipif(find_spec("ncnn") is None, reason="ncnn is not installed"),
        ),
    ],
)
def test_a_wrong_folder_is_told_in_one_line(fleetpose_here, tmp_path, photo, files, message):
    (tmp_path / "wrong").mkdir()
    for name, text in files.items():
        (tmp_path / "wrong" / name).write_text(text)

    code, _, err = fleetpose_here("predict", photo, "--model", "wrong")

    assert code == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "onxx"], "unknown format to export to 'onxx'; did you mean onnx"),
        (["--to", "ncnn", "--precision", "int8"], "format ncnn has no precision int8; use fp32 or fp16"),
        (["--to", "onnx", "--precision", "int9"], "unknown precision 'int9'"),
        (["--to", "onnx", "--precision", "int8"], "int8 needs pictures to calibrate on"),
        (["--to", "onnx", "--precision", "int8", "--calibration", "empty"], "calibration needs a folder"),
        (["--to", "onnx", "--pictures", "gone"], "there is no folder gone"),
        (["--to", "onnx", "--labels", "x.json"], "name their folder with --pictures"),
        (["--to", "onnx", "--with-decode"], "--with-decode are for a single file"),
        (["--to", "onnx", "--packed-weights"], "--packed-weights and --with-decode are for a single file"),
        (["--half-weights", "--packed-weights"], "exclude each other"),
        (["--to", "onnx", "--tune", "5"], "--card, --set and --tune are for checkpoints"),
        (["--to", "onnx", "--set", "a=1"], "--card, --set and --tune are for checkpoints"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(fleetpose_here, tmp_path, dots_model, arguments, message):
    (tmp_path / "empty").mkdir()

    code, _, err = fleetpose_here("export", dots_model, "mine", *arguments)

    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "mine").exists()

"""`fleetpose export --to`: folders with proof, from model files and checkpoints."""

import json

import pytest

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "onxx"], "unknown format to export to 'onxx'; did you mean onnx"),
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

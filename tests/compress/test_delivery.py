"""Artefact folders: written whole, with proof, or not at all."""

import importlib.util
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from fleetpose.compress import delivery
from fleetpose.compress.delivery import Proof, deliver
from fleetpose.errors import CheckpointError, ConfigError, MissingExtraError, UnknownNameError
from fleetpose.geometry import fit_box, fit_canvas, invert, transform_points
from fleetpose.media.images import read_image, write_image
from fleetpose.runtime.canvas import draw_canvas
from fleetpose.runtime.choice import is_installed
from fleetpose.runtime.predictor import load
from fleetpose.runtime.session import OnnxSession

onnx = pytest.importorskip("onnx")
needs_openvino = pytest.mark.skipif(
    not is_installed("openvino"), reason="the extra fleetpose[openvino] is not installed"
)

needs_nncf = pytest.mark.skipif(
    importlib.util.find_spec("nncf") is None, reason="the extra fleetpose[nncf] is not installed"
)

needs_ncnn = pytest.mark.skipif(
    not is_installed("ncnn") or find_spec("pnnx") is None,
    reason="the extra fleetpose[export-ncnn] is not installed",
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, draw_dots, stick_person):
    folder = tmp_path_factory.mktemp("pictures")
    for number, (dx, dy) in enumerate([(0, 0), (90, 30), (20, 45)]):
        write_image(folder / f"{number}.png", draw_dots([np.add(stick_person, (dx, dy))]))
    return tuple(sorted(folder.iterdir()))


@pytest.fixture(scope="module")
def artefact(tmp_path_factory, dots_model, pictures):
    folder = tmp_path_factory.mktemp("out") / "dots"
    targets = ["onnx", "openvino"] if is_installed("openvino") else ["onnx"]
    return folder, deliver(dots_model, folder, targets=targets, proof=Proof(pictures))


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_holds_models_description_decoder_and_proof(artefact, fake_description):
    folder, delivered = artefact

    models = ["model.bin", "model.onnx", "model.xml"] if is_installed("openvino") else ["model.onnx"]
    assert _names(folder) == sorted(["decode.py", "description.json", "parity.json", *models])
    report = json.loads((folder / "parity.json").read_text())
    assert report["onnx fp32"]["people"] == 3
    assert report["onnx fp32"]["largest_shift_px"] < 0.01
    assert report["onnx fp32"]["drop"] == 0
    assert delivered.parity.keys() == report.keys()
    about = json.loads((folder / "description.json").read_text())
    assert about["skeleton"]["name"] == fake_description.skeleton.name
    assert _names(folder.parent) == ["dots"]  # the draft is gone


@needs_ncnn
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_folder_of_ncnn_is_proved_and_loaded(tmp_path, dots_model, pictures, dots_predictor, precision):
    folder, share = tmp_path / "dots", {"fp32": 1.0, "fp16": 0.6}[precision]

    delivered = deliver(dots_model, folder, targets=["ncnn"], proof=Proof(pictures), precision=precision)

    models = ["model.ncnn.bin", "model.ncnn.param"]
    assert _names(folder) == ["decode.py", "description.json", *models, "parity.json"]
    assert delivered.parity[f"ncnn {precision}"].lost == 0
    assert (folder / models[0]).stat().st_size < 30_000 * share
    found, expected = load(folder, threads=1)(pictures[1]), dots_predictor(pictures[1])
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=0.01 if precision == "fp32" else 1)


def test_a_folder_for_tensorrt_tells_the_command_and_what_was_checked(tmp_path, dots_model, pictures):
    deliver(dots_model, tmp_path / "dots", targets=["tensorrt"], proof=Proof(pictures), precision="fp16")

    note = (tmp_path / "dots" / "tensorrt" / "README.md").read_text()
    assert "trtexec --onnx=model.onnx --saveEngine=model.plan --fp16" in note
    assert "--minShapes=image:1x3x128x128 --optShapes=image:1x3x256x256 --maxShapes=image:1x3x512x512" in note
    assert "heatmaps_s4, tags_s4, heatmaps_s2" in note
    assert "TensorRT itself was not run" in note
    assert len(load(tmp_path / "dots" / "tensorrt", runtime="onnx")(pictures[0])) == 1


@pytest.mark.parametrize("runtime", ["auto", "onnx", pytest.param("openvino", marks=needs_openvino)])
def test_the_folder_is_loaded_like_any_model(artefact, pictures, dots_predictor, runtime):
    found = load(artefact[0], runtime=runtime, threads=1)(pictures[1])

    expected = dots_predictor(pictures[1])
    assert len(found) == 1
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=0.01)


@pytest.mark.parametrize("kind", ["bottom-up", "top-down"])
def test_the_decoder_in_the_folder_finds_the_same_keypoints_without_the_package(
    artefact, pictures, tmp_path, crop_dots_model, kind
):
    folder, image = artefact[0], read_image(pictures[0])
    affine, size = fit_canvas(image.shape[:2], short_side=256, multiple=32)
    if kind == "top-down":
        folder, size = tmp_path / "crop", (256, 192)
        deliver(crop_dots_model, folder, targets=["onnx"], proof=Proof(pictures))
        affine = fit_box(np.array([-0.5, -0.5, 255.5, 255.5]), size, padding=1.25)
    about = OnnxSession(folder / "model.onnx").description
    np.save(tmp_path / "image.npy", draw_canvas(image, affine, size, about.input))

    result = subprocess.run(
        # -I leaves out the current folder and whatever the environment names.
        [sys.executable, "-I", "-c", _WITHOUT_PACKAGE, folder, tmp_path / "image.npy"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.stderr == ""
    (person,) = json.loads(result.stdout)
    points = transform_points(np.array(person["keypoints"]), invert(affine))
    with_package = load(folder, runtime="onnx", has_closer_look=False)
    np.testing.assert_allclose(points, with_package(image).keypoints[0], atol=1e-2)


_WITHOUT_PACKAGE = """
import json, runpy, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"fleetpose", "cv2", "scipy", "torch"}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocker())
import numpy, onnxruntime

folder, image = sys.argv[1:]
session = onnxruntime.InferenceSession(folder + "/model.onnx")
found = session.run(None, {"image": numpy.load(image)})
maps = {one.name: values[0] for one, values in zip(session.get_outputs(), found)}
with open(folder + "/description.json", encoding="utf-8") as file:
    keypoints, scores = runpy.run_path(folder + "/decode.py")["decode"](maps, json.load(file))
print(json.dumps([{"keypoints": k, "score": s} for k, s in zip(keypoints.tolist(), scores.tolist())]))
"""


def test_a_page_for_browsers_is_proved_with_its_decoding_tail(tmp_path, dots_model, pictures, dots_predictor):
    delivered = deliver(dots_model, tmp_path / "dots", targets=["web", "onnx"], proof=Proof(pictures))

    page = tmp_path / "dots" / "web"
    assert {"index.html", "fleetpose.mjs", "model.onnx", "description.json"} <= set(_names(page))
    assert delivered.parity["web fp32"].lost == 0
    found = load(page, runtime="onnx", threads=1)(pictures[1])
    np.testing.assert_allclose(found.keypoints, dots_predictor(pictures[1]).keypoints, atol=0.01)
    assert "candidate_cells" in OnnxSession(page / "model.onnx").description.outputs
    assert "heatmaps_s2" in OnnxSession(tmp_path / "dots" / "model.onnx").description.outputs


def test_half_weights_take_half_the_room_and_find_the_same(tmp_path, dots_model, pictures, artefact):
    deliver(dots_model, tmp_path / "half", targets=["onnx"], proof=Proof(pictures), precision="fp16")

    half, full = (folder / "model.onnx" for folder in (tmp_path / "half", artefact[0]))
    assert half.stat().st_size < 0.8 * full.stat().st_size
    assert len(load(tmp_path / "half", runtime="onnx")(pictures[0])) == 1


@pytest.fixture(scope="module")
def int8_artefact(tmp_path_factory, dots_model, pictures):
    folder = tmp_path_factory.mktemp("out") / "int8"
    settings = {"precision": "int8", "calibration": pictures}
    return folder, deliver(dots_model, folder, targets=["onnx"], proof=Proof(pictures), **settings)


def test_an_int8_model_spares_the_layer_that_suffers(int8_artefact, pictures):
    folder, delivered = int8_artefact

    # Colours are told apart by the first convolution, from squares up to 65025, and that is hard on 8 bits.
    spared = delivered.spared["onnx int8"]
    assert "nearness" in delivered.harms[0].name
    assert delivered.harms[0].name in spared
    assert len(spared) < len(delivered.harms)
    assert delivered.parity["onnx int8"].drop <= 1
    kinds = [one.data_type for one in onnx.load(str(folder / "model.onnx")).graph.initializer]
    assert onnx.TensorProto.INT8 in kinds
    assert load(folder, runtime="onnx")(pictures[0]).scores[0] > 0.5


def test_an_int8_folder_tells_what_each_layer_does(int8_artefact):
    folder, delivered = int8_artefact

    rows = json.loads((folder / "layers.json").read_text())

    assert [row["layer"] for row in rows] == [harm.name for harm in delivered.harms]
    errors = [row["error_in_deviations"] for row in rows]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 2 * errors[-1] > 0
    assert [row["shift_px"] for row in rows] == [round(harm.shift_px, 3) for harm in delivered.harms]
    is_spared = [row["layer"] for row in rows if row["floats_in"] == ["onnx int8"]]
    assert is_spared == delivered.spared["onnx int8"]


@pytest.mark.slow
@needs_openvino
@needs_nncf
def test_nncf_quantises_for_openvino_and_spares_the_layer_that_suffers(tmp_path, dots_model, pictures):
    delivered = deliver(
        dots_model,
        tmp_path / "int8",
        targets=["onnx", "openvino"],
        proof=Proof(pictures),
        precision="int8",
        calibration=pictures,
        has_nncf=True,
    )

    graph = (tmp_path / "int8" / "model.xml").read_text()
    assert "FakeQuantize" in graph
    assert "nncf" in graph  # it leaves its settings in the file
    assert "nearness" in delivered.spared["openvino int8"][0]
    assert delivered.parity["openvino int8"].drop <= 1
    assert load(tmp_path / "int8", runtime="openvino")(pictures[0]).scores[0] > 0.5


def test_without_nncf_the_extra_is_named_before_any_work(tmp_path, dots_model, pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'fleetpose\[nncf\]'"):
        deliver(
            dots_model,
            tmp_path / "out",
            targets=["openvino"],
            proof=Proof(pictures),
            precision="int8",
            calibration=pictures,
            has_nncf=True,
        )

    assert _names(tmp_path) == []


def test_an_artefact_that_lost_too_much_is_refused_with_the_reason(tmp_path, dots_model, pictures):
    with pytest.raises(CheckpointError, match=r"onnx int8 falls by \d+\.\d points") as caught:
        deliver(
            dots_model,
            tmp_path / "broken",
            targets=["onnx"],
            proof=Proof(pictures),
            precision="int8",
            calibration=pictures,
            max_spared=0,  # the layer that tells colours apart must not be quantised
        )

    assert "at most 1 may be lost" in str(caught.value)
    assert "nothing was written" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert _names(tmp_path) == []


def test_a_model_that_computes_something_else_is_refused(tmp_path, dots_model, pictures, monkeypatch):
    def spoil(model):
        for weights in model.graph.initializer:
            if weights.name == "bias":
                values = onnx.numpy_helper.to_array(weights)
                weights.CopyFrom(onnx.numpy_helper.from_array(np.roll(values, 1), "bias"))
        return {}

    monkeypatch.setattr(delivery, "simplify", spoil)

    with pytest.raises(CheckpointError, match="onnx fp32 falls by"):
        deliver(dots_model, tmp_path / "wrong", targets=["onnx"], proof=Proof(pictures))

    assert _names(tmp_path) == []


def test_a_larger_loss_may_be_allowed(tmp_path, dots_model, pictures):
    deliver(
        dots_model,
        tmp_path / "poor",
        targets=["onnx"],
        proof=Proof(pictures, max_drop=101.0),
        precision="int8",
        calibration=pictures,
        max_spared=0,
    )

    assert json.loads((tmp_path / "poor" / "parity.json").read_text())["onnx int8"]["drop"] > 1


def test_a_folder_in_use_is_left_alone(tmp_path, dots_model, pictures):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")

    with pytest.raises(ConfigError, match="mine is not empty; name a new folder"):
        deliver(dots_model, tmp_path / "mine", targets=["onnx"], proof=Proof(pictures))

    assert _names(tmp_path / "mine") == ["notes.txt"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets": ["onxx"]}, "unknown format to export to 'onxx'; did you mean onnx"),
        ({"targets": []}, "at least one format to export to: onnx, openvino, ncnn"),
        ({"targets": ["ncnn"], "precision": "int8"}, "ncnn has no precision int8; use fp32 or fp16"),
        ({"precision": "int7"}, "unknown precision 'int7'"),
        ({"precision": "bf16"}, "load any model with precision bf16"),
        ({"has_nncf": True}, "ask for precision int8 and format openvino"),
        ({"precision": "int8"}, "int8 needs pictures to calibrate on"),
    ],
)
def test_what_cannot_be_is_told_before_any_work(tmp_path, dots_model, pictures, settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        deliver(dots_model, tmp_path / "out", **{"targets": ["onnx"], "proof": Proof(pictures), **settings})

    assert "\n" not in str(caught.value)
    assert _names(tmp_path) == []


def test_a_source_that_is_no_model_is_refused(tmp_path, pictures):
    (tmp_path / "text.onnx").write_text("hello")

    with pytest.raises(CheckpointError, match=r"cannot read the model .*text\.onnx"):
        deliver(tmp_path / "text.onnx", tmp_path / "out", targets=["onnx"], proof=Proof(pictures))


def test_unknown_names_are_unknown_names(tmp_path, dots_model, pictures):
    with pytest.raises(UnknownNameError):
        deliver(dots_model, tmp_path / "out", targets=["tflite"], proof=Proof(pictures))


def test_an_empty_folder_is_filled(tmp_path, dots_model, pictures):
    (tmp_path / "new").mkdir()

    deliver(dots_model, tmp_path / "new", targets=["onnx"], proof=Proof(pictures))

    assert "model.onnx" in _names(tmp_path / "new")
    shutil.rmtree(tmp_path / "new")


def test_a_model_file_is_converted_without_pytorch():
    program = """
import sys
sys.modules["torch"] = None
import fleetpose.compress.delivery
"""

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert result.stderr == ""

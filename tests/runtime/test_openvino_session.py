import numpy as np
import pytest

from fleetpose.codecs.description import METADATA_KEY
from fleetpose.errors import CheckpointError, ConfigError, MissingExtraError, UnknownNameError
from fleetpose.runtime import openvino_session
from fleetpose.runtime.openvino_session import OpenVinoSession
from fleetpose.runtime.predictor import load
from fleetpose.runtime.session import OnnxSession

openvino = pytest.importorskip("openvino", reason="the extra fleetpose[openvino] is not installed")


@pytest.fixture(scope="module")
def dots_xml(tmp_path_factory, dots_model, fake_description):
    path = tmp_path_factory.mktemp("openvino") / "dots.xml"
    model = openvino.Core().read_model(str(dots_model))
    model.set_rt_info(fake_description.to_json(), METADATA_KEY)
    openvino.save_model(model, str(path), compress_to_fp16=False)
    return path


@pytest.mark.parametrize("kind", ["onnx", "xml"])
def test_openvino_computes_what_onnx_runtime_computes_at_any_size(kind, dots_model, dots_xml):
    session = OpenVinoSession(dots_model if kind == "onnx" else dots_xml, threads=1)
    reference = OnnxSession(dots_model, threads=1)
    rng = np.random.default_rng(0)

    assert session.description == reference.description
    for size in ((64, 96), (128, 64)):
        image = rng.standard_normal((1, 3, *size)).astype(np.float32)
        maps, expected = session.run(image), reference.run(image)
        assert list(maps) == list(expected)
        for name, values in maps.items():
            np.testing.assert_allclose(values, expected[name], atol=1e-4)


def test_openvino_takes_batches_where_the_file_does(crop_dots_model, crop_dots_batch_model):
    images = np.random.default_rng(0).standard_normal((3, 3, 64, 96)).astype(np.float32)
    session = OpenVinoSession(crop_dots_batch_model, threads=1)

    maps = session.run_batch(images)["heatmaps_s4"]

    assert session.takes_batches
    assert not OpenVinoSession(crop_dots_model, threads=1).takes_batches
    for values, image in zip(maps, images, strict=True):
        np.testing.assert_allclose(values, session.run(image[None])["heatmaps_s4"], atol=1e-5)


def test_maps_of_one_picture_outlive_the_next(dots_xml):
    session = OpenVinoSession(dots_xml, threads=1)
    rng = np.random.default_rng(0)
    first = session.run(rng.standard_normal((1, 3, 64, 64)).astype(np.float32))
    kept = {name: values.copy() for name, values in first.items()}

    session.run(rng.standard_normal((1, 3, 64, 64)).astype(np.float32))

    for name, values in first.items():
        np.testing.assert_array_equal(values, kept[name])


def test_the_same_person_is_found_on_openvino(dots_xml, dots_predictor, draw_dots, stick_person):
    image = draw_dots([stick_person])

    found = load(dots_xml, threads=1)(image)

    np.testing.assert_allclose(found.keypoints, dots_predictor(image).keypoints, atol=1e-3)


def test_bf16_is_close_and_not_the_same(dots_model):
    if not openvino_session.has_bf16(openvino.Core()):
        pytest.skip("this processor has no bfloat16 arithmetic")
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)

    coarse, fine = (OpenVinoSession(dots_model, precision=name).run(image) for name in ("bf16", "f32"))

    difference = np.abs(coarse["heatmaps_s2"] - fine["heatmaps_s2"]).max()
    assert 1e-6 < difference < 0.1


def test_bf16_without_the_processor_for_it_is_refused(dots_model, monkeypatch):
    monkeypatch.setattr(openvino_session, "has_bf16", lambda _: False)

    with pytest.raises(
        ConfigError, match="bf16 needs a processor with bfloat16 arithmetic; use precision f32"
    ):
        OpenVinoSession(dots_model, precision="bf16")


def test_an_unknown_precision_and_no_threads_are_refused(dots_model):
    with pytest.raises(UnknownNameError, match="unknown precision 'fp8'"):
        OpenVinoSession(dots_model, precision="fp8")
    with pytest.raises(ConfigError, match="threads must be at least 1, got 0"):
        OpenVinoSession(dots_model, threads=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.xml", None, "no such file"),
        ("empty.xml", "", "cannot read the model"),
        ("page.xml", "<html></html>", "cannot read the model"),
    ],
)
def test_a_file_that_is_no_model_is_named_in_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)

    with pytest.raises(CheckpointError, match=message) as caught:
        OpenVinoSession(path)

    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_without_a_description_says_how_to_get_one(tmp_path, dots_model):
    path = tmp_path / "bare.xml"
    openvino.save_model(openvino.Core().read_model(str(dots_model)), str(path))

    with pytest.raises(CheckpointError, match=r"bare\.xml does not describe itself.*fleetpose export"):
        OpenVinoSession(path)


def test_a_faulty_description_names_the_file(tmp_path, dots_model):
    path = tmp_path / "odd.xml"
    model = openvino.Core().read_model(str(dots_model))
    model.set_rt_info("{", METADATA_KEY)
    openvino.save_model(model, str(path))

    with pytest.raises(CheckpointError, match=r"odd\.xml: model description is no JSON"):
        OpenVinoSession(path)


def test_outputs_that_are_not_the_described_ones_are_refused(tmp_path, dots_model, fake_description):
    path = tmp_path / "less.xml"
    model = openvino.Core().read_model(str(dots_model))
    model.outputs[0].get_tensor().set_names({"warmth"})
    model.set_rt_info(fake_description.to_json(), METADATA_KEY)
    openvino.save_model(model, str(path))

    with pytest.raises(CheckpointError, match=r"has the outputs warmth.*but describes heatmaps_s4"):
        OpenVinoSession(path)


def test_a_missing_openvino_is_told_with_the_line_that_installs_it(dots_model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'fleetpose\[openvino\]'"):
        OpenVinoSession(dots_model)

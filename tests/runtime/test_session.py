import numpy as np
import pytest

from fleetpose.errors import CheckpointError, ConfigError, ShapeError
from fleetpose.runtime.session import OnnxSession, read_description

onnx = pytest.importorskip("onnx")


def _changed(model, path, change):
    proto = onnx.load(str(model))
    change(proto)
    onnx.save(proto, str(path))
    return path


def test_a_session_answers_with_maps_by_name(dots_model, fake_description):
    session = OnnxSession(dots_model, threads=1)

    maps = session.run(np.zeros((1, 3, 64, 96), np.float32))

    assert session.description == fake_description
    assert {name: values.shape for name, values in maps.items()} == {
        "heatmaps_s4": (17, 16, 24),
        "tags_s4": (17, 16, 24),
        "heatmaps_s2": (17, 32, 48),
    }


@pytest.mark.parametrize(
    "shape", [(1, 3, 64, 90), (1, 3, 0, 64), (2, 3, 64, 64), (1, 1, 64, 64), (64, 64, 3)]
)
def test_a_picture_that_does_not_fit_is_answered_in_one_line(dots_model, shape, capfd):
    session = OnnxSession(dots_model, threads=1)

    with pytest.raises(ShapeError) as caught:
        session.run(np.zeros(shape, np.float32))

    assert str(caught.value) == (
        f"image must be of shape [1, 3, H, W] with H and W in multiples of 32 pixels, but got {list(shape)}"
    )
    assert capfd.readouterr().err == ""


def test_a_file_with_a_free_first_axis_takes_batches(crop_dots_model, crop_dots_batch_model):
    images = np.random.default_rng(0).standard_normal((3, 3, 64, 96)).astype(np.float32)
    session = OnnxSession(crop_dots_batch_model)

    maps = session.run_batch(images)

    assert session.takes_batches
    assert not OnnxSession(crop_dots_model).takes_batches
    assert maps["heatmaps_s4"].shape == (3, 17, 16, 24)
    for row, image in enumerate(images):
        np.testing.assert_allclose(
            maps["heatmaps_s4"][row], session.run(image[None])["heatmaps_s4"], atol=1e-6
        )
    with pytest.raises(ShapeError, match=r"multiples of 32 pixels, but got \[1, 3, 64, 95\]"):
        session.run_batch(images[..., :95])


def test_a_description_is_read_without_running_the_model(dots_model, fake_description):
    assert read_description(dots_model) == fake_description


def test_a_checkpoint_of_training_is_told_from_a_model_file(tmp_path):
    path = tmp_path / "last.pt"
    path.write_bytes(b"PK")

    with pytest.raises(CheckpointError, match=rf"no.* a model file; .*: fleetpose export {path} last\.onnx"):
        OnnxSession(path, threads=1)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), (b"", "cannot read"), (b"hello", "cannot read")]
)
@pytest.mark.parametrize("read", [OnnxSession, read_description])
def test_a_file_that_is_no_model_is_named_in_one_line(tmp_path, content, message, read, capfd):
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(CheckpointError, match=message) as caught:
        read(path)

    assert "broken.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_model_without_a_description_says_how_to_get_one(dots_model, tmp_path):
    path = _changed(dots_model, tmp_path / "bare.onnx", lambda proto: proto.ClearField("metadata_props"))

    with pytest.raises(CheckpointError, match=r"does not describe itself.*fleetpose export"):
        OnnxSession(path)


def test_a_model_with_a_faulty_description_is_named(dots_model, tmp_path):
    def spoil(proto):
        proto.metadata_props[0].value = proto.metadata_props[0].value.replace('"licence"', '"license"')

    path = _changed(dots_model, tmp_path / "odd.onnx", spoil)

    with pytest.raises(CheckpointError, match=r"odd\.onnx.*lacks the key 'licence'"):
        OnnxSession(path)


def test_outputs_that_are_not_the_described_ones_are_refused(dots_model, tmp_path):
    def swap(proto):
        outputs = list(proto.graph.output)
        del proto.graph.output[:]
        proto.graph.output.extend(outputs[::-1])

    path = _changed(dots_model, tmp_path / "swapped.onnx", swap)

    with pytest.raises(CheckpointError, match="has the outputs heatmaps_s2, tags_s4, heatmaps_s4"):
        OnnxSession(path)


def test_a_number_of_threads_below_one_is_refused(dots_model):
    with pytest.raises(ConfigError, match="threads must be at least 1, got 0"):
        OnnxSession(dots_model, threads=0)

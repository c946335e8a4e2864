"""Model files with packed weights: small, and still the same model."""

import numpy as np
import onnx
import onnxruntime
import pytest

from fleetpose.errors import CheckpointError
from fleetpose.export import packing
from fleetpose.export.packing import pack_weights


@pytest.fixture
def write_file(tmp_path):
    """Function that writes a convolution and a transposed one, as a model file, and returns its path."""

    def write(channels, *, loudness=1.0):
        rng = np.random.default_rng(0)
        weights = rng.standard_normal((channels, 3, 3, 3)).astype(np.float32)
        weights *= np.logspace(-2, 2, channels, dtype=np.float32)[:, None, None, None]  # channels differ
        back = rng.standard_normal((channels, 2, 4, 4)).astype(np.float32) * loudness / channels**2
        nodes = [
            onnx.helper.make_node("Conv", ["image", "w"], ["deep"], pads=[1, 1, 1, 1]),
            onnx.helper.make_node(
                "ConvTranspose", ["deep", "v"], ["maps"], strides=[2, 2], pads=[1, 1, 1, 1]
            ),
        ]
        ends = [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, None, None, None])
            for name in ("image", "maps")
        ]
        constants = [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(back, "v")]
        graph = onnx.helper.make_graph(nodes, "two", ends[:1], ends[1:], constants)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
        path = tmp_path / "two.onnx"
        onnx.save(model, path)
        return path

    return write


def outputs(path):
    image = np.random.default_rng(5).standard_normal((1, 3, 24, 40)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


def test_packed_weights_take_a_quarter_of_the_room_and_compute_alike(write_file, monkeypatch):
    monkeypatch.setattr(packing, "PACKED_FROM_ELEMENTS", (1000,))
    path = write_file(400)
    size, before = path.stat().st_size, outputs(path)

    difference = pack_weights(path)

    after = outputs(path)
    assert path.stat().st_size < 0.35 * size
    assert 1e-5 < difference < 0.08
    assert 0 < np.abs(after - before).max() < 0.05 * before.std()
    onnx.checker.check_model(onnx.load(path))


def test_small_weights_become_halves_only(write_file, monkeypatch):
    monkeypatch.setattr(packing, "PACKED_FROM_ELEMENTS", (11_000,))
    path = write_file(400)

    pack_weights(path)

    kinds = {weights.name: weights.data_type for weights in onnx.load(path).graph.initializer}
    assert kinds["w_half"] == onnx.TensorProto.FLOAT16
    assert kinds["v_packed"] == onnx.TensorProto.INT8


def test_a_file_without_large_weights_is_left_alone(write_file):
    path = write_file(8)
    content = path.read_bytes()

    with pytest.raises(CheckpointError, match=r"no convolution of .*two\.onnx has 100000 float32 weights"):
        pack_weights(path)

    assert path.read_bytes() == content


def test_a_file_that_changes_too_much_is_left_alone(write_file, monkeypatch):
    monkeypatch.setattr(packing, "PACKED_FROM_ELEMENTS", (1000,))
    monkeypatch.setattr(packing, "TOLERANCE", 1e-6)
    path = write_file(400)
    content = path.read_bytes()

    with pytest.raises(CheckpointError, match=r"change by .* standard deviations, at most 1e-06"):
        pack_weights(path)

    assert path.read_bytes() == content


def test_where_that_changes_too_much_only_the_largest_weights_are_packed(write_file, monkeypatch):
    monkeypatch.setattr(packing, "PACKED_FROM_ELEMENTS", (1000, 11_000, 10**9))
    changes = iter([0.7, 0.3])
    monkeypatch.setattr(packing, "_largest_change", lambda *_: next(changes))
    path = write_file(400)

    difference = pack_weights(path)

    kinds = {weights.name: weights.data_type for weights in onnx.load(path).graph.initializer}
    assert difference == 0.3
    assert kinds["w_half"] == onnx.TensorProto.FLOAT16
    assert kinds["v_packed"] == onnx.TensorProto.INT8


def test_a_file_whose_largest_weights_cannot_be_packed_is_left_alone(write_file, monkeypatch):
    monkeypatch.setattr(packing, "PACKED_FROM_ELEMENTS", (1000, 10**9))
    monkeypatch.setattr(packing, "_largest_change", lambda *_: 0.7)
    path = write_file(400)
    content = path.read_bytes()

    with pytest.raises(CheckpointError, match=r"change by 0\.7 standard deviations, at most 0\.5"):
        pack_weights(path)

    assert path.read_bytes() == content

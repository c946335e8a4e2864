import pytest

from fleetpose.runtime import ceiling
from fleetpose.runtime.ceiling import has_int8_layers, peak_gflops
from fleetpose.runtime.choice import is_installed

onnx = pytest.importorskip("onnx")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(ceiling, "_ROUNDS", 2)


@pytest.mark.parametrize("has_int8", [False, True])
@pytest.mark.parametrize("runtime", ["onnx", "openvino", "torch"])
def test_every_runtime_has_a_peak(runtime, has_int8):
    if runtime == "torch":
        pytest.importorskip("torch")
    elif not is_installed(runtime):
        pytest.skip(f"{runtime} is not installed")

    peak = peak_gflops(runtime, threads=1, has_int8=has_int8)

    # From a small board to a large server.
    assert 0.1 < peak < 100_000


def test_the_convolution_has_as_many_operations_as_are_counted():
    model = onnx.load_model_from_string(ceiling._convolution(has_int8=False))

    (weights,) = model.graph.initializer
    assert 2 * onnx.numpy_helper.to_array(weights).size * ceiling._SIDE**2 == ceiling._OPERATIONS


def test_without_onnx_there_is_no_peak(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)

    assert peak_gflops("onnx") is None


def test_models_in_8_bits_are_told_apart(tmp_path, dots_model):
    (tmp_path / "int8.onnx").write_bytes(ceiling._convolution(has_int8=True))
    (tmp_path / "int8.xml").write_text('<layer type="FakeQuantize"/>')

    assert has_int8_layers(tmp_path / "int8.onnx")
    assert has_int8_layers(tmp_path / "int8.xml")
    assert not has_int8_layers(dots_model)

"""What ncnn's converter makes of a model computes the same, and what it cannot is refused in one line."""

from dataclasses import replace

import numpy as np
import pytest

from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.errors import CheckpointError, MissingExtraError
from fleetpose.export import ncnn
from fleetpose.export.ncnn import weights_of, write_ncnn
from fleetpose.export.ramps import ramps_as_sums
from fleetpose.runtime.ncnn_session import NcnnSession
from fleetpose.runtime.session import OnnxSession, read_description
from fleetpose.weights import find_model

onnx = pytest.importorskip("onnx")
pytest.importorskip("ncnn", reason="the extra fleetpose[ncnn] is not installed")

needs_converter = pytest.mark.skipif(
    ncnn.importlib.util.find_spec("pnnx") is None, reason="the extra fleetpose[export-ncnn] is not installed"
)


def _written(folder, source, **settings):
    description = read_description(source)
    (folder / "description.json").write_text(description.to_json())
    target = folder / "model.ncnn.param"
    write_ncnn(onnx.load(str(source)), target, description, **settings)
    return target


def _graph(kind, **attributes):
    """Model of one layer between an image and 17 maps."""
    make = onnx.helper
    values = [
        make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, "h", "w"])
        for name in ("image", "heatmaps_s1")
    ]
    node = make.make_node(kind, ["image"], ["heatmaps_s1"], **attributes)
    graph = make.make_graph([node], "test", values[:1], values[1:])
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=10)


@needs_converter
@pytest.mark.parametrize("name", ["litepose-plain", "slimdeconv-plain"])
def test_ncnn_computes_what_onnx_runtime_computes_at_any_size(tmp_path, name):
    source = find_model(name)
    session = NcnnSession(_written(tmp_path, source), threads=1)
    reference = OnnxSession(source, threads=1)
    rng = np.random.default_rng(0)

    assert session.description == reference.description
    for size in ((64, 96), (128, 64)):
        image = rng.standard_normal((1, 3, *size)).astype(np.float32)
        maps, expected = session.run(image), reference.run(image)
        assert list(maps) == list(expected)
        for field, values in maps.items():
            np.testing.assert_allclose(values, expected[field], atol=2e-5)


@needs_converter
def test_half_weights_take_half_the_room(tmp_path):
    source = find_model("slimdeconv-plain")
    (tmp_path / "half").mkdir()
    full = _written(tmp_path, source)
    half = _written(tmp_path / "half", source, has_half_weights=True)
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)

    assert weights_of(half).stat().st_size < 0.6 * weights_of(full).stat().st_size
    (expected,) = NcnnSession(full).run(image).values()
    (found,) = NcnnSession(half).run(image).values()
    assert 0 < np.abs(found - expected).max() < 0.02


@needs_converter
def test_a_layer_that_ncnn_lacks_is_named(tmp_path, fake_description):
    description = replace(fake_description, fields=(Field(FieldKind.HEATMAPS, 17, stride=1),))

    with pytest.raises(CheckpointError, match=r"dots cannot become an ncnn model: ncnn lacks") as caught:
        write_ncnn(_graph("Cast", to=onnx.TensorProto.INT64), tmp_path / "model.ncnn.param", description)

    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_ramps_become_running_sums_of_the_same_values():
    model = onnx.load(str(find_model("litepose-plain")))
    before = onnx.load(str(find_model("litepose-plain")))

    assert ramps_as_sums(model) == 2
    assert ramps_as_sums(model) == 0
    assert not {node.op_type for node in model.graph.node} & {"Range", "Shape"}
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 96)).astype(np.float32)
    for one, other in zip(_run(model, image), _run(before, image), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def _run(model, image):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"image": image})


def test_a_missing_converter_is_named_with_what_installs_it(tmp_path, monkeypatch, fake_description):
    monkeypatch.setattr(ncnn.importlib.util, "find_spec", lambda _: None)

    with pytest.raises(MissingExtraError, match=r"pip install 'fleetpose\[export-ncnn\]'"):
        write_ncnn(_graph("Relu"), tmp_path / "model.ncnn.param", fake_description)

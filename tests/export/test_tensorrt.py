"""TensorRT is told exactly what to do, and models that it is not known to read are refused."""

from dataclasses import replace

import pytest

from fleetpose.errors import CheckpointError
from fleetpose.export.ramps import ramps_as_sums
from fleetpose.export.tensorrt import check_tensorrt, trtexec_line
from fleetpose.runtime.session import read_description
from fleetpose.weights import find_model

onnx = pytest.importorskip("onnx")


def _model(kind, *, opset=18, domain=""):
    make = onnx.helper
    values = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("a", "b")]
    node = make.make_node(kind, ["a"], ["b"], domain=domain)
    graph = make.make_graph([node], "test", values[:1], values[1:])
    return make.make_model(graph, opset_imports=[make.make_opsetid("", opset)])


@pytest.mark.parametrize("name", ["litepose-plain", "slimdeconv-plain"])
def test_the_bundled_models_pass_the_check(name):
    path = find_model(name)
    model = onnx.load(str(path))
    ramps_as_sums(model)

    check_tensorrt(model, read_description(path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "Relu", "opset": 8}, "dots is of ONNX opset 8, TensorRT reads 9 to"),
        ({"kind": "Range"}, "is not known to read: Range"),
        ({"kind": "StringSplit"}, "is not known to read: StringSplit"),
        ({"kind": "Relu", "domain": "com.microsoft"}, "is not known to read: com.microsoft"),
    ],
)
def test_what_tensorrt_does_not_read_is_named(settings, message, fake_description):
    with pytest.raises(CheckpointError, match=message):
        check_tensorrt(_model(**settings), fake_description)


def test_a_bottom_up_engine_is_for_half_to_twice_the_size(fake_description):
    settings = replace(fake_description.input, short_side=96, multiple=64)

    line = trtexec_line(replace(fake_description, input=settings))

    assert line.endswith(
        "--minShapes=image:1x3x64x64 --optShapes=image:1x3x128x128 --maxShapes=image:1x3x192x192"
    )


def test_a_top_down_engine_is_for_the_crop(fake_description):
    line = trtexec_line(replace(fake_description, codec={"type": "top_down", "input_size": [256, 192]}))

    assert line.count("image:1x3x256x192") == 3

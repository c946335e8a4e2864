"""Every rewrite leaves what the graph computes as it is, and does what it says."""

import numpy as np
import onnxruntime
import pytest

from fleetpose.export.rewrite import (
    fold_normalisations,
    fold_scales,
    merge_deconvs,
    resize_instead_of_deconvs,
    simplify,
)

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - after the check above

DOUBLING = {"strides": [2, 2], "pads": [1, 1, 1, 1], "kernel_shape": [4, 4]}


def _graph(nodes, inputs, weights, outputs=("out",)):
    """Model of nodes (kind, inputs, outputs, attributes), inputs by name → channels, and weights by name."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, count, "h", "w"])
        for name, count in inputs.items()
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs]
    graph = helper.make_graph(
        [helper.make_node(kind, ins, outs, **settings) for kind, ins, outs, settings in nodes],
        "test",
        values,
        results,
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _drawn(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def _upsampling(*, has_bias=False, second=None, extra=(), outputs=("out",)):
    """What LitePose does at each doubling: two transposed convolutions, their sum, normalised."""
    weights = {
        "first": _drawn(6, 5, 4, 4),
        "second": _drawn(3, 5, 4, 4),
        "variance": 0.5 + _drawn(5) ** 2,
        **{name: _drawn(5, seed=n) for n, name in enumerate(("gain", "shift", "mean", "bias", "bias2"))},
    }
    nodes = [
        ("ConvTranspose", ["a", "first", *(["bias"] if has_bias else [])], ["up_a"], DOUBLING),
        ("ConvTranspose", ["b", "second", *(["bias2"] if has_bias else [])], ["up_b"], second or DOUBLING),
        ("Add", ["up_a", "up_b"], ["sum"], {}),
        ("BatchNormalization", ["sum", "gain", "shift", "mean", "variance"], ["norm"], {"epsilon": 1e-3}),
        ("Relu", ["norm"], ["out"], {}),
        *extra,
    ]
    used = {name for _, ins, _, _ in nodes for name in ins}
    weights = {name: array for name, array in weights.items() if name in used}
    return _graph(nodes, {"a": 6, "b": 3}, weights, outputs)


def _run(model):
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(
        None, {one.name: _drawn(1, one.shape[1], 5, 7, seed=9) for one in session.get_inputs()}
    )


def _kinds(model):
    return [node.op_type for node in model.graph.node]


def _assert_same(model, rewrite, *, count):
    before = _run(model)

    assert rewrite(model) == count

    for expected, values in zip(before, _run(model), strict=True):
        np.testing.assert_allclose(values, expected, atol=1e-5 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("has_bias", [False, True])
def test_a_sum_of_two_deconvs_becomes_one_of_both_inputs(has_bias):
    model = _upsampling(has_bias=has_bias)

    _assert_same(model, merge_deconvs, count=1)

    assert _kinds(model) == ["Concat", "ConvTranspose", "BatchNormalization", "Relu"]
    assert not {"first", "second"} & {one.name for one in model.graph.initializer}


def test_a_deconv_whose_map_is_needed_elsewhere_stays():
    model = _upsampling(extra=[("Relu", ["up_a"], ["again"], {})], outputs=("out", "again"))

    _assert_same(model, merge_deconvs, count=0)


def test_a_deconv_whose_map_is_an_output_stays():
    model = _upsampling(outputs=("out", "up_b"))

    _assert_same(model, merge_deconvs, count=0)


def test_deconvs_of_other_settings_are_not_merged():
    shifted = {**DOUBLING, "pads": [0, 0, 2, 2]}
    model = _upsampling(second=shifted)

    _assert_same(model, merge_deconvs, count=0)


@pytest.mark.parametrize("has_bias", [False, True])
def test_a_normalisation_folds_into_the_deconv_before_it(has_bias):
    model = _upsampling(has_bias=has_bias)
    merge_deconvs(model)

    _assert_same(model, fold_normalisations, count=1)

    assert _kinds(model) == ["Concat", "ConvTranspose", "Relu"]


def test_a_normalisation_behind_a_sum_stays():
    _assert_same(_upsampling(), fold_normalisations, count=0)


def _e_swish(*, extra=(), outputs=("out",)):
    weights = {"kernel": _drawn(2, 3, 3, 3), "bias": _drawn(2), "factor": np.float32(1.25)}
    nodes = [
        ("Sigmoid", ["x"], ["gate"], {}),
        ("Mul", ["x", "gate"], ["swish"], {}),
        ("Mul", ["swish", "factor"], ["scaled"], {}),
        ("Conv", ["scaled", "kernel", "bias"], ["out"], {"pads": [1, 1, 1, 1]}),
        *extra,
    ]
    return _graph(nodes, {"x": 3}, weights, outputs)


def test_the_factor_of_e_swish_moves_into_the_next_convolution_and_spares_its_bias():
    model = _e_swish()

    _assert_same(model, fold_scales, count=1)

    assert _kinds(model) == ["Sigmoid", "Mul", "Conv"]


def test_a_factor_that_others_need_too_stays():
    model = _e_swish(extra=[("Relu", ["scaled"], ["again"], {})], outputs=("out", "again"))

    _assert_same(model, fold_scales, count=0)


def test_weights_behind_a_cast_are_found_and_dropped_with_it():
    model = _upsampling()
    for weights in model.graph.initializer:
        if weights.name in {"first", "second"}:
            halved = numpy_helper.to_array(weights).astype(np.float16)
            cast = helper.make_node("Cast", [f"{weights.name}_half"], [weights.name], to=TensorProto.FLOAT)
            weights.CopyFrom(numpy_helper.from_array(halved, f"{weights.name}_half"))
            model.graph.node.insert(0, cast)

    _assert_same(model, merge_deconvs, count=1)

    assert "Cast" not in _kinds(model)
    assert not any(one.name.endswith("_half") for one in model.graph.initializer)


def _interpolation(weight):
    settings = {**DOUBLING, "group": 3}
    nodes = [("ConvTranspose", ["x", "w"], ["y"], settings), ("ConvTranspose", ["y", "w"], ["out"], settings)]
    return _graph(nodes, {"x": 3}, {"w": weight})


def test_bilinear_deconvs_become_resizing_at_the_border_too():
    line = np.array([0.25, 0.75, 0.75, 0.25], np.float32)
    model = _interpolation(np.tile(np.outer(line, line), (3, 1, 1, 1)))

    _assert_same(model, resize_instead_of_deconvs, count=2)

    assert "ConvTranspose" not in _kinds(model)


def test_a_deconv_that_learned_is_no_resizing():
    _assert_same(_interpolation(_drawn(3, 1, 4, 4)), resize_instead_of_deconvs, count=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("litepose-xs", {"merge_deconvs": 3, "fold_normalisations": 3}),
        ("efficientpose-rt", {"fold_scales": 18}),
    ],
)
def test_networks_lose_what_they_need_not_compute(name, counts):
    torch = pytest.importorskip("torch")
    from fleetpose.export.onnx_file import traced
    from fleetpose.models import build

    torch.manual_seed(0)
    network = build(name).eval()
    model = traced(network)
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))

    assert simplify(model) == counts

    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = network(image)
    for field, values in zip(network.fields, session.run(None, {"image": image.numpy()}), strict=True):
        reference = expected[field.name].numpy()
        np.testing.assert_allclose(values, reference, atol=1e-4 * max(1.0, float(np.abs(reference).max())))
    assert "Pad" not in _kinds(model)  # the exporter folds lopsided borders into convolutions by itself

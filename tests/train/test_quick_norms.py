import copy
from contextlib import nullcontext

import pytest
import torch
import torch.fx
from torch import nn

from fleetpose.models.layers import Activation, ConvBN, ESwish, conv2d, normalised
from fleetpose.train.quick_gradients import quick_gradients

pytest.importorskip("numba", reason="quick layers need numba: pip install 'fleetpose[train]'")

CPU = torch.device("cpu")
ACTIVATIONS = {
    "none": nn.Identity(),
    "relu": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(inplace=True),
    "swish": nn.SiLU(),
    "eswish": ESwish(),
}


def _norm(channels, seed=0, **settings):
    """Batch normalisation with weights of both signs and statistics that have moved."""
    random, norm = torch.Generator().manual_seed(seed), nn.BatchNorm2d(channels, **settings)
    with torch.no_grad():
        for one in (norm.weight, norm.bias, norm.running_mean):
            one.copy_(torch.randn(channels, generator=random))
    return norm


def _learnt(norm, activation, x, residual, way):
    """Output, gradients of all that learns, and statistics; the output's gradient is uneven."""
    norm = copy.deepcopy(norm)
    x = x.clone().requires_grad_()
    residual = None if residual is None else residual.clone().requires_grad_()
    with way:
        out = normalised(norm, activation, x, residual)
    out.backward(torch.linspace(-9, 9, out.numel()).sin().to(out.dtype).view(out.shape))
    found = [out.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]
    return [*found, norm.num_batches_tracked, *([] if residual is None else [residual.grad])]


def _is_near(a, b, tolerance):
    return (a.double() - b.double()).norm() <= tolerance * b.double().norm()


def _is_quick(out):
    return "NormActivation" in type(out.grad_fn).__name__


@pytest.mark.parametrize("shape", [(2, 16, 1, 1), (3, 24, 6, 5), (2, 40, 8, 8), (4, 600, 2, 3)])
@pytest.mark.parametrize("is_added", [False, True], ids=["alone", "residual"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_it_learns_what_the_ordinary_layers_learn(name, is_added, shape):
    torch.manual_seed(0)
    x, residual = 3 * torch.randn(shape) + 5, torch.randn(shape) if is_added else None
    norm, activation = _norm(shape[1]), ACTIVATIONS[name]

    quick = _learnt(norm, activation, x, residual, quick_gradients(CPU))
    doubled = (x.double(), residual.double() if is_added else None)
    exact = _learnt(norm.double(), activation, *doubled, nullcontext())

    # The gradient of x of two values of a channel is 0 but for epsilon: all of it is rounding.
    tolerances = [2e-5, 1e-2 if shape[2:] == (1, 1) else 2e-4, *(2e-5,) * 6]
    assert all(_is_near(a, b, tol) for a, b, tol in zip(quick, exact, tolerances, strict=False))
    assert len(quick) == len(exact)


@pytest.mark.parametrize("is_added", [False, True], ids=["alone", "residual"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_half_precise_maps_are_right_to_their_precision(name, is_added):
    torch.manual_seed(0)
    shape = (2, 32, 12, 10)
    x, residual = torch.randn(shape).bfloat16(), torch.randn(shape).bfloat16() if is_added else None

    quick = _learnt(_norm(32), ACTIVATIONS[name], x, residual, quick_gradients(CPU))
    full = (x.float(), residual.float() if is_added else None)
    exact = _learnt(_norm(32), ACTIVATIONS[name], *full, nullcontext())

    assert quick[0].dtype == quick[1].dtype == torch.bfloat16
    assert quick[2].dtype == torch.float32
    assert all(_is_near(a, b, 5e-3) for a, b in zip(quick, exact, strict=True))


def test_rounding_goes_to_the_nearest_half_precise_number_and_to_even_ones():
    values = torch.linspace(-3, 3, 2 * 16 * 8 * 8).view(2, 16, 8, 8)
    norm = nn.BatchNorm2d(16)

    with quick_gradients(CPU), torch.no_grad(), torch.enable_grad():
        out = normalised(norm, nn.Identity(), values.bfloat16(), None)

    with torch.no_grad():
        exact = nn.BatchNorm2d(16)(values.bfloat16().float()).bfloat16()
    # Both round the same numbers but for the last place of float32, which decides one in many thousands.
    assert (out != exact).float().mean() < 1e-3


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_statistics_of_maps_far_from_zero_are_exact(offset):
    torch.manual_seed(0)
    x = offset + 0.1 * torch.randn(8, 16, 40, 40)
    norm = nn.BatchNorm2d(16, momentum=1.0)

    with quick_gradients(CPU):
        normalised(norm, nn.ReLU(), x, None)

    assert _is_near(norm.running_mean, x.double().mean(dim=(0, 2, 3)), 1e-6)
    assert _is_near(norm.running_var, x.double().var(dim=(0, 2, 3)), 1e-4)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("where", ["x", "residual", "gradient"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_no_number_is_not_hidden(name, where, dtype):
    x, residual = (torch.randn(2, 16, 4, 4).to(dtype) for _ in range(2))
    grad = torch.ones_like(x)
    {"x": x, "residual": residual, "gradient": grad}[where][1, 3, 2, 1] = torch.nan
    x.requires_grad_()

    with quick_gradients(CPU):
        out = normalised(nn.BatchNorm2d(16), ACTIVATIONS[name], x, residual)
    out.backward(grad)

    if where != "gradient":
        assert out[1, 3, 2, 1].isnan()
    elif name in {"none", "swish", "eswish"} or 0 < out[1, 3, 2, 1] < 6:
        assert x.grad[1, 3, 2, 1].isnan()
    assert out[:, :3].isfinite().all()


def test_swish_stays_finite_for_any_map():
    x = torch.zeros(1, 16, 4, 4)
    residual = torch.zeros_like(x)
    residual[..., 0, 0], residual[..., 0, 1] = 1e30, -1e30
    residual.requires_grad_()

    with quick_gradients(CPU):
        out = normalised(nn.BatchNorm2d(16), nn.SiLU(), x, residual)
    out.sum().backward()

    assert torch.allclose(out[0, 0, 0, :2], torch.tensor([1e30, 0.0]), atol=1e20)
    assert torch.allclose(residual.grad[0, 0, 0], torch.tensor([1.0, 0.0, 0.5, 0.5]), atol=1e-6)


def test_results_do_not_depend_on_threads_or_repetition():
    torch.manual_seed(0)
    x, residual, norm = torch.randn(3, 40, 9, 7), torch.randn(3, 40, 9, 7), _norm(40)
    threads, found = torch.get_num_threads(), []

    for count in (1, 1, 2, 3):
        torch.set_num_threads(count)
        found.append(_learnt(norm, nn.SiLU(), x, residual, quick_gradients(CPU)))
    torch.set_num_threads(threads)

    assert all(a.equal(b) for one in found for a, b in zip(one, found[0], strict=True))


@pytest.mark.parametrize(
    "arrange",
    [torch.Tensor.contiguous, lambda x: x.transpose(2, 3).contiguous().transpose(2, 3)],
    ids=["channels first", "transposed"],
)
def test_any_order_in_memory_is_right(arrange):
    torch.manual_seed(0)
    x, residual = torch.randn(2, 24, 10, 8), torch.randn(2, 24, 10, 8)

    quick = _learnt(_norm(24), nn.ReLU(), arrange(x), arrange(residual), quick_gradients(CPU))
    ordinary = _learnt(_norm(24), nn.ReLU(), x, residual, nullcontext())

    assert all(_is_near(a, b, 1e-4) for a, b in zip(quick, ordinary, strict=True))


def test_a_layer_of_the_networks_is_quick_and_takes_a_residual():
    torch.manual_seed(0)
    layer, x, residual = (
        ConvBN(conv2d(3, 16), Activation.RELU),
        torch.randn(2, 3, 8, 8),
        torch.randn(2, 16, 8, 8),
    )

    ordinary = layer(x, residual)
    with quick_gradients(CPU):
        quick = layer(x, residual)

    assert _is_quick(quick)
    assert not _is_quick(ordinary)
    assert _is_near(quick, ordinary, 1e-5)


@pytest.mark.parametrize(
    ("norm", "activation", "shape"),
    [
        (nn.BatchNorm2d(16).eval(), nn.ReLU(), (2, 16, 4, 4)),
        (nn.BatchNorm2d(16, momentum=None), nn.ReLU(), (2, 16, 4, 4)),
        (nn.BatchNorm2d(16, affine=False), nn.ReLU(), (2, 16, 4, 4)),
        (nn.BatchNorm2d(16, track_running_stats=False), nn.ReLU(), (2, 16, 4, 4)),
        (nn.BatchNorm2d(16), nn.Hardswish(), (2, 16, 4, 4)),
        (nn.InstanceNorm2d(16, affine=True), nn.ReLU(), (2, 16, 4, 4)),
        (nn.BatchNorm2d(3), nn.ReLU(), (1, 3, 5, 5)),
    ],
    ids=["not training", "mean of all", "no weights", "no statistics", "hard swish", "other norm", "too few"],
)
def test_other_layers_stay_as_they_are(norm, activation, shape):
    x = torch.randn(shape, requires_grad=True)

    with quick_gradients(CPU):
        out = normalised(norm, activation, x, None)

    assert not _is_quick(out)
    assert out.equal(activation(copy.deepcopy(norm)(x)))


def test_nothing_is_kept_where_nothing_learns():
    with quick_gradients(CPU), torch.no_grad():
        out = normalised(nn.BatchNorm2d(16), nn.ReLU(), torch.randn(2, 16, 4, 4), None)

    assert out.grad_fn is None


def test_a_single_value_per_channel_is_refused_as_ever():
    with quick_gradients(CPU), pytest.raises(ValueError, match="more than 1 value"):
        normalised(nn.BatchNorm2d(16), nn.ReLU(), torch.randn(1, 16, 1, 1), None)


def test_tracers_see_the_layers():
    traced = torch.fx.symbolic_trace(ConvBN(conv2d(3, 16), Activation.RELU))

    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == [
        "conv",
        "norm",
        "activation",
    ]

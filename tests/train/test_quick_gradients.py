import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fleetpose.models import build
from fleetpose.train import quick_gradients as module
from fleetpose.train.quick_gradients import quick_gradients

numba = pytest.importorskip("numba", reason="quick gradients need numba: pip install 'fleetpose[train]'")

tap_sums = pytest.importorskip("fleetpose.train.tap_sums")

CPU = torch.device("cpu")


def _gradients(x, weight, way, **settings):
    """Output and gradients of a depthwise convolution whose output's gradient is uneven."""
    x, weight = x.clone(memory_format=torch.preserve_format).requires_grad_(), weight.clone().requires_grad_()
    with way:
        out = torch.conv2d(x, weight, groups=len(weight), **settings)
    out.backward(torch.linspace(-1, 1, out.numel()).sin().to(out.dtype).view(out.shape))
    return out.detach(), x.grad, weight.grad


def _is_near(a, b, tolerance):
    return (a.double() - b.double()).norm() <= tolerance * b.double().norm()


def _is_quick(out):
    return "Depthwise" in type(out.grad_fn).__name__


@pytest.mark.parametrize("kernel", [5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("batch", "channels", "size"), [(1, 16, (9, 13)), (3, 40, (12, 7)), (2, 33, (1, 1))])
def test_gradients_equal_the_ordinary_ones(kernel, stride, batch, channels, size):
    torch.manual_seed(0)
    x, weight = torch.randn(batch, channels, *size), torch.randn(channels, 1, kernel, kernel)
    x = x.contiguous(memory_format=torch.channels_last)
    settings = {"stride": stride, "padding": kernel // 2}

    quick = _gradients(x, weight, quick_gradients(CPU), **settings)
    ordinary = _gradients(x.double(), weight.double(), nullcontext(), **settings)

    assert all(_is_near(a, b, 1e-5) for a, b in zip(quick, ordinary, strict=True))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, (1, 3), (3, 0), 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_border_is_right(padding, stride, dtype):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 20, 11, 14).to(dtype), torch.randn(20, 1, 5, 5).to(dtype)
    settings = {"padding": padding, "stride": stride}

    quick = _gradients(x, weight, quick_gradients(CPU), **settings)
    ordinary = _gradients(x.float(), weight.float(), nullcontext(), **settings)

    tolerance = 1e-5 if dtype == torch.float32 else 4e-3
    assert all(_is_near(a, b, tolerance) for a, b in zip(quick, ordinary, strict=True))


@pytest.mark.parametrize(
    "arrange",
    [
        torch.Tensor.contiguous,
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: torch.cat([x, x], dim=1).contiguous(memory_format=torch.channels_last)[:, : x.shape[1]],
    ],
    ids=["channels first", "transposed", "a part of something larger"],
)
def test_any_order_in_memory_is_right(arrange):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 24, 10, 8), torch.randn(24, 1, 5, 5)

    quick = _gradients(arrange(x), weight, quick_gradients(CPU), padding=2)
    ordinary = _gradients(x, weight, nullcontext(), padding=2)

    assert all(_is_near(a, b, 1e-5) for a, b in zip(quick, ordinary, strict=True))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_under_autocast_outputs_are_half_precise_and_gradients_of_weights_are_not(kernel, stride):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 32, 16, 16).bfloat16().float(), torch.randn(32, 1, kernel, kernel)
    weight = weight.bfloat16().float()
    settings = {"padding": kernel // 2, "stride": stride}

    with torch.autocast("cpu", torch.bfloat16):
        out, grad_x, grad_weight = _gradients(x, weight, quick_gradients(CPU), **settings)
    _, ordinary_x, ordinary = _gradients(x, weight, nullcontext(), **settings)

    assert out.dtype == torch.bfloat16
    assert (grad_x.dtype, grad_weight.dtype) == (torch.float32, torch.float32)
    assert _is_near(grad_weight, ordinary, 2e-3)  # the output's gradient alone is rounded
    assert _is_near(grad_x, ordinary_x, 4e-3)


@pytest.mark.parametrize("is_half", [False, True])
def test_a_mean_over_the_picture_has_the_ordinary_gradient(is_half):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 7).contiguous(memory_format=torch.channels_last)
    x, found = x.bfloat16() if is_half else x, []

    for way in (nullcontext(), quick_gradients(CPU)):
        given = x.clone(memory_format=torch.preserve_format).requires_grad_()
        with way:
            mean = functional.adaptive_avg_pool2d(given, 1)
            out = given * mean.sigmoid()
        out.square().sum().backward()
        found.append((mean, given.grad))

    (mean, grad), (quick_mean, quick_grad) = found
    assert quick_mean.shape == (2, 3, 1, 1)
    tolerance = 8e-3 if is_half else 1e-6
    assert _is_near(quick_mean, mean, tolerance)
    assert _is_near(quick_grad, grad, tolerance)
    assert "Mean" in type(quick_mean.grad_fn).__name__
    assert type(quick_mean.grad_fn) is not type(mean.grad_fn)


def test_pools_of_other_sizes_and_unlearnt_ones_stay_as_they_are():
    x = torch.arange(16.0).view(1, 1, 4, 4).requires_grad_()

    with quick_gradients(CPU):
        quarters = functional.adaptive_avg_pool2d(x, 2)
        with torch.no_grad():
            unlearnt = functional.adaptive_avg_pool2d(x, 1)

    assert quarters.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert (unlearnt.item(), unlearnt.grad_fn) == (7.5, None)


def test_gradients_do_not_depend_on_threads_or_repetition():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 72, 9, 9), torch.randn(72, 1, 5, 5)
    threads, found = torch.get_num_threads(), []

    for count in (1, 1, 2, 3):
        torch.set_num_threads(count)
        found.append(_gradients(x, weight, quick_gradients(CPU), padding=2)[2])
    torch.set_num_threads(threads)

    assert all(one.equal(found[0]) for one in found)


def test_a_layer_that_works_twice_learns_from_both():
    torch.manual_seed(0)
    x, layer = torch.randn(2, 16, 8, 8), nn.Conv2d(16, 16, 5, padding=2, groups=16, bias=False)

    layer(layer(x)).sum().backward()
    ordinary, layer.weight.grad = layer.weight.grad, None
    with quick_gradients(CPU):
        out = layer(layer(x))
    out.sum().backward()

    assert _is_near(layer.weight.grad, ordinary, 1e-5)


@pytest.mark.parametrize(
    ("channels", "settings"),
    [
        (16, {"padding": 2, "bias": torch.zeros(16)}),
        (16, {"padding": 4, "dilation": 2}),
        (16, {"padding": 2, "stride": 3}),
        (16, {"padding": 2, "stride": (1, 2)}),
        (16, {"padding": "same"}),
        (8, {"padding": 2}),
    ],
)
def test_other_convolutions_stay_as_they_are(channels, settings):
    x, weight = torch.randn(1, channels, 8, 8), torch.randn(channels, 1, 5, 5, requires_grad=True)

    with quick_gradients(CPU):
        out = functional.conv2d(x, weight, groups=channels, **settings)

    assert not _is_quick(out)
    assert out.equal(functional.conv2d(x, weight, groups=channels, **settings))


def test_only_convolutions_that_learn_within_are_quick():
    x, weight = torch.randn(1, 16, 8, 8), torch.randn(16, 1, 5, 5, requires_grad=True)

    with quick_gradients(CPU):
        within = torch.conv2d(x, weight, groups=16)
        frozen = torch.conv2d(x, weight.detach(), groups=16)
        with torch.no_grad():
            unlearnt = torch.conv2d(x, weight, groups=16)
    outside = torch.conv2d(x, weight, groups=16)

    assert [_is_quick(out) for out in (within, frozen, unlearnt, outside)] == [True, False, False, False]


def test_nothing_changes_on_other_devices_and_without_numba(monkeypatch):
    x, weight = torch.randn(1, 16, 8, 8), torch.randn(16, 1, 5, 5, requires_grad=True)

    with quick_gradients(torch.device("cuda")):
        elsewhere = torch.conv2d(x, weight, groups=16)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    with quick_gradients(CPU):
        without = torch.conv2d(x, weight, groups=16)

    assert not _is_quick(elsewhere)
    assert not _is_quick(without)


@pytest.mark.parametrize("variant", ["litepose-xs", "slimdeconv-plain"])
def test_a_training_step_is_as_exact_as_the_ordinary_one(variant):
    torch.manual_seed(0)
    network = build(variant, num_keypoints=17).double().train().to(memory_format=torch.channels_last)
    images, start = torch.rand(2, 3, 128, 128).double(), copy.deepcopy(network.state_dict())

    exact = _step(network, images, nullcontext())
    network.load_state_dict(start)
    ordinary = _step(network.float(), images.float(), nullcontext())
    network.load_state_dict(start)
    quick = _step(network, images.float(), quick_gradients(CPU))

    assert list(quick) == list(exact)
    whole = torch.cat([one.flatten() for one in exact.values()]).norm()
    worst, worst_ordinary = (
        max((found[name] - exact[name]).norm() / whole for name in exact) for found in (quick, ordinary)
    )
    assert worst <= 1.5 * worst_ordinary
    assert any(not quick[name].equal(ordinary[name]) for name in exact)


def _step(network, images, way):
    """Gradients and running statistics after a step, as float64."""
    network.zero_grad()
    with way:
        maps = network(images.contiguous(memory_format=torch.channels_last))
    sum((one**2).mean() for one in maps.values()).backward()
    grads = {name: weight.grad.double().clone() for name, weight in network.named_parameters()}
    statistics = {name: buffer.double().clone() for name, buffer in network.named_buffers()}
    return grads | statistics


def test_machine_code_is_kept_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", str(tmp_path))
    hits = []

    for _ in range(2):
        summer = tap_sums.tap_summer.__wrapped__(3, 1)
        inputs, rows, sums = (np.zeros(cells * tap_sums.LANES, np.float32) for cells in (1, 9, 9))
        summer(inputs, inputs, 1, 1, 1, 16, 1, 1, 1, 1, 0, 1, rows, inputs.copy(), sums)
        hits.append(sum(summer.stats.cache_hits.values()))

    assert hits == [0, 1]

"""Building blocks: padding, widths, exchange between resolutions, initialisation."""

import pytest
import torch
from torch import nn

from fleetpose.models.layers import (
    Activation,
    BasicBlock,
    HighResolutionModule,
    SameConv2d,
    conv2d,
    deconv2x,
    init_predictors,
    init_weights,
    round_channels,
)


def impulse_response(layer, *, size, at):
    """Where a layer of ones answers to one lit pixel: first and last row."""
    nn.init.ones_(layer.weight)
    image = torch.zeros(1, 1, size, size)
    image[0, 0, at, at] = 1
    rows = layer(image)[0, 0].any(dim=1).nonzero().flatten()
    return rows.min().item(), rows.max().item()


@pytest.mark.parametrize(
    ("channels", "rounded"),
    [(3, 8), (8, 8), (11, 16), (12, 16), (19, 24), (24, 24), (28, 32), (27.9, 32), (43.2, 40), (106.6, 104)],
)
def test_channels_round_to_eights_but_never_lose_a_tenth(channels, rounded):
    assert round_channels(channels) == rounded


@pytest.mark.parametrize(
    ("kernel", "stride", "at", "rows"),
    [
        # A stride-2 kernel of 3 covers pixels 2i .. 2i + 2: nothing before the image, one pixel after it.
        (3, 2, 0, (0, 0)),
        (3, 2, 2, (0, 1)),
        (3, 2, 7, (3, 3)),
        # A stride-2 kernel of 5 covers pixels 2i - 1 .. 2i + 3.
        (5, 2, 0, (0, 0)),
        (5, 2, 1, (0, 1)),
        (5, 2, 7, (2, 3)),
        (3, 1, 3, (2, 4)),
        (5, 1, 3, (1, 5)),
    ],
)
def test_same_convolution_pads_more_after_than_before(kernel, stride, at, rows):
    layer = SameConv2d(1, 1, kernel=kernel, stride=stride)

    assert impulse_response(layer, size=8, at=at) == rows


@pytest.mark.parametrize(("kernel", "stride", "rows"), [(3, 1, (2, 4)), (7, 1, (0, 6)), (3, 2, (1, 2))])
def test_plain_convolution_pads_evenly(kernel, stride, rows):
    layer = conv2d(1, 1, kernel=kernel, stride=stride)

    assert impulse_response(layer, size=8, at=3) == rows


def test_transposed_convolution_doubles_and_centres():
    assert impulse_response(deconv2x(1, 1), size=4, at=1) == (1, 4)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (Activation.RELU, [0, 0, 1, 8]),
        (Activation.RELU6, [0, 0, 1, 6]),
        (Activation.SWISH, [-0.0719, 0, 0.7311, 7.9973]),
        (Activation.HARDSWISH, [0, 0, 2 / 3, 8]),
        (Activation.NONE, [-4, 0, 1, 8]),
    ],
)
def test_activations_are_what_their_names_say(activation, expected):
    values = activation.module()(torch.tensor([-4.0, 0, 1, 8]))

    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float32), atol=1e-4, rtol=0)


def test_a_silent_basic_block_passes_its_input_on():
    block = BasicBlock(2).eval()
    nn.init.zeros_(block.second.norm.weight)
    x = torch.tensor([-1.0, 2.0]).reshape(1, 2, 1, 1)

    torch.testing.assert_close(block(x).flatten(), torch.tensor([0.0, 2.0]))


def test_high_resolution_module_keeps_shapes_and_fuses_only_what_is_asked_for():
    branches = [torch.randn(1, width, 16 >> index, 8 >> index) for index, width in enumerate((3, 5, 7))]

    every = HighResolutionModule(widths=(3, 5, 7), blocks=(1, 1, 1), outputs=3)(branches)
    finest = HighResolutionModule(widths=(3, 5, 7), blocks=(1, 1, 1), outputs=1)(branches)

    assert [x.shape for x in every] == [x.shape for x in branches]
    assert [x.shape for x in finest] == [branches[0].shape]


@pytest.mark.parametrize("source", [0, 1, 2])
@pytest.mark.parametrize("target", [0, 1, 2])
def test_every_branch_hears_every_other(source, target):
    torch.manual_seed(0)
    module = HighResolutionModule(widths=(3, 5, 7), blocks=(1, 1, 1), outputs=3).eval()
    init_weights(module)
    branches = [torch.rand(1, width, 16 >> index, 16 >> index) for index, width in enumerate((3, 5, 7))]
    changed = [x + 1 if index == source else x for index, x in enumerate(branches)]

    assert not torch.equal(module(branches)[target], module(changed)[target])


@pytest.mark.parametrize(
    "layer",
    [
        conv2d(64, 96, kernel=3),
        conv2d(32, 256),
        conv2d(512, 512, kernel=7, groups=512),
        conv2d(64, 128, kernel=3, stride=2, bias=True),
        deconv2x(64, 32),
        nn.Linear(128, 200),
    ],
    ids=["3x3", "1x1", "depthwise", "strided", "transposed", "linear"],
)
def test_new_layers_keep_the_size_of_what_a_relu_hands_them(layer):
    """A ReLU halves the mean square, hence He's factor of 2; a linear layer's input comes from no ReLU."""
    torch.manual_seed(0)
    flat = isinstance(layer, nn.Linear)
    x = torch.randn(64, 128) if flat else torch.relu(torch.randn(2, layer.in_channels, 24, 24))

    init_weights(layer)
    out = layer(x) if flat else layer(x)[:, :, 4:-4, 4:-4]

    assert out.square().mean().item() == pytest.approx(1, rel=0.15)
    assert layer.bias is None or not layer.bias.any()


def test_predictors_begin_small_but_not_at_zero():
    torch.manual_seed(0)
    layer = conv2d(64, 34)

    init_predictors(layer)

    assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)

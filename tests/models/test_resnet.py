"""ResNet encoders: sizes, taps, and the names of published weights."""

import pytest
import torch

from fleetpose.errors import UnknownNameError
from fleetpose.models import resnet
from fleetpose.models.state_dicts import rename_keys


@pytest.mark.parametrize(
    ("name", "params"),
    [  # torchvision's classifiers without their last layer: 512 or 2048 times 1000, and 1000 biases
        ("resnet-18", 11_689_512 - 513_000),
        ("resnet-34", 21_797_672 - 513_000),
        ("resnet-50", 25_557_032 - 2_049_000),
        ("resnet-101", 44_549_160 - 2_049_000),
        ("resnet-152", 60_192_808 - 2_049_000),
    ],
)
def test_parameter_counts_are_those_published(name, params):
    with torch.device("meta"):
        encoder = resnet.resnet(name)

    assert sum(parameter.numel() for parameter in encoder.parameters()) == params


@pytest.mark.parametrize(
    ("name", "channels"),
    [("resnet-18", (64, 64, 128, 256, 512)), ("resnet-50", (64, 256, 512, 1024, 2048))],
)
def test_taps_are_the_last_maps_of_each_resolution(name, channels):
    encoder = resnet.resnet(name).eval()

    with torch.no_grad():
        features = encoder(torch.zeros(1, 3, 64, 96))

    assert [tap.stride for tap in encoder.taps] == [2, 4, 8, 16, 32]
    assert tuple(tap.channels for tap in encoder.taps) == channels
    assert [x.shape for x in features] == [
        (1, tap.channels, 64 // tap.stride, 96 // tap.stride) for tap in encoder.taps
    ]


def test_bottlenecks_stride_in_their_3x3_convolution():
    with torch.device("meta"):
        block = resnet.resnet("resnet-50").stages[1][0]

    strides = [part.conv.stride for part in (block.first, block.second, block.third, block.shortcut)]
    assert strides == [(1, 1), (2, 2), (1, 1), (2, 2)]


def test_entries_of_a_published_checkpoint_are_ours_by_other_names(official_shapes):
    entries = {
        key: torch.empty(shape, device="meta")
        for key, shape in official_shapes("simplebaseline_r50_256x192").items()
        if not key.startswith(("deconv_layers.", "final_layer."))
    }

    ours = rename_keys(entries, resnet.OFFICIAL_NAMES)

    with torch.device("meta"):
        expected = resnet.resnet("resnet-50").state_dict()
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in expected.items()
    }


def test_an_unknown_name_is_answered_with_close_ones():
    with pytest.raises(UnknownNameError, match="did you mean resnet-50"):
        resnet.resnet("resnet50")

"""True costs, and the papers' figures by the papers' own ways of counting."""

import pytest
import torch
from torch import nn

from fleetpose.errors import ShapeError
from fleetpose.models import build
from fleetpose.models.counting import (
    Cost,
    count,
    count_as_hrnet_summary,
    count_as_ptflops,
    count_as_tensorflow,
)
from fleetpose.models.efficientnet import efficientnet


@pytest.fixture
def small_network():
    """Return a network whose costs can be worked out by hand, for images of 8 x 6 pixels."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),  # 108 weights, 4 x 3 cells
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),  # 36 weights and 4 biases, 4 x 3 cells
        nn.ConvTranspose2d(4, 2, 4, stride=2, padding=1, bias=False),  # 128 weights, 4 x 3 to 8 x 6 cells
        nn.Upsample(scale_factor=2),  # 2 maps of 16 x 12 cells
        nn.Flatten(),
        nn.Linear(2 * 16 * 12, 5),  # 1920 weights and 5 biases
    )


PARAMETERS = 108 + 8 + 36 + 4 + 128 + 1920 + 5


def test_multiply_adds_are_counted_where_they_happen(small_network):
    assert count(small_network, (8, 6)) == Cost(PARAMETERS, 108 * 12 + 36 * 12 + 128 * 12 + 1920)


def test_hrnet_summary_counts_transposed_convolutions_at_their_output(small_network):
    assert count_as_hrnet_summary(small_network, (8, 6)) == Cost(
        PARAMETERS, 108 * 12 + 36 * 12 + 128 * 48 + 1920
    )


def test_ptflops_counts_elementwise_layers_and_biases_too(small_network):
    elementwise = 2 * 4 * 12 + 4 * 12 + 2 * 16 * 12  # normalisation, ReLU, upsampling
    biases = 4 * 12 + 5

    assert count_as_ptflops(small_network, (8, 6)) == Cost(
        PARAMETERS, 108 * 12 + 36 * 12 + 128 * 48 + 1920 + elementwise + biases
    )


def test_tensorflow_counts_additions_apart_and_statistics_as_parameters(small_network):
    assert count_as_tensorflow(small_network, (8, 6)) == Cost(
        PARAMETERS + 8, 2 * (108 * 12 + 36 * 12 + 128 * 12 + 1920)
    )


def test_counting_leaves_the_network_alone(small_network):
    small_network[1].eval()

    count(small_network, (8, 6))

    assert [module.training for module in small_network] == [True, False] + [True] * 6
    assert {parameter.device.type for parameter in small_network.parameters()} == {"cpu"}
    assert not small_network[0]._forward_hooks


def test_a_size_that_the_network_cannot_take_is_refused():
    with pytest.raises(ShapeError, match=r"multiples of 16 pixels, but got \(256, 250\)"):
        count(build("litepose-xs"), (256, 250))


@pytest.mark.parametrize(
    ("name", "giga_multiply_adds", "paper_giga"),
    [
        ("litepose-xs", 0.883, 1.2),
        pytest.param("litepose-s", 3.614, 5.0, marks=pytest.mark.slow),
        pytest.param("litepose-m", 5.264, 7.8, marks=pytest.mark.slow),
        ("litepose-l", 9.962, 13.7),
    ],
)
def test_litepose_costs_what_its_paper_says_by_ptflops(name, giga_multiply_adds, paper_giga):
    with torch.device("meta"):
        network = build(name, num_keypoints=14)

    assert round(count(network, network.input_size).operations / 1e9, 3) == giga_multiply_adds
    assert round(count_as_ptflops(network, network.input_size).operations / 1e9, 1) == paper_giga


@pytest.mark.parametrize(
    ("name", "operations", "paper"),
    [
        ("efficienthrnet-h0", 23_958_286_848, Cost(23_319_819, 25_619_230_720)),
        pytest.param(
            "efficienthrnet-hm1", 13_130_000_048, Cost(16_054_270, 14_208_000_000), marks=pytest.mark.slow
        ),
        pytest.param(
            "efficienthrnet-hm2", 7_029_956_920, Cost(10_388_653, 7_725_000_000), marks=pytest.mark.slow
        ),
        pytest.param(
            "efficienthrnet-hm3", 3_758_983_969, Cost(6_962_372, 4_209_000_000), marks=pytest.mark.slow
        ),
        ("efficienthrnet-hm4", 1_807_480_224, Cost(3_757_196, 2_105_000_000)),
    ],
)
def test_efficienthrnet_costs_what_its_paper_says_by_hrnet_summary(drawn_network, name, operations, paper):
    network = drawn_network(name)

    by_the_paper = count_as_hrnet_summary(network, network.input_size)

    assert count(network, network.input_size).operations == operations
    assert by_the_paper.params == paper.params
    assert by_the_paper.operations == pytest.approx(paper.operations, abs=0.5e6)


@pytest.mark.parametrize(
    ("name", "giga_multiply_adds"),
    [
        ("efficientnet-b0", 0.386),
        ("efficientnet-bm1", 0.254),
        ("efficientnet-bm2", 0.148),
        ("efficientnet-bm3", 0.088),
        ("efficientnet-bm4", 0.046),
    ],
)
def test_compact_efficientnets_cost_what_was_measured(name, giga_multiply_adds):
    with torch.device("meta"):
        classifier = efficientnet(name)

    assert round(count(classifier, classifier.input_size).operations / 1e9, 3) == giga_multiply_adds

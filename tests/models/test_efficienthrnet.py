"""EfficientHRNet's compound scaling."""

from dataclasses import replace

import pytest
import torch

from fleetpose.errors import ConfigError
from fleetpose.models import build, efficientnet
from fleetpose.models.efficienthrnet import VARIANTS, EfficientHRNet, compound_scaling
from fleetpose.models.layers import Activation, without_values


@pytest.mark.parametrize(
    ("phi", "size", "backbone", "widths", "modules"),
    [
        (0, 512, "b0", (32, 64, 128, 256), (1, 4, 3)),
        (-1, 480, "bm1", (26, 52, 103, 206), (1, 3, 3)),
        (-2, 448, "bm2", (21, 42, 83, 166), (1, 2, 3)),
        (-3, 416, "bm3", (17, 34, 67, 133), (1, 1, 3)),
        (-4, 384, "bm4", (14, 27, 54, 107), (1, 1, 2)),
    ],
)
def test_compound_scaling_gives_table_1_of_the_paper(phi, size, backbone, widths, modules):
    config = compound_scaling(phi)

    assert config.input_size == (size, size)
    assert config.backbone == efficientnet.VARIANTS[f"efficientnet-{backbone}"]
    assert config.widths == widths
    assert config.modules == modules


def test_compound_scaling_also_goes_up():
    config = compound_scaling(2)

    assert config.input_size == (576, 576)
    assert config.backbone == efficientnet.VARIANTS["efficientnet-b2"]
    assert config.widths == (50, 100, 199, 398)
    assert config.modules == (1, 6, 3)


@pytest.mark.parametrize("phi", [-5, 7.5])
def test_compound_scaling_ends_where_backbones_end(phi):
    with pytest.raises(ConfigError, match=f"from -4 to 7, but got {phi}"):
        compound_scaling(phi)


def test_beyond_the_last_backbone_another_will_do():
    backbone = efficientnet.VARIANTS["efficientnet-b1-lite-hardswish"]

    config = compound_scaling(8, backbone=backbone)

    assert config.backbone == backbone
    assert config.input_size == (768, 768)
    with pytest.raises(ConfigError, match="phi must be above -16"):
        compound_scaling(-17, backbone=backbone)


def test_a_fraction_lies_between_two_networks():
    below, between, above = (compound_scaling(phi) for phi in (-2, -1.5, -1))

    assert below.widths < between.widths < above.widths
    assert between.backbone.width == pytest.approx((0.826 * 0.909) ** 0.5)
    assert between.backbone.depth == pytest.approx((0.694 * 0.833) ** 0.5)
    assert between.input_size == (480, 480)  # 464 is no multiple of 32
    assert between.modules == (1, 3, 3)


@pytest.mark.parametrize(("phi", "name"), [(1, "h1"), (4, "h4"), (7, "h7"), (-4, "hm4")])
def test_names_go_as_far_as_backbones_and_all_come_as_lite(phi, name):
    config = compound_scaling(phi)

    assert VARIANTS[f"efficienthrnet-{name}"] == config
    for ending, activation in (("lite", Activation.RELU6), ("lite-hardswish", Activation.HARDSWISH)):
        lite = VARIANTS[f"efficienthrnet-{name}-{ending}"]
        assert lite.backbone == config.backbone.as_lite(activation)
        assert replace(lite, backbone=config.backbone) == config


def test_a_lite_network_by_name_has_no_gates_and_no_swish():
    with without_values():
        network = build("efficienthrnet-hm4-lite-hardswish")

    kinds = {type(part).__name__ for part in network.trunk.backbone.modules()}
    assert "Hardswish" in kinds
    assert not kinds & {"SiLU", "SqueezeExcite"}


def test_a_lite_backbone_fits_under_the_same_network():
    config = compound_scaling(-4)
    network = EfficientHRNet(config=replace(config, backbone=config.backbone.as_lite()), num_keypoints=3)

    outputs = network(torch.zeros(2, 3, 64, 64))

    assert [maps.shape[1] for maps in outputs.values()] == [3, 3, 3]
    assert not any("squeeze_excite" in key for key in network.state_dict())

"""EfficientHRNet's compound scaling."""

from dataclasses import replace

import pytest
import torch

from fleetpose.errors import ConfigError
from fleetpose.models import efficientnet
from fleetpose.models.efficienthrnet import EfficientHRNet, compound_scaling


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


@pytest.mark.parametrize("phi", [-5, 8])
def test_compound_scaling_ends_where_backbones_end(phi):
    with pytest.raises(ConfigError, match=f"from -4 to 7, but got {phi}"):
        compound_scaling(phi)


def test_a_lite_backbone_fits_under_the_same_network():
    config = compound_scaling(-4)
    network = EfficientHRNet(config=replace(config, backbone=config.backbone.as_lite()), num_keypoints=3)

    outputs = network(torch.zeros(2, 3, 64, 64))

    assert [maps.shape[1] for maps in outputs.values()] == [3, 3, 3]
    assert not any("squeeze_excite" in key for key in network.state_dict())

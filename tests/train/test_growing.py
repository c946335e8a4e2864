"""A network begins with the weights of a smaller one of its family, and goes on from there."""

from dataclasses import replace

import pytest
import torch

from fleetpose.errors import CheckpointError
from fleetpose.models import build
from fleetpose.models.checkpoints import load_strictly
from fleetpose.settings import to_plain
from fleetpose.skeletons import CROWDPOSE
from fleetpose.train.checkpoint import save_checkpoint
from fleetpose.train.config import LossSettings, Phase, TrainConfig
from fleetpose.train.growing import grow, is_deeper, shorten
from fleetpose.train.networks import build_network, take_starting_weights


def trained(name):
    """A network whose every weight and statistic is unlike a new one's."""
    torch.manual_seed(3)
    network = build(name)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, std=0.1)
    return network.eval()


def maps_of(network, size):
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return network.eval()(images)


GROWING = [
    ("slimdeconv-b0", "slimdeconv-b1"),
    ("slimdeconv-b1", "slimdeconv-b2"),
    ("litepose-xs", "litepose-s"),
]


@pytest.mark.parametrize(("small", "large"), GROWING)
def test_the_larger_network_first_computes_what_the_smaller_one_does(small, large):
    smaller, network = trained(small), build(large)

    grow(network, smaller, smaller.state_dict())

    expected = maps_of(smaller, (64, 64))
    for name, maps in maps_of(network, (64, 64)).items():
        assert expected[name].std() > 1e-3
        torch.testing.assert_close(maps, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("small", "large"), [GROWING[0], GROWING[2]])
def test_further_blocks_and_channels_learn(small, large):
    smaller, network = trained(small), build(large)
    grow(network, smaller, smaller.state_dict())
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)

    for _ in range(2):  # the first step lets somebody listen to them
        optimiser.zero_grad()
        images = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(2))
        sum(one.square().sum() for one in network.train()(images).values()).backward()
        optimiser.step()

    theirs = {name: len(value) for name, value in smaller.named_parameters()}
    learning = {
        name: value.grad[theirs[name] :] if len(value) > theirs.get(name, len(value)) else value.grad
        for name, value in network.named_parameters()
    }
    assert not [name for name, gradient in learning.items() if not gradient.any()]


@pytest.mark.parametrize(
    ("small", "large"),
    [("slimdeconv-b1", "slimdeconv-b0"), ("litepose-s", "litepose-xs"), ("litepose-plain", "litepose-s")],
)
def test_a_larger_network_or_another_make_is_refused_and_nothing_changes(small, large):
    smaller, network = trained(small), build(large)
    before = {name: value.clone() for name, value in network.state_dict().items()}

    with pytest.raises(
        CheckpointError, match=r"it is larger: stages|of another make, or larger: they differ in"
    ):
        grow(network, smaller, smaller.state_dict())

    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def silenced(network, depths):
    """Let the blocks of each stage after the first so many add nothing."""
    first = 0
    for stage, kept in zip(network.encoder.depths, depths, strict=True):
        for block in network.encoder.blocks[first + kept : first + stage]:
            torch.nn.init.zeros_(block.project.norm.weight)
            torch.nn.init.zeros_(block.project.norm.bias)
        first += stage
    return network


def test_the_shallower_network_computes_what_the_first_blocks_of_each_stage_do():
    deeper, network = trained("slimdeconv-b1"), build("slimdeconv-b0")

    shorten(network, deeper, deeper.state_dict())

    (expected,) = maps_of(silenced(deeper, network.encoder.depths), (64, 64)).values()
    (maps,) = maps_of(network, (64, 64)).values()
    assert expected.std() > 1e-3
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)
    assert is_deeper(deeper, network)
    assert not is_deeper(network, deeper)


@pytest.mark.parametrize(
    ("deep", "shallow", "says"),
    [
        ("slimdeconv-b0", "slimdeconv-b1", r"stages of encoder have \[1, 2, 2, 3, 3, 4, 1\] blocks"),
        ("slimdeconv-b3", "slimdeconv-b1", "another make or width: they differ in encoder"),
        ("litepose-s", "litepose-xs", "another make or width: they differ in"),
    ],
)
def test_shallower_or_wider_networks_cannot_be_shortened_and_nothing_changes(deep, shallow, says):
    deeper, network = build(deep), build(shallow)
    before = {name: value.clone() for name, value in network.state_dict().items()}

    with pytest.raises(CheckpointError, match=says):
        shorten(network, deeper, deeper.state_dict())

    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.fixture
def config():
    return TrainConfig(
        model="slimdeconv-b0",
        sources=(),
        phases=(Phase(size=(64, 64), batch=1, steps=1),),
        loss=LossSettings(presence=1.0, location=1.0),
    )


def test_a_run_begins_with_a_smaller_network_for_other_keypoints(config, tmp_path):
    path = tmp_path / "b0.pt"
    smaller = build_network(config)
    load_strictly(smaller, trained("slimdeconv-b0").state_dict())
    save_checkpoint(path, {"ema": smaller.state_dict(), "config": to_plain(config), "progress": {}})
    config = replace(config, model="slimdeconv-b1", skeleton="crowdpose14", init=path)
    network = build_network(config)

    note = take_starting_weights(network, config)

    (theirs,), (ours,) = (maps_of(one, (64, 64)).values() for one in (smaller, network))
    here, there = CROWDPOSE.index("left_wrist"), 9
    torch.testing.assert_close(ours[:, here], theirs[:, there], rtol=1e-4, atol=1e-5)
    assert "left_wrist" in note


def test_a_run_begins_with_a_deeper_network(config, tmp_path):
    path = tmp_path / "b1.pt"
    deeper = build_network(replace(config, model="slimdeconv-b1"))
    load_strictly(deeper, trained("slimdeconv-b1").state_dict())
    given = to_plain(replace(config, model="slimdeconv-b1"))
    save_checkpoint(path, {"ema": deeper.state_dict(), "config": given, "progress": {}})
    config = replace(config, init=path)
    network = build_network(config)

    assert take_starting_weights(network, config) == ""

    (ours,) = maps_of(network, (64, 64)).values()
    (expected,) = maps_of(silenced(deeper, network.encoder.depths), (64, 64)).values()
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_a_run_cannot_begin_with_a_network_of_another_make(config, tmp_path):
    path = tmp_path / "b0.pt"
    save_checkpoint(
        path, {"ema": build_network(config).state_dict(), "config": to_plain(config), "progress": {}}
    )
    config = replace(config, model="litepose-xs", init=path)

    with pytest.raises(
        CheckpointError, match=r"b0\.pt has weights of slimdeconv-b0, which litepose-xs cannot"
    ):
        take_starting_weights(build_network(config), config)

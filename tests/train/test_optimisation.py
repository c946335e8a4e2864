import pytest
import torch
from torch import nn

from fleetpose.train.config import OptimiserSettings
from fleetpose.train.optimisation import adamw, averaged_copy, learning_rate


def test_the_rate_rises_linearly_and_falls_to_a_hundredth():
    settings = OptimiserSettings(lr=2.0, warmup_steps=100)

    rates = [learning_rate(step, 10_000, settings) for step in (0, 49, 99, 5000, 10_000)]

    assert rates == pytest.approx([0.02, 1.0, 2.0, 1.01, 0.02], rel=1e-3)


def test_biases_and_normalisation_do_not_decay():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))

    optimiser = adamw(network, OptimiserSettings(weight_decay=0.1))

    decay = {
        id(weight): group["weight_decay"] for group in optimiser.param_groups for weight in group["params"]
    }
    assert {name: decay[id(weight)] for name, weight in network.named_parameters()} == {
        "0.weight": 0.1,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "2.weight": 0.1,
        "2.bias": 0.0,
    }


def test_the_average_first_follows_and_then_remembers():
    network = nn.Linear(1, 1, bias=False)
    averaged = averaged_copy(network, decay=0.9)
    trail = []

    for value in [1.0] * 200 + [2.0] * 10:
        network.weight.data.fill_(value)
        averaged.update_parameters(network)
        trail.append(averaged.module.weight.item())

    assert trail[0] == pytest.approx(1.0)
    assert trail[199] == pytest.approx(1.0, abs=1e-3)
    assert trail[209] == pytest.approx(2 - 0.9**10, abs=1e-3)


def test_statistics_of_normalisation_follow_the_network_itself():
    network = nn.BatchNorm1d(2)
    averaged = averaged_copy(network, decay=0.99)
    averaged.update_parameters(network)

    network(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    averaged.update_parameters(network)

    torch.testing.assert_close(averaged.module.running_mean, network.running_mean)

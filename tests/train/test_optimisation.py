import pytest
import torch
from torch import nn

from fleetpose.errors import ConfigError
from fleetpose.train.config import OptimiserSettings
from fleetpose.train.optimisation import averaged_copy, freeze, learning_rate, optimiser_for


def test_the_rate_rises_linearly_and_falls_to_a_hundredth():
    settings = OptimiserSettings(lr=2.0, warmup_steps=100)

    rates = [learning_rate(step, 10_000, settings) for step in (0, 49, 99, 5000, 10_000)]

    assert rates == pytest.approx([0.02, 1.0, 2.0, 1.01, 0.02], rel=1e-3)


def test_biases_and_normalisation_do_not_decay():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))

    optimiser = optimiser_for(network, OptimiserSettings(weight_decay=0.1))

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


def test_the_rate_drops_at_the_named_shares_of_the_run():
    settings = OptimiserSettings(lr=1.0, schedule="drops", drops=(200 / 300, 260 / 300), warmup_steps=0)

    rates = [learning_rate(step, 300, settings) for step in (0, 199, 200, 259, 260, 299)]

    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_cyclical_rate_runs_in_triangles_whose_bounds_meet():
    settings = OptimiserSettings(lr=3.0, schedule="cyclical", cycle_steps=10, last_share=0.02, warmup_steps=0)

    rates = [learning_rate(step, 1000, settings) for step in range(1001)]

    assert rates[0] == pytest.approx(3 / 3000)
    assert rates[5] == pytest.approx(3, rel=0.03)
    assert rates[5] > rates[3] > rates[1]
    assert rates[5] > rates[7] > rates[9]
    assert max(rates[990:]) == pytest.approx(0.06, rel=0.05)
    assert min(rates[990:]) == pytest.approx(0.06, rel=0.1)


@pytest.mark.parametrize(
    ("kind", "expected"), [("sgd", "SGD"), ("adam", "Adam"), ("adamw", "AdamW"), ("muon", "Muon")]
)
def test_the_optimiser_is_the_one_that_is_asked_for(kind, expected):
    optimiser = optimiser_for(nn.Linear(2, 2), OptimiserSettings(kind=kind, momentum=0.8))

    assert type(optimiser).__name__ == expected
    if kind == "sgd":
        assert optimiser.param_groups[0]["momentum"] == 0.8


def test_frozen_modules_are_found_by_pattern_and_learn_nothing():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)))

    frozen = freeze(network, ["0", "1.0"])
    optimiser = optimiser_for(network, OptimiserSettings())

    learnt = {id(weight) for group in optimiser.param_groups for weight in group["params"]}
    assert learnt == {id(weight) for weight in network[1][1].parameters()}
    assert frozen == (network[0], network[1][0])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("stem*", "frozen names 'stem\\*'.*at the top are 0, 1"), ("*", "nothing to learn")],
)
def test_freezing_nothing_or_everything_is_refused(pattern, message):
    with pytest.raises(ConfigError, match=message):
        freeze(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), [pattern])

import copy

import pytest
import torch
from torch import nn

from fleetpose.train.muon import Muon, orthogonal


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),  # sees the picture
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 16, 3, bias=False),  # a matrix [16, 72]
        nn.Conv2d(16, 16, 3, groups=16, bias=False),  # depthwise
        nn.ConvTranspose2d(16, 12, 4, bias=False),  # a matrix [16, 192]
        nn.Conv2d(12, 5, 1),  # predicts: has a bias
    )


def _draw_gradients(network, seed):
    generator = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator)


@pytest.mark.parametrize("shape", [(3, 24, 60), (2, 60, 24), (1, 16, 16)])
def test_orthogonal_matrices_have_singular_values_near_one_and_the_same_directions(shape):
    torch.manual_seed(1)
    matrices = torch.randn(shape) * torch.logspace(-2, 2, shape[2])

    turned = orthogonal(matrices)

    assert turned.shape == matrices.shape
    assert turned.dtype == torch.float32
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    loud = (values > 0.05 * values[:, :1]).all(dim=0)  # faint directions need more steps than five
    along = torch.einsum("nrk,nrc,nkc->nk", left, turned, right)[:, loud]
    assert along.min() > 0.6
    assert along.max() < 1.3


def test_kernels_between_normalisations_turn_and_all_other_weights_follow_adam(network):
    before = copy.deepcopy(network)
    optimiser = Muon(network, lr=0.01)
    _draw_gradients(network, seed=2)

    optimiser.step()

    steps = {
        name: (old - new).detach()
        for (name, new), old in zip(network.named_parameters(), before.parameters(), strict=True)
    }
    for name in ("2.weight", "4.weight"):
        values = torch.linalg.svdvals(steps[name].flatten(1))
        assert values.max() / values.min() < 2
        assert steps[name].square().mean().sqrt() == pytest.approx(0.2 * 0.01, rel=0.25)
    for name in ("0.weight", "1.weight", "1.bias", "3.weight", "5.weight", "5.bias"):
        gradient = dict(network.named_parameters())[name].grad
        torch.testing.assert_close(steps[name], 0.01 * gradient.sign(), rtol=1e-3, atol=1e-6)


def test_only_the_kernels_that_turn_decay(network):
    before = copy.deepcopy(network)
    optimiser = Muon(network, lr=0.5, weight_decay=0.2)
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)

    optimiser.step()

    shares = {
        name: (new.norm() / old.norm()).item() if old.norm() > 0 else 1.0
        for (name, new), old in zip(network.named_parameters(), before.parameters(), strict=True)
    }
    assert shares == pytest.approx(
        {name: 0.9 if name in {"2.weight", "4.weight"} else 1.0 for name in shares}, rel=1e-5
    )


def test_weights_without_a_gradient_stay(network):
    before = copy.deepcopy(network)
    network[2].weight.requires_grad_(requires_grad=False)
    optimiser = Muon(network, lr=0.1)
    _draw_gradients(network, seed=3)
    network[0].weight.grad = None

    optimiser.step()

    assert torch.equal(network[0].weight, before[0].weight)
    assert torch.equal(network[2].weight, before[2].weight)
    assert not torch.equal(network[4].weight, before[4].weight)


def test_going_on_from_a_stored_state_equals_not_having_stopped(network):
    optimiser = Muon(network, lr=0.01, weight_decay=0.1)
    for seed in range(3):
        _draw_gradients(network, seed)
        optimiser.step()
    other = copy.deepcopy(network)
    resumed = Muon(other, lr=0.5)
    resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))

    for seed in range(3, 6):
        for each, moved in ((optimiser, network), (resumed, other)):
            _draw_gradients(moved, seed)
            each.step()

    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_a_network_learns(network):
    torch.manual_seed(5)
    pictures, answers = torch.randn(16, 3, 8, 8), torch.rand(16, 5, 1, 1)
    optimiser = Muon(network, lr=0.01)
    losses = []

    for _ in range(60):
        optimiser.zero_grad()
        loss = (network(pictures).mean(dim=(2, 3), keepdim=True) - answers).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())

    assert losses[-1] < 0.02 * losses[0]

"""Quantisation-aware tuning: weights learn to live with 8 bits, taught by the network in floats.

Convolutions see their inputs and weights rounded as the written model will have them (arXiv:1712.05877), and
gradients pass straight through the rounding. The teacher is the network itself before, so pictures need no
labels. Weights are rounded per output channel between symmetric extremes, which commutes with the
normalisation behind a convolution; this one keeps its statistics.

torchao's tools end in QDQ pairs too, but tune a graph captured for one number of pictures in place of the
network, and are one more package; here the network stays what it was, and `Quantiser` writes it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fleetpose.errors import ConfigError
from fleetpose.models.contract import PoseNetwork

Array = npt.NDArray[np.float32]

#: Of Adam; it falls to nothing along a cosine.
LEARNING_RATE = 1e-4
#: Largest norm of the gradients: single pictures may have a rare extreme.
CLIP_NORM = 1.0


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning brought; errors are root mean squares of the outputs in their standard deviations."""

    network: PoseNetwork
    error_before: float
    error_after: float


def tune_for_int8(
    network: PoseNetwork,
    inputs: Sequence[Array],
    *,
    steps: int,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
) -> Tuned:
    """Tune a copy of a network so that its outputs in 8 bits come near to its own in floats.

    Args:
        network: in evaluation mode; it is not changed.
        inputs: pictures as it sees them, each `[1, 3, H, W]`.
        steps: pictures that it learns from, one after the other.
        learning_rate: at the beginning.
        seed: of the order of the pictures.

    Returns:
        The tuned copy, or an untuned one if tuning did not help.

    Raises:
        ConfigError: there is no picture or no step.
    """
    if not inputs or steps < 1:
        raise ConfigError(
            f"tuning for 8 bits needs pictures and at least one step, got {len(inputs)} and {steps}"
        )
    images = [torch.from_numpy(image) for image in inputs]
    with torch.no_grad():
        targets = [network(image) for image in images]
    tuned = copy.deepcopy(network).eval()
    with _rounded(tuned):
        before = _mean_error(tuned, images, targets)
        _learn(tuned, images, targets, steps=steps, learning_rate=learning_rate, seed=seed)
        after = _mean_error(tuned, images, targets)
    if not after < before:
        return Tuned(copy.deepcopy(network), before, before)
    return Tuned(tuned, before, after)


def _learn(
    network: PoseNetwork,
    images: Sequence[Tensor],
    targets: Sequence[dict[str, Tensor]],
    *,
    steps: int,
    learning_rate: float,
    seed: int,
) -> None:
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    order = np.random.default_rng(seed).integers(len(images), size=steps)
    for step, index in enumerate(order.tolist()):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
        loss = _squared_error(network(images[index]), targets[index])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        optimiser.step()


def _squared_error(maps: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
    """Mean square difference over all outputs, each in its own variance or in one, as `Quantiser` weighs."""
    shares = [
        (maps[name] - target).square().mean() / target.var(dim=(2, 3)).mean().clamp(1e-12, 1)
        for name, target in targets.items()
    ]
    return torch.stack(shares).mean()


def _mean_error(
    network: PoseNetwork, images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]]
) -> float:
    with torch.no_grad():
        errors = [
            float(_squared_error(network(image), target))
            for image, target in zip(images, targets, strict=True)
        ]
    return math.sqrt(sum(errors) / len(errors))


@contextmanager
def _rounded(network: nn.Module) -> Iterator[None]:
    """Let all convolutions of a network round; what they learn meanwhile stays when the block ends."""
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_pre_hook(_round_input) for module in convolutions]
    for module in convolutions:
        # `unsafe` spares it a look at a weight of its own kind; the shape stays.
        parametrize.register_parametrization(module, "weight", _RoundedWeights(), unsafe=True)
    try:
        yield
    finally:
        for module in convolutions:
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
        for hook in hooks:
            hook.remove()


class _RoundedWeights(nn.Module):
    """Weights in 8 bits per output channel, between symmetric extremes."""

    def forward(self, weights: Tensor) -> Tensor:
        largest = weights.detach().abs().amax(dim=(1, 2, 3))
        scale = torch.where(largest > 0, largest / 127, 1.0)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weights, scale, zero, 0, -127, 127)


def _round_input(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Round a convolution's input to 8 bits between its extremes, which learn as well.

    The written model has the extremes of all pictures. Those of one picture are a little narrower, but where
    a few values make the steps coarse for all others, they let the weights shrink them.
    """
    (values,) = inputs
    low, high = values.min().clamp(max=0), values.max().clamp(min=0)  # zero fills the borders
    scale = ((high - low) / 255).clamp(min=1e-12)
    zero = (-low / scale).detach().round()
    steps = values / scale + zero
    rounded = steps + (steps.round() - steps).detach()
    return ((rounded.clamp(0, 255) - zero) * scale,)

"""How weights move: learning rate, optimiser and running average."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fleetpose.train.config import OptimiserSettings

#: The rate ends at this share of the highest.
LAST_RATE = 0.01


def learning_rate(step: int, total_steps: int, settings: OptimiserSettings) -> float:
    """Rate at `step` (from 0): linear warm-up, then a cosine down to a hundredth.

    >>> learning_rate(0, 1000, OptimiserSettings(lr=1.0, warmup_steps=10))
    0.1
    """
    warm = min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    cosine = 0.5 * (1 + math.cos(math.pi * step / max(total_steps, 1)))
    return settings.lr * warm * (LAST_RATE + (1 - LAST_RATE) * cosine)


def adamw(network: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """Optimiser (arXiv:1711.05101) that decays matrices and kernels, but not biases and normalisation."""
    decayed = [weight for weight in network.parameters() if weight.ndim > 1]
    others = [weight for weight in network.parameters() if weight.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def averaged_copy(network: nn.Module, decay: float) -> AveragedModel:
    """Copy a network to hold the running average of its weights; other buffers follow the network."""
    return AveragedModel(network, multi_avg_fn=_running_average(decay))


def _running_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential average whose memory grows from nothing to `decay`, so that early weights fade soon."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        present = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - present)

    return update

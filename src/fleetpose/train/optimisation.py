"""How weights move: learning rate, optimiser and running average."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fleetpose.errors import ConfigError
from fleetpose.train.config import OptimiserSettings
from fleetpose.train.muon import Muon

#: The rate ends at this share of the highest.
LAST_RATE = 0.01


def learning_rate(step: int, total_steps: int, settings: OptimiserSettings) -> float:
    """Rate at `step` (from 0): linear warm-up, then as the schedule says.

    >>> learning_rate(0, 1000, OptimiserSettings(lr=1.0, warmup_steps=10))
    0.1
    """
    warm = min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    return settings.lr * warm * _SCHEDULES[settings.schedule](step, total_steps, settings)


def _cosine(step: int, total_steps: int, _: OptimiserSettings) -> float:
    half_wave = 0.5 * (1 + math.cos(math.pi * step / max(total_steps, 1)))
    return LAST_RATE + (1 - LAST_RATE) * half_wave


def _drops(step: int, total_steps: int, settings: OptimiserSettings) -> float:
    # Rounded, because 200 / 300 of 300 steps is not exactly 200 in binary.
    return float(settings.drop_factor ** sum(step >= round(at * total_steps) for at in settings.drops))


def _cyclical(step: int, total_steps: int, settings: OptimiserSettings) -> float:
    """Triangles (arXiv:1506.01186) whose bounds come together, by a constant factor per step.

    In arXiv:2004.12186, Appendix B, they begin at 1 / 3000 and 1 and meet at Eq. 5.
    """
    done = step / max(total_steps, 1)
    low = settings.lowest_share * math.pow(settings.last_share / settings.lowest_share, done)
    high = math.pow(settings.last_share, done)
    place = step % settings.cycle_steps / settings.cycle_steps
    return low + (high - low) * (1 - abs(2 * place - 1))


_SCHEDULES: Mapping[str, Callable[[int, int, OptimiserSettings], float]] = {
    "cosine": _cosine,
    "drops": _drops,
    "cyclical": _cyclical,
}


def optimiser_for(network: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """Optimiser that decays matrices and kernels, but not biases and normalisation; frozen weights stay out.

    AdamW is that of arXiv:1711.05101, whose decay does not pass through the gradient's statistics as
    Adam's does.
    """
    learnt = [weight for weight in network.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in learnt if weight.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [weight for weight in learnt if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.kind == "muon":
        return Muon(network, lr=settings.lr, weight_decay=settings.weight_decay)
    if settings.kind == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    kind = torch.optim.AdamW if settings.kind == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings.lr, fused=True)


def freeze(network: nn.Module, patterns: Sequence[str]) -> tuple[nn.Module, ...]:
    """Stop the learning of all modules whose name fits a pattern → those modules.

    Raises:
        ConfigError: a pattern fits no module, or nothing is left to learn.
    """
    modules = dict(network.named_modules())
    found = {pattern: fnmatch.filter(modules, pattern) for pattern in patterns}
    for pattern, names in found.items():
        if not names:
            known = ", ".join(name for name, _ in network.named_children())
            raise ConfigError(
                f"frozen names {pattern!r}, but there is no such module; at the top are {known}"
            )
    frozen = tuple(modules[name] for names in found.values() for name in names)
    for module in frozen:
        module.requires_grad_(requires_grad=False)
    if not any(weight.requires_grad for weight in network.parameters()):
        raise ConfigError(f"frozen leaves nothing to learn: {', '.join(patterns)}")
    return frozen


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

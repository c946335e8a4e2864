"""Muon: steps that turn in all directions of a kernel at the same rate.

Jordan et al., https://kellerjordan.github.io/posts/muon/, with the scale of Liu et al., arXiv:2502.16982,
Eq. 4. A kernel `[out, in, h, w]` is a matrix `[out, in * h * w]`. Its momentum is replaced by the nearest
matrix whose singular values are all about 1, so that directions of which the gradient says little are learnt
as fast as the loud ones. Where the hours of a processor bound the training, fewer steps are worth more than
cheap ones: `docs/training-log.md` tells what it gained. `torch.optim.Muon` takes matrices alone, one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

#: Coefficients of the fifth-order iteration, and how often it is applied (Jordan et al.).
_FIRST, _THIRD, _FIFTH = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
#: AdamW's steps have about this root mean square in units of the rate (arXiv:2502.16982, section 2.2).
_RMS_OF_ADAMW = 0.2
_BETAS = (0.9, 0.99)
_EPSILON = 1e-8


class Muon(torch.optim.Optimizer):
    """Muon for the kernels and matrices between normalised layers, AdamW for everything else.

    Args:
        network: its weights that need gradients are moved. A layer without a bias is taken for one with a
            normalisation behind it; layers with a bias (predictors, squeeze-and-excitation), depthwise
            kernels, the kernel that sees the picture, and all vectors follow AdamW.
        lr: rate; AdamW's suit, since steps are scaled to have the size of its own.
        momentum: share of the old direction.
        weight_decay: decoupled, of the first kind of weights alone.
    """

    def __init__(
        self, network: nn.Module, *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        matrices = _matrices(network)
        known = {id(weight) for weight in matrices}
        others = [w for w in network.parameters() if w.requires_grad and id(w) not in known]
        groups = [
            {"params": weights, "is_matrix": is_matrix, "weight_decay": weight_decay if is_matrix else 0.0}
            for weights, is_matrix in ((matrices, True), (others, False))
            if weights
        ]
        super().__init__(groups, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move the weights that have a gradient."""
        loss: float | None = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moving = [(weight, weight.grad) for weight in group["params"] if weight.grad is not None]
            move = self._turn if group["is_matrix"] else self._follow_adam
            move(moving, group)
        return loss

    def _turn(self, moving: Sequence[tuple[Tensor, Tensor]], group: dict[str, Any]) -> None:
        alike: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for weight, gradient in moving:
            direction = self._momentum(weight, gradient, group["momentum"])
            alike[tuple(weight.shape)].append((weight, direction.reshape(weight.shape[0], -1)))
        for shape, members in alike.items():
            directions = orthogonal(torch.stack([direction for _, direction in members]))
            size = _RMS_OF_ADAMW * max(directions.shape[1:]) ** 0.5
            for (weight, _), direction in zip(members, directions, strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(direction.view(shape), alpha=-group["lr"] * size)

    def _momentum(self, weight: Tensor, gradient: Tensor, share: float) -> Tensor:
        state = self.state[weight]
        if not state:
            state["mean"] = torch.zeros_like(weight)
        state["mean"].lerp_(gradient, 1 - share)
        return gradient.lerp(state["mean"], share)  # Nesterov's

    def _follow_adam(self, moving: Sequence[tuple[Tensor, Tensor]], group: dict[str, Any]) -> None:
        for weight, gradient in moving:
            state = self.state[weight]
            if not state:
                state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
                state["steps"] = torch.zeros((), dtype=torch.int64)
            state["steps"] += 1
            state["mean"].lerp_(gradient, 1 - _BETAS[0])
            state["square"].lerp_(gradient.square(), 1 - _BETAS[1])
            missing = [1 - beta ** int(state["steps"]) for beta in _BETAS]
            spread = (state["square"] / missing[1]).sqrt_().add_(_EPSILON)
            weight.addcdiv_(state["mean"], spread, value=-group["lr"] / missing[0])


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices `[N, R, C]` → about the nearest ones with singular values near 1 (0.7 to 1.2), float32.

    Five steps of a Newton-Schulz iteration, in bfloat16, which it stands (Jordan et al.).
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(torch.bfloat16)
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        polynomial = torch.baddbmm(square, square, square, beta=_THIRD, alpha=_FIFTH)
        x = torch.baddbmm(x, polynomial, x, beta=_FIRST)
    return (x.mT if is_tall else x).float()


def _matrices(network: nn.Module) -> list[Tensor]:
    layers = [layer for layer in network.modules() if isinstance(layer, _KERNELS) and layer.bias is None]
    return [layer.weight for layer in layers if layer.weight.requires_grad and not _is_thin(layer.weight)]


_KERNELS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_COLOURS = 3


def _is_thin(kernel: Tensor) -> bool:
    return kernel.shape[1] <= _COLOURS

"""Batch normalisation, what is added to it and its activation as one layer that learns quickly on a CPU.

Training a small network is mostly waiting for memory. PyTorch writes and reads again what lies between these
steps; `fleetpose.train.norm_passes` does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fleetpose.models.layers import ESwish
from fleetpose.train.flat import flat_array, share

if TYPE_CHECKING:
    from fleetpose.train.norm_passes import Passes

_Array = np.ndarray[Any, Any]

#: Stretches of rows whose sums are kept apart; fixed, so that results do not depend on the number of threads.
_STRETCHES = 16
#: Cells of few channels are treated together, as one of this many numbers at most.
_WIDE_ENOUGH = 512
#: What the numbers in a row must be a multiple of.
_VECTOR = 16
_DTYPES = (torch.float32, torch.bfloat16)


def quick_norm(norm: nn.Module, activation: nn.Module, x: Tensor, residual: Tensor | None) -> Tensor | None:
    """`activation(norm(x) + residual)` within rounding, and its statistics; nothing for unknown kinds."""
    kind = _kind(activation)
    if kind is None or not _is_usual(norm) or not _is_fit(x, residual):
        return None
    assert isinstance(norm, nn.BatchNorm2d)  # noqa: S101 - as `_is_usual` found
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    out: Tensor = _NormActivation.apply(x, norm.weight, norm.bias, residual, norm, kind)  # type: ignore[no-untyped-call]
    return out


def _kind(activation: nn.Module) -> int | None:
    from fleetpose.train import norm_passes as kinds  # noqa: PLC0415 - needs numba

    known = {
        nn.Identity: kinds.NONE,
        nn.ReLU: kinds.RELU,
        nn.ReLU6: kinds.RELU6,
        nn.SiLU: kinds.SWISH,
        ESwish: kinds.ESWISH,
    }
    return known.get(type(activation))


def _is_usual(norm: nn.Module) -> bool:
    return (
        type(norm) is nn.BatchNorm2d
        and norm.training
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and norm.weight.dtype == torch.float32
    )


def _is_fit(x: Tensor, residual: Tensor | None) -> bool:
    rows = x.shape[0] * x.shape[2] * x.shape[3]
    return (
        torch.is_grad_enabled()
        and x.dtype in _DTYPES
        and rows > 1
        and x.shape[1] * _together(rows, x.shape[1]) % _VECTOR == 0
        and (residual is None or (residual.dtype == x.dtype and residual.shape == x.shape))
    )


def _together(rows: int, channels: int) -> int:
    """How many cells make a row of numbers: a power of two that divides `rows`."""
    count = 1
    while rows % (2 * count) == 0 and 2 * count * channels <= _WIDE_ENOUGH:
        count *= 2
    return count


class _NormActivation(torch.autograd.Function):
    """See `norm_passes`; inputs are kept, not what became of them."""

    @staticmethod
    def forward(  # noqa: PLR0917 - as PyTorch hands them on
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        norm: nn.BatchNorm2d,
        kind: int,
    ) -> Tensor:
        """`[B, C, H, W]` → the same shape, channels last."""
        x = x.contiguous(memory_format=torch.channels_last)
        job = _Job(x, residual, kind)
        mean, variance = job.statistics()
        _remember(norm, mean, variance, job.count)
        spread = 1 / np.sqrt(variance + norm.eps)
        scale = weight.detach().numpy() * spread
        offset = bias.detach().numpy() - mean * scale
        out = torch.empty_like(x)
        job.activate(out, scale, offset)
        ctx.save_for_backward(x, weight, *([] if residual is None else [residual]))
        ctx.kind, ctx.found = kind, (mean, spread, scale, offset)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Gradient of the output → of input, weight, bias and what was added."""
        x, weight, *residuals = ctx.saved_tensors
        mean, spread, scale, offset = ctx.found
        job = _Job(x, residuals[0] if residuals else None, ctx.kind)
        grad = grad.to(x.dtype)
        grad_x = torch.empty_like(x)
        passed = torch.empty_like(x) if residuals else None
        given, (total, by_value) = job.gradient_sums(
            grad, grad_x if passed is None else passed, scale, offset, mean
        )
        slope = by_value * spread  # of the weight
        by_input = -scale * spread * slope / job.count
        constant = -scale * total / job.count - by_input * mean
        job.give_gradients(given, grad_x, (scale, offset, scale, by_input, constant))
        grads = (torch.from_numpy(one).to(weight.dtype) for one in (slope, total))
        return grad_x, *grads, passed, None, None


def _remember(norm: nn.BatchNorm2d, mean: _Array, variance: _Array, count: int) -> None:
    """Move the running statistics, as `torch.nn.functional.batch_norm` does."""
    assert norm.running_mean is not None  # noqa: S101 - as `_is_usual` found
    assert norm.running_var is not None  # noqa: S101
    assert norm.momentum is not None  # noqa: S101
    unbiased = variance * (count / (count - 1))
    for running, new in ((norm.running_mean, mean), (norm.running_var, unbiased)):
        running.lerp_(torch.from_numpy(new).to(running.dtype), norm.momentum)


class _Job:
    """The passes over one layer's maps; everything per channel is float64 outside and float32 within."""

    def __init__(self, x: Tensor, residual: Tensor | None, kind: int) -> None:
        from fleetpose.train.norm_passes import passes  # noqa: PLC0415 - needs numba

        B, C, H, W = x.shape
        self.count, self.channels = B * H * W, C
        self.together = _together(self.count, C)
        self.rows, self.width = self.count // self.together, C * self.together
        self.inputs = flat_array(x)
        self.residuals = self.inputs[:0] if residual is None else flat_array(residual)
        self._passes: Passes = passes(kind, has_residual=residual is not None)

    def statistics(self) -> tuple[_Array, _Array]:
        """Means and variances `[C]`."""
        from fleetpose.train.norm_passes import input_summer  # noqa: PLC0415 - needs numba

        shift = self.inputs[: self.channels]
        if shift.dtype == np.uint16:
            shift = (shift.astype(np.uint32) << 16).view(np.float32)
        wide = self._wide(shift)
        total, squares = self._summed(
            lambda first, last, room, sums: input_summer()(
                self.inputs, first, last, self.width, wide, room, sums
            )
        )
        away = total / self.count
        return shift + away, np.maximum(squares / self.count - away**2, 0)

    def activate(self, out: Tensor, scale: _Array, offset: _Array) -> None:
        """Write z to `out`."""
        outputs, wide = flat_array(out), [self._wide(one) for one in (scale, offset)]
        self._shared(
            lambda first, last: self._passes.activate(
                self.inputs, self.residuals, outputs, first, last, self.width, *wide
            )
        )

    def gradient_sums(
        self, grad: Tensor, room: Tensor, scale: _Array, offset: _Array, mean: _Array
    ) -> tuple[Tensor, tuple[_Array, _Array]]:
        """What `give_gradients` wants, which may be `room`; sums `[C]` of g and of g (x - mean)."""
        grads, kept = flat_array(grad), flat_array(room)
        wide = [self._wide(one) for one in (scale, offset, mean)]
        found = self._summed(
            lambda first, last, room, sums: self._passes.sum_gradients(
                grads, self.inputs, self.residuals, kept, first, last, self.width, *wide, room, sums
            )
        )
        return room if self._passes.keeps else grad, found

    def give_gradients(self, given: Tensor, grad_x: Tensor, per_channel: tuple[_Array, ...]) -> None:
        """Write the gradient of x to `grad_x`."""
        grads, outputs = flat_array(given), flat_array(grad_x)
        wide = [self._wide(one) for one in per_channel]
        self._shared(
            lambda first, last: self._passes.give_gradients(
                grads, self.inputs, outputs, first, last, self.width, *wide
            )
        )

    def _wide(self, per_channel: _Array) -> _Array:
        return np.tile(per_channel.astype(np.float32), self.together)

    def _summed(self, work: Callable[[int, int, _Array, _Array], None]) -> tuple[_Array, _Array]:
        sums = np.zeros((_STRETCHES, 2, self.width))
        ends = [self.rows * number // _STRETCHES for number in range(_STRETCHES + 1)]

        def sum_stretches(first: int, last: int) -> None:
            room = np.empty(2 * self.width, np.float32)
            for number in range(first, last):
                if ends[number] < ends[number + 1]:
                    work(ends[number], ends[number + 1], room, sums[number])

        share(sum_stretches, _STRETCHES, threads=self._threads)
        total, others = sums.sum(axis=0).reshape(2, self.together, self.channels).sum(axis=1)
        return total, others

    def _shared(self, work: Callable[[int, int], None]) -> None:
        share(work, self.rows, threads=self._threads)

    @property
    def _threads(self) -> int:
        return min(torch.get_num_threads(), self.rows)

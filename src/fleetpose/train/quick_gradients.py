"""Layers that learn on a CPU about as fast as they work.

PyTorch leaves depthwise convolutions to oneDNN, whose gradient of the weights of 5 x 5 and 7 x 7 kernels
takes seven times as long as the convolution, and in bfloat16 thirty times. Inside `quick_gradients` that
gradient is summed by `fleetpose.train.tap_sums` instead. Its gradient of the input takes two to four times as
long as the convolution; here that is one more convolution, with the kernel turned by half a turn, and where
the stride is 2 and numbers are bfloat16 `tap_sums` again. Normalisation, what is added to it and its
activation are one layer, `fleetpose.train.quick_norms`. The gradient of a mean over the picture, in
squeeze-and-excitation, is written out in an order of memory that adds up slowly with others; here it is not
written out. All else about a network stays as it is.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from fleetpose.models.layers import normalised
from fleetpose.train.flat import flat_array, share
from fleetpose.train.quick_norms import quick_norm

#: The smallest kernel for which summing is worth while; oneDNN's own gradient is good below.
_LEAST_KERNEL: Mapping[torch.dtype, int] = {torch.float32: 5, torch.bfloat16: 3}
_GREATEST_KERNEL = 7
_STRIDES = (1, 2)
#: Fewer channels than go together in `tap_sums` are not worth it.
_LEAST_CHANNELS = 16


def quick_gradients(device: torch.device) -> AbstractContextManager[object]:
    """Take gradients of depthwise convolutions, normalisation and means by quicker ways, for what is within.

    Networks, their names and their outputs are the same, and gradients to within rounding; they do not depend
    on the number of threads. Without numba, and on other devices than CPUs, nothing changes at all.
    """
    is_useful = device.type == "cpu" and importlib.util.find_spec("numba") is not None
    return _QuickGradients() if is_useful else nullcontext()


@dataclass(frozen=True, slots=True)
class _Convolution:
    """What `torch.conv2d` is asked for, with its names and defaults."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None = None
    stride: int | Sequence[int] = 1
    padding: str | int | Sequence[int] = 0
    dilation: int | Sequence[int] = 1
    groups: int = 1

    def is_learnt_depthwise(self) -> bool:
        """Whether `tap_sums` knows the gradient of the weights and that gradient is wanted."""
        return (
            self.groups == len(self.weight) == self.input.shape[1] >= _LEAST_CHANNELS
            and self.bias is None
            and self.weight.requires_grad
            and torch.is_grad_enabled()
            and not isinstance(self.padding, str)
            and _pair(self.dilation) == (1, 1)
            and self._is_known_kernel()
        )

    def learning_quickly(self) -> Tensor:
        """Compute it in such a way that the gradient of the weights will be quick."""
        stride, padding = _pair(self.stride), _pair(self.padding)
        x = self.input.to(self._dtype())
        out: Tensor = _Depthwise.apply(x, self.weight, stride, padding)  # type: ignore[no-untyped-call]
        return out

    def _is_known_kernel(self) -> bool:
        height, width = self.weight.shape[2:]
        down, right = _pair(self.stride)
        least = _LEAST_KERNEL.get(self._dtype(), _GREATEST_KERNEL + 1)
        return height == width and least <= width <= _GREATEST_KERNEL and down == right and down in _STRIDES

    def _dtype(self) -> torch.dtype:
        """What is computed in."""
        return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else self.input.dtype


def _pair(value: str | int | Sequence[int]) -> tuple[int, int]:
    assert not isinstance(value, str)  # noqa: S101 - such padding is left alone
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


class _QuickGradients(TorchFunctionMode):
    """Looks at each convolution and mean that is asked for within."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401 - as PyTorch asks
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        if func is torch.conv2d:
            asked = _Convolution(*args, **kwargs)
            if asked.is_learnt_depthwise():
                return asked.learning_quickly()
        if func is normalised:
            found = quick_norm(*args)
            if found is not None:
                return found
        if func is functional.adaptive_avg_pool2d and args[1:] == (1,) and torch.is_grad_enabled():
            return _Mean.apply(args[0])  # type: ignore[no-untyped-call]
        return func(*args, **kwargs)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution; weights may be more precise than inputs."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        weight: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        """`[B, C, H, W]` → `[B, C, h, w]`."""
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return torch.conv2d(x, weight.to(x.dtype), None, stride, padding, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # noqa: ANN401
        """Gradient of the output → of input and weight."""
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _input_gradient(x, grad, weight, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(x, grad, weight.shape[-1], ctx.stride[0], ctx.padding)
        return grad_x, None if grad_weight is None else grad_weight.to(weight.dtype), None, None


class _Mean(torch.autograd.Function):
    """The mean over a picture; its gradient is the same everywhere, and one number per channel in memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401
        """`[B, C, H, W]` → `[B, C, 1, 1]`."""
        ctx.shape = x.shape
        return x.mean(dim=(2, 3), keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ANN401
        """Gradient of the mean → of the picture."""
        *_, H, W = ctx.shape
        everywhere: Tensor = (grad / (H * W)).expand(ctx.shape)
        return everywhere


def _input_gradient(
    x: Tensor, grad: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Gradient of the output `[B, C, h, w]` and weights `[C, 1, k, k]` → that of the input `[B, C, H, W]`."""
    dtype, kernel = x.dtype, weight.shape[-1]
    if max(stride) == 1 and max(padding) < kernel:
        # The same sums are those of a convolution of the gradient with the kernel turned by half a turn.
        border = [kernel - 1 - length for length in padding]
        turned = weight.flip(2, 3).to(dtype)
        return torch.conv2d(grad.to(dtype), turned, None, stride, border, groups=len(weight))
    if dtype == torch.bfloat16:
        return _spread(x, grad.to(dtype), weight, stride[0], padding)
    found: Tensor = torch.ops.aten.convolution_backward(
        *(grad, x, weight.to(dtype), None, stride, padding, (1, 1)),
        *(False, (0, 0), len(weight), (True, False, False)),
    )[0]
    return found


def _spread(x: Tensor, grad: Tensor, weight: Tensor, stride: int, padding: tuple[int, int]) -> Tensor:
    """As `_input_gradient`, by `tap_spreader`; of the input only the shape matters."""
    from fleetpose.train.tap_sums import tap_spreader  # noqa: PLC0415 - needs numba

    B, C, H, W = x.shape
    (h, w), kernel = grad.shape[2:], weight.shape[-1]
    found = torch.empty_like(x, memory_format=torch.channels_last)
    grads, weights, outputs = (
        flat_array(grad),
        flat_array(weight.float().permute(1, 0, 2, 3)),
        flat_array(found),
    )

    def spread_rows(first: int, last: int) -> None:
        taps = np.empty((2, kernel * kernel), np.int64)  # each thread its own
        tap_spreader()(
            grads, weights, H, W, C, h, w, kernel, stride, *padding, first, last, taps, outputs
        )  # fmt: skip

    share(spread_rows, B * H, threads=min(torch.get_num_threads(), B * H))
    return found


def _weight_gradient(x: Tensor, grad: Tensor, kernel: int, stride: int, padding: tuple[int, int]) -> Tensor:
    """Input `[B, C, H, W]` and gradient of the output `[B, C, h, w]` → that of weights `[C, 1, k, k]`."""
    from fleetpose.train.lanes import LANES  # noqa: PLC0415 - needs numba
    from fleetpose.train.tap_sums import tap_summer  # noqa: PLC0415 - so does this

    B, C, H, W = x.shape
    h, w = grad.shape[2:]
    top, left = padding
    inputs, grads, blocks = flat_array(x), flat_array(grad), -(-C // LANES)
    length = max((w - 1) * stride + kernel, left + W)
    sums = torch.zeros(blocks, kernel, kernel, LANES)
    flat_sums, summer = sums.view(-1).numpy(), tap_summer(kernel, stride)

    def sum_blocks(first: int, last: int) -> None:
        room = [np.zeros(cells * LANES, np.float32) for cells in (kernel * length, w)]  # each thread its own
        summer(inputs, grads, B, H, W, C, h, w, top, left, first, last, *room, flat_sums)

    share(sum_blocks, blocks, threads=min(torch.get_num_threads(), blocks))
    by_channel = sums.permute(0, 3, 1, 2).reshape(blocks * LANES, 1, kernel, kernel)
    # The last block ends with the last channel and repeats some of the block before.
    before, own = (blocks - 1) * LANES, C - (blocks - 1) * LANES
    return torch.cat([by_channel[:before], by_channel[-own:]])

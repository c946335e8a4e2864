"""Parameters and multiply-adds of a network: the true figures, and the papers' three ways of counting.

The papers' figures cannot be compared with one another, because each comes from a tool with habits of its
own. `count` is the plain truth; the other functions repeat what a tool does, so that figures can be checked.

| function                  | papers                                                         |
|---------------------------|----------------------------------------------------------------|
| `count`                   | (ours)                                                         |
| `count_as_hrnet_summary`  | EfficientHRNet, HigherHRNet, HRNet, SimpleBaseline, Yamazaki   |
| `count_as_ptflops`        | LitePose                                                       |
| `count_as_tensorflow`     | EfficientPose                                                  |
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from fleetpose.models.contract import PoseNetwork
from fleetpose.models.efficientnet import DropBlock, MBConv
from fleetpose.models.layers import BilinearUpscale, ESwish

if TYPE_CHECKING:
    from collections.abc import Callable

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
_SHAPE_KEEPERS = (
    *(nn.BatchNorm2d, nn.Dropout, DropBlock, nn.Identity),
    *(nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.ELU, ESwish),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network weighs and what one image costs it.

    The HRNet papers print operations in units of 1024**3, the others in units of 10**9.
    """

    params: int
    operations: int  # multiply-adds, unless the function that counted says otherwise


@dataclass(frozen=True, slots=True)
class _Call:
    """One use of a layer: shapes as `[1, C, H, W]` or `[1, C]`."""

    layer: nn.Module
    input_shape: torch.Size
    output_shape: torch.Size


def count(model: nn.Module, size: tuple[int, int]) -> Cost:
    """Count parameters, and multiply-adds of convolutions and linear layers for one image of `size` (H, W).

    A transposed convolution multiplies once per *input* position and kernel tap.

    Raises:
        ShapeError: a pose network does not take images of this size.

    >>> from fleetpose.models import build
    >>> count(build("litepose-xs"), (256, 256))
    Cost(params=1675912, operations=885841920)
    """
    return Cost(_parameters(model), sum(_multiply_adds(call) for call in _calls(model, size)))


def count_as_hrnet_summary(model: nn.Module, size: tuple[int, int]) -> Cost:
    """Count as `get_model_summary` of the HRNet code family does.

    Operations are weights times *output* positions, which makes a doubling transposed convolution cost
    fourfold. Parameters are summed over every module whose class name contains "Conv", "BatchNorm" or
    "Linear"; since an EfficientNet block was called `MBConvBlock` there, its parameters count twice, once as
    a whole and once layer by layer.
    """
    twice = sum(_parameters(module) for module in model.modules() if isinstance(module, MBConv))
    operations = sum(
        call.layer.weight.numel() * math.prod(call.output_shape[2:])
        for call in _calls(model, size)
        if isinstance(call.layer, (*_CONVOLUTIONS, nn.Linear))
    )
    return Cost(_parameters(model) + twice, operations)


def count_as_ptflops(model: nn.Module, size: tuple[int, int]) -> Cost:
    """Count as ptflops 0.6 and 0.7 do: element-wise layers cost too, and so do biases.

    Transposed convolutions are counted at their output positions; batch normalisation costs two operations
    per element, ReLU and upsampling one.
    """
    return Cost(_parameters(model), sum(_ptflops_operations(call) for call in _calls(model, size)))


def count_as_tensorflow(model: nn.Module, size: tuple[int, int]) -> Cost:
    """Count as Keras and the TensorFlow profiler do.

    Keras counts the running mean and variance of batch normalisation as parameters; the profiler counts a
    multiplication and an addition as two operations. EfficientPose upscales by transposed convolutions
    between all channels, of which only the diagonal is not zero. The paper's figures count those zeros, too,
    in the operations of all three and in the parameters of one, which is what we do.
    """
    params, operations = _parameters(model), 0
    for layer in model.modules():
        match layer:
            case nn.BatchNorm2d():
                params += 2 * layer.num_features
            case BilinearUpscale():
                params += layer.weight.numel() * layer.out_channels + layer.out_channels
    for call in _calls(model, size):
        dense = call.layer.out_channels if isinstance(call.layer, BilinearUpscale) else 1
        operations += 2 * dense * _multiply_adds(call)
    return Cost(params, operations)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _calls(model: nn.Module, size: tuple[int, int]) -> list[_Call]:
    """Every use of a layer without parts, in one pass that moves shapes only and computes nothing."""
    if isinstance(model, PoseNetwork):
        model.check_size(size)
    calls: list[_Call] = []

    def record(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        calls.append(_Call(layer, inputs[0].shape, output.shape))

    with ExitStack() as restored, torch.no_grad():
        for layer in model.modules():
            if next(layer.children(), None) is None:
                _pass_shapes_only(layer, restored)
                restored.callback(layer.register_forward_hook(record).remove)
        model(torch.empty(1, 3, *size, device="meta"))
    return calls


def _pass_shapes_only(layer: nn.Module, restored: ExitStack) -> None:
    """Let a layer answer with an empty map of the right shape until `restored` closes.

    Layers that need no weights would do so themselves on the meta device, but in milliseconds each.
    """
    if isinstance(layer, nn.Conv2d):  # not `forward`, in which a convolution may widen the border first
        _replace(layer, "_conv_forward", lambda x, *_: x.new_empty(_convolved_shape(layer, x)), restored)
    elif isinstance(layer, nn.ConvTranspose2d):
        _replace(layer, "forward", lambda x: x.new_empty(_upsampled_shape(layer, x)), restored)
    elif isinstance(layer, nn.Linear):
        _replace(layer, "forward", lambda x: x.new_empty((*x.shape[:-1], layer.out_features)), restored)
    elif isinstance(layer, _SHAPE_KEEPERS):
        _replace(layer, "forward", lambda x: x, restored)


def _replace(layer: nn.Module, method: str, by: Callable[..., torch.Tensor], restored: ExitStack) -> None:
    """Hide a method of the class behind an attribute of the object."""
    layer.__dict__[method] = by
    restored.callback(layer.__dict__.pop, method)


def _convolved_shape(layer: nn.Conv2d, x: torch.Tensor) -> tuple[int, ...]:
    """Sizes of a convolution's output, as in the documentation of `torch.nn.Conv2d`."""
    padding_of = cast("tuple[int, ...]", layer.padding)  # as text only where it is "same", which we never say
    rows, columns = (
        (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for length, padding, dilation, kernel, stride in zip(
            x.shape[2:], padding_of, layer.dilation, layer.kernel_size, layer.stride, strict=True
        )
    )
    return x.shape[0], layer.out_channels, rows, columns


def _upsampled_shape(layer: nn.ConvTranspose2d, x: torch.Tensor) -> tuple[int, ...]:
    """Sizes of a transposed convolution's output, as in the documentation of `torch.nn.ConvTranspose2d`."""
    rows, columns = (
        (length - 1) * stride - 2 * int(padding) + dilation * (kernel - 1) + extra + 1
        for length, stride, padding, dilation, kernel, extra in zip(
            x.shape[2:],
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.kernel_size,
            layer.output_padding,
            strict=True,
        )
    )
    return x.shape[0], layer.out_channels, rows, columns


def _multiply_adds(call: _Call) -> int:
    match call.layer:
        case nn.ConvTranspose2d() as layer:
            return layer.weight.numel() * math.prod(call.input_shape[2:])
        case nn.Conv2d() | nn.Linear() as layer:
            return layer.weight.numel() * math.prod(call.output_shape[2:])
    return 0


def _ptflops_operations(call: _Call) -> int:
    elements = math.prod(call.output_shape)
    match call.layer:
        case nn.Conv2d() | nn.ConvTranspose2d() | nn.Linear() as layer:
            bias = 0 if layer.bias is None else elements
            return layer.weight.numel() * math.prod(call.output_shape[2:]) + bias
        case nn.BatchNorm2d():
            return 2 * elements
        case nn.ReLU() | nn.ReLU6() | nn.Upsample():
            return elements
    return 0

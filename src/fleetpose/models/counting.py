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

import copy
import math
from dataclasses import dataclass

import torch
from torch import nn

from fleetpose.models.contract import PoseNetwork
from fleetpose.models.efficientnet import MBConv
from fleetpose.models.layers import BilinearUpscale

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


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
    """Every use of a layer without parts, in one pass; on the meta device, so that nothing is computed."""
    if isinstance(model, PoseNetwork):
        model.check_size(size)
    calls: list[_Call] = []

    def record(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        calls.append(_Call(layer, inputs[0].shape, output.shape))

    shapes_only = copy.deepcopy(model).to("meta").eval()
    for layer in shapes_only.modules():
        if next(layer.children(), None) is None:
            layer.register_forward_hook(record)
    with torch.no_grad():
        shapes_only(torch.empty(1, 3, *size, device="meta"))
    return calls


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

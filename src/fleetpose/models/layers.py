"""Building blocks that several model families share."""

from __future__ import annotations

import math
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


#: Slope of a heatmap's sigmoid, and where it passes a half; a new network's maps, near 0, begin almost empty.
SIGMOID_SHARPNESS, SIGMOID_CENTRE = 10.0, 0.4


class Activation(str, Enum):
    """Non-linearities by name, so that a config stays plain data."""

    RELU = "relu"
    RELU6 = "relu6"
    SWISH = "swish"
    HARDSWISH = "hardswish"
    ESWISH = "eswish"
    NONE = "none"

    def module(self) -> nn.Module:
        """Build the module; piecewise-linear ones work in place, which saves a map in training."""
        match self:
            case Activation.RELU:
                return nn.ReLU(inplace=True)
            case Activation.RELU6:
                return nn.ReLU6(inplace=True)
            case Activation.SWISH:
                return nn.SiLU()
            case Activation.HARDSWISH:
                return nn.Hardswish()
            case Activation.ESWISH:
                return ESwish()
            case Activation.NONE:
                return nn.Identity()


def round_channels(channels: float, *, divisor: int = 8) -> int:
    """Round to the nearest multiple of `divisor`, but never lose more than a tenth (arXiv:1801.04381).

    >>> round_channels(24), round_channels(11), round_channels(3)
    (24, 16, 8)
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


class ESwish(nn.Module):
    """Swish times 1.25, which trains faster (Alcaide, arXiv:1801.07145)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same shape."""
        return 1.25 * functional.silu(x)


class Padding(str, Enum):
    """How a strided convolution fills up the border of its input; with stride 1 all are alike."""

    STATIC = "static"  # by kernel - stride in all, the smaller half at the top and left: EfficientHRNet
    TENSORFLOW = "tensorflow"  # the same for even sizes, evenly for odd ones: TensorFlow's "SAME"
    EVEN = "even"  # by half the kernel on all sides: torchvision


class SameConv2d(nn.Conv2d):
    """Convolution whose output has the size of its input divided by the stride."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        padding: Padding = Padding.STATIC,
    ) -> None:
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        if padding is Padding.EVEN:
            before = after = kernel // 2
        is_even = before == after
        super().__init__(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=before if is_even else 0,
            groups=groups,
            bias=bias,
        )
        # The convolution pads evenly by itself, at no cost; only a lopsided border needs a padded copy.
        self.border = None if is_even else (before, after)
        self.odd = 1 if padding is Padding.TENSORFLOW else 0  # more rows and columns before an odd size

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` → `[B, C', H / stride, W / stride]`."""
        if self.border is not None:
            before, after = self.border
            top, left = (before + self.odd * (length % 2) for length in x.shape[2:])
            x = functional.pad(x, (left, after, top, after))
        return super().forward(x)


class SqueezeExcite(nn.Module):
    """Scale each channel by what the whole image says about it (arXiv:1709.01507)."""

    def __init__(self, channels: int, squeezed: int, activation: Activation) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.activation = activation.module()
        self.restore = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` → the same shape."""
        pooled = functional.adaptive_avg_pool2d(x, 1)
        gates = torch.sigmoid(self.restore(self.activation(self.reduce(pooled))))
        return x * gates


def normalised(norm: nn.Module, activation: nn.Module, x: Tensor, residual: Tensor | None) -> Tensor:
    """`activation(norm(x) + residual)`, in such a way that a mode of PyTorch's can do all of it at once.

    What traces layers by stand-ins for tensors, such as torch.fx, sees the layers.
    """
    if isinstance(x, Tensor) and has_torch_function_unary(x):
        out: Tensor = handle_torch_function(normalised, (x,), norm, activation, x, residual)
        return out
    maps = norm(x)
    found: Tensor = activation(maps if residual is None else maps + residual)
    return found


class ConvBN(nn.Module):
    """Convolution, batch normalisation, the sum with a residual connection if there is one, activation."""

    def __init__(
        self, conv: nn.Conv2d | nn.ConvTranspose2d, activation: Activation = Activation.NONE
    ) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels)
        self.activation = activation.module()

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """`[B, C, H, W]` → `[B, C', H / stride, W / stride]`, the shape of `residual`."""
        return normalised(self.norm, self.activation, self.conv(x), residual)


def conv2d(
    in_channels: int,
    out_channels: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """Convolution padded evenly by half its (odd) kernel."""
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=dilation * (kernel // 2),
        dilation=dilation,
        groups=groups,
        bias=bias,
    )


def deconv2x(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    """4 x 4 transposed convolution that doubles height and width."""
    return nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)


class BilinearUpscale(nn.ConvTranspose2d):
    """Double height and width by bilinear interpolation, with zeros beyond the border; nothing is learned."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 4, stride=2, padding=1, groups=channels, bias=False)
        del self.weight
        line = torch.tensor([0.25, 0.75, 0.75, 0.25])
        kernel = torch.outer(line, line).expand(channels, 1, 4, 4).clone()
        self.register_buffer("weight", kernel, persistent=False)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a residual connection (He et al., arXiv:1512.03385)."""

    def __init__(self, in_channels: int, out_channels: int | None = None, *, stride: int = 1) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        self.first = ConvBN(conv2d(in_channels, out_channels, kernel=3, stride=stride), Activation.RELU)
        self.second = ConvBN(conv2d(out_channels, out_channels, kernel=3), Activation.RELU)
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` → `[B, C', H / stride, W / stride]`."""
        out: Tensor = self.second(self.first(x), self.shortcut(x))
        return out


class Bottleneck(nn.Module):
    """Narrow, 3 x 3, widen to four times the `width`, with a residual connection (arXiv:1512.03385)."""

    expansion: ClassVar[int] = 4

    def __init__(self, in_channels: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.first = ConvBN(conv2d(in_channels, width), Activation.RELU)
        # Published weights are of networks whose 3 x 3 convolution strides; the paper lets the first one.
        self.second = ConvBN(conv2d(width, width, kernel=3, stride=stride), Activation.RELU)
        self.third = ConvBN(conv2d(width, out_channels), Activation.RELU)
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` → `[B, 4 * width, H / stride, W / stride]`."""
        out: Tensor = self.third(self.second(self.first(x)), self.shortcut(x))
        return out


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """What is added to a residual block's output: its input, projected only if the shapes differ."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return ConvBN(conv2d(in_channels, out_channels, stride=stride))


class HighResolutionModule(nn.Module):
    """Parallel branches, each half as fine as the one before, and their exchange (arXiv:1902.09212)."""

    def __init__(self, *, widths: Sequence[int], blocks: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            _branch(width, count) for width, count in zip(widths, blocks, strict=True)
        )
        self.fuse = nn.ModuleList(
            nn.ModuleList(_exchange(widths, source, target) for source in range(len(widths)))
            for target in range(outputs)
        )
        self.activation = Activation.RELU.module()

    def forward(self, branches: Sequence[Tensor]) -> list[Tensor]:
        """Maps `[B, widths[i], h / 2**i, w / 2**i]`, finest first → the first `outputs` of them, fused."""
        refined = [branch(x) for branch, x in zip(self.branches, branches, strict=True)]
        return [self.activation(_sum_of_paths(paths, refined)) for paths in self.fuse]


def _branch(width: int, blocks: int) -> nn.Sequential:
    """Residual blocks; a branch without any keeps one convolution (gradual shrinking, arXiv:2205.01271)."""
    if blocks == 0:
        return nn.Sequential(ConvBN(conv2d(width, width, kernel=3), Activation.RELU6))
    return nn.Sequential(*(BasicBlock(width) for _ in range(blocks)))


def _exchange(widths: Sequence[int], source: int, target: int) -> nn.Module:
    """Path between two branches: nothing, upsampling, or a chain of strided convolutions."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            ConvBN(conv2d(widths[source], widths[target])),
            nn.Upsample(scale_factor=2 ** (source - target), mode="nearest"),
        )
    steps = target - source
    return nn.Sequential(
        *(
            ConvBN(conv2d(widths[source], widths[source], kernel=3, stride=2), Activation.RELU)
            for _ in range(steps - 1)
        ),
        ConvBN(conv2d(widths[source], widths[target], kernel=3, stride=2)),
    )


def _sum_of_paths(paths: nn.Module, branches: Sequence[Tensor]) -> Tensor:
    assert isinstance(paths, nn.ModuleList)  # noqa: S101 - ours by construction; tells the type checker
    first, *rest = (path(x) for path, x in zip(paths, branches, strict=True))
    total: Tensor = first
    for term in rest:
        total = total + term
    return total


class HigherResolutionHead(nn.Module):
    """Heatmaps and tags at 1/4, and from both and the features finer heatmaps at 1/2 (arXiv:1908.10357)."""

    def __init__(self, in_channels: int, *, channels: int, blocks: int, num_keypoints: int) -> None:
        super().__init__()
        self.num_keypoints = num_keypoints
        self.predict_quarter = conv2d(in_channels, 2 * num_keypoints, bias=True)
        self.upsample = nn.Sequential(
            ConvBN(deconv2x(in_channels + 2 * num_keypoints, channels), Activation.RELU),
            *(BasicBlock(channels) for _ in range(blocks)),
        )
        self.predict_half = conv2d(channels, num_keypoints, bias=True)

    def init_predictors(self) -> None:
        """Initialise the last convolutions as `init_predictors` does."""
        init_predictors(self.predict_quarter, self.predict_half)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[B, C, h, w]` → heatmaps and tags `[B, K, h, w]`, heatmaps `[B, K, 2 * h, 2 * w]`."""
        maps = self.predict_quarter(features)
        half = self.upsample(torch.cat([features, maps], dim=1))
        return maps[:, : self.num_keypoints], maps[:, self.num_keypoints :], self.predict_half(half)


def sigmoid_heatmaps(maps: Tensor, *, sharpness: float) -> Tensor:
    """Outputs of a network's last layer → heatmaps in [0, 1], float32; `sharpness` is the sigmoid's slope."""
    return torch.sigmoid(sharpness * (maps.float() - SIGMOID_CENTRE))


def init_weights(model: nn.Module) -> None:
    """Initialise for training from scratch: every layer keeps the variance of its input.

    Convolutions get He's normal initialisation over the inputs of one output value (arXiv:1502.01852); a
    depthwise one has kernel-many inputs, and a transposed one has kernel / stride**2 per input channel. The
    bottom-up papers' code draws everything from N(0, 0.001) instead and leaves it to batch normalisation to
    repair the scale. Adam's first steps are then larger than the weights themselves, which a long schedule
    forgives and a short one does not.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            taps = math.prod(layer.kernel_size)
            fan_in = taps * layer.in_channels // layer.groups
            if isinstance(layer, nn.ConvTranspose2d):
                fan_in //= math.prod(layer.stride)
            nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_in))
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=math.sqrt(1 / layer.in_features))
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def init_predictors(*layers: nn.Conv2d) -> None:
    """Initialise the last convolutions so that a new network's heatmaps are almost empty, as targets are.

    The tags must not all be zero, though: tags of equal value do not push one another apart.
    """
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.01)


_DRAWING = {Tensor.normal_, Tensor.uniform_, Tensor.zero_, Tensor.fill_}


class _NothingDrawn(TorchFunctionMode):
    """Skip the filling of tensors, which takes longest on a device that keeps no values."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        return args[0] if func in _DRAWING else func(*args, **(kwargs or {}))


@contextmanager
def without_values() -> Iterator[None]:
    """Build networks for their names and shapes only: their weights take neither memory nor time.

    >>> with without_values():
    ...     conv2d(3, 8).weight.device
    device(type='meta')
    """
    with torch.device("meta"), _NothingDrawn():
        yield

"""SlimDeconv: one person per crop, with narrow transposed convolutions (Yamazaki and Mori, arXiv:2111.04226).

Written from the paper; there is no public code. SimpleBaseline's network on an EfficientNet, with a 1 x 1
convolution between encoder and transposed convolutions, and both much narrower. The reading below gives all
figures of Tables III to VI: all seven stages of the encoder without its last 1 x 1 convolution, 40 channels
after them, transposed convolutions of 32, 32 and 32 channels, 1 x 1 to heatmaps at 1/4. What counts do not
tell, and we chose: the head is normalised and has the encoder's activation.

Table VII's connections from encoder to decoder are `SlimDeconvConfig.skip`. By sum or concatenation they cost
0.56 GFLOPs there, as without them. Here they do, too (0.566 and 0.567): after each transposed convolution but
the last, a 1 x 1 convolution brings the encoder's map, or both maps in one, to the decoder's width.

The paper describes the network for FPGAs by rules only (Figs. 2 and 3), so `slimdeconv-fpga` is our reading
of them: the paper's B1 with ReLU and without squeeze-and-excitation, and with lower expansion in its wide
stages, so that no convolution exceeds the channels allowed. `check_fpga_rules` tells which layers of any
network do not fit such hardware.

Parameters and multiply-adds for 17 keypoints at 256 x 192; GFLOPs and AP on COCO val2017 as the paper prints
them. Its tool counts transposed convolutions fourfold, inverted bottlenecks' parameters twice, and in units
of 1024**3 (`count_as_hrnet_summary`).

| variant         | encoder   | params     | MACs    | GFLOPs | AP   |
|-----------------|-----------|------------|---------|--------|------|
| slimdeconv-b0   | B0        |  3,662,269 | 0.376 G | 0.40   | 67.2 |
| slimdeconv-b1   | B1        |  6,167,905 | 0.556 G | 0.56   | 69.7 |
| slimdeconv-b2   | B2        |  7,270,723 | 0.639 G | 0.64   | 69.8 |
| slimdeconv-b3   | B3        | 10,172,777 | 0.932 G | 0.92   | 71.1 |
| slimdeconv-b4   | B4        | 16,814,217 | 1.452 G | 1.40   | 71.3 |
| slimdeconv-b5   | B5        | 27,362,673 | 2.276 G | 2.17   | 71.8 |
| slimdeconv-b6   | B6        | 39,481,113 | 3.245 G | 3.07   | 72.5 |
| slimdeconv-r18  | ResNet-18 | 11,472,177 | 1.807 G | 1.76   | 66.9 |
| slimdeconv-r34  | ResNet-34 | 21,580,337 | 3.618 G | 3.45   | 70.7 |
| slimdeconv-r50  | ResNet-50 | 24,590,129 | 4.071 G | 3.98   | 71.2 |
| slimdeconv-fpga | B1, ours  |  2,640,097 | 0.421 G | 0.46   | 66.7 |

`slimdeconv-b0-lite` to `-b6-lite` have encoders without squeeze-and-excitation and with ReLU6, those that end
in -lite-hardswish with hard swish. By the paper's tool ours for FPGAs costs 0.44. Table IV prints the AP of
B3 to B5 as 7.11, 7.13 and 7.18. Its ResNets have no head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import fx, nn

from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.errors import CheckpointError, ConfigError, UnknownNameError
from fleetpose.models import efficientnet, resnet
from fleetpose.models.contract import PoseNetwork
from fleetpose.models.efficientnet import EfficientNetBackbone, EfficientNetConfig
from fleetpose.models.layers import (
    Activation,
    ConvBN,
    conv2d,
    deconv2x,
    init_predictors,
    init_weights,
)
from fleetpose.models.resnet import ResNetBackbone, ResNetConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

_STAGES_TO_SIXTEENTH = 5  # of an EfficientNet


class Skip(str, Enum):
    """How maps of the encoder join those of the decoder (Table VII)."""

    NONE = "none"
    SUM = "sum"
    CONCAT = "concat"


@dataclass(frozen=True, slots=True)
class SlimDeconvConfig:
    """One row of Tables III to VI."""

    encoder: EfficientNetConfig | ResNetConfig
    head: int | None = 40  # channels between encoder and transposed convolutions; None: no such layer
    deconv: tuple[int, ...] = (32, 32, 32)  # output channels of each transposed convolution
    input_size: tuple[int, int] = (256, 192)  # (H, W), in pixels
    skip: Skip = Skip.NONE

    def __post_init__(self) -> None:
        if not self.deconv or min(self.deconv) < 1 or (self.head is not None and self.head < 1):
            raise ConfigError(
                "head and deconv must be positive numbers of channels, "
                f"but got head={self.head} and deconv={self.deconv}"
            )

    def with_levels(self, levels: int) -> SlimDeconvConfig:
        """Use 2, 3 or 4 transposed convolutions on a whole encoder (Table V), all as wide as the first.

        Two end at 1/4 all the same, because the encoder then stops at 1/16; four end at 1/2.

        Raises:
            ConfigError: there is no such row, or the encoder is no EfficientNet.
        """
        if levels not in {2, 3, 4} or not isinstance(self.encoder, EfficientNetConfig):
            raise ConfigError(f"levels must be 2, 3 or 4, on an EfficientNet; got {levels}")
        last = _STAGES_TO_SIXTEENTH if levels == 2 else None
        encoder = replace(self.encoder, stages=self.encoder.stages[:last])
        return replace(self, encoder=encoder, deconv=(self.deconv[0],) * levels)


class _Join(nn.Module):
    """Join the decoder's map with the encoder's of the same size, by a convolution to the decoder's width."""

    def __init__(self, decoded: int, encoded: int, *, skip: Skip) -> None:
        super().__init__()
        self.is_sum = skip is Skip.SUM
        self.mix = ConvBN(
            conv2d(encoded if self.is_sum else decoded + encoded, decoded),
            Activation.NONE if self.is_sum else Activation.RELU,
        )

    def forward(self, decoded: Tensor, encoded: Tensor) -> Tensor:
        out: Tensor = self.mix(encoded if self.is_sum else torch.cat([decoded, encoded], dim=1))
        return decoded + out if self.is_sum else out


class SlimDeconv(PoseNetwork):
    """Encoder, narrow head, transposed convolutions, heatmaps; for crops with one person."""

    size_multiple: ClassVar[int] = 32

    def __init__(self, *, config: SlimDeconvConfig, num_keypoints: int = 17) -> None:
        super().__init__()
        self.input_size = config.input_size
        activation = Activation.RELU
        self.encoder: EfficientNetBackbone | ResNetBackbone
        if isinstance(config.encoder, EfficientNetConfig):
            self.encoder = EfficientNetBackbone(config=config.encoder)
            activation = config.encoder.activation
        else:
            self.encoder = ResNetBackbone(config=config.encoder)
        last = self.encoder.taps[-1]
        widths = [last.channels if config.head is None else config.head, *config.deconv]
        self.head = (
            nn.Identity() if config.head is None else ConvBN(conv2d(last.channels, config.head), activation)
        )
        self.upsample = nn.Sequential(
            *(
                ConvBN(deconv2x(before, after), Activation.RELU)
                for before, after in zip(widths, config.deconv, strict=False)
            )
        )
        joined = () if config.skip is Skip.NONE else config.deconv[:-1]
        self.joins = nn.ModuleList(
            _Join(width, tap.channels, skip=config.skip)
            for width, tap in zip(joined, self.encoder.taps[-2::-1], strict=False)
        )
        self.predict = conv2d(widths[-1], num_keypoints, bias=True)
        stride = last.stride // 2 ** len(config.deconv)
        self.fields = (Field(FieldKind.HEATMAPS, num_keypoints, stride=stride),)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw new weights, for training from scratch."""
        init_weights(self)
        init_predictors(self.predict)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images `[B, 3, H, W]` → heatmaps `[B, K, H/4, W/4]`."""
        *skipped, features = self.encoder(images)
        x = self.head(features)
        for index, double in enumerate(self.upsample):
            x = double(x)
            if index < len(self.joins):
                x = self.joins[index](x, skipped[-1 - index])
        return self.named(self.predict(x))


def _efficientnet(name: str) -> SlimDeconvConfig:
    return SlimDeconvConfig(encoder=efficientnet.VARIANTS[f"efficientnet-{name}"])


def _resnet(name: str) -> SlimDeconvConfig:
    return SlimDeconvConfig(encoder=resnet.VARIANTS[f"resnet-{name}"], head=None)


def _for_fpga() -> SlimDeconvConfig:
    """B1 with ReLU, without gates; expansions keep every depthwise convolution within 648 channels."""
    encoder = efficientnet.VARIANTS["efficientnet-b1"].as_lite(Activation.RELU)
    expansions = (1, 6, 6, 6, 5, 3, 2)
    stages = tuple(
        replace(row, expand=expand) for row, expand in zip(encoder.stages, expansions, strict=True)
    )
    return SlimDeconvConfig(encoder=replace(encoder, stages=stages))


VARIANTS = {
    **{
        f"slimdeconv-b{number}{ending}": _efficientnet(f"b{number}{ending}")
        for ending in ("", *efficientnet.LITE_ENDINGS)
        for number in range(7)
    },
    **{f"slimdeconv-r{depth}": _resnet(str(depth)) for depth in (18, 34, 50)},
    "slimdeconv-fpga": _for_fpga(),
}


def slimdeconv(variant: str, *, num_keypoints: int = 17) -> SlimDeconv:
    """Build one of `VARIANTS` with new weights.

    >>> sum(p.numel() for p in slimdeconv("slimdeconv-b1").parameters())
    6167905
    """
    if variant not in VARIANTS:
        raise UnknownNameError("model", variant, VARIANTS)
    return SlimDeconv(config=VARIANTS[variant], num_keypoints=num_keypoints)


def convert_official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Refuse: the authors published no checkpoint.

    Raises:
        CheckpointError: always.
    """
    raise CheckpointError(
        f"its authors published no checkpoint, so these {len(state)} entries are not theirs"
    )


@dataclass(frozen=True, slots=True)
class FpgaRules:
    """What the hardware of Fig. 3 can do.

    The limits on channels are as the paper prints them. They look swapped: 9 * 1816 and 25 * 648 both lie
    just below 2**14, as if a buffer of that size had to hold the kernels of all channels. Pass
    `FpgaRules(channels_3x3=1816, channels_5x5=648)` for that reading.
    """

    channels_3x3: int = 648  # most channels that a 3 x 3 convolution may have
    channels_5x5: int = 1816
    channel_multiple: int = 8

    def most_channels(self, kernel: tuple[int, ...]) -> int | None:
        """Most channels of a convolution with this `kernel`; None if its size is not available."""
        unlimited = torch.iinfo(torch.int64).max
        limits: dict[tuple[int, ...], int] = {
            (1, 1): unlimited,
            (3, 3): self.channels_3x3,
            (5, 5): self.channels_5x5,
        }
        return limits.get(kernel)


@dataclass(frozen=True, slots=True)
class Violation:
    """A layer that the hardware cannot run, or not well."""

    layer: str  # its name in the network
    rule: str  # what it breaks

    def __str__(self) -> str:
        """One line for a report."""
        return f"{self.layer}: {self.rule}"


# Fig. 3, "Available Layers"; what leaves its input alone is no layer there.
_AVAILABLE_LAYERS = (
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.BatchNorm2d,
    nn.ReLU,
    nn.LeakyReLU,
    nn.Softmax,
)
_FREE_LAYERS = (nn.Identity, nn.Dropout, efficientnet.DropBlock)
_AVAILABLE_FUNCTIONS = {"add", "iadd", "cat", "getitem", "relu", "softmax"} | {
    "max_pool2d",
    "avg_pool2d",
    "adaptive_avg_pool2d",
}


class _LayerTracer(fx.Tracer):
    """Records every layer without parts, and every function that is called between them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002 - overrides
        return next(m.children(), None) is None


def check_fpga_rules(network: PoseNetwork, rules: FpgaRules | None = None) -> list[Violation]:
    """List every layer of `network` that breaks the rules of Fig. 3, in the order of computation.

    The three channels of the image and those of the outputs are given by the task, so that they need not be a
    multiple of eight.

    >>> check_fpga_rules(slimdeconv("slimdeconv-fpga"))
    []
    >>> print(check_fpga_rules(slimdeconv("slimdeconv-b0"))[0])
    encoder.stem.activation: SiLU is not available
    """
    rules = rules or FpgaRules()
    was_training = network.training
    network.eval()  # dropped blocks are no part of the network that runs
    try:
        graph = _LayerTracer().trace(network)
    finally:
        network.train(was_training)
    violations = []
    for node in graph.nodes:
        if node.op == "call_module":
            layer = network.get_submodule(str(node.target))
            is_last = all(user.op == "output" for user in node.users)
            broken = _broken_by_layer(layer, rules, is_last=is_last)
            violations += [Violation(str(node.target), rule) for rule in broken]
        elif node.op in {"call_function", "call_method"} and _function_name(node) not in _AVAILABLE_FUNCTIONS:
            violations.append(Violation(_owner(node), f"{_function_name(node)} is not available"))
    return violations


def _function_name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _owner(node: fx.Node) -> str:
    """Name of the innermost module that calls the function."""
    stack = node.meta.get("nn_module_stack") or {"": None}
    return str(list(stack)[-1]) or "forward"


def _broken_by_layer(layer: nn.Module, rules: FpgaRules, *, is_last: bool) -> Iterator[str]:
    if not isinstance(layer, (*_AVAILABLE_LAYERS, *_FREE_LAYERS)):
        yield f"{type(layer).__name__} is not available"
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        yield from _broken_by_convolution(layer, rules, is_last=is_last)


def _broken_by_convolution(
    layer: nn.Conv2d | nn.ConvTranspose2d, rules: FpgaRules, *, is_last: bool
) -> Iterator[str]:
    if max(layer.dilation) > 1:
        yield f"dilation {max(layer.dilation)} is not available"
    inner = [] if layer.in_channels == 3 else [layer.in_channels]
    inner += [] if is_last else [layer.out_channels]
    for channels in dict.fromkeys(inner):
        if channels % rules.channel_multiple:
            yield f"{channels} channels are no multiple of {rules.channel_multiple}"
    if isinstance(layer, nn.ConvTranspose2d):
        return  # Fig. 3 limits the kernels of convolutions only
    kernel = " x ".join(map(str, layer.kernel_size))
    most = rules.most_channels(layer.kernel_size)
    widest = max(layer.in_channels, layer.out_channels)
    if most is None:
        yield f"kernel {kernel} is not available"
    elif widest > most:
        yield f"{widest} channels are more than {most}, the most with kernel {kernel}"

"""EfficientNet (Tan and Le, arXiv:1905.11946) and its compact members (Neff et al., arXiv:2007.08090).

Written from the two papers; the compact backbones were checked against the code of EfficientHRNet,
github.com/TeCSAR-UNCC/EfficientHRNet at 802cc95, and B0 to B7 against the published parameter counts.

Two things follow EfficientHRNet's code rather than EfficientNet's: batch normalisation keeps its usual
epsilon and momentum (1e-5, 0.1), and whole blocks are dropped with one probability at every depth.
`EfficientNetConfig.as_lite` leaves out what integer hardware does badly: squeeze-and-excitation, and swish,
for which it takes ReLU6 (a name's ending -lite) or hard swish (-lite-hardswish).

Parameters for 1000 and 100 classes; multiply-adds at the input size. The paper's 1.3 M for B-4 on ImageNet is
its count for 100 classes.

| variant          | input | params, 1000 | params, 100 | MACs    |
|------------------|-------|--------------|-------------|---------|
| efficientnet-b0  | 224   | 5,288,548    | 4,135,648   | 0.386 G |
| efficientnet-b1  | 240   | 7,794,184    | 6,641,284   | 0.623 G |
| efficientnet-b2  | 260   | 9,109,994    | 7,841,894   | 0.865 G |
| efficientnet-b3  | 300   | 12,233,232   | 10,849,932  | 1.626 G |
| efficientnet-b4  | 380   | 19,341,616   | 17,727,916  | 3.986 G |
| efficientnet-b5  | 456   | 30,389,784   | 28,545,684  | 9.497 G |
| efficientnet-b6  | 528   | 43,040,704   | 40,966,204  | 18.20 G |
| efficientnet-b7  | 600   | 66,347,960   | 64,043,060  | 35.52 G |
| efficientnet-bm1 | 195   | 4,548,152    | 3,503,252   | 0.254 G |
| efficientnet-bm2 | 170   | 3,463,750    | 2,512,450   | 0.148 G |
| efficientnet-bm3 | 145   | 2,795,998    | 1,931,098   | 0.088 G |
| efficientnet-bm4 | 128   | 2,056,282    | 1,270,582   | 0.046 G |
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.errors import CheckpointError, ConfigError, UnknownNameError
from fleetpose.models.contract import PoseNetwork
from fleetpose.models.layers import (
    Activation,
    ConvBN,
    Padding,
    SameConv2d,
    SqueezeExcite,
    init_weights,
    round_channels,
)
from fleetpose.models.state_dicts import rename_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class StageRow:
    """One row before scaling: a run of inverted bottlenecks, the first of which has the stride."""

    channels: int
    repeats: int
    kernel: int
    stride: int
    expand: int = 6


# EfficientNet-B0, Table 1 of arXiv:1905.11946.
B0_STAGES = (
    StageRow(16, repeats=1, kernel=3, stride=1, expand=1),
    StageRow(24, repeats=2, kernel=3, stride=2),
    StageRow(40, repeats=2, kernel=5, stride=2),
    StageRow(80, repeats=3, kernel=3, stride=2),
    StageRow(112, repeats=3, kernel=5, stride=1),
    StageRow(192, repeats=4, kernel=5, stride=2),
    StageRow(320, repeats=1, kernel=3, stride=1),
)


@dataclass(frozen=True, slots=True)
class EfficientNetConfig:
    """Scale and make of one EfficientNet."""

    width: float = 1.0  # multiplies channels, rounded to eights
    depth: float = 1.0  # multiplies repeats, rounded up
    resolution: int = 224  # of the classifier's input, in pixels
    dropout: float = 0.2  # before the classifier's last layer
    drop_block: float = 0.2  # probability that a residual block is skipped, per image, in training
    squeeze_excite: bool = True
    activation: Activation = Activation.SWISH
    padding: Padding = Padding.STATIC
    stages: tuple[StageRow, ...] = B0_STAGES  # unscaled; cut it short for a shallower backbone

    def as_lite(self, activation: Activation = Activation.RELU6) -> EfficientNetConfig:
        """Leave out squeeze-and-excitation and use a cheaper `activation`, as EfficientNet-Lite does."""
        return replace(self, squeeze_excite=False, activation=activation)

    def channels(self, unscaled: int) -> int:
        """Width of a layer that has `unscaled` channels in B0."""
        return round_channels(unscaled * self.width)

    def repeats(self, unscaled: int) -> int:
        """Depth of a stage that has `unscaled` blocks in B0."""
        return math.ceil(unscaled * self.depth)


@dataclass(frozen=True, slots=True)
class Tap:
    """A map that a backbone offers to the layers above."""

    channels: int
    stride: int  # input pixels per cell


class DropBlock(nn.Module):
    """Zero a residual branch for random images of the batch in training (arXiv:1603.09382)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` → the same shape."""
        if not self.training or self.probability == 0:
            return x
        kept = torch.rand(x.shape[0], 1, 1, 1, dtype=x.dtype, device=x.device) >= self.probability
        return x * (kept / (1 - self.probability)).to(x.dtype)  # or maps would be float32 from here on


class MBConv(nn.Module):
    """Inverted bottleneck with squeeze-and-excitation; the squeeze is a quarter of the block's input."""

    def __init__(
        self, in_channels: int, out_channels: int, *, row: StageRow, stride: int, config: EfficientNetConfig
    ) -> None:
        super().__init__()
        inner = in_channels * row.expand
        self.expand: nn.Module = (
            ConvBN(SameConv2d(in_channels, inner, kernel=1), config.activation)
            if row.expand > 1
            else nn.Identity()
        )
        self.depthwise = ConvBN(
            SameConv2d(inner, inner, kernel=row.kernel, stride=stride, groups=inner, padding=config.padding),
            config.activation,
        )
        self.squeeze_excite: nn.Module = (
            SqueezeExcite(inner, max(1, in_channels // 4), config.activation)
            if config.squeeze_excite
            else nn.Identity()
        )
        self.project = ConvBN(SameConv2d(inner, out_channels, kernel=1))
        self.residual = stride == 1 and in_channels == out_channels
        self.drop = DropBlock(config.drop_block)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` → `[B, C', H / stride, W / stride]`."""
        out: Tensor = self.project(self.squeeze_excite(self.depthwise(self.expand(x))))
        return self.drop(out) + x if self.residual else out


class EfficientNetBackbone(nn.Module):
    """Stem and stages; offers the last map at each resolution.

    Attributes:
        taps: what `forward` returns, finest first: at strides 2, 4, 8, 16 and 32.
        depths: blocks of each stage.
    """

    def __init__(self, *, config: EfficientNetConfig) -> None:
        super().__init__()
        channels = config.channels(32)
        self.stem = ConvBN(
            SameConv2d(3, channels, kernel=3, stride=2, padding=config.padding), config.activation
        )
        blocks: list[nn.Module] = []
        taps: dict[int, tuple[int, int]] = {}  # stride: blocks so far, channels
        stride = 2
        for row in config.stages:
            stride *= row.stride
            for index in range(config.repeats(row.repeats)):
                step = row.stride if index == 0 else 1
                out_channels = config.channels(row.channels)
                blocks.append(MBConv(channels, out_channels, row=row, stride=step, config=config))
                channels = out_channels
            taps[stride] = (len(blocks), channels)  # a later stage of the same stride replaces an earlier one
        self.blocks = nn.ModuleList(blocks)
        self.depths = tuple(config.repeats(row.repeats) for row in config.stages)
        self.taps = tuple(Tap(channels, stride) for stride, (_, channels) in taps.items())
        self._tapped = frozenset(count for count, _ in taps.values())  # after so many blocks

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images `[B, 3, H, W]` → one map `[B, tap.channels, H / tap.stride, W / tap.stride]` per tap."""
        features = []
        x = self.stem(images)
        for count, block in enumerate(self.blocks, start=1):
            x = block(x)
            if count in self._tapped:
                features.append(x)
        return features

    def take_weights(self, source: EfficientNetBackbone) -> None:
        """Copy the weights of another backbone, such as a classifier's, that has at least this one's blocks.

        Raises:
            CheckpointError: the backbones differ in width or make, or `source` is the shallower one.
        """
        theirs = source.state_dict()
        unfit = [
            key
            for key, value in self.state_dict().items()
            if key not in theirs or theirs[key].shape != value.shape
        ]
        if unfit:
            raise CheckpointError(f"the other backbone has no {unfit[0]} of the same shape; take its variant")
        self.load_state_dict({key: theirs[key] for key in self.state_dict()})
        _shift_variances(self, source.stem.norm.eps - self.stem.norm.eps)


def _shift_variances(model: nn.Module, difference: float) -> None:
    """Add what another epsilon in batch normalisation would have added to the running variance."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_var is not None:
            layer.running_var += difference


class EfficientNet(PoseNetwork):
    """The classifier: backbone, 1 x 1 convolution to 1280 (scaled), average, linear layer.

    It has no keypoints. Its scores are a map of one cell, which covers the whole image.
    """

    size_multiple: ClassVar[int] = 1
    takes_any_size: ClassVar[bool] = True

    def __init__(self, *, config: EfficientNetConfig, num_classes: int = 1000) -> None:
        super().__init__()
        self.fields = (Field(FieldKind.CLASSES, num_classes, stride=config.resolution),)
        self.input_size = (config.resolution, config.resolution)
        self.backbone = EfficientNetBackbone(config=config)
        head_channels = config.channels(1280)
        last = self.backbone.taps[-1].channels
        self.head = ConvBN(SameConv2d(last, head_channels, kernel=1), config.activation)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(head_channels, num_classes)
        init_weights(self)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images `[B, 3, H, W]` of any size → scores of classes before the softmax `[B, classes, 1, 1]`."""
        features = self.head(self.backbone(images)[-1])
        logits = self.classifier(self.dropout(features.mean(dim=(2, 3))))
        return self.named(logits[:, :, None, None])


# B1 to B7 as their authors released them; B-1 to B-4 are Eq. 4 of arXiv:2007.08090, width 1.1**phi and depth
# 1.2**phi for phi = -1 .. -4, with the resolutions of its Table 2.
_FULL = {
    "efficientnet-b0": EfficientNetConfig(),
    "efficientnet-b1": EfficientNetConfig(1.0, 1.1, resolution=240, dropout=0.2),
    "efficientnet-b2": EfficientNetConfig(1.1, 1.2, resolution=260, dropout=0.3),
    "efficientnet-b3": EfficientNetConfig(1.2, 1.4, resolution=300, dropout=0.3),
    "efficientnet-b4": EfficientNetConfig(1.4, 1.8, resolution=380, dropout=0.4),
    "efficientnet-b5": EfficientNetConfig(1.6, 2.2, resolution=456, dropout=0.4),
    "efficientnet-b6": EfficientNetConfig(1.8, 2.6, resolution=528, dropout=0.5),
    "efficientnet-b7": EfficientNetConfig(2.0, 3.1, resolution=600, dropout=0.5),
    "efficientnet-bm1": EfficientNetConfig(0.909, 0.833, resolution=195),
    "efficientnet-bm2": EfficientNetConfig(0.826, 0.694, resolution=170),
    "efficientnet-bm3": EfficientNetConfig(0.751, 0.578, resolution=145),
    "efficientnet-bm4": EfficientNetConfig(0.684, 0.483, resolution=128),
}
#: What the name of a lite make ends in, and its activation.
LITE_ENDINGS = {"-lite": Activation.RELU6, "-lite-hardswish": Activation.HARDSWISH}
VARIANTS = _FULL | {
    f"{name}{ending}": config.as_lite(activation)
    for ending, activation in LITE_ENDINGS.items()
    for name, config in _FULL.items()
}
SMALLEST, LARGEST = -4, 7


def compound_scaling(phi: float) -> EfficientNetConfig:
    """Scale B0 by `phi`, from -4 to 7: a whole number gives B-4 to B7, others what lies between two of them.

    Width and depth grow by factors, so between two networks they are the weighted geometric mean.

    >>> compound_scaling(2) == VARIANTS["efficientnet-b2"]
    True
    >>> round(compound_scaling(-0.5).width, 3)  # between 1 and 0.909
    0.953

    Raises:
        ConfigError: no EfficientNet is defined for `phi`.
    """
    if not SMALLEST <= phi <= LARGEST:
        raise ConfigError(f"phi must be from {SMALLEST} to {LARGEST}, but got {phi}; beyond, give a backbone")
    below, share = math.floor(phi), phi % 1
    lower = VARIANTS[_name(below)]
    if not share:
        return lower
    upper = VARIANTS[_name(below + 1)]
    return replace(
        lower,
        width=lower.width ** (1 - share) * upper.width**share,
        depth=lower.depth ** (1 - share) * upper.depth**share,
        resolution=round(lower.resolution * (1 - share) + upper.resolution * share),
        dropout=lower.dropout * (1 - share) + upper.dropout * share,
    )


def _name(phi: int) -> str:
    return f"efficientnet-b{phi}" if phi >= 0 else f"efficientnet-bm{-phi}"


def efficientnet(
    variant: str,
    *,
    num_keypoints: int = 0,  # noqa: ARG001 - a classifier has none, but all families are built alike
    num_classes: int = 1000,
) -> EfficientNet:
    """Build one of `VARIANTS` as a classifier, with new weights.

    >>> sum(p.numel() for p in efficientnet("efficientnet-b0").parameters())
    5288548
    """
    if variant not in VARIANTS:
        raise UnknownNameError("model", variant, VARIANTS)
    return EfficientNet(config=VARIANTS[variant], num_classes=num_classes)


# What published classifiers call the layers of a block, after the block's own name, and what we do.
_LUKEMELAS_LAYERS = (
    (r"_expand_conv\.", "expand.conv."),
    (r"_bn0\.", "expand.norm."),
    (r"_depthwise_conv\.", "depthwise.conv."),
    (r"_bn1\.", "depthwise.norm."),
    (r"_se_reduce\.", "squeeze_excite.reduce."),
    (r"_se_expand\.", "squeeze_excite.restore."),
    (r"_project_conv\.", "project.conv."),
    (r"_bn2\.", "project.norm."),
)
_LUKEMELAS_NAMES = (
    (r"_conv_stem\.", "backbone.stem.conv."),
    (r"_bn0\.", "backbone.stem.norm."),
    *((rf"_blocks\.(\d+)\.{old}", rf"backbone.blocks.\1.{new}") for old, new in _LUKEMELAS_LAYERS),
    (r"_conv_head\.", "head.conv."),
    (r"_bn1\.", "head.norm."),
    (r"_fc\.", "classifier."),
)
_PUBLISHED_EPSILON = 1e-3  # torchvision uses PyTorch's own up to B4
_TORCHVISION_SMALL = tuple(f"efficientnet-b{number}" for number in range(5))


def from_published(name: str, state: Mapping[str, Tensor]) -> tuple[EfficientNet, dict[str, Tensor]]:
    """Read a classifier in torchvision's layout or that of lukemelas/EfficientNet-PyTorch.

    Returns:
        The network for as many classes as `state` has, still with new weights, and `state` by our names.

    Raises:
        UnknownNameError: there is no such variant.
        CheckpointError: `state` has neither layout, or an entry that no EfficientNet has.
    """
    if name not in VARIANTS:
        raise UnknownNameError("model", name, VARIANTS)
    config = VARIANTS[name]
    is_lukemelas = "_conv_stem.weight" in state
    last = "_fc.weight" if is_lukemelas else "classifier.1.weight"
    if last not in state:
        raise CheckpointError(f"entry {last!r} is missing; expected torchvision's or lukemelas's layout")
    padding = Padding.TENSORFLOW if is_lukemelas else Padding.EVEN
    names = _LUKEMELAS_NAMES if is_lukemelas else tuple(_torchvision_names(config))
    classifier = EfficientNet(config=replace(config, padding=padding), num_classes=len(state[last]))
    renamed = rename_keys(state, names)
    if is_lukemelas or name not in _TORCHVISION_SMALL:
        difference = _PUBLISHED_EPSILON - classifier.head.norm.eps
        renamed = {
            key: value + difference if key.endswith("running_var") else value
            for key, value in renamed.items()
        }
    return classifier, renamed


def _torchvision_names(config: EfficientNetConfig) -> Iterator[tuple[str, str]]:
    """Names in torchvision, which counts blocks anew in each stage, and the layers of a block."""
    yield r"features\.0\.0\.", "backbone.stem.conv."
    yield r"features\.0\.1\.", "backbone.stem.norm."
    block = 0
    for stage, row in enumerate(config.stages, start=1):
        layers = ("expand", "depthwise", "squeeze_excite", "project")[0 if row.expand > 1 else 1 :]
        for index in range(config.repeats(row.repeats)):
            for position, layer in enumerate(layers):
                old = rf"features\.{stage}\.{index}\.block\.{position}\."
                new = f"backbone.blocks.{block}.{layer}."
                yield from (
                    ((rf"{old}fc1\.", f"{new}reduce."), (rf"{old}fc2\.", f"{new}restore."))
                    if layer == "squeeze_excite"
                    else ((rf"{old}0\.", f"{new}conv."), (rf"{old}1\.", f"{new}norm."))
                )
            block += 1
    head = len(config.stages) + 1
    yield rf"features\.{head}\.0\.", "head.conv."
    yield rf"features\.{head}\.1\.", "head.norm."
    yield r"classifier\.1\.", "classifier."


def convert_official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Refuse, because the names alone do not tell for which padding the weights are; `from_published` asks.

    Raises:
        CheckpointError: always.
    """
    raise CheckpointError(
        f"these {len(state)} entries are of no pose network; to begin a network with a classifier's weights, "
        "name that network, such as --as efficienthrnet-h0 --backbone efficientnet-b0"
    )

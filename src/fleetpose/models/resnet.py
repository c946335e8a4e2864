"""ResNet (He et al., arXiv:1512.03385) as the encoder of SimpleBaseline and SlimDeconv.

Written from the paper. In bottlenecks the 3 x 3 convolution strides, as in the code of SimpleBaseline,
github.com/microsoft/human-pose-estimation.pytorch at 49f3f44, and in torchvision.

Parameters of the encoder, without average and classifier; multiply-adds at 256 x 192.

| variant    | params     | MACs    |
|------------|------------|---------|
| resnet-18  | 11,176,512 | 1.777 G |
| resnet-34  | 21,284,672 | 3.588 G |
| resnet-50  | 23,508,032 | 4.004 G |
| resnet-101 | 42,500,160 | 7.640 G |
| resnet-152 | 58,143,808 | 11.28 G |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from fleetpose.errors import UnknownNameError
from fleetpose.models.efficientnet import Tap
from fleetpose.models.layers import Activation, BasicBlock, Bottleneck, ConvBN, conv2d, init_weights
from fleetpose.models.state_dicts import BOTTLENECK_NAMES

if TYPE_CHECKING:
    from torch import Tensor

_STEM = 64
_WIDTHS = (64, 128, 256, 512)  # of the 3 x 3 convolutions at 1/4, 1/8, 1/16 and 1/32


@dataclass(frozen=True, slots=True)
class ResNetConfig:
    """One column of the paper's Table 1."""

    blocks: tuple[int, int, int, int]  # residual blocks at 1/4, 1/8, 1/16 and 1/32
    is_bottleneck: bool  # three convolutions per block, else two


class ResNetBackbone(nn.Module):
    """Stem and four stages; offers the last map at each resolution.

    Attributes:
        taps: what `forward` returns, finest first: at strides 2, 4, 8, 16 and 32.
    """

    def __init__(self, *, config: ResNetConfig) -> None:
        super().__init__()
        self.stem = ConvBN(conv2d(3, _STEM, kernel=7, stride=2), Activation.RELU)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        stages: list[nn.Module] = []
        taps = [Tap(_STEM, 2)]
        for index, (width, blocks) in enumerate(zip(_WIDTHS, config.blocks, strict=True)):
            # The pooling has done the first stage's step to 1/4.
            stages.append(_stage(taps[-1].channels, width, blocks, 1 if index == 0 else 2, config=config))
            taps.append(Tap(width * (Bottleneck.expansion if config.is_bottleneck else 1), 4 * 2**index))
        self.stages = nn.ModuleList(stages)
        self.taps = tuple(taps)
        init_weights(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images `[B, 3, H, W]` → one map `[B, tap.channels, H / tap.stride, W / tap.stride]` per tap."""
        features = [self.stem(images)]
        x = self.pool(features[0])
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def _stage(in_channels: int, width: int, blocks: int, stride: int, *, config: ResNetConfig) -> nn.Sequential:
    block = Bottleneck if config.is_bottleneck else BasicBlock
    out_channels = width * (Bottleneck.expansion if config.is_bottleneck else 1)
    return nn.Sequential(
        block(in_channels, width, stride=stride), *(block(out_channels, width) for _ in range(blocks - 1))
    )


VARIANTS = {
    "resnet-18": ResNetConfig((2, 2, 2, 2), is_bottleneck=False),
    "resnet-34": ResNetConfig((3, 4, 6, 3), is_bottleneck=False),
    "resnet-50": ResNetConfig((3, 4, 6, 3), is_bottleneck=True),
    "resnet-101": ResNetConfig((3, 4, 23, 3), is_bottleneck=True),
    "resnet-152": ResNetConfig((3, 8, 36, 3), is_bottleneck=True),
}


def resnet(variant: str) -> ResNetBackbone:
    """Build one of `VARIANTS` with new weights.

    >>> [tap.channels for tap in resnet("resnet-18").taps]
    [64, 64, 128, 256, 512]
    """
    if variant not in VARIANTS:
        raise UnknownNameError("model", variant, VARIANTS)
    return ResNetBackbone(config=VARIANTS[variant])


# Entries of a ResNet in torchvision's and SimpleBaseline's checkpoints, as regular expressions, and ours.
OFFICIAL_NAMES = (
    (r"conv1\.", "stem.conv."),
    (r"bn1\.", "stem.norm."),
    *(
        (rf"layer{stage + 1}\.(\d+)\.{old}", rf"stages.{stage}.\1.{new}")
        for stage in range(len(_WIDTHS))
        for old, new in BOTTLENECK_NAMES
    ),
)

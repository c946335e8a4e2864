"""A network of ours for one person per crop, made to be trained on a CPU.

SlimDeconv's idea (`fleetpose.models.slimdeconv`), an encoder followed by narrow transposed convolutions, with
the blocks of `litepose-plain`: full 3 x 3 convolutions in residual blocks, nothing depthwise, whose backward
pass dominates training elsewhere. As in LitePose the trunk's maps of the same size are added on the way up.
Heatmaps are sigmoids, so that they read as chances.

| variant          | input     | params, 17 | MACs    |
|------------------|-----------|------------|---------|
| slimdeconv-plain | 192 x 128 | 9,958,913  | 0.698 G |
| the same         | 256 x 192 |            | 1.396 G |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.errors import CheckpointError, UnknownNameError
from fleetpose.models.contract import PoseNetwork
from fleetpose.models.layers import (
    SIGMOID_SHARPNESS,
    Activation,
    BasicBlock,
    ConvBN,
    conv2d,
    deconv2x,
    init_predictors,
    init_weights,
    normalised,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Stage:
    """A convolution that halves the resolution, and residual blocks after it."""

    channels: int
    blocks: int


@dataclass(frozen=True, slots=True)
class SlimDeconvPlainConfig:
    """Sizes of one variant."""

    input_size: tuple[int, int]  # (H, W), in pixels
    stem: int  # channels at 1/2
    stages: tuple[Stage, Stage, Stage, Stage]  # at 1/4, 1/8, 1/16 and 1/32
    deconv: tuple[int, int, int]  # channels of each doubling, at 1/16, 1/8 and 1/4
    deconv_blocks: tuple[int, int, int] = (0, 0, 0)  # residual blocks after each doubling


class _FusedUpsample(nn.Module):
    """Double the resolution of the deeper map and add the trunk's map of that resolution."""

    def __init__(self, deep_channels: int, trunk_channels: int, out_channels: int) -> None:
        super().__init__()
        self.deep = deconv2x(deep_channels, out_channels)
        self.trunk = conv2d(trunk_channels, out_channels)
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = Activation.RELU.module()

    def forward(self, deep: Tensor, trunk: Tensor) -> Tensor:
        return normalised(self.norm, self.activation, self.deep(deep) + self.trunk(trunk), None)


class SlimDeconvPlain(PoseNetwork):
    """Trunk to 1/32, three fused doublings, heatmaps at 1/4; for crops with one person."""

    size_multiple: ClassVar[int] = 32
    sharpness = SIGMOID_SHARPNESS

    def __init__(self, *, config: SlimDeconvPlainConfig, num_keypoints: int = 17) -> None:
        super().__init__()
        self.fields = (Field(FieldKind.HEATMAPS, num_keypoints, stride=4),)
        self.input_size = config.input_size
        self.stem = ConvBN(conv2d(3, config.stem, kernel=3, stride=2), Activation.RELU)
        widths = [config.stem, *(stage.channels for stage in config.stages)]
        self.stages = nn.ModuleList(
            _stage(width, stage) for width, stage in zip(widths, config.stages, strict=False)
        )
        deeper = [widths[-1], *config.deconv]
        self.upsamples = nn.ModuleList(
            _FusedUpsample(deep, trunk, out)
            for deep, trunk, out in zip(deeper, widths[-2:0:-1], config.deconv, strict=False)
        )
        self.refinements = nn.ModuleList(
            nn.Sequential(*(BasicBlock(out) for _ in range(blocks)))
            for out, blocks in zip(config.deconv, config.deconv_blocks, strict=True)
        )
        self.predict = conv2d(config.deconv[-1], num_keypoints, bias=True)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw new weights, for training from scratch."""
        init_weights(self)
        init_predictors(self.predict)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images `[B, 3, H, W]` → heatmaps `[B, K, H/4, W/4]` in [0, 1]."""
        trunk = []
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
            trunk.append(x)
        for upsample, refine, same_size in zip(self.upsamples, self.refinements, trunk[-2::-1], strict=True):
            x = refine(upsample(x, same_size))
        return self.named(self.predict(x))


def _stage(in_channels: int, stage: Stage) -> nn.Sequential:
    entry = ConvBN(conv2d(in_channels, stage.channels, kernel=3, stride=2), Activation.RELU)
    return nn.Sequential(entry, *(BasicBlock(stage.channels) for _ in range(stage.blocks)))


VARIANTS = {
    "slimdeconv-plain": SlimDeconvPlainConfig(
        (192, 128),
        stem=16,
        stages=(Stage(32, blocks=1), Stage(64, blocks=4), Stage(128, blocks=9), Stage(256, blocks=5)),
        deconv=(64, 64, 32),
        deconv_blocks=(2, 2, 1),
    ),
}


def slimdeconv_plain(variant: str, *, num_keypoints: int = 17) -> SlimDeconvPlain:
    """Build one of `VARIANTS` with new weights.

    >>> slimdeconv_plain("slimdeconv-plain").fields[0].name
    'heatmaps_s4'
    """
    if variant not in VARIANTS:
        raise UnknownNameError("model", variant, VARIANTS)
    return SlimDeconvPlain(config=VARIANTS[variant], num_keypoints=num_keypoints)


def convert_official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Refuse: the network is ours.

    Raises:
        CheckpointError: always.
    """
    raise CheckpointError(f"the network has no other authors, so these {len(state)} entries are not theirs")

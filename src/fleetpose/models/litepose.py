"""LitePose: single-branch bottom-up pose estimation (Wang et al., CVPR 2022, arXiv:2205.01271).

Written from the paper; layers, names of checkpoint entries and the figures below were checked against the
authors' code, github.com/mit-han-lab/litepose at 00b702d. A MobileNetV2-like trunk with 7 x 7 kernels, and
transposed convolutions that climb back to 1/2 resolution while fusing the trunk's maps.

Where the paper's figure says "concat", the code sums two transposed convolutions, one of the deep path and
one of the trunk's map; without biases that is one transposed convolution of the concatenation. So do we.

Parameters for 14 keypoints (CrowdPose) and 17 (COCO); multiply-adds at the input size for 14 keypoints, with
transposed convolutions counted at their input positions (the paper counts them at their output positions,
and normalisation and ReLU too, hence 1.2, 5.0, 7.8 and 13.7 G); AP on CrowdPose test from its Table 1.

| variant     | input | params, 14 | params, 17 | MACs    | AP   |
|-------------|-------|------------|------------|---------|------|
| litepose-xs | 256   | 1,675,552  | 1,675,912  | 0.883 G | 49.5 |
| litepose-s  | 448   | 2,731,240  | 2,731,624  | 3.614 G | 58.3 |
| litepose-m  | 448   | 3,533,808  | 3,534,336  | 5.264 G |      |
| litepose-l  | 512   | 5,738,120  | 5,738,672  | 9.962 G |      |

`litepose-plain` (256, 3,361,592 and 3,362,168 parameters, 1.231 G) is ours: the same single branch and fused
doublings with full 3 x 3 convolutions in residual blocks instead of inverted bottlenecks, and wider maps
before the predictions. Nothing in it is depthwise, which makes it quick to train on a CPU. It stops at 1/4: a
second model looks at its people more closely than maps at 1/2 would. Its tags begin as
a ramp over the picture: people in different places differ from the first step, and the network has only to
learn the way from each keypoint to the middle of its person. Tags that begin alike take long to part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from fleetpose.codecs.fields import associative_embedding_fields
from fleetpose.errors import UnknownNameError
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
    round_channels,
)
from fleetpose.models.state_dicts import rename_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of the architecture: a run of blocks, the first of which has the stride."""

    channels: int
    blocks: int
    stride: int
    kernel: int = 7
    expand: int = 6


@dataclass(frozen=True, slots=True)
class LitePoseConfig:
    """Sizes of one LitePose; field for field what the authors' search writes out."""

    input_size: tuple[int, int]  # (H, W), in pixels
    stem: int  # channels at 1/2
    stages: tuple[Stage, Stage, Stage, Stage]  # at 1/4, 1/8, 1/16 and 1/16
    deconv: tuple[int, ...]  # channels of each doubling, at 1/8, 1/4 and 1/2; ours: two, no maps at 1/2
    is_plain: bool = False  # ours: full 3 x 3 convolutions in residual blocks, nothing depthwise
    sharpness: float = 0.0  # ours: if above 0, heatmaps are sigmoids of this slope
    tag_ramp: float = 0.0  # ours: growth of a cell's tag per pixel to the right; half of it downwards


class _InvertedBottleneck(nn.Module):
    """Widen, filter depthwise, narrow; residual where shapes allow (MobileNetV2, arXiv:1801.04381)."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        inner = round_channels(in_channels * expand)
        self.expand = ConvBN(conv2d(in_channels, inner), Activation.RELU6)
        self.depthwise = ConvBN(
            conv2d(inner, inner, kernel=kernel, stride=stride, groups=inner), Activation.RELU6
        )
        self.project = ConvBN(conv2d(inner, out_channels))
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.depthwise(self.expand(x)), x if self.residual else None)
        return out


class _FusedUpsample(nn.Module):
    """Double the resolution of the refined path and of the trunk's map of the same size, and add them."""

    def __init__(self, refined_channels: int, raw_channels: int, out_channels: int) -> None:
        super().__init__()
        self.refined = deconv2x(refined_channels, out_channels)
        self.raw = deconv2x(raw_channels, out_channels)
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = Activation.RELU.module()

    def forward(self, refined: Tensor, raw: Tensor) -> Tensor:
        return normalised(self.norm, self.activation, self.refined(refined) + self.raw(raw), None)


class _SeparablePredictor(nn.Module):
    """Depthwise 5 x 5, then 1 x 1 to the output maps."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = ConvBN(
            conv2d(in_channels, in_channels, kernel=5, groups=in_channels), Activation.RELU
        )
        self.pointwise = conv2d(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


class _PlainPredictor(nn.Module):
    """1 x 1 to the output maps."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.pointwise = conv2d(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise(x)
        return out


class _FusedPredictor(nn.Module):
    """Output maps predicted from the refined path and from the trunk's map of the same size, added."""

    def __init__(
        self, refined_channels: int, raw_channels: int, out_channels: int, *, is_plain: bool
    ) -> None:
        super().__init__()
        predictor = _PlainPredictor if is_plain else _SeparablePredictor
        self.refined = predictor(refined_channels, out_channels)
        self.raw = predictor(raw_channels, out_channels)

    def forward(self, refined: Tensor, raw: Tensor) -> Tensor:
        out: Tensor = self.refined(refined) + self.raw(raw)
        return out


class LitePose(PoseNetwork):
    """Trunk to 1/16, fused doublings, maps at 1/4 (heatmaps and tags) and, in the paper, 1/2 (heatmaps)."""

    size_multiple: ClassVar[int] = 16

    def __init__(self, *, config: LitePoseConfig, num_keypoints: int = 17) -> None:
        super().__init__()
        self.input_size = config.input_size
        self.num_keypoints = num_keypoints
        self.sharpness, self.tag_ramp = config.sharpness, config.tag_ramp
        self.stem = _stem(config)
        widths = [config.stem, *(stage.channels for stage in config.stages)]
        self.stages = nn.ModuleList(
            (_residual_blocks if config.is_plain else _bottlenecks)(width, stage)
            for width, stage in zip(widths, config.stages, strict=False)
        )
        at_half, at_quarter, at_eighth, at_sixteenth, deepest = widths
        self.upsamples = nn.ModuleList(
            _FusedUpsample(refined, raw, out)
            for refined, raw, out in zip(
                (deepest, *config.deconv), (at_sixteenth, at_eighth, at_quarter), config.deconv, strict=False
            )
        )
        self.predict_quarter = _FusedPredictor(
            config.deconv[1], at_quarter, 2 * num_keypoints, is_plain=config.is_plain
        )
        self.predict_half = None
        if len(config.deconv) == 3:
            self.predict_half = _FusedPredictor(
                config.deconv[2], at_half, num_keypoints, is_plain=config.is_plain
            )
        self.fields = associative_embedding_fields(num_keypoints, has_half=self.predict_half is not None)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw new weights, for training from scratch."""
        init_weights(self)
        for head in (self.predict_quarter, self.predict_half):
            if head is not None:
                init_predictors(head.refined.pointwise, head.raw.pointwise)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images `[B, 3, H, W]` → heatmaps and tags `[B, K, H/4, W/4]`, heatmaps `[B, K, H/2, W/2]`."""
        raw = [self.stem(images)]  # at 1/2, then 1/4, 1/8, 1/16, 1/16
        for stage in self.stages:
            raw.append(stage(raw[-1]))
        quarter = self.upsamples[1](self.upsamples[0](raw[4], raw[3]), raw[2])
        maps = self.predict_quarter(quarter, raw[1])
        heatmaps, tags = maps[:, : self.num_keypoints], maps[:, self.num_keypoints :]
        if self.tag_ramp:
            tags = tags.float() + self.tag_ramp * _positions(tags, stride=4)
        if self.predict_half is None:
            return self.named(heatmaps, tags)
        fine_heatmaps = self.predict_half(self.upsamples[2](quarter, raw[1]), raw[0])
        return self.named(heatmaps, tags, fine_heatmaps)


def _bottlenecks(in_channels: int, stage: Stage) -> nn.Sequential:
    inputs = [in_channels] + [stage.channels] * (stage.blocks - 1)
    strides = [stage.stride] + [1] * (stage.blocks - 1)
    return nn.Sequential(
        *(
            _InvertedBottleneck(
                channels, stage.channels, kernel=stage.kernel, stride=stride, expand=stage.expand
            )
            for channels, stride in zip(inputs, strides, strict=True)
        )
    )


def _positions(maps: Tensor, *, stride: int) -> Tensor:
    """How far right each cell lies plus half of how far down, in pixels, `[h, w]`."""
    across = torch.arange(maps.shape[3], dtype=torch.float32, device=maps.device)
    down = torch.arange(maps.shape[2], dtype=torch.float32, device=maps.device)
    return stride * (across[None, :] + 0.5 * down[:, None])


def _stem(config: LitePoseConfig) -> nn.Sequential:
    if config.is_plain:
        return nn.Sequential(ConvBN(conv2d(3, config.stem, kernel=3, stride=2), Activation.RELU))
    return nn.Sequential(
        ConvBN(conv2d(3, 32, kernel=3, stride=2), Activation.RELU6),
        ConvBN(conv2d(32, 32, kernel=3, groups=32), Activation.RELU6),
        ConvBN(conv2d(32, config.stem)),
    )


def _residual_blocks(in_channels: int, stage: Stage) -> nn.Sequential:
    entry = ConvBN(conv2d(in_channels, stage.channels, kernel=3, stride=stage.stride), Activation.RELU)
    return nn.Sequential(entry, *(BasicBlock(stage.channels) for _ in range(stage.blocks)))


def searched_stages(first: int, second: int, third: int, fourth: int) -> tuple[Stage, Stage, Stage, Stage]:
    """Depth is 6-8-10-10 in every released model; only the widths are searched."""
    return (
        Stage(first, blocks=6, stride=2),
        Stage(second, blocks=8, stride=2),
        Stage(third, blocks=10, stride=2),
        Stage(fourth, blocks=10, stride=1),
    )


# The rows of the authors' mobile_configs/search-{XS,S,M,L}.json.
VARIANTS = {
    "litepose-xs": LitePoseConfig(
        (256, 256), stem=16, stages=searched_stages(16, 32, 48, 80), deconv=(16, 24, 24)
    ),
    "litepose-s": LitePoseConfig(
        (448, 448), stem=16, stages=searched_stages(16, 32, 48, 120), deconv=(32, 24, 32)
    ),
    "litepose-m": LitePoseConfig(
        (448, 448), stem=16, stages=searched_stages(24, 48, 72, 120), deconv=(64, 40, 32)
    ),
    "litepose-l": LitePoseConfig(
        (512, 512), stem=24, stages=searched_stages(24, 64, 96, 160), deconv=(64, 40, 32)
    ),
    "litepose-plain": LitePoseConfig(
        (256, 256),
        stem=24,
        stages=(
            Stage(32, blocks=1, stride=2),
            Stage(64, blocks=2, stride=2),
            Stage(128, blocks=3, stride=2),
            Stage(192, blocks=2, stride=1),
        ),
        deconv=(96, 64),
        is_plain=True,
        sharpness=SIGMOID_SHARPNESS,
        tag_ramp=1 / 16,
    ),
}


def litepose(variant: str, *, num_keypoints: int = 17) -> LitePose:
    """Build one of `VARIANTS` with new weights.

    >>> sum(p.numel() for p in litepose("litepose-xs").parameters())
    1675912
    """
    if variant not in VARIANTS:
        raise UnknownNameError("model", variant, VARIANTS)
    return LitePose(config=VARIANTS[variant], num_keypoints=num_keypoints)


# The authors' checkpoint entries, as regular expressions, and ours.
_OFFICIAL_NAMES = (
    (r"first\.([01])\.0\.", r"stem.\1.conv."),
    (r"first\.([01])\.1\.", r"stem.\1.norm."),
    (r"first\.2\.", "stem.2.conv."),
    (r"first\.3\.", "stem.2.norm."),
    (r"stage\.(\d+)\.(\d+)\.inv\.0\.", r"stages.\1.\2.expand.conv."),
    (r"stage\.(\d+)\.(\d+)\.inv\.1\.", r"stages.\1.\2.expand.norm."),
    (r"stage\.(\d+)\.(\d+)\.depth_conv\.0\.", r"stages.\1.\2.depthwise.conv."),
    (r"stage\.(\d+)\.(\d+)\.depth_conv\.1\.", r"stages.\1.\2.depthwise.norm."),
    (r"stage\.(\d+)\.(\d+)\.point_conv\.0\.", r"stages.\1.\2.project.conv."),
    (r"stage\.(\d+)\.(\d+)\.point_conv\.1\.", r"stages.\1.\2.project.norm."),
    (r"deconv_(refined|raw)\.(\d+)\.", r"upsamples.\2.\1."),
    (r"deconv_bnrelu\.(\d+)\.0\.", r"upsamples.\1.norm."),
    (r"final_(refined|raw)\.0\.conv\.0\.", r"predict_quarter.\1.depthwise.conv."),
    (r"final_(refined|raw)\.0\.conv\.1\.", r"predict_quarter.\1.depthwise.norm."),
    (r"final_(refined|raw)\.0\.conv\.3\.", r"predict_quarter.\1.pointwise."),
    (r"final_(refined|raw)\.1\.conv\.0\.", r"predict_half.\1.depthwise.conv."),
    (r"final_(refined|raw)\.1\.conv\.1\.", r"predict_half.\1.depthwise.norm."),
    (r"final_(refined|raw)\.1\.conv\.3\.", r"predict_half.\1.pointwise."),
)


def convert_official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' checkpoint entries to ours; one that no LitePose has is a CheckpointError."""
    return rename_keys(state, _OFFICIAL_NAMES)

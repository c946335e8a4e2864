"""EfficientPose: single-person pose estimation in passes (Groos et al., arXiv:2004.12186).

Written from the paper; what it leaves open was settled by measuring the authors' code and released weights,
github.com/daniegr/EfficientPose at 78e4bd1. Where that code and the paper differ, we do as the code does:

- the low-level backbone's last block gives its output without the residual that its other blocks add;
- maps are concatenated newest first, and a Mobile DenseNet gives its three outputs without its input;
- from the second on, a Mobile DenseNet adds its input to its output;
- upscaling is bilinear with zeros beyond the border, and its kernels never learn.

The authors' PyTorch networks only give the upscaled heatmaps: they lack the predictions of the earlier
passes, which serve training. `EfficientPoseConfig.has_training_heads` leaves those out, and `load_official`
builds networks without them. The order of the 14 limbs is not published.

Parameters for 16 keypoints (MPII) without and with the training heads; multiply-adds with them at the input
size, the upscaling counted once per channel; mean PCKh@50 and @10 on MPII's validation images as the paper
prints them. The paper counts every multiply-add twice, upscaling densely, and statistics of normalisations as
parameters: 0.46, 0.72, 1.73, 3.23 and 6.56 M with 0.87, 1.67, 7.70, 23.35 and 72.89 G. `count_as_tensorflow`
gives the same, and those of the ablations, except without the skeleton pass: 0.52 and 1.24 M for I and II
where Table 7 has 0.54 and 1.27 M.

| variant           | input | params    | with heads | MACs     | PCKh@50 | PCKh@10 |
|-------------------|-------|-----------|------------|----------|---------|---------|
| efficientpose-rt  | 224   |   435,676 |    441,000 | 0.369 G  | 82.88   | 23.56   |
| efficientpose-i   | 256   |   689,880 |    696,260 | 0.744 G  | 85.18   | 26.49   |
| efficientpose-ii  | 368   | 1,684,464 |  1,691,900 | 3.630 G  | 88.18   | 30.17   |
| efficientpose-iii | 480   | 3,157,612 |  3,166,104 | 11.23 G  | 89.51   | 30.90   |
| efficientpose-iv  | 600   | 6,448,266 |  6,458,870 | 35.58 G  | 89.75   | 35.63   |
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.errors import ConfigError, UnknownNameError
from fleetpose.models import efficientnet
from fleetpose.models.contract import PoseNetwork
from fleetpose.models.efficientnet import EfficientNetBackbone, EfficientNetConfig, MBConv
from fleetpose.models.layers import (
    Activation,
    BilinearUpscale,
    ConvBN,
    Padding,
    SqueezeExcite,
    conv2d,
    init_predictors,
    init_weights,
)
from fleetpose.models.state_dicts import rename_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

_STRIDE = 8  # of features and of the passes' predictions
_EXPAND = 6
_MAX_DETECTION_PASSES = 3


@dataclass(frozen=True, slots=True)
class EfficientPoseConfig:
    """One column of Table 2; the options below `blocks` are the ablations of Appendix A."""

    input_size: tuple[int, int]  # (H, W), in pixels
    high_level: EfficientNetConfig  # sees the image; its width is that of the detection blocks
    low_level: EfficientNetConfig | None  # sees the image at half its size; None: one resolution only
    blocks: int  # Mobile DenseNets per pass
    has_skeleton_pass: bool = True  # predict part affinity fields before keypoints
    detection_passes: int = 2
    is_upscaled: bool = True  # give heatmaps at the image's own resolution too
    has_training_heads: bool = True  # give every pass's prediction, not the last only
    limbs: int = 14

    def __post_init__(self) -> None:
        if not 1 <= self.detection_passes <= _MAX_DETECTION_PASSES:
            raise ConfigError(f"detection_passes must be 1, 2 or 3, but got {self.detection_passes}")


class _EMBConv(nn.Module):
    """Inverted bottleneck whose inner width depends on its output's, with E-swish."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        inner = _EXPAND * out_channels
        self.expand = ConvBN(conv2d(in_channels, inner), Activation.ESWISH)
        self.depthwise = ConvBN(conv2d(inner, inner, kernel=5, groups=inner), Activation.ESWISH)
        self.squeeze_excite = SqueezeExcite(inner, out_channels // 4, Activation.ESWISH)
        self.project = ConvBN(conv2d(inner, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.squeeze_excite(self.depthwise(self.expand(x))))
        return out


class _MobileDenseNet(nn.Module):
    """Three convolutions, each of which sees all that the ones before gave: `[B, C, h, w]` → 3 widths."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.first = _EMBConv(in_channels, width)
        self.second = _EMBConv(width, width)
        self.third = _EMBConv(2 * width, width)
        self.is_residual = in_channels == 3 * width

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        second = torch.cat([self.second(first), first], dim=1)
        third = torch.cat([self.third(second), second], dim=1)
        return third + x if self.is_residual else third


class EfficientPose(PoseNetwork):
    """Features at two resolutions, a pass for limbs, passes for keypoints, upscaled heatmaps."""

    size_multiple: ClassVar[int] = _STRIDE
    takes_any_size: ClassVar[bool] = True

    def __init__(self, *, config: EfficientPoseConfig, num_keypoints: int = 16) -> None:
        super().__init__()
        self.config, self.num_keypoints = config, num_keypoints
        self.input_size = config.input_size
        self.high_level = EfficientNetBackbone(config=config.high_level)
        self.low_level = EfficientNetBackbone(config=config.low_level) if config.low_level else None
        self.halve = nn.AvgPool2d(2, ceil_mode=True)
        width = channels = self.high_level.taps[-1].channels
        if self.low_level is not None:
            # The authors' graph takes this map before the residual is added; released weights expect that.
            last = self.low_level.blocks[-1]
            assert isinstance(last, MBConv)  # noqa: S101 - ours by construction; tells the type checker
            last.residual = False
            channels += self.low_level.taps[-1].channels
        labels = [f"pass{index + 1}" for index in range(config.detection_passes)]
        outputs = dict.fromkeys(labels, num_keypoints)
        if config.has_skeleton_pass:
            outputs = {"pafs": 2 * config.limbs} | outputs
        self.passes = nn.ModuleDict(
            {
                label: _detection_block(channels + (0 if index == 0 else 3 * width), width, config.blocks)
                for index, label in enumerate(outputs)
            }
        )
        predicted = outputs if config.has_training_heads else {labels[-1]: num_keypoints}
        self.heads = nn.ModuleDict(
            {label: conv2d(3 * width, count, bias=True) for label, count in predicted.items()}
        )
        self.upscale = BilinearUpscale(num_keypoints) if config.is_upscaled else None
        self.fields = _fields(config, predicted, num_keypoints)
        self.init_weights()
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):  # as in Keras's EfficientNets, which the authors began with
                layer.eps, layer.momentum = 1e-3, 0.01

    def init_weights(self) -> None:
        """Draw new weights, for training from scratch; the upscaling keeps its own."""
        for part in (self.high_level, self.low_level, self.passes, self.heads):
            if part is not None:
                init_weights(part)
        init_predictors(*(head for head in self.heads.values() if isinstance(head, nn.Conv2d)))

    def for_prediction(self) -> PoseNetwork:
        """Return the last pass alone of a network whose heatmaps are chances: a top-down network's one field.

        Other heatmaps are read as the authors do, who keep the fields for telling people apart.
        """
        if not self.sharpness:
            return self
        config = replace(self.config, has_training_heads=False, is_upscaled=False)
        network = EfficientPose(config=config, num_keypoints=self.num_keypoints)
        network.sharpness = self.sharpness
        own = self.state_dict()
        network.load_state_dict({name: own[name] for name in network.state_dict()})
        return network.train(self.training)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images `[B, 3, H, W]` → limbs and heatmaps of the passes at 1/8, and the last heatmaps in full."""
        features = [self.high_level(images)[-1]]
        if self.low_level is not None:
            features.append(self.low_level(self.halve(images))[-1])
        maps: dict[str, Tensor] = {}
        passed: list[Tensor] = []
        for label, block in self.passes.items():
            passed = [block(torch.cat([*passed, *features], dim=1))]
            if label in self.heads:
                maps[label] = self.heads[label](passed[0])
        outputs = list(maps.values())
        if self.upscale is not None:
            outputs.append(self.upscale(self.upscale(self.upscale(outputs[-1]))))
        return self.named(*outputs[-len(self.fields) :])


def _detection_block(in_channels: int, width: int, blocks: int) -> nn.Sequential:
    first = _MobileDenseNet(in_channels, width)
    return nn.Sequential(first, *(_MobileDenseNet(3 * width, width) for _ in range(blocks - 1)))


def _fields(
    config: EfficientPoseConfig, predicted: Mapping[str, int], num_keypoints: int
) -> tuple[Field, ...]:
    fields = [
        Field(FieldKind.PAFS, channels, _STRIDE)
        if label == "pafs"
        else Field(FieldKind.HEATMAPS, channels, _STRIDE, label=label)
        for label, channels in predicted.items()
    ]
    if not config.is_upscaled:
        return tuple(fields)
    upscaled = Field(FieldKind.HEATMAPS, num_keypoints, stride=1)
    return (*fields, upscaled) if config.has_training_heads else (upscaled,)


def _first_stages(name: str, count: int) -> EfficientNetConfig:
    config = efficientnet.VARIANTS[name]
    return replace(config, stages=config.stages[:count], padding=Padding.TENSORFLOW)


def _config(resolution: int, high: str, low: str | None, *, blocks: int) -> EfficientPoseConfig:
    return EfficientPoseConfig(
        input_size=(resolution, resolution),
        high_level=_first_stages(f"efficientnet-{high}", 3),
        low_level=None if low is None else _first_stages(f"efficientnet-{low}", 2),
        blocks=blocks,
    )


# Table 2.
VARIANTS = {
    "efficientpose-rt": _config(224, "b0", None, blocks=1),
    "efficientpose-i": _config(256, "b2", "b0", blocks=1),
    "efficientpose-ii": _config(368, "b4", "b0", blocks=2),
    "efficientpose-iii": _config(480, "b5", "b1", blocks=3),
    "efficientpose-iv": _config(600, "b7", "b3", blocks=4),
}


def efficientpose(variant: str, *, num_keypoints: int = 16) -> EfficientPose:
    """Build one of `VARIANTS` with new weights.

    >>> [field.name for field in efficientpose("efficientpose-rt").fields]
    ['pafs_s8', 'heatmaps_s8_pass1', 'heatmaps_s8_pass2', 'heatmaps_s1']
    """
    if variant not in VARIANTS:
        raise UnknownNameError("model", variant, VARIANTS)
    return EfficientPose(config=VARIANTS[variant], num_keypoints=num_keypoints)


def efficientpose_for_inference(variant: str, *, num_keypoints: int = 16) -> EfficientPose:
    """Build one of `VARIANTS` without the heads that serve training: what the authors published weights of.

    >>> [field.name for field in efficientpose_for_inference("efficientpose-rt").fields]
    ['heatmaps_s1']
    """
    if variant not in VARIANTS:
        raise UnknownNameError("model", variant, VARIANTS)
    config = replace(VARIANTS[variant], has_training_heads=False)
    return EfficientPose(config=config, num_keypoints=num_keypoints)


# Layers of a block in the authors' checkpoints, as regular expressions, and ours.
_BACKBONE_LAYERS = (
    ("expand_conv_{}_convolution", "expand.conv"),
    ("expand_bn_{}_FusedBatchNorm_1", "expand.norm"),
    ("dwconv_{}_depthwise", "depthwise.conv"),
    ("bn_{}_FusedBatchNorm_1", "depthwise.norm"),
    ("se_reduce_{}_convolution", "squeeze_excite.reduce"),
    ("se_expand_{}_convolution", "squeeze_excite.restore"),
    ("project_conv_{}_convolution", "project.conv"),
    ("project_bn_{}_FusedBatchNorm_1", "project.norm"),
)
_PASS_LAYERS = (
    ("conv1_convolution", "expand.conv"),
    ("conv1_bn_FusedBatchNorm_1", "expand.norm"),
    ("dconv1_depthwise", "depthwise.conv"),
    ("dconv1_bn_FusedBatchNorm_1", "depthwise.norm"),
    ("se_se_squeeze_conv_convolution", "squeeze_excite.reduce"),
    ("se_se_excite_conv_convolution", "squeeze_excite.restore"),
    ("conv2_convolution", "project.conv"),
    ("conv2_bn_FusedBatchNorm_1", "project.norm"),
)
_BACKBONES = {"res1": "high_level", "res2": "low_level"}
_PASSES = {"skeleton": "pafs", "detection1": "pass1", "detection2": "pass2"}
_CONVOLUTIONS = {"1": "first", "2": "second", "3": "third"}
_BLOCK = re.compile(r"block(\d)([a-z])_dwconv_(res\d)_depthwise\.")
_STATISTICS = ".running_var"
_MAX_BLOCKS = 4


def _backbone_names(state: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Names in the backbones, whose blocks the authors count anew in each stage, by letters."""
    for official, ours in _BACKBONES.items():
        yield rf"stem_conv_{official}_convolution\.", f"{ours}.stem.conv."
        yield rf"stem_bn_{official}_FusedBatchNorm_1\.", f"{ours}.stem.norm."
        blocks = sorted(
            match[1] + match[2] for key in state if (match := _BLOCK.match(key)) and match[3] == official
        )
        for index, block in enumerate(blocks):
            for layer, name in _BACKBONE_LAYERS:
                yield rf"block{block}_{layer.format(official)}\.", f"{ours}.blocks.{index}.{name}."


def _pass_names() -> Iterator[tuple[str, str]]:
    for number, (official, ours) in enumerate(_PASSES.items(), start=1):
        for index in range(_MAX_BLOCKS):
            for position, convolution in _CONVOLUTIONS.items():
                old = rf"pass{number}_block{index + 1}_mbconv{position}_{official}_"
                for layer, name in _PASS_LAYERS:
                    yield rf"{old}{layer}\.", f"passes.{ours}.{index}.{convolution}.{name}."
    yield r"pass3_detection2_confs_convolution\.", "heads.pass2."


def convert_official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' checkpoint entries to ours; one that no EfficientPose has is a CheckpointError."""
    renamed = rename_keys(state, [*_backbone_names(state), *_pass_names()])
    # Weights that come from TensorFlow do not say over how many batches the statistics were taken.
    counters = (
        f"{key.removesuffix(_STATISTICS)}.num_batches_tracked" for key in renamed if key.endswith(_STATISTICS)
    )
    return {counter: torch.zeros((), dtype=torch.int64) for counter in counters} | renamed

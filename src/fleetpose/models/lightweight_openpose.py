"""Lightweight OpenPose: part affinity fields on a CPU (Osokin, arXiv:1811.12004).

Written from the paper; layers, names of checkpoint entries and the figures below were checked against the
author's code, github.com/Daniil-Osokin/lightweight-human-pose-estimation.pytorch at d23c284. A MobileNet
with stride 8, and stages that each predict heatmaps and part affinity fields, the later ones from the
features and the maps of the stage before.

The author predicts 18 keypoints (COCO's and the neck) and 19 limbs; the heatmaps' last channel is the
background. His images are BGR, (value - 128) / 256.

Parameters and multiply-adds for 18 keypoints and 19 limbs at 368 x 368. The paper counts 4.1 M and 9 G for
one refinement.

| variant                 | refinements | params    | MACs     |
|-------------------------|-------------|-----------|----------|
| lightweight-openpose-r0 | 0           | 2,483,065 |  5.488 G |
| lightweight-openpose    | 1           | 4,091,698 |  8.882 G |
| lightweight-openpose-r2 | 2           | 5,700,331 | 12.275 G |
| lightweight-openpose-r3 | 3           | 7,308,964 | 15.669 G |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.errors import UnknownNameError
from fleetpose.models.contract import PoseNetwork
from fleetpose.models.layers import Activation, ConvBN, conv2d, init_predictors, init_weights
from fleetpose.models.state_dicts import rename_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_STRIDE = 8
_WIDTH = 128  # channels of the features, and within the stages


@dataclass(frozen=True, slots=True)
class SeparableRow:
    """One depthwise separable convolution of the backbone."""

    channels: int
    stride: int = 1
    dilation: int = 1


# MobileNet v1 up to conv5_5; from conv4_2 on, dilation keeps the receptive field instead of strides.
BACKBONE = (
    SeparableRow(64),
    SeparableRow(128, stride=2),
    SeparableRow(128),
    SeparableRow(256, stride=2),
    SeparableRow(256),
    SeparableRow(512),
    SeparableRow(512, dilation=2),
    *(SeparableRow(512),) * 4,
)
#: Refinement stages of each variant.
VARIANTS = {
    "lightweight-openpose": 1,
    "lightweight-openpose-r0": 0,
    "lightweight-openpose-r2": 2,
    "lightweight-openpose-r3": 3,
}


class _Context(nn.Module):
    """Narrow the backbone's features and look around once more, without normalisation."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.align = _conv_relu(in_channels, _WIDTH)
        self.trunk = nn.Sequential(
            *(
                nn.Sequential(
                    conv2d(_WIDTH, _WIDTH, kernel=3, groups=_WIDTH),
                    nn.ELU(inplace=True),
                    conv2d(_WIDTH, _WIDTH),
                    nn.ELU(inplace=True),
                )
                for _ in range(3)
            )
        )
        self.conv = _conv_relu(_WIDTH, _WIDTH, kernel=3)

    def forward(self, x: Tensor) -> Tensor:
        aligned = self.align(x)
        out: Tensor = self.conv(aligned + self.trunk(aligned))
        return out


class _RefinementBlock(nn.Module):
    """1 x 1, then two 3 x 3 convolutions, the second dilated, with a residual connection."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.initial = _conv_relu(in_channels, _WIDTH)
        self.trunk = nn.Sequential(
            *(
                ConvBN(conv2d(_WIDTH, _WIDTH, kernel=3, dilation=dilation, bias=True), Activation.RELU)
                for dilation in (1, 2)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        initial = self.initial(x)
        out: Tensor = initial + self.trunk(initial)
        return out


class _Stage(nn.Module):
    """Heatmaps and part affinity fields from one trunk."""

    def __init__(self, trunk: nn.Module, *, hidden: int, heatmaps: int, pafs: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.heatmaps = _predictor(hidden, heatmaps)
        self.pafs = _predictor(hidden, pafs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(x)
        return self.heatmaps(features), self.pafs(features)


class LightweightOpenPose(PoseNetwork):
    """Backbone to 1/8, an initial stage and refinements, each with heatmaps and part affinity fields.

    The maps of stage i are labelled `stage<i>`; the last stage's are the result. Heatmaps have one channel
    more than there are keypoints, the background.
    """

    size_multiple: ClassVar[int] = _STRIDE
    takes_any_size: ClassVar[bool] = True

    def __init__(self, *, refinements: int = 1, num_keypoints: int = 18, num_limbs: int = 19) -> None:
        super().__init__()
        heatmaps, pafs = num_keypoints + 1, 2 * num_limbs
        self.fields = tuple(
            Field(kind, channels, stride=_STRIDE, label=f"stage{stage}")
            for stage in range(1 + refinements)
            for kind, channels in ((FieldKind.HEATMAPS, heatmaps), (FieldKind.PAFS, pafs))
        )
        self.input_size = (368, 368)
        self.backbone = _backbone()
        self.context = _Context(BACKBONE[-1].channels)
        initial = nn.Sequential(*(_conv_relu(_WIDTH, _WIDTH, kernel=3) for _ in range(3)))
        self.stages = nn.ModuleList(
            [
                _Stage(initial, hidden=512, heatmaps=heatmaps, pafs=pafs),
                *(
                    _Stage(_refinement(_WIDTH + heatmaps + pafs), hidden=_WIDTH, heatmaps=heatmaps, pafs=pafs)
                    for _ in range(refinements)
                ),
            ]
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Draw new weights, for training from scratch."""
        init_weights(self)
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Conv2d) and name.endswith(("heatmaps.2", "pafs.2")):
                init_predictors(layer)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images `[B, 3, H, W]` → heatmaps `[B, K + 1, H/8, W/8]`, PAFs `[B, 2 * L, H/8, W/8]` per stage."""
        features = self.context(self.backbone(images))
        initial, *refinements = self.stages
        maps = [*initial(features)]
        for stage in refinements:
            maps += stage(torch.cat([features, *maps[-2:]], dim=1))
        return self.named(*maps)


def _conv_relu(in_channels: int, out_channels: int, *, kernel: int = 1) -> nn.Sequential:
    return nn.Sequential(
        conv2d(in_channels, out_channels, kernel=kernel, bias=True), Activation.RELU.module()
    )


def _predictor(hidden: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(*_conv_relu(_WIDTH, hidden), conv2d(hidden, out_channels, bias=True))


def _refinement(in_channels: int) -> nn.Sequential:
    return nn.Sequential(_RefinementBlock(in_channels), *(_RefinementBlock(_WIDTH) for _ in range(4)))


def _backbone() -> nn.Sequential:
    channels = 32
    layers: list[nn.Module] = [ConvBN(conv2d(3, channels, kernel=3, stride=2), Activation.RELU)]
    for row in BACKBONE:
        depthwise = conv2d(
            channels, channels, kernel=3, stride=row.stride, dilation=row.dilation, groups=channels
        )
        pointwise = conv2d(channels, row.channels)
        layers.append(nn.Sequential(ConvBN(depthwise, Activation.RELU), ConvBN(pointwise, Activation.RELU)))
        channels = row.channels
    return nn.Sequential(*layers)


def lightweight_openpose(
    variant: str, *, num_keypoints: int = 17, num_limbs: int = 19
) -> LightweightOpenPose:
    """Build one of `VARIANTS` with new weights.

    >>> lightweight_openpose("lightweight-openpose-r0").fields[1].name
    'pafs_s8_stage0'
    """
    if variant not in VARIANTS:
        raise UnknownNameError("model", variant, VARIANTS)
    return LightweightOpenPose(
        refinements=VARIANTS[variant], num_keypoints=num_keypoints, num_limbs=num_limbs
    )


def _stage_names(old: str, new: str) -> Iterator[tuple[str, str]]:
    """Names in one stage; the initial one's trunk has convolutions where the others' have blocks."""
    yield rf"{old}\.trunk\.(\d+)\.0\.", rf"{new}.trunk.\1.0."
    yield rf"{old}\.trunk\.(\d+)\.initial\.0\.", rf"{new}.trunk.\1.initial.0."
    yield rf"{old}\.trunk\.(\d+)\.trunk\.(\d+)\.0\.", rf"{new}.trunk.\1.trunk.\2.conv."
    yield rf"{old}\.trunk\.(\d+)\.trunk\.(\d+)\.1\.", rf"{new}.trunk.\1.trunk.\2.norm."
    yield rf"{old}\.(heatmaps|pafs)\.0\.0\.", rf"{new}.\1.0."
    yield rf"{old}\.(heatmaps|pafs)\.1\.0\.", rf"{new}.\1.2."


# The author's checkpoint entries, as regular expressions, and ours.
_OFFICIAL_NAMES = (
    (r"model\.0\.0\.", "backbone.0.conv."),
    (r"model\.0\.1\.", "backbone.0.norm."),
    (r"model\.(\d+)\.0\.", r"backbone.\1.0.conv."),
    (r"model\.(\d+)\.1\.", r"backbone.\1.0.norm."),
    (r"model\.(\d+)\.3\.", r"backbone.\1.1.conv."),
    (r"model\.(\d+)\.4\.", r"backbone.\1.1.norm."),
    (r"cpm\.", "context."),
    *_stage_names("initial_stage", "stages.0"),
    *_stage_names(r"refinement_stages\.0", "stages.1"),
    *_stage_names(r"refinement_stages\.1", "stages.2"),
    *_stage_names(r"refinement_stages\.2", "stages.3"),
)


def convert_official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the author's checkpoint entries to ours; one that this family lacks is a CheckpointError."""
    return rename_keys(state, _OFFICIAL_NAMES)

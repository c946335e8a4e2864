"""EfficientHRNet: an EfficientNet backbone under a high-resolution network (Neff et al., arXiv:2007.08090).

Written from the paper; what it leaves open was settled by measuring the authors' code,
github.com/TeCSAR-UNCC/EfficientHRNet at 802cc95. Where that code and the paper differ, we do as the code
does, because the paper's figures come from it:

- branch widths grow by 1.2455 per step (the paper's text says 1.25, its Table 1 needs 1.2455), and branch n
  has 32 * 2**(n - 1) channels before scaling (Eq. 5 says n * 32);
- residual blocks have two convolutions (the text says three);
- every branch passes a 3 x 3 convolution with bias between stages, also where its width stays the same;
- a new branch begins from the backbone's map of that resolution, not from the branch above.

We train the backbone with the rest; the released training loop freezes it.

`compound_scaling` also goes up, to H7 on EfficientNet-B7, and gives sizes between and networks on any other
backbone. A lite make has a backbone without squeeze-and-excitation and with ReLU6 (its name ends in -lite) or
hard swish (-lite-hardswish).

Parameters and multiply-adds (transposed convolution counted at its input positions) for 17 keypoints at the
input size; AP on COCO test-dev, single scale, as the paper prints it. The paper's own counts are higher
because its tool counts every inverted bottleneck's parameters twice and transposed convolutions fourfold.

| variant            | input | params      | MACs    | AP   |
|--------------------|-------|-------------|---------|------|
| efficienthrnet-h0  | 512   |  19,725,359 | 23.96 G | 64.0 |
| efficienthrnet-hm1 | 480   |  13,004,446 | 13.13 G | 59.1 |
| efficienthrnet-hm2 | 448   |   8,263,495 |  7.03 G | 52.8 |
| efficienthrnet-hm3 | 416   |   5,360,390 |  3.76 G | 44.5 |
| efficienthrnet-hm4 | 384   |   2,764,706 |  1.81 G | 35.5 |
| efficienthrnet-h1  | 544   |  32,381,664 | 45.44 G |      |
| efficienthrnet-h2  | 576   |  50,072,460 | 83.93 G |      |
| efficienthrnet-h3  | 608   |  79,617,314 | 154.4 G |      |
| efficienthrnet-h4  | 640   | 130,078,772 | 286.4 G |      |
| efficienthrnet-h5  | 672   | 210,116,131 | 515.0 G |      |
| efficienthrnet-h6  | 704   | 335,075,416 | 928.8 G |      |
| efficienthrnet-h7  | 736   | 540,332,142 |  1663 G |      |
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from fleetpose.codecs.fields import associative_embedding_fields
from fleetpose.errors import ConfigError, UnknownNameError
from fleetpose.models import efficientnet
from fleetpose.models.contract import PoseNetwork
from fleetpose.models.efficientnet import EfficientNetBackbone, EfficientNetConfig
from fleetpose.models.layers import (
    Activation,
    ConvBN,
    HigherResolutionHead,
    HighResolutionModule,
    conv2d,
    init_weights,
)
from fleetpose.models.state_dicts import HIGH_RESOLUTION_NAMES, HIGHER_RESOLUTION_HEAD_NAMES, rename_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

_BLOCKS = 2  # residual blocks per branch of a module, and after the transposed convolution
_WIDTH_SCALE = 1.2455
_SQUEEZE_EXCITE = re.compile(r"features\.(\d+)\.conv\.(?:1|(2))\.se\.")  # third layer if the block expands


@dataclass(frozen=True, slots=True)
class EfficientHRNetConfig:
    """One row of Table 1."""

    input_size: tuple[int, int]  # (H, W), in pixels
    backbone: EfficientNetConfig
    widths: tuple[int, int, int, int]  # channels of the branches at 1/4, 1/8, 1/16 and 1/32
    modules: tuple[int, int, int]  # high-resolution modules with two, three and four branches


def compound_scaling(phi: float, *, backbone: EfficientNetConfig | None = None) -> EfficientHRNetConfig:
    """Scale the baseline H0 by `phi`: Sect. 3.2 and Table 1.

    Args:
        phi: whole numbers from -4 to 0 are the paper's; others may be fractions, for a network between two.
        backbone: any EfficientNet, such as `VARIANTS["efficientnet-b0"].as_lite()` of
            `fleetpose.models.efficientnet`; None for the one that `phi` gives, from -4 to 7.

    >>> compound_scaling(-1).widths, compound_scaling(-1).modules
    ((26, 52, 103, 206), (1, 3, 3))
    >>> compound_scaling(1.5).widths, compound_scaling(1.5).input_size
    ((45, 89, 178, 356), (576, 576))

    Raises:
        ConfigError: no EfficientNet is defined for `phi` and none is given, or no pixel would be left.
    """
    resolution = 32 * _rounded(16 + phi)  # Eq. 6, in the network's multiples
    if resolution < 32:
        raise ConfigError(f"phi must be above -16, so that the input is not empty, but got {phi}")
    first, second, third, fourth = (math.ceil(32 * 2**n * _WIDTH_SCALE**phi) for n in range(4))
    return EfficientHRNetConfig(
        input_size=(resolution, resolution),
        backbone=efficientnet.compound_scaling(phi) if backbone is None else backbone,
        widths=(first, second, third, fourth),
        # Three-branch modules are the first to go; when one is left, four-branch modules follow.
        modules=(1, max(1, _rounded(4 + phi)), max(1, 3 + min(0, _rounded(3 + phi)))),
    )


def _rounded(value: float) -> int:
    """Round halves up."""
    return math.floor(value + 0.5)


class _Stage(nn.Module):
    """Adapt the branches and the new backbone map, then exchange between them."""

    def __init__(
        self, *, in_channels: Sequence[int], widths: Sequence[int], modules: int, outputs: int
    ) -> None:
        super().__init__()
        self.transitions = nn.ModuleList(
            ConvBN(conv2d(channels, width, kernel=3, bias=True), Activation.RELU)
            for channels, width in zip(in_channels, widths, strict=True)
        )
        self.exchanges = nn.Sequential(
            *(
                HighResolutionModule(
                    widths=widths,
                    blocks=[_BLOCKS] * len(widths),
                    outputs=outputs if index == modules - 1 else len(widths),
                )
                for index in range(modules)
            )
        )

    def forward(self, branches: Sequence[Tensor]) -> list[Tensor]:
        adapted = [transition(x) for transition, x in zip(self.transitions, branches, strict=True)]
        fused: list[Tensor] = self.exchanges(adapted)
        return fused


class EfficientHRNetTrunk(nn.Module):
    """Backbone and three high-resolution stages; gives the finest branch, or as many as are asked for."""

    def __init__(self, *, config: EfficientHRNetConfig, outputs: int = 1) -> None:
        super().__init__()
        self.backbone = EfficientNetBackbone(config=config.backbone)
        taps = [tap.channels for tap in self.backbone.taps[1:]]  # the finest branch is at 1/4
        widths = config.widths
        self.stages = nn.ModuleList(
            _Stage(
                in_channels=[*(taps[:1] if branches == 2 else widths[: branches - 1]), taps[branches - 1]],
                widths=widths[:branches],
                modules=modules,
                outputs=outputs if branches == len(widths) else branches,
            )
            for branches, modules in enumerate(config.modules, start=2)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images `[B, 3, H, W]` → features `[B, widths[i], H / 4 / 2**i, W / 4 / 2**i]`, finest first."""
        _, *taps = self.backbone(images)
        branches: list[Tensor] = taps[:1]
        for stage, tap in zip(self.stages, taps[1:], strict=True):
            branches = stage([*branches, tap])
        return branches


def pose_head(config: EfficientHRNetConfig, num_keypoints: int) -> HigherResolutionHead:
    """Build what turns the finest branch into heatmaps and tags."""
    width = config.widths[0]
    return HigherResolutionHead(width, channels=width, blocks=_BLOCKS, num_keypoints=num_keypoints)


class EfficientHRNet(PoseNetwork):
    """Trunk, and maps at 1/4 (heatmaps and tags) and 1/2 (heatmaps)."""

    size_multiple: ClassVar[int] = 32

    def __init__(self, *, config: EfficientHRNetConfig, num_keypoints: int = 17) -> None:
        super().__init__()
        self.fields = associative_embedding_fields(num_keypoints)
        self.input_size = config.input_size
        self.trunk = EfficientHRNetTrunk(config=config)
        self.head = pose_head(config, num_keypoints)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw new weights, for training from scratch."""
        init_weights(self)
        self.head.init_predictors()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images `[B, 3, H, W]` → heatmaps and tags `[B, K, H/4, W/4]`, heatmaps `[B, K, H/2, W/2]`."""
        (finest,) = self.trunk(images)
        return self.named(*self.head(finest))


_FULL = {
    "efficienthrnet-h0": compound_scaling(0),
    "efficienthrnet-hm1": compound_scaling(-1),
    "efficienthrnet-hm2": compound_scaling(-2),
    "efficienthrnet-hm3": compound_scaling(-3),
    "efficienthrnet-hm4": compound_scaling(-4),
    **{f"efficienthrnet-h{phi}": compound_scaling(phi) for phi in range(1, efficientnet.LARGEST + 1)},
}
VARIANTS = _FULL | {
    f"{name}{ending}": replace(config, backbone=config.backbone.as_lite(activation))
    for ending, activation in efficientnet.LITE_ENDINGS.items()
    for name, config in _FULL.items()
}


def efficienthrnet(variant: str, *, num_keypoints: int = 17) -> EfficientHRNet:
    """Build one of `VARIANTS` with new weights.

    >>> sum(p.numel() for p in efficienthrnet("efficienthrnet-hm4").parameters())
    2764706
    """
    if variant not in VARIANTS:
        raise UnknownNameError("model", variant, VARIANTS)
    return EfficientHRNet(config=VARIANTS[variant], num_keypoints=num_keypoints)


def _stage_names(stage: int) -> Iterator[tuple[str, str]]:
    """Names in one of the three stages, which the authors count from 2 and its transitions from 1."""
    for branch in range(stage + 2):
        transition = rf"trans{stage + 1}_branch{branch + 1}"
        yield rf"{transition}\.0\.", f"trunk.stages.{stage}.transitions.{branch}.conv."
        yield rf"{transition}\.1\.", f"trunk.stages.{stage}.transitions.{branch}.norm."
    for old, new in HIGH_RESOLUTION_NAMES:
        yield rf"stage{stage + 2}\.{old}", f"trunk.stages.{stage}.exchanges.{new}"


# The authors' checkpoint entries, as regular expressions, and ours.
_OFFICIAL_NAMES = (
    (r"features\.0\.1\.", "trunk.backbone.stem.conv."),
    (r"features\.0\.2\.", "trunk.backbone.stem.norm."),
    *_stage_names(0),
    *_stage_names(1),
    *_stage_names(2),
    *HIGHER_RESOLUTION_HEAD_NAMES,
)


def _backbone_block_names(index: str, *, expanded: bool) -> Iterator[tuple[str, str]]:
    old, new = rf"features\.{index}\.conv\.", f"trunk.backbone.blocks.{int(index) - 1}."
    parts = ("expand", "depthwise") if expanded else ("depthwise",)
    for position, part in enumerate(parts):
        yield rf"{old}{position}\.1\.", f"{new}{part}.conv."
        yield rf"{old}{position}\.2\.", f"{new}{part}.norm."
    after = len(parts)
    yield rf"{old}{after}\.se\.1\.", f"{new}squeeze_excite.reduce."
    yield rf"{old}{after}\.se\.3\.", f"{new}squeeze_excite.restore."
    yield rf"{old}{after + 1}\.", f"{new}project.conv."
    yield rf"{old}{after + 2}\.", f"{new}project.norm."


def convert_official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' checkpoint entries to ours; one that no EfficientHRNet has is a CheckpointError."""
    # The layers of a backbone block are numbered; one that does not expand has one fewer before the rest.
    expands = {match[1]: bool(match[2]) for key in state if (match := _SQUEEZE_EXCITE.match(key))}
    blocks = [
        rule
        for index, expanded in expands.items()
        for rule in _backbone_block_names(index, expanded=expanded)
    ]
    return rename_keys(state, [*_OFFICIAL_NAMES, *blocks])

"""HRNet: branches of several resolutions kept side by side (Sun et al., CVPR 2019, arXiv:1902.09212).

Written from the paper; layers, names of checkpoint entries and the figures below were checked against the
authors' code, github.com/leoxiaobin/deep-high-resolution-net.pytorch at 6f69e46. Top-down: each
image shows one person.
The paper prints operations in units of 1024**3: 7.1, 14.6 and 32.9.

Parameters and multiply-adds for 17 keypoints; AP on COCO val2017 with the paper's person detector.

| variant   | input     | params     | MACs     | AP   |
|-----------|-----------|------------|----------|------|
| hrnet-w32 | 256 x 192 | 28,536,113 |  7.645 G | 74.4 |
| hrnet-w48 | 256 x 192 | 63,595,745 | 15.692 G | 75.1 |
| hrnet-w48 | 384 x 288 | 63,595,745 | 35.307 G | 76.3 |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.errors import UnknownNameError
from fleetpose.models.contract import PoseNetwork
from fleetpose.models.layers import (
    Activation,
    Bottleneck,
    ConvBN,
    HighResolutionModule,
    conv2d,
    init_predictors,
    init_weights,
)
from fleetpose.models.state_dicts import BOTTLENECK_NAMES, HIGH_RESOLUTION_NAMES, rename_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_STEM = 64  # channels of the two strided convolutions
_BOTTLENECKS = 4
_MODULES = (1, 4, 3)  # high-resolution modules with two, three and four branches


@dataclass(frozen=True, slots=True)
class HighResolutionConfig:
    """Sizes of one high-resolution trunk."""

    width: int  # channels of the branch at 1/4; each coarser branch has twice as many
    bottleneck: int = 64  # width of the residual blocks before the branches part
    #: Residual blocks of each branch, finest first, in modules with two, three and four branches. A branch
    #: without blocks has one convolution.
    blocks: tuple[tuple[int, ...], ...] = ((4,) * 2, (4,) * 3, (4,) * 4)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the branches at 1/4, 1/8, 1/16 and 1/32."""
        return tuple(self.width << branch for branch in range(len(_MODULES) + 1))


class HighResolutionTrunk(nn.Module):
    """Stem to 1/4, then stages of two, three and four branches; gives the finest branch."""

    def __init__(self, *, config: HighResolutionConfig) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvBN(conv2d(3, _STEM, kernel=3, stride=2), Activation.RELU),
            ConvBN(conv2d(_STEM, _STEM, kernel=3, stride=2), Activation.RELU),
        )
        wide = config.bottleneck * Bottleneck.expansion
        self.bottlenecks = nn.Sequential(
            *(Bottleneck(_STEM if index == 0 else wide, config.bottleneck) for index in range(_BOTTLENECKS))
        )
        widths = config.widths
        self.finest = ConvBN(conv2d(wide, widths[0], kernel=3), Activation.RELU)
        self.descents = nn.ModuleList(  # each begins a branch, from the coarsest map so far
            ConvBN(conv2d(source, target, kernel=3, stride=2), Activation.RELU)
            for source, target in zip((wide, *widths[1:]), widths[1:], strict=False)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    HighResolutionModule(
                        widths=widths[: len(blocks)],
                        blocks=blocks,
                        outputs=1 if len(blocks) == len(widths) and index == modules - 1 else len(blocks),
                    )
                    for index in range(modules)
                )
            )
            for blocks, modules in zip(config.blocks, _MODULES, strict=True)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images `[B, 3, H, W]` → features `[B, width, H / 4, W / 4]`."""
        coarsest = self.bottlenecks(self.stem(images))
        branches: list[Tensor] = [self.finest(coarsest)]
        for descent, stage in zip(self.descents, self.stages, strict=True):
            branches = stage([*branches, descent(coarsest)])
            coarsest = branches[-1]
        return branches[0]


class HRNet(PoseNetwork):
    """High-resolution trunk and one convolution to heatmaps at 1/4."""

    size_multiple: ClassVar[int] = 32

    def __init__(
        self,
        *,
        config: HighResolutionConfig,
        input_size: tuple[int, int] = (256, 192),
        num_keypoints: int = 17,
    ) -> None:
        super().__init__()
        self.fields = (Field(FieldKind.HEATMAPS, num_keypoints, stride=4),)
        self.input_size = input_size
        self.trunk = HighResolutionTrunk(config=config)
        self.predict = conv2d(config.width, num_keypoints, bias=True)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw new weights, for training from scratch."""
        init_weights(self)
        init_predictors(self.predict)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images `[B, 3, H, W]` → heatmaps `[B, K, H/4, W/4]`."""
        return self.named(self.predict(self.trunk(images)))


VARIANTS = {
    "hrnet-w32": HighResolutionConfig(width=32),
    "hrnet-w48": HighResolutionConfig(width=48),
}


def hrnet(variant: str, *, num_keypoints: int = 17) -> HRNet:
    """Build one of `VARIANTS` with new weights.

    >>> hrnet("hrnet-w32").input_size
    (256, 192)
    """
    if variant not in VARIANTS:
        raise UnknownNameError("model", variant, VARIANTS)
    return HRNet(config=VARIANTS[variant], num_keypoints=num_keypoints)


def _stage_names(stage: int) -> Iterator[tuple[str, str]]:
    """Names in one of the three stages, which the authors count from 2 and the transitions before from 1."""
    transition = rf"transition{stage + 1}\.{stage + 1}\.0"
    yield rf"{transition}\.0\.", f"trunk.descents.{stage}.conv."
    yield rf"{transition}\.1\.", f"trunk.descents.{stage}.norm."
    for old, new in HIGH_RESOLUTION_NAMES:
        yield rf"stage{stage + 2}\.{old}", f"trunk.stages.{stage}.{new}"


# The trunk's entries in the checkpoints of the HRNet family, as regular expressions, and ours.
TRUNK_NAMES = (
    *(
        (rf"{old}{index + 1}\.", f"trunk.stem.{index}.{new}.")
        for index in range(2)
        for old, new in (("conv", "conv"), ("bn", "norm"))
    ),
    *((rf"layer1\.(\d+)\.{old}", rf"trunk.bottlenecks.\1.{new}") for old, new in BOTTLENECK_NAMES),
    (r"transition1\.0\.0\.", "trunk.finest.conv."),
    (r"transition1\.0\.1\.", "trunk.finest.norm."),
    *_stage_names(0),
    *_stage_names(1),
    *_stage_names(2),
)


def convert_official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' checkpoint entries to ours; one that no HRNet has is a CheckpointError."""
    return rename_keys(state, [*TRUNK_NAMES, (r"final_layer\.", "predict.")])

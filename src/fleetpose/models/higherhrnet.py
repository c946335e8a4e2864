"""HigherHRNet: bottom-up pose estimation on a high-resolution trunk (Cheng et al., arXiv:1908.10357).

Written from the paper; layers, names of checkpoint entries and the figures below were checked against the
authors' code, github.com/HRNet/HigherHRNet-Human-Pose-Estimation at aa23881, for W32 and W48, and against the
copy in github.com/mit-han-lab/litepose at 00b702d for the rest, which the LitePose paper (arXiv:2205.01271)
compares itself with: narrower bottlenecks at the start, and nothing but the transposed convolution before the
finer heatmaps. Its gradual shrinking takes residual blocks out of the finer branches, C1 (= W16) to C4.

Parameters and multiply-adds (transposed convolutions counted at their input positions) at the input size for
17 keypoints (W32, W48) or 14 (the others); AP of W32 and W48 on COCO test-dev, single scale.

| variant         | input | params     | MACs      | AP   |
|-----------------|-------|------------|-----------|------|
| higherhrnet-w32 | 512   | 28,645,331 |  46.203 G | 66.4 |
| higherhrnet-w48 | 640   | 63,827,139 | 149.469 G | 68.4 |
| higherhrnet-w16 | 512   |  7,205,194 |  11.219 G |      |
| higherhrnet-w24 | 512   | 16,110,074 |  23.783 G |      |
| higherhrnet-c2  | 512   |  6,713,546 |   8.878 G |      |
| higherhrnet-c3  | 512   |  7,621,334 |   8.735 G |      |
| higherhrnet-c4  | 512   |  7,375,166 |   7.875 G |      |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fleetpose.codecs.fields import associative_embedding_fields
from fleetpose.errors import UnknownNameError
from fleetpose.models.contract import PoseNetwork
from fleetpose.models.hrnet import TRUNK_NAMES, HighResolutionConfig, HighResolutionTrunk
from fleetpose.models.layers import HigherResolutionHead, init_weights
from fleetpose.models.state_dicts import HIGHER_RESOLUTION_HEAD_NAMES, rename_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class HigherHRNetConfig:
    """Sizes of one HigherHRNet."""

    input_size: tuple[int, int]  # (H, W), in pixels
    trunk: HighResolutionConfig
    deconv: int  # channels at 1/2
    blocks: int = 4  # residual blocks at 1/2


class HigherHRNet(PoseNetwork):
    """High-resolution trunk, maps at 1/4 (heatmaps and tags) and 1/2 (heatmaps)."""

    size_multiple: ClassVar[int] = 32

    def __init__(self, *, config: HigherHRNetConfig, num_keypoints: int = 17) -> None:
        super().__init__()
        self.fields = associative_embedding_fields(num_keypoints)
        self.input_size = config.input_size
        self.trunk = HighResolutionTrunk(config=config.trunk)
        self.head = HigherResolutionHead(
            config.trunk.width, channels=config.deconv, blocks=config.blocks, num_keypoints=num_keypoints
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Draw new weights, for training from scratch."""
        init_weights(self)
        self.head.init_predictors()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images `[B, 3, H, W]` → heatmaps and tags `[B, K, H/4, W/4]`, heatmaps `[B, K, H/2, W/2]`."""
        return self.named(*self.head(self.trunk(images)))


def _as_in_litepose(width: int, *blocks: tuple[int, ...]) -> HigherHRNetConfig:
    trunk = HighResolutionConfig(width, bottleneck=2 * width)
    if blocks:
        trunk = HighResolutionConfig(width, bottleneck=2 * width, blocks=blocks)
    return HigherHRNetConfig((512, 512), trunk=trunk, deconv=32, blocks=0)


VARIANTS = {
    "higherhrnet-w32": HigherHRNetConfig((512, 512), trunk=HighResolutionConfig(32), deconv=32),
    "higherhrnet-w48": HigherHRNetConfig((640, 640), trunk=HighResolutionConfig(48), deconv=48),
    "higherhrnet-w16": _as_in_litepose(16),
    "higherhrnet-w24": _as_in_litepose(24),
    # Gradual shrinking, Fig. 2 of arXiv:2205.01271.
    "higherhrnet-c2": _as_in_litepose(16, (3, 4), (2, 3, 4), (1, 2, 3, 4)),
    "higherhrnet-c3": _as_in_litepose(18, (1, 4), (1, 1, 4), (1, 1, 1, 4)),
    "higherhrnet-c4": _as_in_litepose(18, (0, 4), (0, 0, 4), (0, 0, 0, 4)),
}


def higherhrnet(variant: str, *, num_keypoints: int = 17) -> HigherHRNet:
    """Build one of `VARIANTS` with new weights.

    >>> [field.name for field in higherhrnet("higherhrnet-c4").fields]
    ['heatmaps_s4', 'tags_s4', 'heatmaps_s2']
    """
    if variant not in VARIANTS:
        raise UnknownNameError("model", variant, VARIANTS)
    return HigherHRNet(config=VARIANTS[variant], num_keypoints=num_keypoints)


def convert_official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' checkpoint entries to ours; one that no HigherHRNet has is a CheckpointError."""
    return rename_keys(state, [*TRUNK_NAMES, *HIGHER_RESOLUTION_HEAD_NAMES])

"""EfficientHRNet for semantic segmentation, alone or beside pose on one trunk (Neff's thesis).

Nobody published code or weights. The trunk is EfficientHRNet's (arXiv:2007.08090), whose last module fuses
into all four branches here; these are brought to 1/2 and concatenated, and a 3 x 3 convolution gives a score
per class, as the thesis says. `SegmentationHead.HRNETV2` is the head of HRNetV2 (arXiv:1908.07919) instead:
two 1 x 1 convolutions. The two rows of the thesis's Table 4.5, 19.3 M and 18.9 G at 512 x 512 and 24.2 M and
70.5 G at 512 x 1024, imply heads of which one costs six times the other per cell: no one reading gives both.

Poses and classes on one trunk are what the thesis names as future work.

Parameters and multiply-adds for 19 classes (Cityscapes) and 17 keypoints at the input size; `hm1` to `hm4`
come in the same three makes as `h0`.

| variant                     | input      | params     | MACs    |
|-----------------------------|------------|------------|---------|
| efficienthrnet-h0-seg-small | 512 x 512  | 15,653,519 | 21.82 G |
| efficienthrnet-h0-seg       | 512 x 1024 | 20,504,783 | 53.56 G |
| efficienthrnet-h0-seg-v2    | 512 x 1024 | 20,663,663 | 74.19 G |
| efficienthrnet-h0-pose-seg  | 512 x 512  | 20,577,442 | 29.80 G |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn
from torch.nn import functional

from fleetpose.codecs.fields import Field, FieldKind, associative_embedding_fields
from fleetpose.errors import CheckpointError, UnknownNameError
from fleetpose.models import efficienthrnet
from fleetpose.models.contract import PoseNetwork
from fleetpose.models.efficienthrnet import EfficientHRNetConfig, EfficientHRNetTrunk, pose_head
from fleetpose.models.layers import Activation, ConvBN, conv2d, init_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

NUM_CLASSES = 19  # of Cityscapes


class SegmentationHead(str, Enum):
    """How the branches become scores of classes."""

    CONV3X3 = "3x3"  # one 3 x 3 convolution
    HRNETV2 = "hrnetv2"  # 1 x 1 convolution of the same width, normalisation, ReLU; 1 x 1 convolution


@dataclass(frozen=True, slots=True)
class SegmentationConfig:
    """One segmentation network."""

    trunk: EfficientHRNetConfig
    head: SegmentationHead = SegmentationHead.CONV3X3
    has_pose: bool = False  # also predict keypoints, as EfficientHRNet does


class _ClassScores(nn.Module):
    """Bring all branches to twice the finest one's resolution, concatenate them, score the classes."""

    def __init__(self, widths: Sequence[int], *, head: SegmentationHead, num_classes: int) -> None:
        super().__init__()
        width = sum(widths)
        is_wide = head is SegmentationHead.HRNETV2
        self.mix: nn.Module = (
            ConvBN(conv2d(width, width, bias=True), Activation.RELU) if is_wide else nn.Identity()
        )
        self.predict = conv2d(width, num_classes, kernel=1 if is_wide else 3, bias=True)

    def forward(self, branches: Sequence[Tensor]) -> Tensor:
        enlarged = [
            functional.interpolate(x, scale_factor=2.0 ** (1 + index), mode="bilinear", align_corners=False)
            for index, x in enumerate(branches)
        ]
        scores: Tensor = self.predict(self.mix(torch.cat(enlarged, dim=1)))
        return scores


class EfficientHRNetSegmentation(PoseNetwork):
    """Trunk with four fused branches, class scores at 1/2, and if wanted EfficientHRNet's poses."""

    size_multiple: ClassVar[int] = 32

    def __init__(
        self, *, config: SegmentationConfig, num_keypoints: int = 17, num_classes: int = NUM_CLASSES
    ) -> None:
        super().__init__()
        pose_fields = associative_embedding_fields(num_keypoints) if config.has_pose else ()
        self.fields = (*pose_fields, Field(FieldKind.CLASSES, num_classes, stride=2))
        self.input_size = config.trunk.input_size
        self.trunk = EfficientHRNetTrunk(config=config.trunk, outputs=len(config.trunk.widths))
        self.head = pose_head(config.trunk, num_keypoints) if config.has_pose else None
        self.classes = _ClassScores(config.trunk.widths, head=config.head, num_classes=num_classes)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw new weights, for training from scratch."""
        init_weights(self)
        if self.head is not None:
            self.head.init_predictors()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images `[B, 3, H, W]` → class scores `[B, classes, H/2, W/2]`, and first EfficientHRNet's maps."""
        branches = self.trunk(images)
        pose = () if self.head is None else self.head(branches[0])
        return self.named(*pose, self.classes(branches))


def _variants(name: str, trunk: EfficientHRNetConfig) -> dict[str, SegmentationConfig]:
    """Cityscapes' pictures, which segmentation alone is made for, are twice as wide as high."""
    height = trunk.input_size[0]
    wide = replace(trunk, input_size=(height, 2 * height))
    return {
        f"{name}-seg": SegmentationConfig(wide),
        f"{name}-seg-v2": SegmentationConfig(wide, head=SegmentationHead.HRNETV2),
        f"{name}-pose-seg": SegmentationConfig(trunk, has_pose=True),
    }


VARIANTS = {
    key: config
    for name in ("h0", "hm1", "hm2", "hm3", "hm4")
    for key, config in _variants(
        f"efficienthrnet-{name}", efficienthrnet.VARIANTS[f"efficienthrnet-{name}"]
    ).items()
} | {
    # The smaller network of the thesis's Table 4.5.
    "efficienthrnet-h0-seg-small": SegmentationConfig(
        replace(efficienthrnet.VARIANTS["efficienthrnet-h0"], modules=(1, 3, 2))
    )
}


def efficienthrnet_segmentation(
    variant: str, *, num_keypoints: int = 17, num_classes: int = NUM_CLASSES
) -> EfficientHRNetSegmentation:
    """Build one of `VARIANTS` with new weights; those for segmentation alone have no keypoints.

    >>> [field.name for field in efficienthrnet_segmentation("efficienthrnet-hm4-seg").fields]
    ['classes_s2']
    """
    if variant not in VARIANTS:
        raise UnknownNameError("model", variant, VARIANTS)
    return EfficientHRNetSegmentation(
        config=VARIANTS[variant], num_keypoints=num_keypoints, num_classes=num_classes
    )


def convert_official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Refuse, because there is nothing to read.

    Raises:
        CheckpointError: always.
    """
    raise CheckpointError(
        f"nobody published weights of EfficientHRNet for segmentation, and these {len(state)} entries are "
        "of another network; convert them as the network that they belong to, such as efficienthrnet-h0"
    )

"""SimpleBaseline: a ResNet and three transposed convolutions (Xiao et al., ECCV 2018, arXiv:1804.06208).

Written from the paper; layers, names of checkpoint entries and the figures below were checked against the
authors' code, github.com/microsoft/human-pose-estimation.pytorch at 49f3f44. Top-down: each image shows one
person. The paper prints operations in units of 1024**3, with transposed convolutions counted fourfold: 8.9,
12.4 and 15.7.

Parameters and multiply-adds for 17 keypoints at 256 x 192; AP on COCO val2017 with the paper's person
detector.

| variant             | params     | MACs     | AP   |
|---------------------|------------|----------|------|
| simplebaseline-r50  | 33,999,697 |  5.426 G | 70.4 |
| simplebaseline-r101 | 52,991,825 |  9.063 G | 71.4 |
| simplebaseline-r152 | 68,635,473 | 12.699 G | 72.0 |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.errors import UnknownNameError
from fleetpose.models import resnet
from fleetpose.models.contract import PoseNetwork
from fleetpose.models.layers import Activation, ConvBN, conv2d, deconv2x, init_predictors, init_weights
from fleetpose.models.resnet import ResNetBackbone, ResNetConfig
from fleetpose.models.state_dicts import rename_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_UPSAMPLES = 3
_WIDTH = 256  # channels of each transposed convolution


class SimpleBaseline(PoseNetwork):
    """Encoder to 1/32, three doublings, heatmaps at 1/4."""

    size_multiple: ClassVar[int] = 32

    def __init__(
        self, *, config: ResNetConfig, input_size: tuple[int, int] = (256, 192), num_keypoints: int = 17
    ) -> None:
        super().__init__()
        self.fields = (Field(FieldKind.HEATMAPS, num_keypoints, stride=4),)
        self.input_size = input_size
        self.backbone = ResNetBackbone(config=config)
        encoded = self.backbone.taps[-1].channels
        self.upsamples = nn.Sequential(
            *(
                ConvBN(deconv2x(encoded if index == 0 else _WIDTH, _WIDTH), Activation.RELU)
                for index in range(_UPSAMPLES)
            )
        )
        self.predict = conv2d(_WIDTH, num_keypoints, bias=True)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw new weights, for training from scratch."""
        init_weights(self)
        init_predictors(self.predict)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images `[B, 3, H, W]` → heatmaps `[B, K, H/4, W/4]`."""
        return self.named(self.predict(self.upsamples(self.backbone(images)[-1])))


VARIANTS = {
    "simplebaseline-r50": resnet.VARIANTS["resnet-50"],
    "simplebaseline-r101": resnet.VARIANTS["resnet-101"],
    "simplebaseline-r152": resnet.VARIANTS["resnet-152"],
}


def simplebaseline(variant: str, *, num_keypoints: int = 17) -> SimpleBaseline:
    """Build one of `VARIANTS` with new weights.

    >>> simplebaseline("simplebaseline-r50").fields[0].name
    'heatmaps_s4'
    """
    if variant not in VARIANTS:
        raise UnknownNameError("model", variant, VARIANTS)
    return SimpleBaseline(config=VARIANTS[variant], num_keypoints=num_keypoints)


# The authors' checkpoint entries, as regular expressions, and ours.
_OFFICIAL_NAMES = (
    *((old, f"backbone.{new}") for old, new in resnet.OFFICIAL_NAMES),
    *(
        (rf"deconv_layers\.{3 * index + offset}\.", f"upsamples.{index}.{part}.")
        for index in range(_UPSAMPLES)
        for offset, part in enumerate(("conv", "norm"))
    ),
    (r"final_layer\.", "predict."),
)


def convert_official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' checkpoint entries to ours; one that no SimpleBaseline has is a CheckpointError."""
    return rename_keys(state, _OFFICIAL_NAMES)

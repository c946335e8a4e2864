"""Where the published data sets lie below the folder given with --data, as they unpack.

| data set | below the folder |
| --- | --- |
| COCO 2017 | `coco/annotations/person_keypoints_train2017.json`, `coco/train2017`, the same for `val2017` |
| CrowdPose | `crowdpose/json/crowdpose_trainval.json`, `…_test.json`, `crowdpose/images` |
| MPII | `mpii/annot/train.json`, `mpii/annot/valid.json`, `mpii/images` |
| ImageNet | `imagenet/train/CLASS/*`, `imagenet/val/CLASS/*` |
| CIFAR-100 | `cifar-100-python` |
| Cityscapes | `cityscapes/leftImg8bit`, `cityscapes/gtFine` |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from fleetpose.data.scenes import Source
from fleetpose.train.config import PictureSet, ValidationSet

#: Training pictures, and for COCO and MPII people, that an epoch of the papers goes through.
COCO_PICTURES = 64_115  # with at least one labelled person
COCO_PEOPLE = 149_813
CROWDPOSE_PICTURES = 12_000  # training and validation
MPII_PEOPLE = 26_000
IMAGENET_PICTURES = 800_000  # of the part that EfficientHRNet's authors trained on
CIFAR100_PICTURES = 50_000
CITYSCAPES_PICTURES = 2_975


def steps(epochs: float, samples: int, batch: int) -> int:
    """Steps that go through `samples` so many times.

    >>> steps(2, 10, 4)
    5
    """
    return max(1, math.floor(epochs * samples / batch))


@dataclass(frozen=True, slots=True)
class KeypointData:
    """Training and validation data of a skeleton."""

    skeleton: str
    sources: tuple[Source, ...]
    validation: tuple[ValidationSet, ...]


def coco(data: Path) -> KeypointData:
    """COCO 2017."""
    root = data / "coco"
    return KeypointData(
        "coco17",
        (
            Source(
                images=root / "train2017", annotations=root / "annotations/person_keypoints_train2017.json"
            ),
        ),
        (
            ValidationSet(
                name="coco_val",
                annotations=root / "annotations/person_keypoints_val2017.json",
                images=root / "val2017",
            ),
        ),
    )


def crowdpose(data: Path) -> KeypointData:
    """CrowdPose: trained on training and validation pictures, scored on test ones."""
    root = data / "crowdpose"
    return KeypointData(
        "crowdpose14",
        (Source(images=root / "images", annotations=root / "json/crowdpose_trainval.json"),),
        (
            ValidationSet(
                name="crowdpose_test",
                annotations=root / "json/crowdpose_test.json",
                images=root / "images",
            ),
        ),
    )


def mpii(data: Path) -> KeypointData:
    """MPII in the JSON files that HRNet's authors made."""
    root = data / "mpii"
    return KeypointData(
        "mpii16",
        (Source(images=root / "images", annotations=root / "annot/train.json"),),
        (ValidationSet(name="mpii_valid", annotations=root / "annot/valid.json", images=root / "images"),),
    )


def cityscapes(data: Path, split: str) -> PictureSet:
    """Cityscapes' fine labels."""
    return PictureSet("cityscapes", data / "cityscapes", split)

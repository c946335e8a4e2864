"""Compact EfficientNets as classifiers, the backbones of EfficientHRNet (arXiv:2007.08090, Sect. 4.1).

Command: `fleetpose train efficientnet-bm2 --data DIR` or `… efficientnet-bm2-cifar100 …`.

SGD with momentum and a weight decay of 1e-4; the rate rises from 1e-4 to 0.05 over 5 epochs and falls to a
tenth every 30 of the next 195.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleetpose.models.efficientnet import VARIANTS
from fleetpose.recipes.contract import Recipe
from fleetpose.recipes.published_data import CIFAR100_PICTURES, IMAGENET_PICTURES, steps
from fleetpose.train.config import OptimiserSettings, Phase, PictureCropSettings, PictureSet, TrainConfig

EPOCHS, WARMUP_EPOCHS, DROP_EPOCHS = 200, 5, 30

SETTLED = (
    "the batch (256 here), random erasing and smoothing (none here), and what the validation pictures of "
    "CIFAR-100 are enlarged by: they are brought to the network's resolution here; colour changes are ours, "
    "not principal components"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of Table 2: accuracy in percent, of the first guess."""

    model: str
    imagenet: float
    cifar100: float


ROWS = (
    Row("efficientnet-b0", 75.0, 81.9),
    Row("efficientnet-bm1", 73.8, 81.4),
    Row("efficientnet-bm2", 71.3, 79.8),
    Row("efficientnet-bm3", 68.5, 78.2),
    Row("efficientnet-bm4", 65.6, 74.3),
)


def _config(
    model: str, training: PictureSet, validation: PictureSet, *, pictures: int, num_classes: int
) -> TrainConfig:
    batch = 256
    resolution = VARIANTS[model].resolution
    drops = tuple((WARMUP_EPOCHS + epoch) / EPOCHS for epoch in range(DROP_EPOCHS, EPOCHS - 5, DROP_EPOCHS))
    crops = PictureCropSettings() if num_classes > 100 else PictureCropSettings(area=(0.5, 1.0), light=0.4)
    return TrainConfig(
        model=model,
        sources=(),
        pictures=(training,),
        num_classes=num_classes,
        phases=(
            Phase(
                size=(resolution, resolution),
                batch=batch,
                steps=steps(EPOCHS, pictures, batch),
                pictures=crops,
            ),
        ),
        optimiser=OptimiserSettings(
            kind="sgd",
            lr=0.05,
            schedule="drops",
            drops=drops,
            warmup_steps=steps(WARMUP_EPOCHS, pictures, batch),
            weight_decay=1e-4,
        ),
        validation_pictures=(validation,),
    )


def _imagenet(row: Row) -> Recipe:
    def config(data: Path) -> TrainConfig:
        root = data / "imagenet"
        return _config(
            row.model,
            PictureSet("image_folder", root, "train"),
            PictureSet("image_folder", root, "val"),
            pictures=IMAGENET_PICTURES,
            num_classes=1000,
        )

    return Recipe(
        summary=f"{row.model} on ImageNet",
        expected=f"{row.imagenet} % of 10,000 ImageNet pictures at the first guess (Table 2)",
        settled=SETTLED,
        config=config,
    )


def _cifar100(row: Row) -> Recipe:
    def config(data: Path) -> TrainConfig:
        root = data / "cifar-100-python"
        return _config(
            row.model,
            PictureSet("cifar100", root, "train"),
            PictureSet("cifar100", root, "test"),
            pictures=CIFAR100_PICTURES,
            num_classes=100,
        )

    return Recipe(
        summary=f"{row.model} on CIFAR-100",
        expected=f"{row.cifar100} % at the first guess (Table 2)",
        settled=SETTLED,
        config=config,
    )


RECIPES = {row.model: _imagenet(row) for row in ROWS} | {
    f"{row.model}-cifar100": _cifar100(row) for row in ROWS
}

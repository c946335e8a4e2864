"""The first top-down weights: a plain-convolution network for crops of one person, trained on a CPU.

Command: `fleetpose train first-top-down --data DIR`, where DIR holds `lspet`, `lsp_train`, `synth_people`
and, for the learning curve only, `coco_dev`.

A crop of one person is an easier question than a picture of several, and a cheaper one: an update of 32 crops
of 128 x 96 pixels takes a fifth of a second of one core. The bundled weights came from the first 14,479 and
the last 8,400 steps of such a run, the latter with pictures of `fleetpose synth` beside the starter set.
"""

from __future__ import annotations

from pathlib import Path

from fleetpose.data.crops import CropSettings
from fleetpose.recipes.contract import Recipe
from fleetpose.recipes.starter_data import starter_sources, starter_validation
from fleetpose.train.config import LossSettings, OptimiserSettings, Phase, TrainConfig


def recipe(data: Path) -> TrainConfig:
    """Settings of the run for training data under `data`."""
    return TrainConfig(
        model="slimdeconv-plain",
        sources=starter_sources(data),
        phases=(
            Phase(
                size=(128, 96),
                batch=32,
                steps=14_500,
                crops=CropSettings(scale=(0.6, 1.4), shift=0.13, light=0.6),
            ),
            Phase(
                size=(128, 96),
                batch=32,
                steps=8_400,
                crops=CropSettings(
                    scale=(0.7, 1.3), shift=0.1, light=0.5, cutout_chance=0.1, part_chance=0.12
                ),
            ),
        ),
        optimiser=OptimiserSettings(lr=2e-3),
        loss=LossSettings(location=1.0, presence=1.0, sigma_cells=(1.0,)),
        threads=1,
        precision="bf16-mixed",
        log_every_steps=200,
        validation=starter_validation(data),
    )


RECIPES = {
    "first-top-down": Recipe(
        summary="slimdeconv-plain on crops of one person, on a CPU",
        expected="coco_dev AP 12.4 / AP50 33.7 with labelled boxes, with own renderings too (the log)",
        settled="nothing: it is ours",
        config=recipe,
    )
}

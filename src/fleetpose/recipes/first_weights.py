"""The first bundled weights: EfficientHRNet H-4 for inputs of 256 pixels, trained on a CPU in two hours.

Command: `fleetpose train first-weights --data DIR`, where DIR holds `lspet`, `lsp_train`, `synth_people` and `backgrounds`
as described in `docs/training.md`.

The paper trains H-4 at 384 pixels for 300 epochs on COCO from ImageNet weights and reports 35.5 AP. Here there are
no such weights and no such hours. So the run begins with small scenes of one or two people, where an update
costs a sixteenth, and ends with mosaics at full size; heatmaps are also compared as distributions
(`losses.location_loss`), which finds keypoints far sooner than the squared error alone.
"""

from __future__ import annotations

from pathlib import Path

from fleetpose.data.scenes import SceneSettings, Source
from fleetpose.train.config import LossSettings, OptimiserSettings, Phase, TrainConfig


def recipe(data: Path) -> TrainConfig:
    """Settings of the run for training data under `data`."""
    return TrainConfig(
        model="efficienthrnet-hm4",
        sources=(
            Source(
                images=data / "lspet/images",
                annotations=data / "lspet/lspet_coco17.json",
                weight=5,
                is_single_person=True,
                is_zero_unknown=True,
                held_out_every=10,
            ),
            Source(
                images=data / "lsp_train/images",
                annotations=data / "lsp_train/lsp_train.json",
                weight=0.5,
                is_single_person=True,
                is_zero_unknown=True,
            ),
            Source(
                images=data / "synth_people/images",
                annotations=data / "synth_people/person_keypoints_train.json",
                weight=4,
            ),
            Source(images=data / "backgrounds", weight=0.5),
        ),
        phases=(
            Phase(size=(128, 128), batch=32, steps=4000, scenes=SceneSettings(tiles=(0.75, 0.25, 0))),
            Phase(size=(192, 192), batch=16, steps=3000, scenes=SceneSettings(tiles=(0.4, 0.3, 0.3))),
            Phase(size=(256, 256), batch=12, steps=1200, scenes=SceneSettings(tiles=(0.4, 0.2, 0.4))),
        ),
        optimiser=OptimiserSettings(lr=2e-3),
        loss=LossSettings(foreground=10.0, location=0.01, sigma_cells=(1.5, 2.0)),
        threads=2,
    )

"""The first bundled weights: a plain-convolution LitePose for small inputs, trained on a CPU in an evening.

Command: `fleetpose train first-weights --data DIR`, where DIR holds `lspet`, `lsp_train`, `synth_people`,
`backgrounds` and, for the learning curve only, `coco_dev`.

The papers train for hundreds of epochs on COCO from ImageNet weights; here there are neither. So the run
begins with small scenes of one person, where an update costs a quarter, and ends with mosaics of people of
all sizes, some cut off by the picture's edge, some small on photographs of other things; and heatmaps are
also compared as distributions (`losses.location_loss`). `docs/training-log.md` has the trials behind it.

`fleetpose train first-litepose-xs --data DIR` teaches the paper's smallest LitePose what that network has
learnt: beside the labels it follows the places and chances of `checkpoints/litepose-plain.pt`. The teacher
has no maps at 1/2 of the input; its maps at 1/4, enlarged, are all that the student's finer ones follow.
`first-efficienthrnet-hm4` is the same for the smallest EfficientHRNet, and `first-litepose-s` begins with the
weights of LitePose-XS, beside which its last stage is half as wide again.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from fleetpose.data.scenes import SceneSettings, Source
from fleetpose.recipes.contract import Recipe
from fleetpose.recipes.starter_data import OF_GROWN, OF_STUDENTS, starter_sources, starter_validation
from fleetpose.train.config import LossSettings, OptimiserSettings, Phase, TeacherSettings, TrainConfig

#: Of the repository, which is where the command is run.
TEACHER = Path("checkpoints/litepose-plain.pt")


def recipe(data: Path) -> TrainConfig:
    """Settings of the run for training data under `data`."""
    return TrainConfig(
        model="litepose-plain",
        sources=(*starter_sources(data), Source(images=data / "backgrounds", weight=1)),
        phases=(
            Phase(
                size=(96, 96),
                batch=16,
                steps=5000,
                scenes=SceneSettings(tiles=(0.9, 0.1, 0), person_share=(0.6, 1.15), light=0.6),
            ),
            Phase(
                size=(128, 128),
                batch=16,
                steps=4500,
                scenes=SceneSettings(tiles=(0.5, 0.25, 0.25), person_share=(0.5, 1.15), light=0.6),
            ),
            Phase(
                size=(160, 160),
                batch=16,
                steps=7000,
                scenes=SceneSettings(
                    tiles=(0.45, 0.2, 0.35),
                    person_share=(0.16, 1.4),
                    zoom=(0.7, 2.0),
                    shift=0.2,
                    cut_chance=0.35,
                    backdrop_chance=0.7,
                    light=0.6,
                ),
            ),
        ),
        optimiser=OptimiserSettings(lr=1.5e-3),
        loss=LossSettings(tags=1.0, location=1.0, presence=1.0, sigma_cells=(1.5,)),
        threads=1,
        precision="bf16-mixed",
        validation=starter_validation(data),
        short_side=192,
    )


def student(
    data: Path, *, model: str = "litepose-xs", steps: tuple[int, int] = (3600, 1100), init: Path | None = None
) -> TrainConfig:
    """Settings of a run that teaches one of the papers' networks what `litepose-plain` has learnt.

    Args:
        data: see the top of this file.
        model: with maps at 1/4 and 1/2 of the input.
        steps: with small and with larger scenes.
        init: what it begins with, if anything.
    """
    plain = recipe(data)
    return replace(
        plain,
        model=model,
        init=init,
        teacher=TeacherSettings(TEACHER, weight=30, location=1),
        phases=(
            Phase(
                size=(96, 96),
                batch=32,
                steps=steps[0],
                scenes=SceneSettings(
                    tiles=(0.75, 0.15, 0.1),
                    person_share=(0.5, 1.25),
                    zoom=(0.8, 1.6),
                    cut_chance=0.15,
                    backdrop_chance=0.5,
                    light=0.5,
                ),
            ),
            Phase(
                size=(128, 128),
                batch=32,
                steps=steps[1],
                scenes=SceneSettings(
                    tiles=(0.5, 0.2, 0.3),
                    person_share=(0.3, 1.3),
                    zoom=(0.7, 1.8),
                    shift=0.2,
                    cut_chance=0.3,
                    backdrop_chance=0.7,
                    light=0.6,
                ),
            ),
        ),
        loss=replace(plain.loss, sigma_cells=(1.5, 2.0), heatmaps=(1.0, 0.0)),
        optimiser=OF_GROWN if init else OF_STUDENTS,
        short_side=128,
    )


RECIPES = {
    "first-weights": Recipe(
        summary="litepose-plain on small inputs, an evening of CPU",
        expected="with more data and steps, what docs/model-cards tell (docs/training-log.md)",
        settled="nothing: it is ours",
        config=recipe,
    ),
    "first-litepose-xs": Recipe(
        summary="litepose-xs taught by litepose-plain, on a CPU",
        expected="coco_dev AP 1.0 alone, 16.0 refined, with more rendered people (the training log)",
        settled="the paper's schedule is 500 epochs on COCO; here heatmaps are sigmoids, read as chances",
        config=student,
    ),
    "first-litepose-s": Recipe(
        summary="litepose-s from litepose-xs, taught by litepose-plain, on a CPU",
        expected="what docs/model-cards/litepose-s.md tells, with more rendered people",
        settled="as for first-litepose-xs",
        config=partial(
            student, model="litepose-s", steps=(900, 1250), init=Path("checkpoints/litepose-xs.pt")
        ),
    ),
    "first-efficienthrnet-hm4": Recipe(
        summary="efficienthrnet-hm4 taught by litepose-plain, on a CPU",
        expected="what docs/model-cards/efficienthrnet-hm4.md tells, with more rendered people",
        settled="the paper's schedule is 300 epochs on COCO; here heatmaps are sigmoids, read as chances",
        config=partial(student, model="efficienthrnet-hm4", steps=(2500, 1100)),
    ),
}

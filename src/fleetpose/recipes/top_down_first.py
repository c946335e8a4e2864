"""The first top-down weights: a plain-convolution network for crops of one person, trained on a CPU.

Command: `fleetpose train first-top-down --data DIR`, where DIR holds `lspet`, `lsp_train`, `synth_people`
and, for the learning curve only, `coco_dev`.

A crop of one person is an easier question than a picture of several, and a cheaper one: an update of 32 crops
of 128 x 96 pixels takes a third of a second of one core, one of 192 x 128 twice that. The bundled weights
came about in several runs, the first of them with fewer blocks: `docs/training-log.md` has them, and what
`fleetpose synth`, `fleetpose data bystanders` and `fleetpose data correct` made of the starter set. This is
the short way there.

`fleetpose train first-slimdeconv-b0 --data DIR` teaches the paper's smallest SlimDeconv what that network has
learnt: beside the labels it follows the places and chances of `checkpoints/slimdeconv-plain.pt`.
`first-slimdeconv-b1` begins with those weights, beside which it has seven blocks more, and
`first-efficientpose-rt` teaches the smallest EfficientPose, whose heatmaps and fields of limbs at 1/8 of the
crop are learnt in every pass; the model file keeps the last pass's heatmaps.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from fleetpose.data.crops import CropSettings
from fleetpose.recipes.contract import Recipe
from fleetpose.recipes.starter_data import OF_GROWN, OF_STUDENTS, starter_sources, starter_validation
from fleetpose.train.config import LossSettings, OptimiserSettings, Phase, TeacherSettings, TrainConfig

#: Of the repository, which is where the command is run.
TEACHER = Path("checkpoints/slimdeconv-plain.pt")

_GENTLER = CropSettings(
    scale=(0.7, 1.35), rotation_deg=35, turn_chance=0.5, shift=0.1, light=0.45, cutout_chance=0.1
)
_FOR_STUDENTS = replace(_GENTLER, scale=(0.6, 1.4), light=0.5, part_chance=0.15, cut_chance=0.2)
_CLOSER = replace(_FOR_STUDENTS, padding=1.1, scale=(0.65, 1.35), cutout_chance=0.15, cut_chance=0.25)
#: Photos cut people off, hide them behind tables and each other, and show them small and far. The frame is
#: tighter than the papers', for crops of fewer pixels than theirs.
_AS_PHOTOS = CropSettings(
    padding=1.1,
    scale=(0.7, 1.36),
    rotation_deg=30,
    turn_chance=0.4,
    shift=0.1,
    part_chance=0.2,
    cut_chance=0.42,
    cutout_chance=0.22,
    cutout_share=(0.15, 0.5),
    cutout_people=0.7,
    light=0.45,
    coarse_chance=0.25,
)
#: Nearer to the boxes that the model is asked about, as in the tenth run of the training log.
_AS_ASKED = replace(
    _AS_PHOTOS, scale=(0.79, 1.27), turn_chance=0.3, shift=0.08, cutout_chance=0.18, coarse_chance=0.2
)


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
            Phase(size=(128, 96), batch=32, steps=13_500, crops=_GENTLER),
            Phase(size=(192, 128), batch=32, steps=2_900, crops=_AS_PHOTOS),
            Phase(size=(192, 128), batch=32, steps=2_900, crops=_AS_ASKED),
        ),
        optimiser=OptimiserSettings(lr=2e-3),
        loss=LossSettings(location=1.0, presence=1.0, sigma_cells=(1.0,)),
        threads=1,
        precision="bf16-mixed",
        log_every_steps=200,
        validation=starter_validation(data),
    )


def student(data: Path) -> TrainConfig:
    """Settings of a run that teaches SlimDeconv-B0 what `slimdeconv-plain` has learnt."""
    return _taught(
        data,
        model="slimdeconv-b0",
        steps=(2000, 1250),
        crops=(_FOR_STUDENTS, replace(_AS_PHOTOS, padding=1.25, scale=(0.7, 1.35))),
    )


def _taught(
    data: Path,
    *,
    model: str,
    steps: tuple[int, int],
    crops: tuple[CropSettings, CropSettings] = (_CLOSER, _AS_PHOTOS),
    init: Path | None = None,
    loss: LossSettings | None = None,
) -> TrainConfig:
    """Settings of a run on small and on larger crops that follows `TEACHER`."""
    plain = recipe(data)
    return replace(
        plain,
        model=model,
        init=init,
        loss=loss or plain.loss,
        teacher=TeacherSettings(TEACHER, weight=30, location=1),
        phases=(
            Phase(size=(128, 96), batch=64, steps=steps[0], crops=crops[0]),
            Phase(size=(192, 128), batch=48, steps=steps[1], crops=crops[1]),
        ),
        optimiser=OF_GROWN if init else OF_STUDENTS,
    )


RECIPES = {
    "first-top-down": Recipe(
        summary="slimdeconv-plain on crops of one person, on a CPU",
        expected="coco_dev AP 30.9 / AP50 61.8 with labelled boxes, with more data and steps (the log)",
        settled="nothing: it is ours",
        config=recipe,
    ),
    "first-slimdeconv-b0": Recipe(
        summary="slimdeconv-b0 taught by slimdeconv-plain, on a CPU",
        expected="coco_dev AP 9.0 / AP50 25.1 with labelled boxes; from slimdeconv-b1 15.8 (the log)",
        settled="the paper's schedule is 140 epochs on COCO; here heatmaps are sigmoids, read as chances",
        config=student,
    ),
    "first-slimdeconv-b1": Recipe(
        summary="slimdeconv-b1 from slimdeconv-b0, taught by slimdeconv-plain, on a CPU",
        expected="coco_dev AP 13.0 / AP50 35.2 with labelled boxes, with more rendered people (the log)",
        settled="as for first-slimdeconv-b0",
        config=partial(
            _taught, model="slimdeconv-b1", steps=(900, 780), init=Path("checkpoints/slimdeconv-b0.pt")
        ),
    ),
    "first-efficientpose-rt": Recipe(
        summary="efficientpose-rt taught by slimdeconv-plain, on a CPU",
        expected="what docs/model-cards/efficientpose-rt.md tells, with more rendered people",
        settled="the paper's schedule is 200 epochs on MPII; here heatmaps are sigmoids, read as chances",
        config=partial(
            _taught,
            model="efficientpose-rt",
            steps=(1600, 780),
            loss=LossSettings(location=1, presence=1, sigma_cells=(0.75,), sigma_px=8.5, pafs=30),
        ),
    ),
}

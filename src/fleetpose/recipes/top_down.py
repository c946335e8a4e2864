"""Top-down on COCO: SlimDeconv with and without a teacher, and the teachers themselves.

SlimDeconv is Yamazaki and Mori's network (arXiv:2111.04226); its teacher is HRNet-W48 (arXiv:1902.09212) with
DARK's targets (arXiv:1910.06278). SimpleBaseline is arXiv:1804.06208.

Command: `fleetpose train slimdeconv-b1 --data DIR`. With a teacher, `fleetpose train hrnet-w48 --data DIR`
first, then `fleetpose train slimdeconv-b1-distilled --data DIR`. Any other teacher:
`--set teacher.path=EfficientPoseII.tflite`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fleetpose.data.crops import CropSettings
from fleetpose.models import MODELS
from fleetpose.recipes.contract import Recipe
from fleetpose.recipes.published_data import COCO_PEOPLE, coco, steps
from fleetpose.train.config import LossSettings, OptimiserSettings, Phase, TeacherSettings, TrainConfig

#: Enlarged by 0.65 to 1.35, turned by up to 45 degrees in 6 of 10 crops; the authors draw both from clipped
#: normal distributions.
CROPS = CropSettings(shift=0, rotation_deg=45, part_chance=0.3, cutout_chance=0, light=0)


@dataclass(frozen=True, slots=True)
class Row:
    """One network: AP on COCO's validation pictures, its schedule, and which boxes that is measured with."""

    model: str
    average_precision: float
    source: str
    epochs: int = 140
    drops: tuple[int, ...] = (90, 120)
    batch: int = 64
    size: tuple[int, int] = (256, 192)


SLIMDECONV = (
    Row("slimdeconv-b0", 67.2, "arXiv:2111.04226, Table IV"),
    Row("slimdeconv-b1", 69.7, "arXiv:2111.04226, Sect. IV-E"),
)
TEACHERS = (
    Row("hrnet-w32", 74.4, "arXiv:1902.09212, Table 1", 210, (170, 200), 128),
    Row("hrnet-w48", 75.1, "arXiv:1902.09212, Table 1", 210, (170, 200), 128),
    Row("simplebaseline-r50", 70.4, "arXiv:1804.06208, Table 3", batch=128),
    Row("simplebaseline-r101", 71.4, "arXiv:1804.06208, Table 3", batch=128),
    Row("simplebaseline-r152", 72.0, "arXiv:1804.06208, Table 3", batch=128),
)

SETTLED = (
    "the run begins with new weights, the papers' with ImageNet's; random sizes and turns come from uniform "
    "distributions here; crops are aligned by pixel centres, so no shift is needed when the mirrored picture "
    "is averaged in"
)
SLIMDECONV_SETTLED = (
    "whether normalisation and activation follow the 1 x 1 convolution (they do here); the schedule is "
    "garbled in the paper and read as a tenth from epoch 90 and again from 120; " + SETTLED
)


def _config(row: Row, data: Path) -> TrainConfig:
    given = coco(data)
    return TrainConfig(
        model=row.model,
        sources=given.sources,
        skeleton=given.skeleton,
        phases=(
            Phase(
                size=row.size, batch=row.batch, steps=steps(row.epochs, COCO_PEOPLE, row.batch), crops=CROPS
            ),
        ),
        optimiser=OptimiserSettings(
            kind="adam",
            lr=1e-3,
            schedule="drops",
            drops=tuple(epoch / row.epochs for epoch in row.drops),
            warmup_steps=0,
            weight_decay=0,
        ),
        loss=LossSettings(sigma_cells=(2.0,)),
        validation=given.validation,
    )


def _recipe(row: Row, settled: str) -> Recipe:
    assert row.model in MODELS  # noqa: S101 - of this module's own tables
    return Recipe(
        summary=f"{row.model} on COCO, crops of {row.size[0]} x {row.size[1]}",
        expected=f"AP {row.average_precision} on COCO's validation pictures, boxes detected ({row.source})",
        settled=settled,
        config=lambda data: _config(row, data),
    )


def _distilled(row: Row, expected: str) -> Recipe:
    teacher = TeacherSettings(Path("runs/train/hrnet-w48/last.pt"))
    return Recipe(
        summary=f"{row.model} on COCO, taught by hrnet-w48",
        expected=expected,
        settled="the weight between labels and teacher (equal here); " + SLIMDECONV_SETTLED,
        config=lambda data: replace(_config(row, data), teacher=teacher),
    )


RECIPES = (
    {row.model: _recipe(row, SLIMDECONV_SETTLED) for row in SLIMDECONV}
    | {row.model: _recipe(row, SETTLED) for row in TEACHERS}
    | {
        "slimdeconv-b1-distilled": _distilled(
            SLIMDECONV[1], "AP 70.5 on COCO's validation pictures, 0.8 more than alone (Sect. IV-E)"
        ),
        "slimdeconv-b0-distilled": _distilled(SLIMDECONV[0], "none is published for B0"),
    }
)

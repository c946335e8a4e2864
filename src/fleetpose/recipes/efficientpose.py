"""EfficientPose RT to IV on MPII (arXiv:2004.12186, Sect. 4.1 and Appendix B).

Command: `fleetpose train efficientpose-rt --data DIR`.

SGD with momentum 0.9 for 200 epochs; the rate runs in triangles of 3 epochs between bounds that begin at
1 / 3000 and 1 times its maximum and meet at Eq. 5; the spread of the targets shrinks step by step.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleetpose.data.crops import CropSettings
from fleetpose.models.efficientpose import VARIANTS
from fleetpose.recipes.contract import Recipe
from fleetpose.recipes.published_data import MPII_PEOPLE, mpii, steps
from fleetpose.train.config import LossSettings, OptimiserSettings, Phase, TrainConfig

EPOCHS, CYCLE_EPOCHS = 200, 3
#: Spread of the targets in the first and in the last stretch, in pixels of 256, and the steps between them.
SPREAD_PX, SCALES = 24.0, (1.0, 0.75, 0.5)
#: Eq. 5 with a ratio of 3000: 1 / sqrt(3000), times 2 for each spread's unit that the targets shrink by.
LAST_SHARE = 3000**-0.5 * 2
CROPS = CropSettings(
    scale=(0.75, 1.25), rotation_deg=45, turn_chance=1, shift=0, part_chance=0, cutout_chance=0, light=0
)

SETTLED = (
    "backbones begin with new weights, the paper's with ImageNet's; the highest rate ('the highest that does "
    "not diverge in the first cycle', a cautious 0.01 here), first and last "
    "spread and when it changes (24 to 12 pixels of 256 in three equal stretches here, and Eq. 5 with a "
    "difference of 1), the limbs of the fields, whether the rate goes in a straight line within a triangle "
    "(here it does), and the weights of the four outputs (1 here)"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of Table 3: PCKh on MPII's test pictures at 50 and 10 %, and the batch."""

    model: str
    pckh50: float
    pckh10: float
    batch: int = 20


ROWS = (
    Row("efficientpose-rt", 82.88, 23.56),
    Row("efficientpose-i", 85.18, 26.49),
    Row("efficientpose-ii", 88.18, 30.17),
    Row("efficientpose-iii", 89.51, 30.90, batch=10),
    Row("efficientpose-iv", 89.75, 35.63, batch=5),
)


def _recipe(row: Row) -> Recipe:
    def config(data: Path) -> TrainConfig:
        given = mpii(data)
        size = VARIANTS[row.model].input_size
        whole = steps(EPOCHS, MPII_PEOPLE, row.batch)
        return TrainConfig(
            model=row.model,
            sources=given.sources,
            skeleton=given.skeleton,
            phases=tuple(
                Phase(
                    size=size,
                    batch=row.batch,
                    steps=whole // len(SCALES),
                    crops=CROPS,
                    sigma_scale=scale,
                )
                for scale in SCALES
            ),
            optimiser=OptimiserSettings(
                kind="sgd",
                lr=0.01,
                schedule="cyclical",
                cycle_steps=steps(CYCLE_EPOCHS, MPII_PEOPLE, row.batch),
                last_share=LAST_SHARE,
                warmup_steps=0,
                weight_decay=0,
            ),
            loss=LossSettings(sigma_px=SPREAD_PX * size[0] / 256),
            validation=given.validation,
            short_side=size[0],
        )

    return Recipe(
        summary=f"{row.model} on MPII",
        expected=f"PCKh@50 {row.pckh50} and PCKh@10 {row.pckh10} on MPII's test pictures (Table 3)",
        settled=SETTLED,
        config=config,
    )


RECIPES = {row.model: _recipe(row) for row in ROWS}

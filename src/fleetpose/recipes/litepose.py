"""LitePose XS to L: heatmaps alone, then the supernet, then each network (arXiv:2205.01271, Sect. 5.1).

Commands, in this order; each begins with the weights of the one before:
`fleetpose train litepose-pretrain --data DIR` (largest network on COCO, without tags),
`fleetpose train litepose-supernet --data DIR`, or `litepose-supernet-xs` for XS (CrowdPose),
`fleetpose train litepose-s-crowdpose --data DIR` or `fleetpose train litepose-s --data DIR` (COCO), and
`fleetpose train litepose-xs-distilled --data DIR` (CrowdPose, taught by S).

Without the supernet's step, users of the authors' code report 46.6 instead of 58.3 AP on CrowdPose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleetpose.models.litepose import VARIANTS
from fleetpose.recipes.contract import Recipe
from fleetpose.recipes.efficienthrnet import PAPER_SCENES
from fleetpose.recipes.published_data import (
    COCO_PICTURES,
    CROWDPOSE_PICTURES,
    KeypointData,
    coco,
    crowdpose,
    steps,
)
from fleetpose.train.config import (
    ElasticSettings,
    LossSettings,
    OptimiserSettings,
    Phase,
    TeacherSettings,
    TrainConfig,
)

RUNS = Path("runs/train")
BATCH = 32
NO_FIGURE = "more than litepose-s; the tables give no figure"

SETTLED = (
    "the optimiser (Adam without decay, as in the code); the part of CrowdPose to train on (training "
    "and validation here); the schedule of pre-training and supernet (no fall here); channels are not sorted "
    "when the supernet takes over, as they are in the code"
)


def _config(
    model: str,
    given: KeypointData,
    *,
    size: tuple[int, int],
    whole: int,
    drops: tuple[float, ...] = (),
    batch: int = BATCH,
    tags: float = 1e-3,
    init: Path | None = None,
    elastic: ElasticSettings | None = None,
    teacher: TeacherSettings | None = None,
) -> TrainConfig:
    return TrainConfig(
        model=model,
        sources=given.sources,
        skeleton=given.skeleton,
        init=init,
        elastic=elastic,
        teacher=teacher,
        phases=(Phase(size=size, batch=batch, steps=whole, scenes=PAPER_SCENES),),
        optimiser=OptimiserSettings(
            kind="adam",
            lr=1e-3 * batch / BATCH,
            schedule="drops",
            drops=drops,
            warmup_steps=0,
            weight_decay=0,
        ),
        loss=LossSettings(tags=tags),
        validation=given.validation,
        short_side=size[0],
    )


def _pretraining(data: Path) -> TrainConfig:
    # Heatmap channels are those of CrowdPose, the skeleton that the supernet goes on with.
    given = coco(data)
    whole = steps(100, COCO_PICTURES, BATCH)
    common = KeypointData("crowdpose14", given.sources, ())
    return _config("litepose-supernet", common, size=(512, 512), whole=whole, tags=0)


def _supernet(epochs: int, batch: int, elastic: ElasticSettings) -> Callable[[Path], TrainConfig]:
    def config(data: Path) -> TrainConfig:
        return _config(
            "litepose-supernet",
            crowdpose(data),
            size=(512, 512),
            whole=steps(epochs, CROWDPOSE_PICTURES, batch),
            batch=batch,
            init=RUNS / "litepose-pretrain/last.pt",
            elastic=elastic,
        )

    return config


@dataclass(frozen=True, slots=True)
class Row:
    """One network: AP on CrowdPose's test pictures (Table 1) and on COCO's validation pictures (Table 2).

    The tables leave M and L out.
    """

    model: str
    crowdpose: float | None = None
    coco: float | None = None

    @property
    def supernet(self) -> str:
        """Recipe of the supernet that it is a part of; XS has its own."""
        return "litepose-supernet-xs" if self.model == "litepose-xs" else "litepose-supernet"


ROWS = (
    Row("litepose-xs", 49.5, 40.6),
    Row("litepose-s", 58.3, 56.8),
    Row("litepose-m"),
    Row("litepose-l"),
)


def _on_crowdpose(row: Row, *, teacher: TeacherSettings | None = None) -> Recipe:
    def config(data: Path) -> TrainConfig:
        return _config(
            row.model,
            crowdpose(data),
            size=VARIANTS[row.model].input_size,
            whole=steps(200, CROWDPOSE_PICTURES, BATCH),
            drops=(50 / 200, 180 / 200),
            init=RUNS / row.supernet / "last.pt",
            teacher=teacher,
        )

    taught = " with a teacher" if teacher else ""
    reached = 48.4 if row.model == "litepose-xs" and teacher is None else row.crowdpose
    expected = f"AP {reached} on CrowdPose's test pictures (Tables 1 and 3)" if reached else NO_FIGURE
    return Recipe(
        summary=f"{row.model} on CrowdPose{taught}, from the supernet",
        expected=expected,
        settled=SETTLED,
        config=config,
    )


def _on_coco(row: Row) -> Recipe:
    def config(data: Path) -> TrainConfig:
        given = coco(data)
        return _config(
            row.model,
            given,
            size=VARIANTS[row.model].input_size,
            whole=steps(500, COCO_PICTURES, BATCH),
            drops=(350 / 500, 480 / 500),
        )

    return Recipe(
        summary=f"{row.model} on COCO",
        expected=f"AP {row.coco} on COCO's validation pictures (Table 2)" if row.coco else NO_FIGURE,
        settled=SETTLED
        + "; the paper begins with CrowdPose's supernet, whose heads have other keypoints, of which it says "
        "nothing: this recipe begins from new weights",
        config=config,
    )


RECIPES = {
    "litepose-pretrain": Recipe(
        summary="LitePose's largest network on COCO, heatmaps alone",
        expected="no figure is published; its loss is the supernet's start",
        settled=SETTLED + "; COCO has no head and neck, whose channels learn nothing here",
        config=_pretraining,
    ),
    "litepose-supernet": Recipe(
        summary="LitePose's supernet for S, M and L on CrowdPose",
        expected="no figure is published; each part is close to its fine-tuned result",
        settled=SETTLED,
        config=_supernet(800, 32, ElasticSettings(resolutions=(512, 448), ratios=(1.0, 0.75, 0.5))),
    ),
    "litepose-supernet-xs": Recipe(
        summary="LitePose's supernet for XS on CrowdPose",
        expected="no figure is published; each part is close to its fine-tuned result",
        settled=SETTLED,
        config=_supernet(
            2400,
            128,
            ElasticSettings(resolutions=(512, 448, 384, 320, 256), ratios=(1.0, 0.75, 0.5, 0.25)),
        ),
    ),
    **{f"{row.model}-crowdpose": _on_crowdpose(row) for row in ROWS},
    **{row.model: _on_coco(row) for row in ROWS},
    "litepose-xs-distilled": _on_crowdpose(
        ROWS[0], teacher=TeacherSettings(RUNS / "litepose-s-crowdpose/last.pt", size=(448, 448))
    ),
}

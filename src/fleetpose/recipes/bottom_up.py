"""Other bottom-up networks: HigherHRNet as a teacher, and Lightweight OpenPose, on COCO.

Command: `fleetpose train higherhrnet-w32 --data DIR`; `fleetpose train lightweight-openpose --data DIR`.

HigherHRNet (arXiv:1908.10357) has EfficientHRNet's schedule. Lightweight OpenPose (arXiv:1811.12004) is
trained by Adam at 4e-5, a third from epochs 100, 200 and 260 of 280.
"""

from __future__ import annotations

from pathlib import Path

from fleetpose.data.scenes import SceneSettings
from fleetpose.recipes.contract import Recipe
from fleetpose.recipes.efficienthrnet import PAPER_SCENES
from fleetpose.recipes.published_data import COCO_PICTURES, coco, steps
from fleetpose.train.config import OptimiserSettings, Phase, TrainConfig

HIGHERHRNET = {"higherhrnet-w32": (512, 12, 67.1), "higherhrnet-w48": (640, 10, 69.9)}


def _higherhrnet(model: str, side: int, batch: int) -> Recipe:
    def config(data: Path) -> TrainConfig:
        given = coco(data)
        whole = 4 * batch  # the authors' four devices
        return TrainConfig(
            model=model,
            sources=given.sources,
            skeleton=given.skeleton,
            phases=(
                Phase(
                    size=(side, side),
                    batch=batch,
                    steps=steps(300, COCO_PICTURES, whole),
                    scenes=PAPER_SCENES,
                ),
            ),
            optimiser=OptimiserSettings(
                kind="adam",
                lr=1e-3,
                schedule="drops",
                drops=(200 / 300, 260 / 300),
                warmup_steps=0,
                weight_decay=0,
                accumulate=4,
            ),
            validation=given.validation,
            short_side=side,
        )

    return Recipe(
        summary=f"{model} on COCO",
        expected=f"AP {HIGHERHRNET[model][2]} on COCO's validation pictures, mirrored picture averaged in",
        settled="begins from new weights here, not ImageNet's; tags weigh 1e-3 as in the code",
        config=config,
    )


def _openpose(data: Path) -> TrainConfig:
    given = coco(data)
    return TrainConfig(
        model="lightweight-openpose",
        sources=given.sources,
        skeleton=given.skeleton,
        phases=(
            Phase(
                size=(368, 368),
                batch=80,
                steps=steps(280, COCO_PICTURES, 80),
                scenes=SceneSettings(tiles=(1, 0, 0), zoom=(0.75, 1.6), rotation_deg=40, shift=0.1, light=0),
            ),
        ),
        optimiser=OptimiserSettings(
            kind="adam",
            lr=4e-5,
            schedule="drops",
            drops=(100 / 280, 200 / 280, 260 / 280),
            drop_factor=0.333,
            warmup_steps=0,
            weight_decay=0,
        ),
        validation=given.validation,
        short_side=368,
    )


RECIPES = {
    **{model: _higherhrnet(model, side, batch) for model, (side, batch, _) in HIGHERHRNET.items()},
    "lightweight-openpose": Recipe(
        summary="Lightweight OpenPose with one refinement on COCO",
        expected="AP 42.8 on COCO's validation pictures (arXiv:2205.01271, Table 2)",
        settled=(
            "scenes are framed by the picture, not by a person; all weights have one rate, where the code "
            "gives refinements more; trained in one go, where the author goes on from MobileNet's weights "
            "in three; squared errors are means, where the code takes sums, whose decay of 5e-4 "
            "would outweigh them, so there is none here"
        ),
        config=_openpose,
    ),
}

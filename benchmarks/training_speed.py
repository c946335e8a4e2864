"""Measure training: samples per second of each model, and the share of time that waits for data.

    python benchmarks/training_speed.py litepose-xs slimdeconv-b1 --threads 1 2 --precision 32-true bf16-mixed

Pictures are drawn, so nothing needs to be at hand; they are decoded, warped and encoded as in a real run.
Compare `samples/s` of one process with the same number of threads only while nothing else runs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from fleetpose.data.scenes import Source
from fleetpose.models import MODELS
from fleetpose.recipes.tiny import draw_people
from fleetpose.skeletons import COCO
from fleetpose.train.config import Phase, TrainConfig
from fleetpose.train.engine import train
from fleetpose.train.log import read_rows

MODELS_BY_DEFAULT = (
    "litepose-xs",
    "litepose-plain",
    "efficienthrnet-hm4",
    "slimdeconv-b1",
    "slimdeconv-plain",
)
#: Sides for bottom-up networks and crops for top-down ones, in pixels.
SIZES = {"slimdeconv-b1": (256, 192), "slimdeconv-plain": (128, 96)}


def settings(
    model: str, folder: Path, *, batch: int, steps: int, threads: int, precision: str
) -> TrainConfig:
    """A run on drawn people that logs every step."""
    images, labels = draw_people(folder, COCO)
    return TrainConfig(
        model=model,
        sources=(Source(images=images, annotations=labels),),
        phases=(Phase(size=SIZES.get(model, (256, 256)), batch=batch, steps=steps),),
        threads=threads,
        precision=precision,
        log_every_steps=1,
    )


def measure(config: TrainConfig, folder: Path) -> tuple[float, float]:
    """Samples per second and share of time that waits for data, medians over steps after the first few."""
    train(config, folder, accelerator="cpu")
    rows = read_rows(folder / "train.csv")
    settled = rows[len(rows) // 3 :]
    rate, waiting = (np.median([float(row[name]) for row in settled]) for name in ("scenes_per_s", "waiting"))
    return float(rate), float(waiting)


def main() -> None:
    """Print a row per model, precision and number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS_BY_DEFAULT, choices=[*MODELS, []])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--precision", nargs="+", default=["32-true", "bf16-mixed"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=12)
    given = parser.parse_args()
    print("| model | precision | threads | samples/s | waiting for data |")
    print("| --- | --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, (model, precision, threads) in enumerate(
            (model, precision, threads)
            for model in given.models
            for precision in given.precision
            for threads in given.threads
        ):
            config = settings(
                model,
                folder / "people",
                batch=given.batch,
                steps=given.steps,
                threads=threads,
                precision=precision,
            )
            rate, waiting = measure(config, folder / str(number))
            print(f"| {model} | {precision} | {threads} | {rate:.1f} | {100 * waiting:.1f} % |", flush=True)


if __name__ == "__main__":
    main()

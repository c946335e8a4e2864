"""Do distillation, a supernet and cross-resolution features help? Paired runs at small scale.

Each study trains two arms that differ in one thing only; a pair shares seed, data, their order, steps and
size of the network. What is reported is the mean of the pairs' differences, with a 95 % t interval.

    python benchmarks/paired_studies.py --data DIR --out runs/pairs

DIR holds `lspet` and `synth_people`. Networks learn from both, but for the tenth of `lspet` that is kept out,
and are scored on a fixed sample of that, people framed by their labels: the loss on the labels, and the share
of limb keypoints whose highest cell lies within 0.2 and 0.1 of the torso's diagonal. Statistics of
normalisation are measured anew on training pictures before that, since the weights are averages. Every run's
scores are added to `results.json` at once: a stopped study goes on where it was.

- `distillation`: a narrow `slimdeconv-plain` learns from labels alone, or from labels and the teacher.
- `supernet`: a shallow LitePose is trained for two stretches, or a part of a supernet's in the second after
  the supernet's in the first.
- `cross-resolution`: EfficientPose RT as it is, or with the low-level backbone that sees the picture at half
  its size: what Table 6 of arXiv:2004.12186 switches.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch.optim.swa_utils import update_bn
from torch.utils.data import default_collate

import fleetpose
from fleetpose.codecs.fields import FieldKind
from fleetpose.data.crops import CropSettings
from fleetpose.data.scenes import SceneSettings, Source
from fleetpose.geometry import IMAGE_MEAN, IMAGE_STD, cells_to_pixels
from fleetpose.models import MODELS, PoseNetwork, efficientpose, litepose, slimdeconv_plain, supernet
from fleetpose.models.litepose import LitePoseConfig
from fleetpose.models.litepose import Stage as LitePoseStage
from fleetpose.models.slimdeconv_plain import SlimDeconvPlainConfig
from fleetpose.models.slimdeconv_plain import Stage as SlimDeconvStage
from fleetpose.models.supernet import SearchSpace
from fleetpose.recipes.shipping import load_trained
from fleetpose.train.config import (
    ElasticSettings,
    LossSettings,
    OptimiserSettings,
    Phase,
    TeacherSettings,
    TrainConfig,
)
from fleetpose.train.engine import train
from fleetpose.train.tasks import task_of

METRICS = ("loss", "pck@0.2", "pck@0.1")
LIMBS = np.arange(5, 17)
#: Ends of the torso's diagonal: left shoulder and right hip.
TORSO = (5, 12)
#: Kept-out pictures whose id this divides.
KEPT_OUT_EVERY = 10
#: The second stretch of a run draws other samples than the first.
SECOND_SEED = 1000
BATCH, MEASURED_BATCHES = 32, 6
#: Brings the squared error to the teacher's maps, some 0.01 per cell, to the size of the other parts.
TEACHER_WEIGHT = 300.0
#: People as their labels frame them.
CALM_CROPS = CropSettings(
    scale=(1, 1), rotation_deg=0, turn_chance=0, shift=0, part_chance=0, cutout_chance=0, light=0
)
CALM_SCENES = SceneSettings(tiles=(1, 0, 0), person_share=(0.8, 0.8), rotation_deg=0, shift=0, light=0)

CROPS = CropSettings(
    scale=(0.8, 1.25), rotation_deg=20, shift=0.05, part_chance=0, cutout_chance=0, light=0.5
)
SCENES = SceneSettings(tiles=(1, 0, 0), person_share=(0.6, 1.0), rotation_deg=20, shift=0.1, light=0.5)

NARROW, SHALLOW, SHALLOW_SUPERNET, CROSSED = (
    "slimdeconv-plain-narrow",
    "litepose-shallow",
    "litepose-supernet-shallow",
    "efficientpose-rt-crossed",
)


@dataclass(frozen=True, slots=True)
class Study:
    """Two arms, the plain one first, each the stretches of a run: seed and folder → settings."""

    arms: Mapping[str, Callable[[int, Path], Sequence[TrainConfig]]]


def add_networks() -> None:
    """Make the small networks of the studies known by name."""
    slimdeconv_plain.VARIANTS[NARROW] = SlimDeconvPlainConfig(
        (96, 64),
        stem=8,
        stages=(
            SlimDeconvStage(16, blocks=1),
            SlimDeconvStage(32, blocks=1),
            SlimDeconvStage(64, blocks=1),
            SlimDeconvStage(96, blocks=1),
        ),
        deconv=(32, 32, 16),
    )
    largest = LitePoseConfig((64, 64), stem=24, stages=_shallow(32, 64, 96, 160), deconv=(64, 48, 32))
    supernet.VARIANTS[SHALLOW_SUPERNET] = SearchSpace(largest)
    # The widths of XS.
    litepose.VARIANTS[SHALLOW] = LitePoseConfig(
        (64, 64), stem=16, stages=_shallow(16, 32, 48, 80), deconv=(16, 24, 24)
    )
    efficientpose.VARIANTS[CROSSED] = replace(
        efficientpose.VARIANTS["efficientpose-rt"],
        low_level=efficientpose.VARIANTS["efficientpose-i"].low_level,
    )
    for name, like in (
        (NARROW, "slimdeconv-plain"),
        (SHALLOW, "litepose-xs"),
        (SHALLOW_SUPERNET, "litepose-supernet"),
        (CROSSED, "efficientpose-rt"),
    ):
        MODELS[name] = MODELS[like]


def _shallow(*widths: int) -> tuple[LitePoseStage, LitePoseStage, LitePoseStage, LitePoseStage]:
    first, second, third, fourth = (
        LitePoseStage(width, blocks=blocks, stride=stride, kernel=5)
        for width, blocks, stride in zip(widths, (1, 1, 2, 1), (2, 2, 2, 1), strict=True)
    )
    return first, second, third, fourth


def studies(data: Path, teacher: Path, *, scale: float) -> dict[str, Study]:
    """All studies by name; `scale` multiplies their steps."""

    def config(model: str, seed: int, phase: Phase, loss: LossSettings) -> TrainConfig:
        steps = max(1, round(phase.steps * scale))
        return TrainConfig(
            model=model,
            sources=training_sources(data),
            phases=(replace(phase, steps=steps),),
            optimiser=OptimiserSettings(lr=2e-3, warmup_steps=min(30, steps), ema_decay=0.98),
            loss=loss,
            seed=seed,
            # Depthwise convolutions learn more slowly in half precision, on a CPU.
            precision="bf16-mixed" if model == NARROW else "32-true",
            threads=1,
            workers=0,
            short_side=min(phase.size),
        )

    def distillation(seed: int, _: Path) -> list[TrainConfig]:
        phase = Phase(size=(96, 64), batch=16, steps=350, crops=CROPS)
        return [config(NARROW, seed, phase, LossSettings(location=1.0, presence=1.0, sigma_cells=(1.0,)))]

    def taught(seed: int, folder: Path) -> list[TrainConfig]:
        lesson = TeacherSettings(teacher, weight=TEACHER_WEIGHT)
        return [replace(alone, teacher=lesson) for alone in distillation(seed, folder)]

    def whole(seed: int, folder: Path) -> list[TrainConfig]:
        first = Phase(size=(64, 64), batch=8, steps=200, scenes=SCENES)
        loss = LossSettings(tags=1e-3, foreground=10, location=0.1, sigma_cells=(1.5, 1.5))
        second = config(SHALLOW, seed + SECOND_SEED, replace(first, steps=120), loss)
        return [config(SHALLOW, seed, first, loss), replace(second, init=folder / "stretch0/last.pt")]

    def by_parts(seed: int, folder: Path) -> list[TrainConfig]:
        first, second = whole(seed, folder)
        elastic = ElasticSettings(resolutions=(64, 48), ratios=(1.0, 0.75, 0.5, 0.25))
        return [replace(first, model=SHALLOW_SUPERNET, elastic=elastic), second]

    def one_resolution(seed: int, _: Path) -> list[TrainConfig]:
        phase = Phase(size=(64, 64), batch=8, steps=170, crops=CROPS)
        return [config("efficientpose-rt", seed, phase, LossSettings(foreground=10, sigma_px=6.0))]

    def crossed(seed: int, folder: Path) -> list[TrainConfig]:
        return [replace(alone, model=CROSSED) for alone in one_resolution(seed, folder)]

    return {
        "distillation": Study({"labels alone": distillation, "with teacher": taught}),
        "supernet": Study({"trained directly": whole, "from supernet": by_parts}),
        "cross-resolution": Study({"one resolution": one_resolution, "two resolutions": crossed}),
    }


def training_sources(data: Path) -> tuple[Source, ...]:
    """Photos of one person, but for those kept out, and rendered people."""
    return (
        Source(
            images=data / "lspet/images",
            annotations=data / "lspet/lspet_coco17.json",
            is_single_person=True,
            is_zero_unknown=True,
            held_out_every=KEPT_OUT_EVERY,
        ),
        Source(
            images=data / "synth_people/images",
            annotations=data / "synth_people/person_keypoints_train.json",
        ),
    )


def kept_out_source(data: Path, out: Path) -> Source:
    """Write the labels of the kept-out pictures alone to `out`."""
    labels = json.loads((data / "lspet/lspet_coco17.json").read_text(encoding="utf-8"))
    labels["images"] = [image for image in labels["images"] if image["id"] % KEPT_OUT_EVERY == 0]
    ids = {image["id"] for image in labels["images"]}
    labels["annotations"] = [person for person in labels["annotations"] if person["image_id"] in ids]
    path = out / "kept_out.json"
    path.write_text(json.dumps(labels), encoding="utf-8")
    return Source(images=data / "lspet/images", annotations=path, is_single_person=True, is_zero_unknown=True)


def run(stretches: Sequence[TrainConfig], folder: Path) -> tuple[PoseNetwork, TrainConfig, float]:
    """Train the stretches of a run → its network, last settings and seconds of training."""
    seconds = 0.0
    for number, config in enumerate(stretches):
        place = folder / f"stretch{number}"
        progress = train(config, place, is_resumed=(place / "last.pt").exists(), accelerator="cpu")
        if progress.step < config.total_steps:
            sys.exit("stopped; the same command goes on from here")
        seconds += progress.seconds
    network, config, _ = load_trained(folder / f"stretch{len(stretches) - 1}" / "last.pt")
    return network, config, seconds


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Pictures `[B, H, W, 3]` uint8 → `[B, 3, H, W]` as networks take them."""
    mean, std = torch.tensor(IMAGE_MEAN), torch.tensor(IMAGE_STD)
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)


def training_pictures(network: PoseNetwork, config: TrainConfig) -> list[torch.Tensor]:
    """Batches of pictures as in training, `[B, 3, H, W]`."""
    dataset = task_of(network, replace(config, seed=0)).datasets()[-1]
    return [
        normalised(torch.stack([dataset[BATCH * number + place][0] for place in range(BATCH)]))
        for number in range(MEASURED_BATCHES)
    ]


def score(network: PoseNetwork, config: TrainConfig, kept_out: Source, *, samples: int) -> dict[str, float]:
    """Compare a network with the labels of people it never saw → `METRICS`."""
    calm = replace(config.phases[-1], crops=CALM_CROPS, scenes=CALM_SCENES)
    task = task_of(network, replace(config, sources=(kept_out,), phases=(calm,), seed=0))
    dataset: Any = task.datasets()[0]
    heatmaps = [field for field in network.fields if field.kind is FieldKind.HEATMAPS]
    finest = min(reversed(heatmaps), key=lambda field: field.stride)
    losses, errors = [], []
    for first in range(0, samples, BATCH):
        drawn = [
            dataset.maker.make(np.random.default_rng([0, number]), calm.size)
            for number in range(first, min(first + BATCH, samples))
        ]
        images, labels = default_collate([dataset.encoded(sample) for sample in drawn])
        with torch.inference_mode():
            maps = network(normalised(images))
            losses += [float(task.losses(maps, labels)["total"])] * len(drawn)
        tops = highest_pixels(maps[finest.name].numpy(), finest.stride)
        for sample, found in zip(drawn, tops, strict=True):
            errors.append(limb_errors(found, np.reshape(sample.keypoints, (-1, *found.shape[:1], 3))))
    shares = np.concatenate(errors)
    return {
        "loss": float(np.mean(losses)),
        "pck@0.2": 100 * float(np.mean(shares < 0.2)),
        "pck@0.1": 100 * float(np.mean(shares < 0.1)),
    }


def highest_pixels(maps: npt.NDArray[np.floating], stride: int) -> npt.NDArray[np.floating]:
    """Heatmaps `[B, K, h, w]` → middle of each one's highest cell, `[B, K, 2]` (x, y) in pixels."""
    B, K, _, w = maps.shape
    y, x = np.divmod(maps.reshape(B, K, -1).argmax(axis=2), w)
    return np.asarray(cells_to_pixels(np.stack([x, y], axis=2).astype(float), stride))


def limb_errors(
    found: npt.NDArray[np.floating], people: npt.NDArray[np.floating]
) -> npt.NDArray[np.floating]:
    """Distances of the labelled limb keypoints, in torso diagonals; none unless one torso is labelled.

    Args:
        found: `[K, 2]` (x, y) in pixels.
        people: `[N, K, 3]` (x, y, v) in pixels.
    """
    if len(people) != 1 or people[0, TORSO, 2].min() == 0:
        return np.zeros(0)
    (person,) = people
    torso = np.linalg.norm(person[TORSO[0], :2] - person[TORSO[1], :2])
    limbs = LIMBS[person[LIMBS, 2] > 0]
    return np.asarray(np.linalg.norm(found[limbs] - person[limbs, :2], axis=1) / max(torso, 1.0))


def paired_interval(differences: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """Mean of paired differences and half the width of its t interval.

    >>> [round(value, 3) for value in paired_interval([1.0, 2.0, 3.0])]
    [2.0, 2.484]
    """
    if len(differences) < 2:
        return float(np.mean(differences)), float("inf")
    error = float(np.std(differences, ddof=1)) / len(differences) ** 0.5
    return float(np.mean(differences)), float(stats.t.ppf((1 + confidence) / 2, len(differences) - 1)) * error


class Results:
    """Rows of scores in a file, each written as soon as it is known."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []

    def find(self, **key: object) -> dict[str, Any] | None:
        """Return the row with these entries, if there is one."""
        return next((row for row in self.rows if key.items() <= row.items()), None)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row; a program that is killed meanwhile leaves the file as it was."""
        self.rows.append(row)
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(self.rows, indent=1), encoding="utf-8")
        fresh.replace(self.path)


def missing_runs(
    results: Results, study: str, arms: Sequence[str], *, seeds: int, scale: float
) -> Iterator[tuple[str, int]]:
    """Arm and seed of the runs that are still to be made, pair by pair."""
    for seed in range(seeds):
        for arm in arms:
            if results.find(study=study, arm=arm, seed=seed, scale=scale) is None:
                yield arm, seed


def table(results: Results, study: str, arms: Sequence[str], *, seeds: int, scale: float) -> Iterator[str]:
    """Yield one row per metric: both arms' means, and the second's advantage in each pair and on average."""
    found = [
        tuple(results.find(study=study, arm=arm, seed=seed, scale=scale) for arm in arms)
        for seed in range(seeds)
    ]
    whole = [pair for pair in found if None not in pair]
    for metric in METRICS if whole else ():
        before, after = np.array([[row[metric] for row in pair if row] for pair in whole]).T
        pairs = after - before
        mean, half = paired_interval(pairs.tolist())
        each = ", ".join(f"{difference:+.3f}" for difference in pairs)
        yield (
            f"| {study} | {metric} | {before.mean():.3f} | {after.mean():.3f} | {each} "
            f"| {mean:+.3f} ± {half:.3f} |"
        )


def main() -> None:
    """Make the runs that are missing and print a table per study."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, help="model file or checkpoint; bundled one if left out")
    parser.add_argument("--studies", nargs="+", help="names; all if left out")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the steps")
    parser.add_argument("--samples", type=int, default=400, help="people to score on")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    add_networks()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    kept_out = kept_out_source(arguments.data, out)
    teacher = arguments.teacher or Path(fleetpose.__file__).parent / "weights/slimdeconv-plain.onnx"
    known = studies(arguments.data, teacher, scale=arguments.scale)
    results = Results(out / "results.json")
    for name in arguments.studies or known:
        arms = known[name].arms
        pictures: list[torch.Tensor] = []
        for arm, seed in missing_runs(
            results, name, list(arms), seeds=arguments.seeds, scale=arguments.scale
        ):
            folder = out / f"{name}-{arm}-{seed}-{arguments.scale:g}".replace(" ", "-")
            network, config, seconds = run(arms[arm](seed, folder), folder)
            pictures = pictures or training_pictures(network, config)
            update_bn(pictures, network)
            network.eval()
            scores = score(network, config, kept_out, samples=arguments.samples)
            size = sum(weight.numel() for weight in network.parameters())
            row = {"study": name, "arm": arm, "seed": seed, "scale": arguments.scale}
            results.add({**row, "params": size, "seconds": round(seconds, 1), **scores})
            print(results.rows[-1], flush=True)
        print(f"| study | score | {' | '.join(arms)} | pairs | difference |")
        print("| --- | --- | ---: | ---: | --- | ---: |")
        for line in table(results, name, list(arms), seeds=arguments.seeds, scale=arguments.scale):
            print(line, flush=True)


if __name__ == "__main__":
    main()

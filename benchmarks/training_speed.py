"""Measure training: samples per second of each model, and the share of time that waits for data.

    python benchmarks/training_speed.py litepose-xs slimdeconv-b1 --threads 1 2 --precision 32-true bf16-mixed
    python benchmarks/training_speed.py slimdeconv-b1 --threads 1 --devices 1 2
    python benchmarks/training_speed.py --images DIR --annotations FILE --workers 1 2

Without data of one's own, photo-sized JPEG files are drawn, so nothing needs to be at hand; pictures are
decoded, warped and encoded as in a real run. `a loader draws` is what one loader process can do by itself, in
samples per second; if training is faster than all loaders together, it waits. `bare` is what PyTorch does of
itself, measured just before: forward, mean squared error, backward and Adam on one random batch in float32,
channels last, with as many threads as all processes together, nothing of ours but the network. With several
devices, processes of `fleetpose train --devices` share the batch. Compare figures only while nothing else
runs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml

from fleetpose.data.scenes import Source
from fleetpose.models import MODELS, build
from fleetpose.settings import to_plain
from fleetpose.skeletons import COCO
from fleetpose.train.config import Phase, TrainConfig
from fleetpose.train.engine import train
from fleetpose.train.log import read_rows
from fleetpose.train.machine import keep_freed_memory
from fleetpose.train.networks import build_network
from fleetpose.train.tasks import task_of

MODELS_BY_DEFAULT = (
    "litepose-xs",
    "litepose-plain",
    "efficienthrnet-hm4",
    "slimdeconv-b1",
    "slimdeconv-plain",
)
#: (H, W) of scenes and square crops; networks for other crops have sizes of their own.
SCENE_SIZE = (256, 256)
#: Drawn pictures: how many, and their (h, w), which is that of a typical photo of COCO.
PICTURES, PICTURE_SIZE = 24, (480, 640)
#: Steps that are left out at the start: the first ones, and those that the loaders drew in advance.
SETTLING_STEPS = 8
#: Steps of the plain loop, the first of which does not count.
BARE_STEPS = 6


def draw_photos(folder: Path) -> Source:
    """Draw JPEG files as hard to decode as photos, with two people of random keypoints each."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    h, w = PICTURE_SIZE
    images, annotations = [], []
    for number in range(1, PICTURES + 1):
        coarse, fine = (rng.integers(0, 256, (h // side, w // side, 3), np.uint8) for side in (32, 4))
        layers = [cv2.resize(one, (w, h), interpolation=cv2.INTER_CUBIC) for one in (coarse, fine)]
        cv2.imwrite(str(folder / f"{number}.jpg"), cv2.addWeighted(layers[0], 0.75, layers[1], 0.25, 0))
        images.append({"id": number, "file_name": f"{number}.jpg", "height": h, "width": w})
        for person in range(2):
            points = rng.uniform((30 + 300 * person, 30), (300 + 300 * person, h - 30), (len(COCO), 2))
            low, extent = points.min(axis=0) - 5, np.ptp(points, axis=0) + 10
            annotations.append(
                {
                    "id": 2 * number + person,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [*low.tolist(), *extent.tolist()],
                    "keypoints": np.column_stack([points, np.full(len(points), 2)]).ravel().tolist(),
                }
            )
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}]
    labels = folder / "labels.json"
    labels.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return Source(images=folder, annotations=labels)


def size_of(model: str) -> tuple[int, int]:
    """(H, W) at which a model is measured."""
    h, w = build(model).input_size
    return SCENE_SIZE if h == w else (h, w)


def loader_speed(config: TrainConfig, *, seconds: float = 2.0) -> float:
    """Samples per second that one loader process draws when nothing holds it up."""
    dataset = task_of(build_network(config), config).datasets()[0]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)  # as in a loader process
    start = time.perf_counter()
    for count in itertools.count(1):
        dataset[count]
        if time.perf_counter() - start > seconds:
            break
    cv2.setNumThreads(threads)
    return count / (time.perf_counter() - start)


def bare_speed(config: TrainConfig, *, threads: int, device: str) -> float:
    """Samples per second of the network in a plain loop of PyTorch: the median of a few steps."""
    phase, usual = config.phases[0], torch.get_num_threads()
    keep_freed_memory()
    torch.set_num_threads(threads)
    network = build_network(config).to(device).train().to(memory_format=torch.channels_last)
    images = torch.randn(phase.batch, 3, *phase.size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    optimiser, seconds = torch.optim.Adam(network.parameters()), []
    for _ in range(BARE_STEPS):
        start = time.perf_counter()
        optimiser.zero_grad()
        loss = sum(maps.square().mean() for maps in network(images).values())
        loss.backward()
        optimiser.step()
        seconds.append(time.perf_counter() - start)
    torch.set_num_threads(usual)
    return phase.batch / float(np.median(seconds[1:]))


def measure(config: TrainConfig, folder: Path, *, accelerator: str, devices: int) -> tuple[float, float]:
    """Samples per second, and share of the time that waits for data, over all settled steps together."""
    if devices == 1:
        train(config, folder, accelerator=accelerator)
    else:  # each process starts the whole command again, so it must be one that does nothing else
        settings = folder.with_suffix(".yaml")
        settings.write_text(yaml.safe_dump(to_plain(config)))
        command = [sys.executable, "-m", "fleetpose", "train", settings, "--out", folder]
        options = ["--devices", str(devices), "--accelerator", accelerator]
        subprocess.run([*command, *options], check=True)
    rows = read_rows(folder / "train.csv")[SETTLING_STEPS - 1 :]
    seconds = np.diff([float(row["seconds"]) for row in rows])
    waiting = np.array([float(row["waiting"]) for row in rows[1:]])
    samples = float(rows[-1]["scenes"]) - float(rows[0]["scenes"])
    return samples / seconds.sum(), float((waiting * seconds).sum() / seconds.sum())


def main() -> None:
    """Print a row per model, precision and number of threads and workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=MODELS_BY_DEFAULT, choices=[*MODELS, []])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--devices", type=int, nargs="+", default=[1], help="processes, or accelerators")
    parser.add_argument("--workers", type=int, nargs="+", default=[1], help="loader processes")
    parser.add_argument("--precision", nargs="+", default=["32-true", "bf16-mixed"])
    parser.add_argument("--batch", type=int, default=16, help="of all devices together")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--images", type=Path, help="folder of pictures of one's own, with --annotations")
    parser.add_argument("--annotations", type=Path, help="their COCO keypoint file")
    parser.add_argument("--accelerator", default="cpu", help="cpu, cuda or auto")
    given = parser.parse_args()
    if (given.images is None) != (given.annotations is None):
        parser.error("--images and --annotations go together")
    if given.steps <= SETTLING_STEPS:
        parser.error(f"--steps must be above {SETTLING_STEPS}")
    has_gpu = given.accelerator != "cpu" and torch.cuda.is_available()
    device = "cuda" if has_gpu else "cpu"
    columns = "model, precision, devices, threads, workers, samples/s, bare, ratio, a loader draws, waiting"
    print(f"| {columns.replace(', ', ' | ')} |")
    print("| --- | --- |" + " ---: |" * 8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = (
            Source(images=given.images, annotations=given.annotations)
            if given.images
            else draw_photos(folder / "photos")
        )
        runs = itertools.product(given.models, given.precision, given.devices, given.threads, given.workers)
        for number, (model, precision, devices, threads, workers) in enumerate(runs):
            size = size_of(model)
            config = TrainConfig(
                model=model,
                sources=(source,),
                phases=(Phase(size=size, batch=given.batch // devices, steps=given.steps),),
                threads=threads,
                workers=workers,
                precision=precision,
                log_every_steps=1,
            )
            bare = bare_speed(config, threads=threads * devices, device=device)
            drawn = loader_speed(config)
            rate, waiting = measure(
                config, folder / str(number), accelerator=given.accelerator, devices=devices
            )
            print(
                f"| {model}, {size[0]} x {size[1]} | {precision} | {devices} | {threads} | {workers} "
                f"| {rate:.1f} | {bare:.1f} | {rate / bare:.2f} | {drawn:.0f} | {100 * waiting:.1f} % |",
                flush=True,
            )


if __name__ == "__main__":
    main()

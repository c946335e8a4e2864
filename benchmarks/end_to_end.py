"""Frames per second from file to file, step by step, and memory while a clip is looped.

    python benchmarks/end_to_end.py [CLIP] [--frames 10000] [--model NAME] [--threads N] [--json FILE]
                                    [--no-read-ahead]

Every frame is decoded, resized, run through the network, grouped, drawn, encoded as H.264 and written to the
tables, as `fleetpose predict` does. Without a clip the camera pans over the bundled picture.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime

from fleetpose.media.images import read_image
from fleetpose.media.sources import Source, SourceKind
from fleetpose.media.video import Frame, VideoReader, VideoWriter
from fleetpose.runtime.predictor import Predictor, load
from fleetpose.runtime.recording import Recorder

STEPS = ("decode", "resize", "network", "grouping", "draw", "encode", "write")
WARM_UP = 20
FORMATS = ("video", "coco", "csv")


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    predictor = load(arguments.model, threads=arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        clip = arguments.clip or _panned_clip(Path(folder) / "pan.mp4")
        with Recorder(Path(folder), formats=FORMATS) as recorder:
            record = _measure(
                predictor, recorder, clip, arguments.frames, reads_ahead=not arguments.no_read_ahead
            )
    record |= {
        "model": predictor.description.name,
        "clip": clip.name,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": arguments.threads,
        "versions": {
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
            "opencv": cv2.__version__,
        },
    }
    _print(record)
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _measure(
    predictor: Predictor, recorder: Recorder, clip: Path, frames: int, *, reads_ahead: bool
) -> dict[str, Any]:
    """Run over `frames` frames → times per step, frames per second, memory along the way."""
    source = Source(SourceKind.VIDEO, str(clip))
    times_ms = np.full((frames, len(STEPS)), np.nan, np.float32)
    size, people, memory_mb = None, 0, {}
    started_s, busy_s = time.perf_counter(), time.process_time()
    for number, (frame, result) in enumerate(
        predictor.follow(_looped(clip, frames, reads_ahead=reads_ahead))
    ):
        steps_ms = {**result.timings_ms, **recorder.add(source, frame, result, fps=25.0)}
        times_ms[number] = [steps_ms.get(step, 0.0) for step in STEPS]
        size, people = result.image_size, people + len(result)
        if number + 1 in _samples(frames):
            memory_mb[number + 1] = _resident_mb()
    elapsed_s, busy_s = time.perf_counter() - started_s, time.process_time() - busy_s
    warm_ms = times_ms[min(WARM_UP, frames // 2) :]
    return {
        "frames": frames,
        "size": list(size),
        "people_per_frame": people / frames,
        "median_ms": dict(zip(STEPS, np.median(warm_ms, axis=0).round(3).tolist(), strict=True)),
        "mean_ms": dict(zip(STEPS, warm_ms.mean(axis=0).round(3).tolist(), strict=True)),
        "frames_per_second": round(frames / elapsed_s, 2),
        "processor_ms_per_frame": round(1e3 * busy_s / frames, 2),
        "memory_mb": memory_mb,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def _looped(clip: Path, count: int, *, reads_ahead: bool) -> Iterator[Frame]:
    """Yield `count` frames, starting the clip over as often as needed."""
    index, offset_s = 0, 0.0
    while True:
        reader = VideoReader(clip, reads_ahead=reads_ahead)
        last_s = 0.0
        for frame in reader:
            last_s = offset_s + frame.timestamp_s
            yield Frame(frame.image, index, last_s)
            index += 1
            if index == count:
                reader.close()
                return
        reader.close()
        offset_s = last_s + 1 / reader.fps


def _panned_clip(path: Path, *, size: tuple[int, int] = (360, 480), count: int = 100) -> Path:
    """Write a clip that moves over the bundled picture."""
    picture = read_image(str(resources.files("fleetpose") / "assets" / "demo.jpg"))
    scale = 1.2 * max(size[0] / picture.shape[0], size[1] / picture.shape[1])
    large = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    room_y, room_x = large.shape[0] - size[0], large.shape[1] - size[1]
    with VideoWriter(path, fps=25.0) as writer:
        for share in 0.5 - 0.5 * np.cos(np.linspace(0, 2 * np.pi, count)):
            y, x = round(room_y * share), round(room_x * share)
            writer.add(large[y : y + size[0], x : x + size[1]])
    return path


def _samples(frames: int) -> set[int]:
    """Frames after which memory is read: 1, 2, 5, 10, 20, 50, … and the last."""
    steps = {factor * 10**power for power in range(7) for factor in (1, 2, 5)}
    return {step for step in steps if step < frames} | {frames}


def _resident_mb() -> float:
    """Memory in use now, in MB; the peak so far where the system does not tell."""
    status = Path("/proc/self/statm")
    if status.exists():
        return round(int(status.read_text().split()[1]) * resource.getpagesize() / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _print(record: Mapping[str, Any]) -> None:
    h, w = record["size"]
    print(f"{record['model']}, {record['clip']} {w} x {h}, {record['frames']} frames, ", end="")
    print(
        f"{record['people_per_frame']:.1f} people per frame; {record['processor']}, {record['cores']} cores\n"
    )
    print("| step | median ms | mean ms | share |\n| --- | ---: | ---: | ---: |")
    total = sum(record["mean_ms"].values())
    for step in STEPS:
        mean = record["mean_ms"][step]
        print(f"| {step} | {record['median_ms'][step]:.2f} | {mean:.2f} | {100 * mean / total:.0f} % |")
    print(f"| **sum** | {sum(record['median_ms'].values()):.2f} | {total:.2f} | |")
    print(f"\n{record['frames_per_second']} frames per second end to end, ", end="")
    print(f"{record['processor_ms_per_frame']} ms of processor time per frame\n")
    print("| after frame | memory MB |\n| ---: | ---: |")
    for frame, memory in record["memory_mb"].items():
        print(f"| {frame} | {memory:.1f} |")
    print(f"\npeak {record['peak_memory_mb']} MB")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "clip", nargs="?", type=Path, help="video; a pan over the bundled picture if left out"
    )
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--model", "-m", help="name of a bundled model or an .onnx file")
    parser.add_argument("--threads", type=int, help="processor threads of the network")
    parser.add_argument("--no-read-ahead", action="store_true", help="decode between the other steps")
    parser.add_argument("--json", type=Path, help="write the record into this file too")
    return parser.parse_args()


if __name__ == "__main__":
    main()

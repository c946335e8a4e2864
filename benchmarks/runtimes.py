"""Each family's network on every runtime and precision beside eager PyTorch, interleaved in one run.

    python benchmarks/runtimes.py [MODEL …] [--rounds 11] [--threads 1] [--json FILE]

New weights do: times do not depend on them, and neither does the size of the files. With one thread the
processor's own time is taken, in which others on the machine hardly show; with more, the clock's. The cells
are medians in milliseconds, with the speed against eager PyTorch in brackets. int8 quantises every
convolution, so that its cells show what 8 bits can bring, not what accuracy allows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino
import torch

from fleetpose.compress.quantise import Quantiser
from fleetpose.export.onnx_file import INPUT_NAME, traced
from fleetpose.export.rewrite import simplify
from fleetpose.models import PoseNetwork, build
from fleetpose.models.counting import count
from fleetpose.runtime.choice import interleaved_ms
from fleetpose.runtime.machine import processor, usable_cores
from fleetpose.runtime.openvino_session import has_bf16

Array = npt.NDArray[np.float32]

MODELS = (
    "litepose-xs",
    "litepose-plain",
    "slimdeconv-b1",
    "slimdeconv-plain",
    "efficientpose-rt",
    "efficienthrnet-hm4",
    "lightweight-openpose",
)
#: Random pictures that an int8 model is calibrated on.
CALIBRATION = 4
EAGER = "torch"


@dataclass(slots=True)
class Subject:
    """One network in all its forms."""

    calls: dict[str, Callable[[], object]] = field(default_factory=dict)
    megabytes: dict[str, float] = field(default_factory=dict)


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    clock = "processor time" if arguments.threads == 1 else "wall time"
    print(f"{processor()}, {usable_cores()} usable cores, {arguments.threads} threads, {clock}\n")
    record: dict[str, Any] = {}
    columns: list[str] = []
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            row = _measure(name, Path(folder), rounds=arguments.rounds, threads=arguments.threads)
        if not columns:
            columns = list(row["median_ms"])
            print(f"| model | input | GMAC | {' | '.join(columns)} | fp32, int8 MB |")
            print("| --- | --- |" + " ---: |" * (len(columns) + 2))
        print(_line(name, row, columns), flush=True)
        record[name] = row
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _measure(name: str, folder: Path, *, rounds: int, threads: int) -> dict[str, Any]:
    network = build(name).eval()
    height, width = network.input_size
    generator = np.random.default_rng(0)
    images = [generator.standard_normal((1, 3, height, width)).astype(np.float32) for _ in range(CALIBRATION)]
    subject = _subject(network, images, folder, threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    return {
        "input": [height, width],
        "gmac": count(network, network.input_size).operations / 1e9,
        "median_ms": interleaved_ms(subject.calls, rounds=rounds, clock=clock),
        "megabytes": subject.megabytes,
    }


def _subject(network: PoseNetwork, images: list[Array], folder: Path, threads: int) -> Subject:
    model = traced(network)
    simplify(model)
    quantised = Quantiser(model, images).quantised()
    subject = Subject({EAGER: _eager(network, images[0])})
    precisions = ["f32", "bf16"] if has_bf16(openvino.Core()) else ["f32"]
    for kind, graph in (("", model), (" int8", quantised)):
        path = folder / f"model{kind.strip()}.onnx"
        path.write_bytes(graph.SerializeToString())
        subject.megabytes[kind.strip() or "fp32"] = path.stat().st_size / 1e6
        subject.calls[f"ONNX Runtime{kind}"] = _onnx(path, images[0], threads)
        for precision in precisions if not kind else ["f32"]:
            label = f"OpenVINO{kind or f' {precision}'}"
            subject.calls[label] = _openvino(path, images[0], threads, precision)
    return subject


def _eager(network: PoseNetwork, image: Array) -> Callable[[], object]:
    """PyTorch as it comes: no compilation, no other memory layout."""
    tensor = torch.from_numpy(image)

    def run() -> object:
        with torch.inference_mode():
            return network(tensor)

    return run


def _onnx(path: Path, image: Array, threads: int) -> Callable[[], object]:
    import onnxruntime  # noqa: PLC0415 - beside its only use

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {INPUT_NAME: image})


def _openvino(path: Path, image: Array, threads: int, precision: str) -> Callable[[], object]:
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(str(path)), "CPU", settings).create_infer_request()
    return lambda: request.infer({INPUT_NAME: image}, share_inputs=True)


def _line(name: str, row: dict[str, Any], columns: list[str]) -> str:
    medians = row["median_ms"]
    cells = [f"{medians[one]:.1f} ({medians[EAGER] / medians[one]:.1f})" for one in columns]
    cells[0] = f"{medians[EAGER]:.1f}"
    height, width = row["input"]
    sizes = f"{row['megabytes']['fp32']:.1f}, {row['megabytes']['int8']:.1f}"
    return f"| {name} | {height} x {width} | {row['gmac']:.2f} | {' | '.join(cells)} | {sizes} |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the table into this file too")
    return parser.parse_args()


if __name__ == "__main__":
    main()

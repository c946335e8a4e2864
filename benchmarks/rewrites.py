"""What each rewrite of the exported graph gains, per runtime, as ratios within one interleaved run.

    python benchmarks/rewrites.py [MODEL …] [--rounds 15] [--threads 1] [--json FILE]

New weights do: times do not depend on them. A ratio above 1 means that the rewritten graph is faster.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from fleetpose.export.onnx_file import INPUT_NAME, traced
from fleetpose.export.rewrite import (
    fold_normalisations,
    fold_scales,
    merge_deconvs,
    resize_instead_of_deconvs,
    simplify,
)
from fleetpose.models import build
from fleetpose.runtime.choice import interleaved_ms
from fleetpose.runtime.machine import processor, usable_cores

Array = npt.NDArray[np.float32]

MODELS = ("litepose-xs", "litepose-plain", "efficientpose-rt")
VARIANTS: dict[str, Callable[[Any], object]] = {
    "exported": lambda _: None,
    "merge deconvs": merge_deconvs,
    "fold normalisations": lambda model: (merge_deconvs(model), fold_normalisations(model)),
    "fold scales": fold_scales,
    "resize instead of deconvs": resize_instead_of_deconvs,
    "simplify": simplify,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(f"{processor()}, {usable_cores()} usable cores, {arguments.threads} threads\n")
    print(
        "| model | rewrite | ONNX Runtime ms (ratio) | OpenVINO f32 ms (ratio) |\n| --- | --- | ---: | ---: |"
    )
    record = {name: _measure(name, arguments.rounds, arguments.threads) for name in arguments.models}
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _measure(name: str, rounds: int, threads: int) -> dict[str, dict[str, float]]:
    network = build(name).eval()
    plain = traced(network)
    image = np.random.default_rng(0).standard_normal((1, 3, *network.input_size)).astype(np.float32)
    calls: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        kinds: list[str] = []
        for label, rewrite in VARIANTS.items():
            model = type(plain).FromString(plain.SerializeToString())
            rewrite(model)
            if label != "exported" and model.SerializeToString() == plain.SerializeToString():
                continue
            path = Path(folder) / f"{len(kinds)}.onnx"
            onnx.save(model, str(path))
            kinds.append(label)
            calls[f"onnx {label}"] = _onnx(path, image, threads)
            calls[f"openvino {label}"] = _openvino(path, image, threads)
        # The process's own time: with one thread, what others do on the machine hardly shows in it.
        clock = time.process_time if threads == 1 else time.perf_counter
        medians = interleaved_ms(calls, rounds=rounds, clock=clock)
    for label in kinds:
        cells = [
            f"{medians[f'{runtime} {label}']:.2f} "
            f"({medians[f'{runtime} exported'] / medians[f'{runtime} {label}']:.2f})"
            for runtime in ("onnx", "openvino")
        ]
        print(f"| {name} | {label} | {cells[0]} | {cells[1]} |", flush=True)
    return {"median_ms": medians}


def _onnx(path: Path, image: Array, threads: int) -> Callable[[], object]:
    import onnxruntime  # noqa: PLC0415 - beside its only use

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {INPUT_NAME: image})


def _openvino(path: Path, image: Array, threads: int) -> Callable[[], object]:
    import openvino  # noqa: PLC0415 - beside its only use

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(str(path)), "CPU", settings).create_infer_request()
    return lambda: request.infer({INPUT_NAME: image}, share_inputs=True)


if __name__ == "__main__":
    main()

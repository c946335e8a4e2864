"""Time of several crops in a top-down network, one by one and in a batch.

Run: `python benchmarks/crops.py` (a minute). It gives the bundled model's file a batch axis in memory and
prints the median milliseconds of processor time per crop; both ways take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from fleetpose.codecs.description import METADATA_KEY, ModelDescription
from fleetpose.codecs.top_down import TopDownCodec
from fleetpose.weights import find_model

Array = npt.NDArray[np.float32]

#: Crops in a batch.
SIZES = (2, 4, 8)


def one_by_one(session: onnxruntime.InferenceSession, name: str, crops: Array) -> Array:
    """Run each crop alone → maps of all."""
    return np.concatenate([session.run(None, {name: crop[None]})[0] for crop in crops])


def at_once(session: onnxruntime.InferenceSession, name: str, crops: Array) -> Array:
    """Run all crops as one batch → maps of all."""
    return np.asarray(session.run(None, {name: crops})[0])


def median_ms(variants: Sequence[Callable[[], object]], *, rounds: int) -> list[float]:
    """Median milliseconds of processor time of variants that take turns, after a run each."""
    times: list[list[float]] = [[] for _ in variants]
    for number in range(rounds + 1):
        for run, values in zip(variants, times, strict=True):
            start = time.process_time()
            run()
            if number:
                values.append(1000 * (time.process_time() - start))
    return [statistics.median(values) for values in times]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="slimdeconv-plain")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    model = onnx.load(str(find_model(options.model)))
    texts = {entry.key: entry.value for entry in model.metadata_props}
    codec = TopDownCodec.from_description(ModelDescription.from_json(texts[METADATA_KEY]))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    crops = np.random.default_rng(0).standard_normal((max(SIZES), 3, *codec.input_size)).astype(np.float32)
    print("| threads | crops | one by one | in a batch | saved | largest difference |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for threads in (1, 2):
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
        name = session.get_inputs()[0].name
        for count in SIZES:
            some = crops[:count]
            ways = [partial(way, session, name, some) for way in (one_by_one, at_once)]
            difference = np.abs(ways[0]() - ways[1]()).max()
            alone, together = (ms / count for ms in median_ms(ways, rounds=options.rounds))
            saved = 100 * (1 - together / alone)
            row = (threads, count, f"{alone:.2f}", f"{together:.2f}", f"{saved:.0f} %", f"{difference:.1e}")
            print(f"| {' | '.join(str(cell) for cell in row)} |", flush=True)


if __name__ == "__main__":
    main()

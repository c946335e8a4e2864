"""Checkpoints as candidates of a benchmark: as model files on every runtime, and in eager PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fleetpose.recipes.converted import converted_network, export_converted, is_converted
from fleetpose.recipes.shipping import UNKNOWN_CARD, export_checkpoint, load_trained
from fleetpose.runtime.benchmark import Candidate, candidates_for
from fleetpose.runtime.canvas import Network
from fleetpose.runtime.choice import Engine
from fleetpose.runtime.session import read_description
from fleetpose.runtime.torch_session import TorchSession
from fleetpose.train.checkpoint import load_checkpoint

TORCH = "torch"


def checkpoint_candidates(
    checkpoint: Path,
    folder: Path,
    *,
    runtimes: str = "all",
    precision: str = "f32",
    short_side: int | None = None,
    threads: int | None = None,
) -> list[Candidate]:
    """Write a checkpoint as a model file for the runtimes, and put PyTorch beside them, as it comes.

    Args:
        checkpoint: of a training run, or one that `fleetpose convert` wrote.
        folder: for the model file, which must outlast the benchmark.
        runtimes: see `candidates_for`, as for the next two; `torch` is one of them here.
        precision: arithmetic.
        short_side: input size.
        threads: processor threads of PyTorch.
    """
    target = folder / f"{checkpoint.stem}.onnx"
    state = load_checkpoint(checkpoint)
    write = export_converted if is_converted(state) else export_checkpoint
    write(checkpoint, target, card=UNKNOWN_CARD)
    names = [name.strip() for name in runtimes.split(",")]
    others = ",".join(name for name in names if name != TORCH)
    found = []
    if others:
        found = candidates_for([str(target)], runtimes=others, precision=precision, short_side=short_side)
    if others == "all" or TORCH in names:

        def in_torch() -> Network:
            network = converted_network(state) if is_converted(state) else load_trained(checkpoint)[0]
            return TorchSession(network, read_description(target), has_channels_last=False, threads=threads)

        eager = Candidate(str(target), Engine(TORCH), short_side, network=in_torch)
        found.append(replace(eager, model=str(checkpoint)))
    return found

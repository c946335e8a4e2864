"""`fleetpose benchmark`: models and runtimes side by side on this machine, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fleetpose.cli.exit_codes import EXIT_OK, EXIT_SOME_FAILED
from fleetpose.errors import ConfigError

if TYPE_CHECKING:
    from fleetpose.runtime.benchmark import Candidate

#: A call's tables go to a folder of their own within this one.
RUNS = Path("runs/benchmark")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """On what models run."""

    runtime: str
    precision: str
    short_side: int | None
    threads: int | None


def benchmark(
    *,
    models: Annotated[str | None, Parameter(name=["--model", "-m"])] = None,
    runtime: str = "all",
    precision: str = "f32",
    source: Path | None = None,
    frames: int = 50,
    short_side: int | None = None,
    threads: int | None = None,
    budget_ms: float | None = None,
    data: Path | None = None,
    images: Path | None = None,
    every: int = 1,
    watts: float | None = None,
    peers: Annotated[tuple[str, ...], Parameter(name="--peer")] = (),
    out: Path | None = None,
) -> int:
    """Measure models and runtimes side by side, from reading a picture to writing the drawn one.

    They take turns picture by picture, so that ratios hold also on a busy machine. Prints a table and writes
    it as benchmark.md, benchmark.csv and, of models whose accuracy is known, pareto.png.

    Args:
        models: bundled models, files, exported folders or checkpoints, with commas between them; all bundled
            ones if left out. A checkpoint also runs in PyTorch as it comes.
        runtime: all that are installed, or some of onnx,openvino and, for checkpoints, torch.
        precision: bf16 adds OpenVINO in 16-bit arithmetic.
        source: a video or a picture; the demo's picture if left out.
        frames: how many count, for each model and runtime.
        short_side: bring the shorter side of a picture to so many pixels.
        threads: processor threads of the networks.
        budget_ms: name the most accurate one that goes from a decoded picture to people within this time; the
            exit code is 1 if none does.
        data: COCO annotations on which the average precision is measured; without, cards tell it. Top-down
            models get the labelled boxes.
        images: folder of their pictures; the folder "images" beside the annotations if left out.
        every: take only pictures whose id is a multiple of this.
        watts: of the machine at work, for AP x pictures per second / W; the processor's counters tell if left
            out, where they are readable.
        peers: published single-person networks to be measured too, such as movenet=lightning.tflite or
            efficientpose=EfficientPoseI.tflite; may be given several times.
        out: folder for the tables instead of runs/benchmark/NAME; a number is added if it is not empty.
    """
    # Imports stand here so that help need not wait for OpenCV and the runtime.
    from fleetpose.cli.demo import PICTURE  # noqa: PLC0415
    from fleetpose.cli.output import say  # noqa: PLC0415
    from fleetpose.cli.progress import progress_bar  # noqa: PLC0415
    from fleetpose.media.images import write_image  # noqa: PLC0415
    from fleetpose.media.sources import find_sources  # noqa: PLC0415
    from fleetpose.runtime.benchmark import Judgement, peer_candidates  # noqa: PLC0415
    from fleetpose.runtime.benchmark import benchmark as run  # noqa: PLC0415
    from fleetpose.runtime.benchmark_rows import fitting, to_csv, to_markdown  # noqa: PLC0415
    from fleetpose.runtime.machine import processor, usable_cores  # noqa: PLC0415
    from fleetpose.runtime.pareto import draw_pareto  # noqa: PLC0415
    from fleetpose.runtime.recording import new_folder  # noqa: PLC0415
    from fleetpose.weights import bundled_models  # noqa: PLC0415

    names = [name.strip() for name in models.split(",") if name.strip()] if models else [*bundled_models()]
    if not names:
        raise ConfigError("nothing to measure: no model is bundled; name an .onnx file with --model")
    (shown,) = find_sources(str(source or PICTURE))[:1]
    with TemporaryDirectory() as place, progress_bar("pictures") as progress:
        wanted = _Wanted(runtime, precision, short_side, threads)
        candidates = [*_candidates(names, Path(place), wanted), *peer_candidates(peers)]
        rows = run(
            candidates,
            shown,
            frames=frames,
            threads=threads,
            judgement=Judgement(labels=data, images=images, every=every, watts=watts),
            progress=progress,
        )
    used = "all" if threads is None else threads
    machine = f"{processor()}, {usable_cores()} usable cores, threads per network: {used}; {shown.name}"
    report = f"{machine}, {frames} pictures each, in turns\n\n{to_markdown(rows)}"
    folder = new_folder(out or RUNS / shown.name)
    (folder / "benchmark.md").write_text(report, encoding="utf-8")
    (folder / "benchmark.csv").write_text(to_csv(rows), encoding="utf-8")
    plot = draw_pareto(rows)
    if plot is not None:
        write_image(folder / "pareto.png", plot)
    say(report)
    say(f"written to {folder}")
    if budget_ms is None:
        return EXIT_OK
    chosen = fitting(rows, budget_ms=budget_ms)
    if chosen is None:
        fastest = min(rows, key=lambda row: row.find_ms)
        say(f"none fits {budget_ms:g} ms; the fastest, {fastest.label}, takes {fastest.find_ms:.1f} ms")
        return EXIT_SOME_FAILED
    say(f"within {budget_ms:g} ms: {chosen.label}, {chosen.find_ms:.1f} ms")
    return EXIT_OK


def _candidates(names: list[str], folder: Path, wanted: _Wanted) -> list[Candidate]:
    """All forms of the named models; those of checkpoints are written into a folder."""
    from fleetpose.runtime.benchmark import candidates_for  # noqa: PLC0415 - help must not wait for it

    found: list[Candidate] = []
    for name in names:
        if Path(name).suffix != ".pt":
            found += candidates_for(
                [name],
                runtimes=wanted.runtime,
                precision=wanted.precision,
                short_side=wanted.short_side,
            )
            continue
        from fleetpose.recipes.comparing import checkpoint_candidates  # noqa: PLC0415 - needs PyTorch

        found += checkpoint_candidates(
            Path(name),
            folder,
            runtimes=wanted.runtime,
            precision=wanted.precision,
            short_side=wanted.short_side,
            threads=wanted.threads,
        )
    return found

"""Speed from picture to picture, step by step, of several models and runtimes side by side.

Candidates take turns frame by frame, after a warm-up, and medians are reported: whatever else the machine
does disturbs all alike, so ratios within one run hold where absolute times do not.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from fleetpose.codecs.description import ModelDescription
from fleetpose.data.annotations import load_coco_json
from fleetpose.errors import ConfigError, UnknownNameError
from fleetpose.media.images import read_image
from fleetpose.media.sources import Source, SourceKind
from fleetpose.media.video import Frame, open_video
from fleetpose.results import PoseResult
from fleetpose.runtime.benchmark_rows import FINDING, STEPS, Row
from fleetpose.runtime.canvas import BatchNetwork, Network, takes_batches
from fleetpose.runtime.cascade import coco_boxes, is_top_down
from fleetpose.runtime.ceiling import has_int8_layers, peak_gflops
from fleetpose.runtime.choice import AUTO, Engine, engines_for, model_files, start
from fleetpose.runtime.energy import EnergyMeter
from fleetpose.runtime.evaluation import evaluate
from fleetpose.runtime.openvino_session import SUFFIX
from fleetpose.runtime.peers import PEERS, Peer
from fleetpose.runtime.predictor import Predictor
from fleetpose.runtime.recording import Recorder

Array = npt.NDArray[np.float32]

#: Frames that every candidate sees before times count.
WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model on a runtime."""

    model: str  # as the user named it
    engine: Engine
    short_side: int | None = None  # None for what the model was trained for
    network: Callable[[], Network] | None = None  # for what is no file, such as a network in PyTorch
    peer: str | None = None  # kind of a published network, whose file `model` is

    @property
    def label(self) -> str:
        """Name in tables."""
        size = "" if self.short_side is None else f"@{self.short_side}"
        return f"{Path(self.model).stem}{size} {self.engine.name}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What else is found out about candidates, apart from their speed.

    Attributes:
        labels: COCO annotations of the pictures on which accuracy is measured; None for what cards say.
        images: folder of these pictures.
        every: only those whose id is a multiple of this.
        watts: of the machine at work, if known; else energy counters tell, where they are readable.
    """

    labels: Path | None = None
    images: Path | None = None
    every: int = 1
    watts: float | None = None


class _Finder(Protocol):
    """Finds people in frames, step by step, and in files."""

    def follow(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, PoseResult]]: ...

    def find_as_stored(self, path: Path) -> PoseResult: ...


@dataclass(slots=True)
class _Run:
    """A candidate at work."""

    candidate: Candidate
    network: _Watched | None  # None for a peer
    finder: _Finder
    files: list[Path]
    recorder: Recorder
    memory_mb: float
    meter: EnergyMeter
    steps_ms: list[dict[str, float]] = field(default_factory=list)
    people: int = 0
    joules: float = 0.0

    @property
    def description(self) -> ModelDescription | None:
        return None if self.network is None else self.network.description

    def forget(self) -> None:
        """Let times count from here."""
        if self.network is not None:
            self.network.pixels, self.network.busy_s = 0, 0.0
        self.people, self.joules = 0, 0.0
        self.steps_ms.clear()


class _Watched:
    """A network that counts how many pixels it saw, and how long it took."""

    def __init__(self, network: Network) -> None:
        self.description: ModelDescription = network.description
        self.pixels = 0
        self.busy_s = 0.0
        self.takes_batches = takes_batches(network)
        self._network = network

    def run(self, image: Array) -> dict[str, Array]:
        start_s = time.perf_counter()
        maps = self._network.run(image)
        self.busy_s += time.perf_counter() - start_s
        self.pixels += image.shape[2] * image.shape[3]
        return maps

    def run_batch(self, images: Array) -> dict[str, Array]:
        start_s = time.perf_counter()
        maps = cast("BatchNetwork", self._network).run_batch(images)
        self.busy_s += time.perf_counter() - start_s
        self.pixels += images.shape[0] * images.shape[2] * images.shape[3]
        return maps


def candidates_for(
    models: Sequence[str], *, runtimes: str = "all", precision: str = "f32", short_side: int | None = None
) -> list[Candidate]:
    """Every model on every installed runtime that can run it, or on the named ones.

    Args:
        models: names of bundled models, files or artefact folders.
        runtimes: `all`, or names of runtimes with commas between them.
        precision: `bf16` adds OpenVINO in 16-bit arithmetic where the processor has it.
        short_side: input size of all; None for each model's own.

    Raises:
        UnknownNameError: no such model or runtime.
        ConfigError: a runtime cannot run a model.
    """
    found = []
    for model in models:
        files = model_files(model)
        if runtimes == "all":
            engines = engines_for(files, runtime=AUTO, precision=precision)
        else:
            names = [name.strip() for name in runtimes.split(",") if name.strip()]
            engines = [engine for name in names for engine in engines_for(files, runtime=name)]
        found += [Candidate(model, engine, short_side) for engine in engines]
    return found


def peer_candidates(peers: Sequence[str]) -> list[Candidate]:
    """Published networks, each given as KIND=FILE.

    Raises:
        ConfigError: one is given otherwise.
        UnknownNameError: no such kind.
    """
    found = []
    for text in peers:
        kind, _, path = text.partition("=")
        if not path:
            raise ConfigError(f"a peer is given as KIND=FILE, such as movenet=lightning.tflite, got {text!r}")
        if kind not in PEERS:
            raise UnknownNameError("peer", kind, PEERS)
        found.append(Candidate(path, Engine("litert"), peer=kind))
    return found


def benchmark(
    candidates: Sequence[Candidate],
    source: Source,
    *,
    frames: int = 50,
    threads: int | None = None,
    judgement: Judgement | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Run all candidates over the frames of a source, in turns.

    Args:
        candidates: what to compare.
        source: a picture, shown again and again, or a video, started over when it ends.
        frames: how many count, for each candidate.
        threads: processor threads of the networks.
        judgement: what else to find out.
        progress: told how many frames are done, and of how many, after each.

    Raises:
        ConfigError: nothing to measure.
        MediaError: the source cannot be read.
    """
    if not candidates or frames < 1:
        raise ConfigError(f"benchmark needs at least one model and one frame, got {frames} frames")
    with TemporaryDirectory() as place, ExitStack() as stack:
        runs = [
            stack.enter_context(_ready(candidate, source, Path(place) / str(number), threads))
            for number, candidate in enumerate(candidates)
        ]
        for number, (frame, decode_ms) in enumerate(_decoded(source, WARM_UP + frames)):
            for run in runs:
                if number == WARM_UP:
                    run.forget()
                _take(run, source, frame, decode_ms)
            if progress is not None:
                progress(number + 1, WARM_UP + frames)
    peaks = _peaks(runs, threads)
    wanted = judgement or Judgement()
    return [_row(run, peaks, wanted) for run in runs]


class _Ready:
    """Context in which a candidate is loaded and its recorder open."""

    def __init__(self, run: _Run) -> None:
        self._run = run

    def __enter__(self) -> _Run:
        self._run.recorder.__enter__()
        return self._run

    def __exit__(self, *_: object) -> None:
        self._run.recorder.close()


def _ready(candidate: Candidate, source: Source, folder: Path, threads: int | None) -> _Ready:
    folder.mkdir()
    before_mb = resident_mb()
    network, finder, files = _loaded(candidate, threads)
    kind = "image" if source.kind is SourceKind.IMAGE else "video"
    recorder = Recorder(folder, formats=(kind,))
    return _Ready(_Run(candidate, network, finder, files, recorder, resident_mb() - before_mb, EnergyMeter()))


def _loaded(candidate: Candidate, threads: int | None) -> tuple[_Watched | None, _Finder, list[Path]]:
    """Load a candidate and run it once → its network, what finds people with it, and its files."""
    if candidate.peer is not None:
        peer = Peer(candidate.peer, Path(candidate.model), threads=threads)
        peer.find(np.zeros((256, 256, 3), np.uint8))
        return None, peer, [peer.path]
    if candidate.network is not None:
        network, files = _Watched(candidate.network()), [Path(candidate.model)]
    else:
        known = model_files(candidate.model)
        path = known[candidate.engine.runtime]
        network = _Watched(start(candidate.engine, known, threads=threads))
        # OpenVINO's own format keeps weights apart; a `.bin` beside an ONNX file is none of its own.
        files = [path, path.with_suffix(".bin")] if path.suffix == SUFFIX else [path]
    # One look per crop: what the network costs, not how often it is asked.
    predictor = Predictor(network, short_side=candidate.short_side, has_closer_look=False)
    side = network.description.input.short_side
    predictor(np.zeros((side, side, 3), np.uint8))
    return network, predictor, files


def _take(run: _Run, source: Source, frame: Frame, decode_ms: float) -> None:
    run.meter.joules()
    ((_, result),) = run.finder.follow([frame])
    written_ms = run.recorder.add(source, frame, result, fps=25.0)
    run.joules += run.meter.joules()
    run.steps_ms.append({**result.timings_ms, **written_ms, "decode": decode_ms})
    run.people += len(result)


def _decoded(source: Source, count: int) -> Iterator[tuple[Frame, float]]:
    """Yield `count` frames, each with the milliseconds that reading it took."""
    index = 0
    while index < count:
        frames = iter(_frames(source))
        before = index
        while index < count:
            start_s = time.perf_counter()
            frame = next(frames, None)
            if frame is None:
                break
            decode_ms = (time.perf_counter() - start_s) * 1e3
            yield Frame(frame.image, index, index / 25.0), decode_ms
            index += 1
        if index == before:
            raise ConfigError(f"{source.label} has no frame to measure on")


def _frames(source: Source) -> Iterator[Frame]:
    if source.kind is SourceKind.IMAGE:
        yield Frame(read_image(source.location), 0, 0.0)
        return
    video = open_video(source)
    try:
        yield from video
    finally:
        video.close()


def _row(run: _Run, peaks: Mapping[str, float | None], judgement: Judgement) -> Row:
    times = np.array([[one.get(step, 0.0) for step in STEPS] for one in run.steps_ms])
    totals = times.sum(axis=1)
    finding = times[:, [STEPS.index(step) for step in FINDING]].sum(axis=1)
    joules = run.joules / len(times) if run.meter.is_readable else None
    mean_s = float(totals.mean()) / 1e3
    return Row(
        label=run.candidate.label,
        model=Path(run.candidate.model).stem if run.description is None else run.description.name,
        runtime=run.candidate.engine.name,
        frames=len(times),
        median_ms=float(np.median(totals)),
        p95_ms=float(np.percentile(totals, 95)),
        find_ms=float(np.median(finding)),
        frames_per_second=1 / mean_s,
        steps_ms=dict(zip(STEPS, np.median(times, axis=0).tolist(), strict=True)),
        gflops=_gflops(run),
        megabytes=sum(one.stat().st_size for one in run.files) / 1e6,
        memory_mb=run.memory_mb,
        accuracy=_accuracy(run, judgement),
        people=run.people / len(times),
        peak_gflops=peaks.get(_peak_key(run)),
        joules=joules,
        watts=joules / mean_s if judgement.watts is None and joules is not None else judgement.watts,
    )


def _peak_key(run: _Run) -> str:
    """What the peak is measured for: the engine, and whether the model multiplies in 8 bits."""
    has_int8 = run.candidate.network is None and has_int8_layers(run.files[0])
    return f"{run.candidate.engine.name}{' int8' if has_int8 else ''}"


def _peaks(runs: Sequence[_Run], threads: int | None) -> dict[str, float | None]:
    peaks: dict[str, float | None] = {}
    for run in runs:
        key, engine = _peak_key(run), run.candidate.engine
        if run.network is not None and key not in peaks:
            peaks[key] = peak_gflops(
                engine.runtime, engine.precision, threads=threads, has_int8=key.endswith("int8")
            )
    return peaks


def _accuracy(run: _Run, judgement: Judgement) -> float | None:
    if judgement.labels is None:
        return None if run.description is None else accuracy_of(run.description)
    finder = run.finder
    if run.network is not None and is_top_down(run.network.description):
        boxes = coco_boxes(load_coco_json(judgement.labels), source=str(judgement.labels))
        finder = Predictor(run.network, threshold=0.0, boxes=boxes)
    elif run.network is not None:
        finder = Predictor(run.network, threshold=0.0, short_side=run.candidate.short_side)
    images = judgement.images or judgement.labels.parent / "images"
    scores = evaluate(finder.find_as_stored, judgement.labels, images, every=judgement.every)
    return 100 * max(0.0, scores.coco.ap)


def _gflops(run: _Run) -> float | None:
    if run.network is None:
        return None
    description = run.network.description
    per_pixel = 2 * description.card.macs / description.input.short_side**2
    if not per_pixel or not run.network.busy_s:
        return None
    return per_pixel * run.network.pixels / run.network.busy_s / 1e9


def accuracy_of(description: ModelDescription) -> float | None:
    """Average precision on COCO that a model's card names, else any average precision; None without."""
    metrics = {name: value for name, value in description.card.metrics.items() if name.endswith("/AP")}
    on_coco = {name: value for name, value in metrics.items() if name.startswith("coco")}
    return max((on_coco or metrics).values(), default=None)


def resident_mb() -> float:
    """Memory in use now, in MB; the peak so far where the system does not tell."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

"""The most accurate way to find people within so many milliseconds on this machine."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from fleetpose.codecs.description import ModelDescription
from fleetpose.errors import ConfigError
from fleetpose.media.images import read_image
from fleetpose.runtime.benchmark import accuracy_of
from fleetpose.runtime.benchmark_rows import FINDING
from fleetpose.runtime.canvas import Network
from fleetpose.runtime.cascade import is_top_down
from fleetpose.runtime.choice import AUTO, model_files, open_session
from fleetpose.runtime.machine import processor, usable_cores
from fleetpose.runtime.measurements import read_measurements, write_measurements
from fleetpose.runtime.predictor import Predictor
from fleetpose.runtime.session import read_description
from fleetpose.weights import DEFAULT_MODEL, DEFAULT_REFINER, SHORT_SIDES_BY_ACCURACY, bundled_models

#: Shares of a model's own input size that are tried.
SHARES = (1.0, 0.75, 0.5)
#: Pictures over which a candidate's time is taken, after one that warms up.
ROUNDS = 7
_KIND = "budgets"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to find people: a model, the size or sizes of its input, and what refines its people, if any."""

    model: Path
    short_side: int | tuple[int, ...] | None  # None for the model's own size
    refine: Path | None = None


@dataclass(frozen=True, slots=True)
class Choice(Candidate):
    """What fits, and the milliseconds it took from a decoded picture to people."""

    find_ms: float = math.nan


def choose(
    max_ms: float,
    *,
    model: str | Path | None = None,
    refine: str | Path | None = None,
    runtime: str = AUTO,
    precision: str = "f32",
    threads: int | None = None,
) -> Choice:
    """Find the most accurate candidate that needs at most `max_ms` on this machine.

    Candidates are both default models together, in several sizes of the picture or one; then the bundled
    models that find people by themselves, each at its own input size and below. By their cards the more
    accurate model comes first; a model at a smaller size than its own only counts when no model fits at its
    own. What was measured is kept in the user's cache folder.

    Args:
        max_ms: milliseconds from a decoded picture to people, for the bundled picture, which shows four.
        model: only this model, at whichever size fits; None for all of the above.
        refine: what refines the people of `model`; without a `model`, of all that find some by themselves.
        runtime: see `open_session`, as for the next two.
        precision: arithmetic that is allowed.
        threads: processor threads.

    Raises:
        ConfigError: nothing fits, or no model is bundled.
    """
    if not max_ms > 0:
        raise ConfigError(f"max_ms must be more than 0, got {max_ms:g}")
    candidates = _candidates(model, refine)
    if not candidates:
        raise ConfigError("no model is bundled with this installation; name one to fit it into max_ms")
    known = read_measurements(_KIND)
    setting = f"{runtime} {precision} {threads} | {processor()} | {usable_cores()}"
    measured: dict[str, float] = {}
    fastest = math.inf
    for one in candidates:
        content = b"".join(path.read_bytes() for path in (one.model, one.refine) if path is not None)
        key = hashlib.sha256(f"{setting} {one.short_side} ".encode() + content).hexdigest()[:32]
        find_ms = known.get(key)
        if not isinstance(find_ms, float):
            find_ms = measured[key] = _find_ms(one, runtime, precision, threads)
        fastest = min(fastest, find_ms)
        if find_ms <= max_ms:
            write_measurements(_KIND, measured)
            return Choice(one.model, one.short_side, one.refine, find_ms)
    write_measurements(_KIND, measured)
    raise ConfigError(
        f"no model finds people within {max_ms:g} ms on this machine; the fastest takes {fastest:.1f} ms"
    )


def _candidates(model: str | Path | None, refine: str | Path | None) -> list[Candidate]:
    """What may be taken, the one to take first if it fits first."""
    second = None if refine is None else _own_file(refine)
    if model is not None:
        return [Candidate(path, side, second) for path, side in _by_preference([_own_file(model)])]
    bundled = bundled_models()
    alone = [Candidate(path, side, second) for path, side in _by_preference(bundled.values())]
    finder, refiner = bundled.get(DEFAULT_MODEL), bundled.get(DEFAULT_REFINER)
    if second is not None or finder is None or refiner is None:
        return alone
    return [*(Candidate(finder, sides, refiner) for sides in SHORT_SIDES_BY_ACCURACY), *alone]


def _own_file(model: str | Path) -> Path:
    """The model's file, whichever runtime it is for."""
    return next(iter(model_files(model).values()))


def _by_preference(paths: Iterable[Path]) -> list[tuple[Path, int | None]]:
    """Models and sizes, the one to take first if it fits first."""

    def rank(one: tuple[Path, ModelDescription]) -> float:
        accuracy = accuracy_of(one[1])
        return math.inf if accuracy is None else -accuracy

    described = [(path, _describe(path)) for path in paths]
    if len(described) > 1:
        described = [one for one in described if not is_top_down(one[1])]
    described.sort(key=rank)
    # A size below its own costs a model more than its card can tell.
    return list(dict.fromkeys((path, _size(about, share)) for share in SHARES for path, about in described))


def _describe(path: Path) -> ModelDescription:
    return read_description(path) if path.suffix == ".onnx" else open_session(path).description


def _size(about: ModelDescription, share: float) -> int | None:
    """Input size at a share of a model's own; None for its own, which is all that a top-down model has."""
    if share == 1 or is_top_down(about):
        return None
    multiple = about.input.multiple
    return max(multiple, round(about.input.short_side * share / multiple) * multiple)


def _find_ms(one: Candidate, runtime: str, precision: str, threads: int | None) -> float:
    """Median milliseconds from the decoded bundled picture to its people."""

    def opened(path: Path) -> Network:
        return open_session(path, runtime=runtime, precision=precision, threads=threads)

    refiner = None if one.refine is None else opened(one.refine)
    predictor = Predictor(opened(one.model), short_side=one.short_side, refiner=refiner)
    picture = read_image(str(resources.files("fleetpose") / "assets" / "demo.jpg"))
    predictor(picture)
    times = []
    for _ in range(ROUNDS):
        steps_ms: Mapping[str, float] = predictor(picture).timings_ms
        times.append(sum(steps_ms.get(step, 0.0) for step in FINDING))
    return round(statistics.median(times), 3)

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
from fleetpose.runtime.cascade import is_top_down
from fleetpose.runtime.choice import AUTO, model_files, open_session
from fleetpose.runtime.machine import processor, usable_cores
from fleetpose.runtime.measurements import read_measurements, write_measurements
from fleetpose.runtime.predictor import Predictor
from fleetpose.runtime.session import read_description
from fleetpose.weights import bundled_models

#: Shares of a model's own input size that are tried.
SHARES = (1.0, 0.75, 0.5)
#: Pictures over which a candidate's time is taken, after one that warms up.
ROUNDS = 7
_KIND = "budgets"


@dataclass(frozen=True, slots=True)
class Choice:
    """What fits: a model at an input size, and the milliseconds it took from a decoded picture to people."""

    model: Path
    short_side: int | None  # None for the model's own size
    find_ms: float


def choose(
    max_ms: float,
    *,
    model: str | Path | None = None,
    runtime: str = AUTO,
    precision: str = "f32",
    threads: int | None = None,
) -> Choice:
    """Find the most accurate candidate that needs at most `max_ms` on this machine.

    Candidates are the bundled models that find people by themselves, each at its own input size and below.
    By their cards the more accurate model comes first; a model at a smaller size than its own only counts
    when no model fits at its own. What was measured is kept in the user's cache folder.

    Args:
        max_ms: milliseconds from a decoded picture to people, for the bundled picture.
        model: only this model, at whichever size fits; None for all bundled ones.
        runtime: see `open_session`, as for the next two.
        precision: arithmetic that is allowed.
        threads: processor threads.

    Raises:
        ConfigError: nothing fits, or no model is bundled.
    """
    if not max_ms > 0:
        raise ConfigError(f"max_ms must be more than 0, got {max_ms:g}")
    paths = [_own_file(model)] if model is not None else [*bundled_models().values()]
    if not paths:
        raise ConfigError("no model is bundled with this installation; name one to fit it into max_ms")
    known = read_measurements(_KIND)
    setting = f"{runtime} {precision} {threads} | {processor()} | {usable_cores()}"
    measured: dict[str, float] = {}
    fastest = math.inf
    for path, short_side in _by_preference(paths):
        key = hashlib.sha256(f"{setting} {short_side} ".encode() + path.read_bytes()).hexdigest()[:32]
        find_ms = known.get(key)
        if not isinstance(find_ms, float):
            find_ms = measured[key] = _find_ms(path, short_side, runtime, precision, threads)
        fastest = min(fastest, find_ms)
        if find_ms <= max_ms:
            write_measurements(_KIND, measured)
            return Choice(path, short_side, find_ms)
    write_measurements(_KIND, measured)
    raise ConfigError(
        f"no model finds people within {max_ms:g} ms on this machine; the fastest takes {fastest:.1f} ms"
    )


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


def _find_ms(path: Path, short_side: int | None, runtime: str, precision: str, threads: int | None) -> float:
    """Median milliseconds from the decoded bundled picture to its people."""
    session = open_session(path, runtime=runtime, precision=precision, threads=threads)
    predictor = Predictor(session, short_side=short_side)
    picture = read_image(str(resources.files("fleetpose") / "assets" / "demo.jpg"))
    predictor(picture)
    times = []
    for _ in range(ROUNDS):
        steps_ms: Mapping[str, float] = predictor(picture).timings_ms
        times.append(sum(steps_ms.get(step, 0.0) for step in FINDING))
    return round(statistics.median(times), 3)

"""Which runtime runs a model: the one that is asked for, or the fastest that this machine has."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetpose.errors import CheckpointError, ConfigError, UnknownNameError, require
from fleetpose.runtime import ncnn_session, openvino_session
from fleetpose.runtime.machine import processor, usable_cores
from fleetpose.runtime.measurements import read_measurements, write_measurements
from fleetpose.runtime.ncnn_session import NcnnSession
from fleetpose.runtime.openvino_session import PRECISIONS, OpenVinoSession, has_bf16
from fleetpose.runtime.session import OnnxSession
from fleetpose.weights import find_model

if TYPE_CHECKING:
    from fleetpose.runtime.canvas import Network

logger = logging.getLogger(__name__)

#: Let a measurement decide.
AUTO = "auto"
#: Runtimes by the name that pins them → the package that each needs.
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "ncnn": "ncnn"}
#: How the name of the file ends that each loads from a folder.
_ENDINGS = {"onnx": ".onnx", "openvino": openvino_session.SUFFIX, "ncnn": ncnn_session.SUFFIX}
#: Interleaved runs per runtime, after one that warms up.
ROUNDS = 7
#: No more runs than fit into this, but at least three.
MEASURE_FOR_S = 3.0
#: Another runtime than the first must be faster by this factor: less is noise.
CLEAR_GAIN = 1.05
_KIND = "runtimes"


@dataclass(frozen=True, slots=True)
class Engine:
    """A runtime and its arithmetic.

    >>> Engine("openvino", "bf16").name
    'openvino-bf16'
    """

    runtime: str  # one of `RUNTIMES`
    precision: str = "f32"  # one of `PRECISIONS`

    @property
    def name(self) -> str:
        """Name in tables and in the cache."""
        return self.runtime if self.precision == "f32" else f"{self.runtime}-{self.precision}"


def open_session(
    model: str | Path | None = None,
    *,
    runtime: str = AUTO,
    precision: str = "f32",
    threads: int | None = None,
) -> Network:
    """Load a model on the runtime that is asked for, or on the fastest.

    With `auto` and more than one installed runtime, all run a few times on this machine, and the answer is
    kept in the user's cache folder for this model, machine and number of threads.

    Args:
        model: name of a bundled model, a file or an artefact folder that `fleetpose export` wrote; None for
            the default.
        runtime: `auto` or one of `RUNTIMES`.
        precision: `f32`, or `bf16` to allow 16-bit arithmetic where it is faster.
        threads: processor threads, None for one per core.

    Raises:
        UnknownNameError: no such model, runtime or precision.
        CheckpointError: the file is no model, or the folder holds none.
        ConfigError: the runtime cannot run this model so.
        MissingExtraError: the runtime is not installed.
    """
    files = model_files(model)
    engines = engines_for(files, runtime=runtime, precision=precision)
    if len(engines) == 1:
        return start(engines[0], files, threads=threads)
    key = _key(files, engines, threads)
    answers = read_measurements(_KIND)
    known = {engine.name: engine for engine in engines}
    answer = answers.get(key)
    if isinstance(answer, dict) and answer.get("engine") in known:
        return start(known[answer["engine"]], files, threads=threads)
    sessions = {name: start(engine, files, threads=threads) for name, engine in known.items()}
    medians_ms = measure_networks(sessions)
    fastest = fastest_of(medians_ms)
    logger.info("fastest runtime is %s: %s", fastest, medians_ms)
    write_measurements(_KIND, {key: {"engine": fastest, "median_ms": medians_ms}})
    return sessions[fastest]


def model_files(model: str | Path | None) -> dict[str, Path]:
    """File that each runtime would load, by the runtime's name.

    Args:
        model: name of a bundled model, a model file, or a folder with a model file per runtime; None for the
            default.

    Raises:
        UnknownNameError: no bundled model has this name.
        CheckpointError: there is no such file, or the folder holds no model or several of a kind.
    """
    path = Path(model) if model is not None else None
    if path is not None and path.is_dir():
        return _files_in(path)
    for runtime in ("openvino", "ncnn"):
        if path is not None and path.name.endswith(_ENDINGS[runtime]):
            return {runtime: path}
    found = find_model(model)
    return {"onnx": found, "openvino": found}


def _files_in(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for runtime, ending in _ENDINGS.items():
        found = sorted(folder.glob(f"*{ending}"))
        if len(found) > 1:
            raise CheckpointError(
                f"folder {folder} holds several models, {found[0].name} and {found[1].name}; name one"
            )
        if found:
            files[runtime] = found[0]
    if not files:
        endings = ", ".join(_ENDINGS.values())
        raise CheckpointError(f"folder {folder} holds no model: no file that ends in one of {endings}")
    return {"openvino": files["onnx"], **files} if "onnx" in files else files


def engines_for(files: Mapping[str, Path], *, runtime: str = AUTO, precision: str = "f32") -> list[Engine]:
    """Engines that may run a model; the first is the one to keep to unless another is clearly faster."""
    if precision not in PRECISIONS:
        raise UnknownNameError("precision", precision, PRECISIONS)
    if runtime != AUTO:
        return [_pinned(files, runtime, precision)]
    engines = [Engine(name) for name in RUNTIMES if name in files and is_installed(name)]
    if precision == "bf16" and any(engine.runtime == "openvino" for engine in engines) and _has_bf16():
        engines.append(Engine("openvino", "bf16"))
    # What is not installed is named, with the line that installs it, when it is started.
    return engines or [Engine(next(iter(files)))]


def _pinned(files: Mapping[str, Path], runtime: str, precision: str) -> Engine:
    if runtime == "torch":
        raise ConfigError(
            "runtime torch runs networks while they train; a model file runs on "
            f"{' or '.join(RUNTIMES)}, or write one with `fleetpose export`"
        )
    if runtime not in RUNTIMES:
        raise UnknownNameError("runtime", runtime, [AUTO, *RUNTIMES])
    if runtime not in files:
        path = next(iter(files.values()))
        raise ConfigError(f"{path} cannot run on {runtime}, only on {' or '.join(files)}")
    if runtime != "openvino" and precision != "f32":
        name = "ONNX Runtime" if runtime == "onnx" else runtime
        raise ConfigError(f"{name} has no {precision} arithmetic here; use runtime openvino")
    return Engine(runtime, precision)


def is_installed(runtime: str) -> bool:
    """Whether a runtime's package is there; it is not imported."""
    return importlib.util.find_spec(RUNTIMES[runtime]) is not None


def start(engine: Engine, files: Mapping[str, Path], *, threads: int | None = None) -> Network:
    """Load a model on an engine."""
    path = files[engine.runtime]
    if engine.runtime == "onnx":
        return OnnxSession(path, threads=threads)
    if engine.runtime == "ncnn":
        return NcnnSession(path, threads=threads)
    return OpenVinoSession(path, threads=threads, precision=engine.precision)


def _has_bf16() -> bool:
    return has_bf16(require("openvino", extra="openvino").Core())


def measure_networks(networks: Mapping[str, Network]) -> dict[str, float]:
    """Median milliseconds of each network for one square picture of its own size, interleaved and warm."""
    image = {}
    for name, network in networks.items():
        side = network.description.input.short_side
        side += -side % network.description.input.multiple
        image[name] = np.zeros((1, 3, side, side), np.float32)
    return interleaved_ms(
        {name: _call(network, image[name]) for name, network in networks.items()},
        rounds=ROUNDS,
        most_s=MEASURE_FOR_S,
    )


def _call(network: Network, image: Any) -> Callable[[], object]:  # noqa: ANN401 - an array
    return lambda: network.run(image)


def interleaved_ms(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    most_s: float = float("inf"),
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median milliseconds of each call, taken turn by turn, so that whatever else runs disturbs all alike.

    Args:
        calls: what to time, by name; each is called once beforehand.
        rounds: turns of each.
        most_s: after three turns, no further one begins beyond this many seconds.
        clock: gives seconds; that of the process tells more on a machine that others use, with one thread.
    """
    for call in calls.values():
        call()
    taken_ms: dict[str, list[float]] = {name: [] for name in calls}
    began_s = time.perf_counter()
    for turn in range(rounds):
        if turn >= 3 and time.perf_counter() - began_s > most_s:
            break
        for name, call in calls.items():
            start_s = clock()
            call()
            taken_ms[name].append((clock() - start_s) * 1e3)
    return {name: round(statistics.median(times), 3) for name, times in taken_ms.items()}


def fastest_of(medians_ms: Mapping[str, float]) -> str:
    """Name of the fastest, or of the first if no other is clearly faster.

    >>> fastest_of({"onnx": 10.0, "openvino": 9.8}), fastest_of({"onnx": 10.0, "openvino": 5.0})
    ('onnx', 'openvino')
    """
    first = next(iter(medians_ms))
    best = min(medians_ms, key=lambda name: medians_ms[name])
    return best if medians_ms[best] * CLEAR_GAIN < medians_ms[first] else first


def _key(files: Mapping[str, Path], engines: Sequence[Engine], threads: int | None) -> str:
    """What an answer holds for: model, engines with their versions, processor, cores and threads."""
    digest = hashlib.sha256()
    for runtime in dict.fromkeys(engine.runtime for engine in engines):
        # A large file would take longer to read than a model takes to run.
        digest.update(files[runtime].read_bytes() if files[runtime].is_file() else b"")
        digest.update(f"{runtime} {importlib.metadata.version(RUNTIMES[runtime])}".encode())
    names = " ".join(engine.name for engine in engines)
    digest.update(f"{names} | {processor()} | {usable_cores()} | {threads}".encode())
    return digest.hexdigest()[:32]

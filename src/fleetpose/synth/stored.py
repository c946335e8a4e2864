"""Derived data kept in one file and mapped into memory: starting is quick and processes share the pages."""

from __future__ import annotations

import io
import logging
import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np

MAGIC = b"fleetpose stored 1\n"
ALIGN = 64  # bytes: compiled functions take only aligned arrays without being compiled once more
KEPT = 2  # files of one name: assets in use and those before

_log = logging.getLogger(__name__)


class _Reader(pickle.Unpickler):
    """Reads back what this package writes: its own classes, arrays and paths, nothing that can run."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - the pickle protocol's own type
        """Refuse everything but data."""
        is_data = f"{module}.".startswith("numpy.") and name in {
            "_frombuffer",
            "_reconstruct",
            "dtype",
            "ndarray",
        }
        is_ours = module.startswith("fleetpose.synth.") and "." not in name
        is_path = module in {"pathlib", "pathlib._local"} and name in {"PosixPath", "WindowsPath", "Path"}
        if not (is_data or is_ours or is_path):
            raise pickle.UnpicklingError(f"{module}.{name} is no data of this package")
        return super().find_class(module, name)


def write_stored(path: Path, value: object) -> None:
    """Keep `value` in a file; where that fails it is made anew next time, which costs nothing but time."""
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts: list[Any] = [body, *(buffer.raw() for buffer in buffers)]
    sizes = [len(part) for part in parts]
    head = MAGIC + np.array([len(sizes), *sizes], "<u8").tobytes()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(head)
            for part in parts:
                file.seek(-file.tell() % ALIGN, os.SEEK_CUR)
                file.write(part)
            file.truncate(file.tell())  # a last part without bytes has its place too
        temporary.replace(path)
    except OSError as error:
        _log.warning("cannot keep %s for a quicker start: %s", path, error.strerror)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    forget_old(path)


def forget_old(path: Path) -> None:
    """Remove all but the newest files whose names begin as that of `path` does."""
    with suppress(OSError):  # another process may have removed them first, or uses them on Windows
        found = path.parent.glob(f"{path.stem.partition('-')[0]}-*{path.suffix}")
        for old in sorted(found, key=lambda file: file.stat().st_mtime_ns)[:-KEPT]:
            old.unlink()


def read_stored(path: Path) -> Any | None:  # noqa: ANN401 - whatever was written
    """Map what `write_stored` kept; None where there is nothing usable.

    Arrays may be changed: the file is not, and no other process sees it.
    """
    try:
        mapped = memoryview(cast("Any", np.memmap(path, np.uint8, mode="c")))
        start = len(MAGIC)
        if bytes(mapped[:start]) != MAGIC:
            return None
        count = int(np.frombuffer(mapped[start : start + 8], "<u8")[0])
        sizes = np.frombuffer(mapped[start + 8 : start + 8 + 8 * count], "<u8").astype(int)
        end = start + 8 + 8 * count
        parts = []
        for size in sizes.tolist():
            first = end + -end % ALIGN
            end = first + size
            parts.append(mapped[first:end])
        if end > len(mapped):
            return None
        return _Reader(io.BytesIO(parts[0]), buffers=parts[1:]).load()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, IndexError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        _log.warning("%s is damaged and made anew: %s", path, error)
        return None

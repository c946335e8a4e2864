"""Every error that FleetPose raises for a user to read.

    PoseError
    ├── ConfigError(ValueError)         an option, a name or a settings file is wrong
    │   └── UnknownNameError            a name that no table holds; close matches are offered
    ├── ShapeError(ValueError)          an array has the wrong shape, type or range
    ├── MediaError(ValueError)          a picture, a video or a camera cannot be read or written
    ├── DatasetError(ValueError)        annotations that do not hold together
    ├── CheckpointError(ValueError)     weights that do not fit, or a file that is no checkpoint
    └── MissingExtraError(ImportError)  an optional dependency is not installed

A message names what is wrong, what was expected, what came, and what to do about it, in one line.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class PoseError(Exception):
    """Base of all errors that FleetPose raises on purpose."""

    def __reduce__(self) -> tuple[Callable[..., PoseError], tuple[type[PoseError], tuple[Any, ...]]]:
        # Some constructors build the message from parts; a worker process hands over the whole message.
        return _restore, (type(self), self.args)


class ConfigError(PoseError, ValueError):
    """An option, a name or a settings file is wrong."""


class UnknownNameError(ConfigError):
    """A name that no table holds."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        """Say which `name` of which `kind` is unknown, and the closest of the `known` ones."""
        names = sorted(known)
        close = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names) or 'none'}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")


class ShapeError(PoseError, ValueError):
    """An array has the wrong shape, type or range."""

    def __init__(self, name: str, expected: str, got: object) -> None:
        """Say that array `name` was `expected` to look one way and was `got` another."""
        super().__init__(f"{name} must be {expected}, but got {got}")


class MediaError(PoseError, ValueError):
    """A picture, a video or a camera cannot be read or written."""


class DatasetError(PoseError, ValueError):
    """Annotations that do not hold together."""


class CheckpointError(PoseError, ValueError):
    """Weights that do not fit the model, or a file that is no checkpoint."""


class MissingExtraError(PoseError, ImportError):
    """An optional dependency is not installed."""


def _restore(kind: type[PoseError], args: tuple[Any, ...]) -> PoseError:
    """Make an error anew from its message, past the constructor."""
    return kind.__new__(kind, *args)


def require(module: str, *, extra: str) -> Any:  # noqa: ANN401 - modules are duck-typed
    """Import an optional `module`, or raise with the pip line that installs its `extra`.

    Raises:
        MissingExtraError: the module, or something that it needs, is not installed or does not load.

    >>> require("json", extra="train").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == package
        trouble = "is not installed" if is_absent else f"cannot be imported ({error})"
        raise MissingExtraError(f"{package} {trouble}; run: pip install 'fleetpose[{extra}]'") from error

"""The command line: a table of verbs, each loaded only when it is called."""

from __future__ import annotations

import importlib.util
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cyclopts import App, CycloptsError

import fleetpose
from fleetpose.cli.exit_codes import EXIT_INTERRUPTED, EXIT_OK, EXIT_TERMINATED, EXIT_USAGE
from fleetpose.errors import PoseError


@dataclass(frozen=True, slots=True)
class Verb:
    """One sub-command."""

    name: str
    module: str
    help: str
    extra: str = ""  # of the package, that brings what the verb imports

    @property
    def target(self) -> str:
        """Where the command stands, as cyclopts imports it."""
        return f"{self.module}:{self.module.rpartition('.')[2]}"


VERBS = (
    Verb("demo", "fleetpose.cli.demo", "Find the people in a bundled picture, to see that all works."),
    Verb("predict", "fleetpose.cli.predict", "Find people in pictures, folders, videos or from a camera."),
    Verb(
        "evaluate", "fleetpose.cli.evaluate", "Score a model on labelled pictures, as COCO does.", "evaluate"
    ),
    Verb("models", "fleetpose.cli.models", "List the bundled models: size, speed, licence, data, accuracy."),
    Verb("train", "fleetpose.cli.train", "Train a model.", "train"),
    Verb("export", "fleetpose.cli.export", "Write a trained model as files that run, with proof.", "export"),
    Verb("benchmark", "fleetpose.cli.benchmark", "Measure models and runtimes side by side, step by step."),
    Verb(
        "convert", "fleetpose.cli.convert", "Turn the checkpoint of a network's authors into ours.", "train"
    ),
    Verb("synth", "fleetpose.cli.synth", "Render synthetic people with exact labels.", "synth"),
    Verb("doctor", "fleetpose.cli.doctor", "Find what is wrong with labelled data before training on it."),
    Verb("data", "fleetpose.cli.data", "Look into data sets and prepare them.", "train"),
)


def build_app() -> App:
    """Put the verbs that this installation has into one command."""
    app = App(
        name="fleetpose",
        help="2D human pose estimation in real time on ordinary CPUs.",
        version=fleetpose.__version__,
        help_format="plaintext",
        suppress_keyboard_interrupt=False,  # `main` answers it
    )
    for position, verb in enumerate(VERBS):
        if importlib.util.find_spec(verb.module) is not None:
            app.command(verb.target, name=verb.name, help=verb.help, sort_key=position)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments`, else the process's own → exit code.

    What a user did wrong is told in one line on stderr, never in a traceback.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _polite_kill():
            code = build_app()(tokens, result_action="return_value", exit_on_error=False, print_error=False)
    except (PoseError, CycloptsError, ImportError, OSError) as error:
        return _complain(error, verb=tokens[0] if tokens else "")
    except _TerminatedError:
        _write_error("terminated")
        return EXIT_TERMINATED
    except KeyboardInterrupt:
        _write_error("interrupted")
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else EXIT_OK


class _TerminatedError(KeyboardInterrupt):
    """A polite kill, which ends work as Ctrl-C does: with complete files."""


@contextmanager
def _polite_kill() -> Iterator[None]:
    """Let SIGTERM, as a service manager sends it, be an exception; only the main thread may ask for that."""
    caught: list[int] = []

    def stop(number: int, _frame: object) -> None:
        caught.append(number)
        raise _TerminatedError

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
        if caught:  # where an object is being deleted Python drops exceptions
            raise _TerminatedError
    finally:
        signal.signal(signal.SIGTERM, before)


def _complain(error: Exception, *, verb: str) -> int:
    """Tell what went wrong in one line → exit code."""
    if isinstance(error, ImportError):
        _write_error(_missing_import(error, verb))
    elif isinstance(error, OSError):
        _write_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    else:
        _write_error(str(error))
    return EXIT_USAGE


def _missing_import(error: ImportError, verb: str) -> str:
    """What is not installed and how to get it; cyclopts wraps the error that says so."""
    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, PoseError):
        cause = cause.__cause__
    extra = next((one.extra for one in VERBS if one.name == verb), "")
    if isinstance(cause, PoseError) or not extra:
        return str(cause)
    return f"fleetpose {verb} needs more packages ({cause}); run: pip install 'fleetpose[{extra}]'"


def _write_error(message: str) -> None:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")

"""Ending a run early: on request, after the present step; or because its numbers make no sense any more."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fleetpose.errors import PoseError

logger = logging.getLogger(__name__)


class TrainingStoppedError(PoseError):
    """The loss is no longer a finite number."""


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and a polite kill into a question that the loop asks after each step; obey a second one.

    Python hands signals to the main thread only; in another thread nothing ever asks the loop to stop.
    """
    caught: list[int] = []

    def catch(number: int, _: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        logger.warning("stopping after this step and saving; once more stops at once")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

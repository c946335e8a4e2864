"""A progress bar with the time still to go, on stderr, where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fleetpose.media.sources import Source


@final
class RichWatcher:
    """Show how many sources are done, and how many frames of the present video."""

    def __init__(self, *, source_count: int) -> None:
        """Prepare for so many sources."""
        self._progress = _bars()
        self._sources = self._progress.add_task("sources", total=source_count, visible=source_count > 1)
        self._frames: TaskID | None = None

    def __enter__(self) -> RichWatcher:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, source: Source, frame_count: int | None) -> None:
        """Show a bar for the frames of a video."""
        if frame_count != 1:
            self._frames = self._progress.add_task(source.name, total=frame_count)

    def advance(self) -> None:
        """Count a frame."""
        if self._frames is not None:
            self._progress.advance(self._frames)

    def end(self) -> None:
        """Count a source and drop its bar."""
        if self._frames is not None:
            self._progress.remove_task(self._frames)
            self._frames = None
        self._progress.advance(self._sources)


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the block runs; the function that it gives is told how many are done, of how many."""
    with _bars() as bars:
        task = bars.add_task(description, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _bars() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )

"""Many sources one after the other: predict, write down, count, and go on behind those that fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

from fleetpose.errors import MediaError
from fleetpose.media.images import read_image
from fleetpose.media.sources import Source, SourceKind, find_sources
from fleetpose.media.video import Frame, FrameSource, open_video
from fleetpose.runtime.predictor import Predictor
from fleetpose.runtime.recording import Recorder
from fleetpose.runtime.timing import StepTotals


@dataclass(slots=True)
class Tally:
    """What has been done so far."""

    pictures: int = 0
    frames: int = 0  # of videos
    people: int = 0
    failures: list[str] = field(default_factory=list)  # one line per source that failed, whole or in part
    steps: StepTotals = field(default_factory=StepTotals)

    def in_words(self) -> str:
        """One line.

        >>> Tally(pictures=2, people=1).in_words()
        '2 pictures, 1 person'
        """
        counts = [(self.pictures, "picture", "pictures"), (self.frames, "frame", "frames")]
        seen = [f"{n} {one if n == 1 else many}" for n, one, many in counts if n] or ["nothing read"]
        return ", ".join([*seen, f"{self.people} {'person' if self.people == 1 else 'people'}"])


class Watcher(Protocol):
    """Someone who wants to know how far the work is."""

    def begin(self, source: Source, frame_count: int | None) -> None:
        """Hear that work on a source begins, with its number of frames if known."""

    def advance(self) -> None:
        """Hear that a picture or frame is done."""

    def end(self) -> None:
        """Hear that a source is done."""


def find_all(arguments: Sequence[str], tally: Tally) -> list[Source]:
    """Expand arguments into sources, noting those that name nothing."""
    found = [source for argument in arguments for source in _found(argument, tally)]
    return list(dict.fromkeys(found))


def _found(argument: str, tally: Tally) -> list[Source]:
    try:
        return find_sources(argument)
    except MediaError as error:
        tally.failures.append(str(error))
        return []


def run_name(argument: str, first: Source) -> str:
    """Name for a run's folder: that of the folder that was given, else of the first source."""
    folder = Path(argument)
    return folder.resolve().name if folder.is_dir() else first.name


def predict_all(
    predictor: Predictor,
    sources: Sequence[Source],
    recorder: Recorder,
    *,
    tally: Tally,
    watcher: Watcher,
    max_frames: int | None = None,
) -> None:
    """Predict on every source and record it; a source that fails is noted and the next one begun.

    Args:
        predictor: finds the people.
        sources: what to look at.
        recorder: writes down what was found.
        tally: counts along, so that it is right also when the work is interrupted.
        watcher: hears of progress.
        max_frames: of each video or camera; None for all.
    """
    for source in sources:
        try:
            _predict_source(predictor, source, recorder, tally=tally, watcher=watcher, max_frames=max_frames)
        except MediaError as error:
            tally.failures.append(str(error))
        watcher.end()


def _predict_source(
    predictor: Predictor,
    source: Source,
    recorder: Recorder,
    *,
    tally: Tally,
    watcher: Watcher,
    max_frames: int | None,
) -> None:
    is_picture = source.kind is SourceKind.IMAGE
    frames: FrameSource = (
        _PictureFile(source.location) if is_picture else open_video(source, reads_ahead=True)
    )
    watcher.begin(source, frames.frame_count)
    try:
        for frame, result in predictor.follow(islice(frames, max_frames), name=source.label):
            steps_ms = recorder.add(source, frame, result, fps=frames.fps)
            tally.steps.add({**result.timings_ms, **steps_ms})
            tally.people += len(result)
            tally.pictures += is_picture
            tally.frames += not is_picture
            watcher.advance()
    finally:
        frames.close()


class _PictureFile:
    """A picture as a video of one frame."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.fps = 0.0
        self.frame_count: int | None = 1

    def __iter__(self) -> Iterator[Frame]:
        yield Frame(read_image(self._path), index=0, timestamp_s=0.0)

    def close(self) -> None:
        """Nothing is open."""

"""Write down what was found: annotated pictures and videos, COCO, CSV, JSON and OpenPose files.

Every format writes as it goes, so memory stays constant and files are complete whenever work stops.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, final

import numpy as np

from fleetpose.draw import DrawSettings, draw_people
from fleetpose.errors import ConfigError, UnknownNameError
from fleetpose.media.images import write_image
from fleetpose.media.sources import Source, SourceKind
from fleetpose.media.video import Frame, VideoWriter
from fleetpose.results import TABLE_COLUMNS, PoseResult
from fleetpose.runtime.timing import Stopwatch


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture or frame with what was found on it."""

    source: Source
    name: str  # of the source, unlike all others of the run
    frame: Frame
    fps: float  # of the video, 0.0 for a picture
    result: PoseResult
    image_id: int

    @property
    def is_picture(self) -> bool:
        """Whether the source is a single picture and no video."""
        return self.source.kind is SourceKind.IMAGE


class Sink(Protocol):
    """One format's files."""

    def add(self, entry: Entry, watch: Stopwatch) -> None:
        """Write one picture's or frame's people."""

    def close(self) -> None:
        """Complete the files."""


@final
class Recorder:
    """Write results in several formats into one folder; a context manager, it always completes its files."""

    def __init__(
        self,
        folder: Path,
        *,
        formats: Sequence[str],
        sources: Sequence[Source] = (),
        settings: DrawSettings | None = None,
    ) -> None:
        """Write into `folder`, which must exist.

        Args:
            folder: where files go.
            formats: some of `FORMATS`.
            sources: all that will come, so that pictures called by numbers, as COCO's are, keep them as ids.
            settings: what is drawn.

        Raises:
            UnknownNameError: a format is unknown.
        """
        check_formats(formats)
        self._ids = _ids_by_name(sources)
        self._next_id = 1
        self._names: dict[Source, str] = {}
        drawing = settings or DrawSettings()
        self._sinks = [_SINKS[name](folder, drawing) for name in formats]

    def add(self, source: Source, frame: Frame, result: PoseResult, *, fps: float = 0.0) -> dict[str, float]:
        """Write one result in all formats → milliseconds per step.

        Raises:
            MediaError: a picture or video cannot be written.
        """
        watch = Stopwatch()
        image_id = self._ids.get(source, self._next_id)
        self._next_id += 1
        entry = Entry(source, self._name(source), frame, fps, result, image_id)
        for sink in self._sinks:
            sink.add(entry, watch)
        return watch.steps_ms

    def _name(self, source: Source) -> str:
        if source not in self._names:
            taken, name, number = set(self._names.values()), source.name, 1
            while name in taken:
                number += 1
                name = f"{source.name}-{number}"
            self._names[source] = name
        return self._names[source]

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Complete all files, the others also when one fails."""
        with ExitStack() as stack:
            for sink in self._sinks:
                stack.callback(sink.close)


def check_formats(formats: Sequence[str]) -> None:
    """Refuse a format that is not among `FORMATS`."""
    for name in formats:
        if name not in _SINKS:
            raise UnknownNameError("format to save", name, _SINKS)


def new_folder(wanted: Path) -> Path:
    """Make a folder that holds nothing yet: `wanted`, else `wanted`-2, `wanted`-3 and so on.

    Raises:
        ConfigError: the place cannot be written.
    """
    number, folder = 1, wanted
    while folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    ensure_folder(folder)
    return folder


def ensure_folder(folder: Path) -> None:
    """Make a folder unless it exists, and see that files can be written into it.

    Raises:
        ConfigError: the place cannot be written.
    """
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"cannot write into {folder}: {error.strerror or error}; choose another folder with --out"
        ) from error


class _Pictures:
    """`<name>.jpg` for each picture, with people drawn on it."""

    def __init__(self, folder: Path, drawing: DrawSettings) -> None:
        self._folder, self._drawing = folder, drawing

    def add(self, entry: Entry, watch: Stopwatch) -> None:
        if entry.is_picture:
            drawn = draw_people(entry.frame.image, entry.result, self._drawing)
            watch.lap("draw")
            write_image(self._folder / f"{entry.name}.jpg", drawn)
            watch.lap("encode")

    def close(self) -> None:
        """Pictures are complete already."""


class _Videos:
    """`<name>.mp4` for each video, with people drawn on it."""

    def __init__(self, folder: Path, drawing: DrawSettings) -> None:
        self._folder, self._drawing = folder, drawing
        self._writer: VideoWriter | None = None
        self._name = ""

    def add(self, entry: Entry, watch: Stopwatch) -> None:
        if entry.is_picture:
            return
        if self._writer is None or entry.name != self._name:
            self.close()
            self._name = entry.name
            self._writer = VideoWriter(self._folder / f"{entry.name}.mp4", fps=entry.fps)
        drawn = draw_people(entry.frame.image, entry.result, self._drawing)
        watch.lap("draw")
        self._writer.add(drawn, timestamp_s=entry.frame.timestamp_s)
        watch.lap("encode")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _Coco:
    """`predictions.coco.json`: COCO's results list; `images.coco.json`: what each image id means."""

    def __init__(self, folder: Path) -> None:
        self._rows = _JsonArray(folder / "predictions.coco.json")
        self._images = _JsonArray(folder / "images.coco.json")

    def add(self, entry: Entry, watch: Stopwatch) -> None:
        h, w = entry.result.image_size
        image = {"id": entry.image_id, "file_name": Path(entry.source.label).name, "width": w, "height": h}
        if not entry.is_picture:
            image["frame"] = entry.frame.index
            image["time_s"] = round(entry.frame.timestamp_s, 4)
        self._images.add(image)
        for row in entry.result.to_coco(entry.image_id):
            self._rows.add(row)
        watch.lap("write")

    def close(self) -> None:
        self._rows.close()
        self._images.close()


class _Csv:
    """`keypoints.csv`: one row per found keypoint."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "keypoints.csv").open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, TABLE_COLUMNS)
        self._writer.writeheader()

    def add(self, entry: Entry, watch: Stopwatch) -> None:
        self._writer.writerows(entry.result.rows())
        watch.lap("write")

    def close(self) -> None:
        self._file.close()


class _Json:
    """`results.json`: one object per picture or frame, with its people."""

    def __init__(self, folder: Path) -> None:
        self._results = _JsonArray(folder / "results.json")

    def add(self, entry: Entry, watch: Stopwatch) -> None:
        self._results.add(plain_result(entry.result))
        watch.lap("write")

    def close(self) -> None:
        self._results.close()


class _OpenPose:
    """`openpose/<name>_keypoints.json` per picture, `openpose/<name>_<frame>_keypoints.json` per frame."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "openpose"
        self._folder.mkdir(exist_ok=True)

    def add(self, entry: Entry, watch: Stopwatch) -> None:
        frame = "" if entry.is_picture else f"_{entry.frame.index:012d}"
        path = self._folder / f"{entry.name}{frame}_keypoints.json"
        path.write_text(json.dumps(entry.result.to_openpose()), encoding="utf-8")
        watch.lap("write")

    def close(self) -> None:
        """Files are complete already."""


_SINKS: dict[str, Callable[[Path, DrawSettings], Sink]] = {
    "image": _Pictures,
    "video": _Videos,
    "coco": lambda folder, _: _Coco(folder),
    "csv": lambda folder, _: _Csv(folder),
    "json": lambda folder, _: _Json(folder),
    "openpose": lambda folder, _: _OpenPose(folder),
}
#: What can be written.
FORMATS = tuple(_SINKS)


def plain_result(result: PoseResult) -> dict[str, Any]:
    """One picture's people as plain data: names of keypoints, and per person score, box and keypoints."""
    people = []
    for n in range(len(result)):
        person: dict[str, Any] = {
            "score": round(float(result.scores[n]), 5),
            "box": np.round(result.boxes[n].astype(float), 2).tolist(),
            "keypoints": {
                name: [round(x, 2), round(y, 2), round(score, 4)]
                for name, (x, y, score) in zip(
                    result.skeleton.keypoints, result.keypoints[n].tolist(), strict=True
                )
                if score > 0
            },
        }
        if result.track_ids is not None:
            person["track_id"] = int(result.track_ids[n])
        people.append(person)
    return {
        "source": result.source,
        "frame": result.frame_index,
        "time_s": round(result.timestamp_s, 4),
        "image_size": list(result.image_size),
        "skeleton": result.skeleton.name,
        "people": people,
        "timings_ms": {step: round(ms, 3) for step, ms in result.timings_ms.items()},
    }


class _JsonArray:
    """A JSON array in a file, written item by item, one per line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._file.write("[")
        self._separator = "\n"

    def add(self, item: object) -> None:
        self._file.write(self._separator + json.dumps(item, ensure_ascii=False))
        self._separator = ",\n"

    def close(self) -> None:
        if not self._file.closed:
            self._file.write("\n]\n")
            self._file.close()


def _ids_by_name(sources: Sequence[Source]) -> dict[Source, int]:
    """Ids of pictures that are all called by different numbers, as COCO's are; else empty."""
    names = [source.name for source in sources]
    are_numbers = all(source.kind is SourceKind.IMAGE for source in sources) and all(
        name.isdecimal() for name in names
    )
    ids = {source: int(source.name) for source in sources} if are_numbers else {}
    return ids if len(set(ids.values())) == len(names) else {}

"""Videos, cameras and network streams as frames, and frames as H.264 files, in constant memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, final

import av
import cv2
import numpy as np

from fleetpose.errors import MediaError
from fleetpose.geometry import Image
from fleetpose.media.images import quiet_opencv
from fleetpose.media.sources import Source, SourceKind, find_sources

#: Ticks per second of written videos: fine enough for every frame rate in use.
TIME_BASE = Fraction(1, 90_000)
#: Quality of written videos (H.264's constant rate factor: lower is better and larger).
QUALITY = "23"
STREAM_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a video."""

    image: Image  # `[H, W, 3]` RGB, upright
    index: int  # from 0
    timestamp_s: float  # from the first frame


class FrameSource(Protocol):
    """Something that yields frames once, from first to last."""

    fps: float
    frame_count: int | None  # None where nobody knows before the end

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames; a fault is raised behind the last good one."""

    def close(self) -> None:
        """Let go of the file or camera."""


def open_video(source: str | Path | int | Source, *, reads_ahead: bool = False) -> FrameSource:
    """Open a video file, a camera by its number or a network stream by its address.

    Args:
        source: what to open.
        reads_ahead: decode a file's next frame while the last one is being worked on. Cameras and network
            streams are never read ahead: what waits grows old.

    Raises:
        MediaError: it cannot be opened or holds no video.
    """
    source = source if isinstance(source, Source) else one_source(source)
    if source.kind is SourceKind.CAMERA:
        with quiet_opencv():
            capture = cv2.VideoCapture(int(source.location))
        return CameraReader(capture, name=f"camera {source.location}")
    is_live = source.kind is SourceKind.STREAM
    return VideoReader(
        source.location, name=source.label, is_live=is_live, reads_ahead=reads_ahead and not is_live
    )


def one_source(location: str | Path | int) -> Source:
    """Take what should name exactly one video, camera or stream.

    Raises:
        MediaError: it names nothing, or several files.
    """
    found = find_sources(str(location))
    if len(found) != 1:
        raise MediaError(f"cannot stream from {location}: it names {len(found)} files; give one")
    return found[0]


class VideoReader:
    """Frames of a video file or network stream, through FFmpeg.

    Frames are turned upright as the file says and bear their own times, so that variable frame rates stay
    right. Damaged parts are left out; what was wrong is raised once everything readable has been yielded.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        name: str | None = None,
        is_live: bool = False,
        reads_ahead: bool = False,
    ) -> None:
        """Open a file or an address.

        Args:
            location: of the file, or the address.
            name: what an error calls it; None for the location.
            is_live: whether it has no known end.
            reads_ahead: whether another thread decodes one frame more than was asked for.
        """
        self._name = name or str(location)
        # Over UDP, the default of RTSP, lost packets smear the picture.
        options = {"rtsp_transport": "tcp"} if str(location).startswith("rtsp") else {}
        timeout = STREAM_TIMEOUT_S if is_live else None
        try:
            self._container = av.open(str(location), options=options, timeout=timeout)
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"cannot read {self._name} as a video: {_reason(error)}") from error
        if not self._container.streams.video:
            self._container.close()
            raise MediaError(f"cannot read {self._name} as a video: it holds no pictures")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "SLICE"  # threads by frame would add a delay and more memory
        self._reads_ahead, self._reader = reads_ahead, _reader()
        self.fps = float(self._stream.average_rate or self._stream.guessed_rate or 25)
        self.frame_count: int | None = None if is_live else self._announced_count()

    def _announced_count(self) -> int | None:
        """Frames by the header's count, else by the length of the film."""
        if self._stream.frames:
            return int(self._stream.frames)
        if self._stream.duration is not None:
            return int(self._stream.duration * self._stream.time_base * self.fps)
        # The container's length is that of its longest stream, which may be the sound.
        if self._container.duration is not None and len(self._container.streams) == 1:
            return int(self._container.duration / av.time_base * self.fps)
        return None

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames from the first to the last readable one.

        Raises:
            MediaError: at the end, when parts were damaged or the file breaks off.
        """
        if not self._reads_ahead:
            return self._frames()
        self._reader = _reader()
        return _one_ahead(self._frames(), self._reader)

    def _frames(self) -> Iterator[Frame]:
        index, start_s, end_s, faults = 0, None, 0.0, _Faults()
        for decoded in self._decode(faults):
            time_s = decoded.time if decoded.time is not None else index / self.fps
            start_s = time_s if start_s is None else start_s
            end_s = time_s - start_s
            yield Frame(_upright(decoded), index, end_s)
            index += 1
        expected = self.frame_count
        # Counts and lengths in headers may be off by a little without harm.
        is_short = expected is not None and min(expected - index, expected - end_s * self.fps) > max(
            2, 0.01 * expected
        )
        if faults.reason or is_short or not index:
            reason = faults.reason or f"the file ends early, {expected} frames were announced"
            raise MediaError(f"{self._name} is damaged: {index} frames could be read ({reason})")

    def _decode(self, faults: _Faults) -> Iterator[Any]:
        """Yield FFmpeg's frames, going on behind damaged packets and noting what was wrong."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                frames = [] if packet is None else packet.decode()
            except av.error.InvalidDataError as error:
                faults.reason = _reason(error)
                continue  # a packet that failed in the demuxer ends the iteration by itself
            except av.error.FFmpegError as error:
                faults.reason = _reason(error)
                return
            if packet is None:
                return
            yield from frames

    def close(self) -> None:
        """Close the file, once the frame that is being decoded is done."""
        self._reader.shutdown(cancel_futures=True)  # FFmpeg must not be at work on what is closed
        self._container.close()


class CameraReader:
    """Frames of a camera of this computer, through OpenCV."""

    def __init__(self, capture: cv2.VideoCapture, *, name: str) -> None:
        """Read from an opened `capture`; `name` is what an error calls it."""
        if not capture.isOpened():
            raise MediaError(f"cannot open {name}: no such camera, or another program is using it")
        self._capture, self._name = capture, name
        self.fps = float(capture.get(cv2.CAP_PROP_FPS)) or 30.0
        self.frame_count: int | None = None

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames with the time since the first, until the camera ends."""
        index, start_s = 0, time.monotonic()
        while True:
            is_read, image = self._capture.read()
            now_s = time.monotonic()
            if not is_read:
                break
            start_s = now_s if index == 0 else start_s
            yield Frame(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)), index, now_s - start_s)
            index += 1
        if not index:
            raise MediaError(f"cannot read from {self._name}: it gives no pictures")

    def close(self) -> None:
        """Give the camera back."""
        self._capture.release()


@final
class VideoWriter:
    """An H.264 file that browsers play, written frame by frame.

    Use as a context manager: the file is complete also when the block ends in an error or by Ctrl-C. A video
    without frames leaves no file. Odd sizes grow by one pixel, which H.264's colour format demands; frames of
    another size than the first are resized to it.
    """

    def __init__(self, path: str | Path, *, fps: float = 25.0) -> None:
        """Prepare to write to `path`; `fps` holds for frames without a time of their own."""
        self._path, self._fps = Path(path), fps
        self._container: Any = None
        self._stream: Any = None
        self._size = (0, 0)
        self._last_tick = -1

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, image: Image, *, timestamp_s: float | None = None) -> None:
        """Append an RGB frame at `timestamp_s` from the start, else one frame's length behind the last.

        Raises:
            MediaError: the file cannot be written.
        """
        try:
            if self._container is None:
                self._open(image.shape[0], image.shape[1])
            frame = av.VideoFrame.from_ndarray(self._fitted(image), format="rgb24")
            frame.pts, frame.time_base = self._tick(timestamp_s), TIME_BASE
            self._container.mux(self._stream.encode(frame))
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"cannot write {self._path}: {_reason(error)}") from error

    def _open(self, h: int, w: int) -> None:
        self._container = av.open(str(self._path), "w", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream(
            "libx264",
            rate=Fraction(self._fps).limit_denominator(1001),
            options={"crf": QUALITY, "preset": "veryfast"},
        )
        self._size = (h + h % 2, w + w % 2)
        self._stream.height, self._stream.width = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = TIME_BASE

    def _fitted(self, image: Image) -> Image:
        """Bring a frame to the video's size."""
        h, w = self._size
        extra_h, extra_w = h - image.shape[0], w - image.shape[1]
        if (extra_h, extra_w) == (0, 0):
            return np.ascontiguousarray(image)
        if extra_h in {0, 1} and extra_w in {0, 1}:
            return np.asarray(cv2.copyMakeBorder(image, 0, extra_h, 0, extra_w, cv2.BORDER_REPLICATE))
        return np.asarray(cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA))

    def _tick(self, timestamp_s: float | None) -> int:
        """Time in ticks, made to grow also where a camera's or a broken file's times do not."""
        if timestamp_s is None:
            wanted = 0 if self._last_tick < 0 else self._last_tick + round(1 / self._fps / TIME_BASE)
        else:
            wanted = round(timestamp_s / TIME_BASE)
        self._last_tick = max(wanted, self._last_tick + 1)
        return self._last_tick

    def close(self) -> None:
        """Write what is still pending and finish the file; further calls do nothing."""
        if self._container is None:
            return
        container, self._container = self._container, None
        try:
            container.mux(self._stream.encode(None))
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"cannot write {self._path}: {_reason(error)}") from error
        finally:
            container.close()


def _reader() -> ThreadPoolExecutor:
    """One thread, which begins with its first frame."""
    return ThreadPoolExecutor(1, thread_name_prefix="video")


def _one_ahead(frames: Iterator[Frame], reader: ThreadPoolExecutor) -> Iterator[Frame]:
    """Yield frames, the next of which a thread has begun to decode; faults come in their place."""
    with reader:
        pending = reader.submit(next, frames, None)
        while (frame := pending.result()) is not None:
            pending = reader.submit(next, frames, None)
            yield frame


@dataclass(slots=True)
class _Faults:
    """What went wrong while reading, in words; empty if nothing."""

    reason: str = ""


def _upright(decoded: Any) -> Image:  # noqa: ANN401 - an `av.VideoFrame`
    image = decoded.to_ndarray(format="rgb24")
    quarter_turns = round(decoded.rotation / 90)  # counter-clockwise, as numpy counts
    return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image


def _reason(error: Exception) -> str:
    """What went wrong, without numbers and names of functions."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split())

"""What a user names on the command line: pictures, folders, patterns, videos, cameras and streams."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from fleetpose.errors import MediaError
from fleetpose.media.images import IMAGE_SUFFIXES, is_image_file

#: Names of files that are taken for videos when a folder is searched.
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp"}
)
STREAM_SCHEMES = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://", "srt://")


class SourceKind(str, Enum):
    """What a source yields and where from."""

    IMAGE = "image"
    VIDEO = "video"
    CAMERA = "camera"  # a camera of this computer, by its number
    STREAM = "stream"  # a network address


@dataclass(frozen=True, slots=True)
class Source:
    """One picture, video, camera or stream."""

    kind: SourceKind
    location: str  # path, number or address, as OpenCV and FFmpeg take it

    @property
    def name(self) -> str:
        """Short name for files that are written about this source.

        >>> Source(SourceKind.VIDEO, "holiday/beach.mp4").name
        'beach'
        >>> Source(SourceKind.CAMERA, "0").name
        'camera-0'
        """
        if self.kind is SourceKind.CAMERA:
            return f"camera-{self.location}"
        if self.kind is SourceKind.STREAM:
            address = self.label.partition("://")[2]
            return "".join(c if c.isalnum() or c in "-." else "-" for c in address).strip("-.") or "stream"
        return Path(self.location).stem

    @property
    def label(self) -> str:
        """What results and messages call the source: its location, without the secrets of an address.

        >>> Source(SourceKind.STREAM, "rtsp://me:secret@10.0.0.2/yard?token=1").label
        'rtsp://10.0.0.2/yard'
        """
        if self.kind is not SourceKind.STREAM:
            return self.location
        scheme, _, rest = self.location.partition("://")
        return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


def find_sources(argument: str) -> list[Source]:
    """Expand one argument of a command line → its sources, sorted by name.

    A number is a camera unless a file bears that name; an address with `://` is a stream; a folder stands for
    the pictures and videos directly in it; `*`, `?` and `**` match as in a shell.

    Raises:
        MediaError: nothing is there.
    """
    path = Path(argument)
    if argument.lower().startswith(STREAM_SCHEMES):
        return [Source(SourceKind.STREAM, argument)]
    if argument.isdecimal() and not path.exists():
        return [Source(SourceKind.CAMERA, argument)]
    if path.is_dir():
        return _of_folder(path)
    if path.is_file():
        return [_of_file(path)]
    if not glob.has_magic(argument):
        raise MediaError(f"cannot read {argument}: no such file or folder")
    matches = [Path(match) for match in sorted(glob.glob(argument, recursive=True))]  # noqa: PTH207 - `**`
    found = [_of_file(match) for match in matches if match.is_file()]
    if not found:
        raise MediaError(f"cannot read {argument}: no file matches the pattern")
    return found


def _of_folder(folder: Path) -> list[Source]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise MediaError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    found = [_of_file(path) for path in entries if path.is_file() and path.suffix.lower() in known]
    if not found:
        raise MediaError(f"cannot read the folder {folder}: it holds no picture and no video")
    return found


def _of_file(path: Path) -> Source:
    is_image = path.suffix.lower() not in VIDEO_SUFFIXES and is_image_file(path)
    return Source(SourceKind.IMAGE if is_image else SourceKind.VIDEO, str(path))

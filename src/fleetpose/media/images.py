"""Pictures as RGB arrays `[H, W, 3]` uint8: read from files, taken from callers, written to files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.errors import ConfigError, MediaError, ShapeError
from fleetpose.geometry import Image

ColorOrder = Literal["rgb", "bgr"]
#: A picture is read at its full size, or its sides divided by this.
Reduction = Literal[1, 2, 4, 8]

#: Names of files that are taken for pictures when a folder is searched.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
)
JPEG_QUALITY = 92

_READ_FLAGS: dict[Reduction, int] = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_TO_RGB = {
    ("rgb", 1): cv2.COLOR_GRAY2RGB,
    ("bgr", 1): cv2.COLOR_GRAY2RGB,
    ("bgr", 3): cv2.COLOR_BGR2RGB,
    ("rgb", 4): cv2.COLOR_RGBA2RGB,
    ("bgr", 4): cv2.COLOR_BGRA2RGB,
}


def read_image(path: str | Path, *, is_as_stored: bool = False, reduction: Reduction = 1) -> Image:
    """Read a picture file → `[H, W, 3]` RGB, turned upright as its EXIF orientation says.

    Grey, 16-bit, palette and CMYK pictures are converted; an alpha channel is dropped; of an animation the
    first frame is taken.

    Args:
        path: the file.
        is_as_stored: leave the pixels as they lie in the file, which is what labels of data sets refer to.
        reduction: divides both sides; a JPEG is then decoded in less time.

    Raises:
        MediaError: the file is missing, empty, cut off or no picture.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror or error}") from error
    return decode_image(data, name=str(path), is_as_stored=is_as_stored, reduction=reduction)


def decode_image(data: bytes, *, name: str, is_as_stored: bool = False, reduction: Reduction = 1) -> Image:
    """Bytes of a picture file → `[H, W, 3]` RGB, see `read_image`; `name` is what an error calls it."""
    if not data:
        raise MediaError(f"cannot read {name}: the file is empty")
    # Some decoders fill the missing part of a picture with grey and say nothing.
    if _is_cut_off(data):
        raise MediaError(f"cannot read {name}: the picture is cut off before its end")
    flags = _READ_FLAGS[reduction] | (cv2.IMREAD_IGNORE_ORIENTATION if is_as_stored else 0)
    try:
        with quiet_opencv():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise MediaError(f"cannot read {name}: {' '.join(str(error.err or error).split())}") from error
    if image is None:
        raise MediaError(f"cannot read {name}: not a picture, or a damaged one")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def as_rgb(picture: object, *, color: ColorOrder = "rgb") -> Image:
    """Take a caller's picture → `[H, W, 3]` RGB uint8, without a copy where it is that already.

    Args:
        picture: array uint8 `[H, W]`, `[H, W, 1]`, `[H, W, 3]` or `[H, W, 4]`, or a PIL image. A PIL image is
            taken as it stands: its EXIF orientation is the caller's business.
        color: order of an array's channels.
    """
    if color not in {"rgb", "bgr"}:
        raise ConfigError(f"color must be 'rgb' or 'bgr', got {color!r}")
    if not isinstance(picture, np.ndarray):
        picture, color = _array_of_pil(picture), "rgb"
    if picture.dtype != np.uint8:
        raise ShapeError("image", "uint8 from 0 to 255", f"{picture.dtype}; scale and convert it first")
    channels = 1 if picture.ndim == 2 else picture.shape[-1] if picture.ndim == 3 else 0
    if channels not in {1, 3, 4} or picture.size == 0:
        raise ShapeError("image", "[H, W], [H, W, 1], [H, W, 3] or [H, W, 4]", list(picture.shape))
    if (color, channels) == ("rgb", 3):
        return picture
    return np.asarray(cv2.cvtColor(picture, _TO_RGB[color, channels]), dtype=np.uint8)


def write_image(path: str | Path, image: Image) -> None:
    """Write an RGB picture in the format that the name's ending says.

    Raises:
        MediaError: the format is unknown or the place cannot be written.
    """
    suffix = Path(path).suffix.lower()
    try:
        with quiet_opencv():
            _, data = cv2.imencode(
                suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            )
    except cv2.error as error:
        raise MediaError(f"cannot write {path}: no picture format {suffix!r}; use .jpg or .png") from error
    try:
        Path(path).write_bytes(data.tobytes())
    except OSError as error:
        raise MediaError(f"cannot write {path}: {error.strerror or error}") from error


def is_image_file(path: Path) -> bool:
    """Tell whether a file is a picture: by the ending of its name, else by its first bytes."""
    return path.suffix.lower() in IMAGE_SUFFIXES or bool(cv2.haveImageReader(str(path)))


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from writing to stderr what an error says anyway."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _array_of_pil(picture: Any) -> npt.NDArray[Any]:  # noqa: ANN401 - Pillow is no dependency
    mode = getattr(picture, "mode", None)
    if not isinstance(mode, str) or not hasattr(picture, "convert"):
        raise ShapeError("image", "a path, an array or a PIL image", type(picture).__name__)
    if mode.startswith("I;16"):  # Pillow would cut 16 bits off at 255
        return (np.asarray(picture) >> 8).astype(np.uint8)
    return np.asarray(picture.convert("RGB"))


def _is_cut_off(data: bytes) -> bool:
    """Tell whether a JPEG or a PNG lacks its end; False for other formats."""
    if data.startswith(b"\xff\xd8"):
        # A thumbnail in the header has an end marker of its own, so look behind the header.
        return data.find(b"\xff\xd9", _start_of_scan(data)) < 0
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data.rfind(b"IEND") < 0
    return False


def _start_of_scan(data: bytes) -> int:
    """Position in a JPEG behind its header: of the first scan, or of the data's end."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        if data[position + 1] == 0xDA:
            return position
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return min(position, len(data))

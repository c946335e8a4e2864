"""Pictures with one class each: folders per class and CIFAR-100, and training crops of them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.data.photometric import jitter
from fleetpose.data.picture_order import number_in_epoch
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.geometry import PADDING, Image, compose, scaling, similarity, warp
from fleetpose.media.images import IMAGE_SUFFIXES, read_image


@dataclass(frozen=True, slots=True, eq=False)
class ClassifiedPicture:
    """A picture and the number of its class; small pictures may be held in memory."""

    image: Path | Image
    label: int

    def load(self) -> Image:
        """Read the picture → `[H, W, 3]` uint8 RGB.

        Raises:
            MediaError: it is missing or broken.
        """
        return read_image(self.image) if isinstance(self.image, Path) else self.image


@dataclass(frozen=True, slots=True, eq=False)
class ClassifiedSet:
    """Pictures and the names of their classes."""

    pictures: tuple[ClassifiedPicture, ...]
    classes: tuple[str, ...]


def read_image_folder(folder: Path) -> ClassifiedSet:
    """List `FOLDER/CLASS/*`, also in folders below; classes are numbered in the order of their names.

    Raises:
        DatasetError: there is no folder of pictures in it.
    """
    folders = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    pictures = [
        ClassifiedPicture(path, label)
        for label, one in enumerate(folders)
        for path in sorted(one.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    empty = set(range(len(folders))) - {picture.label for picture in pictures}
    if not pictures or empty:
        which = folders[min(empty)] if empty else folder
        raise DatasetError(f"{which} holds no picture; expected a folder per class with its pictures")
    return ClassifiedSet(tuple(pictures), tuple(path.name for path in folders))


def read_cifar100(
    folder: Path, *, split: Literal["train", "test"] = "train", is_coarse: bool = False
) -> ClassifiedSet:
    """Read the Python version of CIFAR-100 (Krizhevsky, 2009), as `cifar-100-python` unpacks.

    Its files are pickles; nothing but plain data and number arrays is loaded from them.

    Args:
        folder: holds `train`, `test` and `meta`.
        split: which pictures.
        is_coarse: the 20 classes above the 100.

    Raises:
        DatasetError: a file is missing, broken, or holds anything else.
    """
    level = "coarse" if is_coarse else "fine"
    content, meta = _load_pickle(folder / split), _load_pickle(folder / "meta")
    try:
        pixels = np.asarray(content[b"data"], np.uint8).reshape(-1, 3, 32, 32)
        labels = [int(label) for label in content[f"{level}_labels".encode()]]
        classes = tuple(name.decode() for name in meta[f"{level}_label_names".encode()])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{folder} is no CIFAR-100 in Python's version: {error}") from error
    if len(pixels) != len(labels) or not all(0 <= label < len(classes) for label in labels):
        raise DatasetError(
            f"{folder / split} has {len(pixels)} pictures, {len(labels)} labels and {len(classes)} classes, "
            f"which do not go together"
        )
    images = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    pictures = tuple(ClassifiedPicture(image, label) for image, label in zip(images, labels, strict=True))
    return ClassifiedSet(pictures, classes)


class _PlainUnpickler(pickle.Unpickler):
    """Unpickler that knows number arrays and no other class or function."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - as in the standard library
        # NumPy's own modules have moved, and old names warn; what a pickle means by them has not changed.
        if module in {"numpy.core.multiarray", "numpy._core.multiarray"} and name == "_reconstruct":
            return _empty_array
        if module == "numpy" and name in {"ndarray", "dtype"}:
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it wants {module}.{name}, which is neither plain data nor an array")


def _empty_array(kind: type, shape: tuple[int, ...], dtype: bytes | str) -> npt.NDArray[Any]:
    """Array that the pickle fills next."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError(f"it wants an array of type {kind!r}")
    return np.ndarray(shape, dtype.decode() if isinstance(dtype, bytes) else dtype)


def _load_pickle(path: Path) -> dict[Any, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error
    try:
        content = _PlainUnpickler(io.BytesIO(data), encoding="bytes").load()
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        KeyError,
    ) as error:
        raise DatasetError(f"{path} is no pickle of plain data: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path} must hold a dict, got {type(content).__name__}")
    return content


@dataclass(frozen=True, slots=True)
class ClassificationCropSettings:
    """How training crops are drawn; the defaults are usual for ImageNet.

    Attributes:
        size: (H, W) of the crops, in pixels.
        area: lowest and highest share of the picture that a crop shows.
        stretch: highest ratio of the crop's sides in the picture to those of `size`.
        padding: pixels of canvas around the picture; 4 with an `area` of (1, 1) is usual for CIFAR.
        light: strength of photometric changes, from 0 to 1.
    """

    size: tuple[int, int]
    area: tuple[float, float] = (0.08, 1.0)
    stretch: float = 4 / 3
    padding: int = 0
    light: float = 0.5

    def __post_init__(self) -> None:
        is_sound = min(self.size) >= 1 and 0 < self.area[0] <= self.area[1] <= 1
        if not is_sound or self.stretch < 1 or self.padding < 0 or not 0 <= self.light <= 1:
            raise ConfigError(
                f"crops need a size of at least 1, an area within (0, 1], a stretch from 1, a padding from 0 "
                f"and a light from 0 to 1, got {self}"
            )


#: CIFAR's usual crops: shifted by up to 4 pixels, mirrored, light unchanged.
CIFAR_CROPS = ClassificationCropSettings(size=(32, 32), area=(1.0, 1.0), stretch=1.0, padding=4, light=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class ClassificationCrops:
    """Numbered training crops: number and seed alone decide what a crop shows.

    Every picture comes once in each run of as many numbers as there are pictures.
    """

    pictures: Sequence[ClassifiedPicture]
    settings: ClassificationCropSettings
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.pictures:
            raise DatasetError("crops need at least one picture")

    def __len__(self) -> int:
        return len(self.pictures)

    def make(self, number: int) -> tuple[Image, int]:
        """Draw crop `number`, which may be any whole number from 0 → image `[H, W, 3]` uint8 RGB, class.

        Raises:
            MediaError: the picture is missing or broken.
        """
        picture = self.pictures[number_in_epoch(number, len(self.pictures), seed=self.seed)]
        rng = np.random.default_rng([self.seed, number])
        return random_crop(picture.load(), self.settings, rng), picture.label


def random_crop(image: Image, settings: ClassificationCropSettings, rng: np.random.Generator) -> Image:
    """Draw a crop of random area, shape, place, side and light (Szegedy et al., arXiv:1409.4842)."""
    border = settings.padding
    image = np.asarray(
        cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_CONSTANT, value=PADDING),
        np.uint8,
    )
    h, w = image.shape[:2]
    full = np.array([w, h]) - 2 * border
    side = np.sqrt(rng.uniform(*settings.area))
    bend = np.exp(rng.uniform(-0.5, 0.5) * np.log(settings.stretch))
    window = np.minimum(full * side * np.array([bend, 1 / bend]), [w, h])
    corner = rng.uniform(0, 1, size=2) * (np.array([w, h]) - window)
    if settings.area == (1.0, 1.0) and settings.stretch == 1:  # whole pixels: nothing is blurred
        corner = np.round(corner)
    target = np.array(settings.size[::-1])
    affine = compose(np.column_stack([np.eye(2), -corner]), scaling(*(target / window)))
    if rng.random() < 0.5:
        middle = (target - 1) / 2
        affine = compose(affine, similarity(source_xy=middle, target_xy=middle, scale=1.0, is_mirrored=True))
    return jitter(warp(image, affine, settings.size, fill=PADDING), rng, strength=settings.light)


def centre_crop(image: Image, size: tuple[int, int], *, share: float = 0.875) -> Image:
    """Cut out the middle for scoring: the largest window shaped like `size`, `share` of it per side."""
    h, w = image.shape[:2]
    scale = max(size[0] / h, size[1] / w) / share
    affine = similarity(
        source_xy=((w - 1) / 2, (h - 1) / 2),
        target_xy=((size[1] - 1) / 2, (size[0] - 1) / 2),
        scale=scale,
    )
    return warp(image, affine, size, fill=PADDING)

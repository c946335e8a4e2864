"""Pictures with a class per pixel: Cityscapes, CamVid, rendered people, and training crops of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.data.label_maps import (
    CAMVID_11,
    CAMVID_NUMBERS,
    CITYSCAPES_IDS,
    CITYSCAPES_TRAIN_IDS,
    IGNORED,
    SYNTH,
    LabelMap,
)
from fleetpose.data.layouts import read_json
from fleetpose.data.photometric import jitter
from fleetpose.data.picture_order import number_in_epoch
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.geometry import PADDING, Image, similarity, warp
from fleetpose.media.images import IMAGE_SUFFIXES, quiet_opencv, read_image

#: What names the picture and its label picture in the files of `fleetpose synth`.
_SYNTH_FILES = ("file_name", "semantic_file")


@dataclass(frozen=True, slots=True)
class SegmentedPicture:
    """A picture, its label picture, and what the pixels of that mean."""

    image: Path
    labels: Path
    label_map: LabelMap


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationSample:
    """A crop: image `[H, W, 3]` uint8 RGB, labels `[H, W]` uint8 classes or `IGNORED`."""

    image: Image
    labels: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SegmentationCropSettings:
    """How training crops are drawn.

    Attributes:
        size: (H, W) of the crops, in pixels.
        zoom: lowest and highest enlargement of the picture.
        is_mirrored_half: half of the crops are mirrored.
        light: strength of photometric changes, from 0 to 1.
    """

    size: tuple[int, int]
    zoom: tuple[float, float] = (0.5, 2.0)
    is_mirrored_half: bool = True
    light: float = 1.0

    def __post_init__(self) -> None:
        if min(self.size) < 1 or not 0 < self.zoom[0] <= self.zoom[1] or not 0 <= self.light <= 1:
            raise ConfigError(
                f"crops need a size of at least 1, a lowest and a highest zoom above 0 and a light from "
                f"0 to 1, but got {self.size}, {self.zoom} and {self.light}"
            )


def read_cityscapes(root: Path, *, split: str = "train") -> list[SegmentedPicture]:
    """List `leftImg8bit/SPLIT/CITY/*_leftImg8bit.png` with their labels in `gtFine`.

    Labels are `*_gtFine_labelTrainIds.png` where those were made, else `*_gtFine_labelIds.png`.

    Raises:
        DatasetError: the folder is missing or a picture has no labels.
    """
    images = _pictures_in(root / "leftImg8bit" / split, "*/*_leftImg8bit.png")
    return [_cityscapes_picture(image, root / "gtFine" / split) for image in images]


def _cityscapes_picture(image: Path, folder: Path) -> SegmentedPicture:
    stem = folder / image.parent.name / image.name.removesuffix("_leftImg8bit.png")
    for suffix, label_map in (
        ("_gtFine_labelTrainIds.png", CITYSCAPES_TRAIN_IDS),
        ("_gtFine_labelIds.png", CITYSCAPES_IDS),
    ):
        labels = stem.with_name(stem.name + suffix)
        if labels.is_file():
            return SegmentedPicture(image, labels, label_map)
    raise DatasetError(f"{image} has no labels; expected {labels}")


def read_camvid(images: Path, labels: Path, *, label_map: LabelMap = CAMVID_11) -> list[SegmentedPicture]:
    """List the pictures of a folder with their labels in another.

    The labels of `NAME.png` are `NAME_L.png`, coloured, as in the original data, or `NAME.png`, as in
    SegNet's copy, where they are grey class numbers whatever `label_map` says.

    Raises:
        DatasetError: a folder is missing or a picture has no labels.
    """
    pictures = []
    for image in _pictures_in(images, "*"):
        coloured, grey = labels / f"{image.stem}_L.png", labels / f"{image.stem}.png"
        if coloured.is_file():
            pictures.append(SegmentedPicture(image, coloured, label_map))
        elif grey.is_file():
            pictures.append(SegmentedPicture(image, grey, CAMVID_NUMBERS))
        else:
            raise DatasetError(f"{image} has no labels; expected {coloured} or {grey}")
    return pictures


def read_synth(annotations: Path, *, root: Path | None = None) -> list[SegmentedPicture]:
    """List rendered pictures with masks (`fleetpose synth dataset --semantic`), in Cityscapes' classes.

    Args:
        annotations: COCO file of the data set.
        root: folder that its names start from; by default the file's own.

    Raises:
        DatasetError: the file cannot be read or names no masks.
    """
    data = read_json(annotations)
    folder = root or annotations.parent
    records = data.get("images", []) if isinstance(data, dict) else []
    masked = [record for record in records if isinstance(record, dict) and "semantic_file" in record]
    if not all(isinstance(record.get(key), str) for record in masked for key in _SYNTH_FILES):
        files = " and ".join(_SYNTH_FILES)
        raise DatasetError(f"{annotations} names masks, but some of its pictures lack a {files} in words")
    pictures = [
        SegmentedPicture(folder / record["file_name"], folder / record["semantic_file"], SYNTH)
        for record in masked
    ]
    if not pictures:
        raise DatasetError(
            f"{annotations} names no masks; render them with fleetpose synth dataset --semantic"
        )
    return pictures


def load_segmented(picture: SegmentedPicture) -> SegmentationSample:
    """Read a picture and its labels whole.

    Raises:
        MediaError: the picture is missing or broken.
        DatasetError: the labels are, or are of another size or kind.
    """
    image = read_image(picture.image)
    labels = read_labels(picture.labels, picture.label_map)
    if labels.shape[:2] != image.shape[:2]:
        raise DatasetError(
            f"{picture.labels} has {labels.shape[0]} rows and {labels.shape[1]} columns, "
            f"but {picture.image} has {image.shape[0]} and {image.shape[1]}"
        )
    return SegmentationSample(image, labels)


def read_labels(path: Path, label_map: LabelMap) -> npt.NDArray[np.uint8]:
    """Read a label picture → classes `[H, W]` uint8, `IGNORED` where none counts.

    Raises:
        DatasetError: the file is missing, broken or of another kind.
    """
    flag = cv2.IMREAD_COLOR_RGB if label_map.is_coloured else cv2.IMREAD_UNCHANGED
    with quiet_opencv():
        labels = cv2.imread(str(path), flag)
    if labels is None:
        raise DatasetError(f"cannot read the labels {path}: the file is missing or broken")
    return label_map.decode(np.asarray(labels, np.uint8))


@dataclass(frozen=True, slots=True)
class SegmentationCrops:
    """Numbered training crops: number and seed alone decide what a crop shows.

    Every picture comes once in each run of as many numbers as there are pictures.
    """

    pictures: Sequence[SegmentedPicture]
    settings: SegmentationCropSettings
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.pictures:
            raise DatasetError("crops need at least one picture")

    def __len__(self) -> int:
        return len(self.pictures)

    def make(self, number: int) -> SegmentationSample:
        """Draw crop `number`, which may be any whole number from 0.

        Raises:
            MediaError: the picture is missing or broken.
            DatasetError: its labels are.
        """
        picture = self.pictures[number_in_epoch(number, len(self.pictures), seed=self.seed)]
        rng = np.random.default_rng([self.seed, number])
        return crop(load_segmented(picture), self.settings, rng)


def crop(
    sample: SegmentationSample, settings: SegmentationCropSettings, rng: np.random.Generator
) -> SegmentationSample:
    """Draw a crop at random zoom, place, side and light; what lies beyond the picture is ignored."""
    h, w = sample.image.shape[:2]
    zoom = float(np.exp(rng.uniform(*np.log(settings.zoom))))
    # The crop's window in the picture; a picture smaller than it lies somewhere inside.
    window = np.array(settings.size[::-1]) / zoom
    room = np.array([w, h]) - window
    centre = np.array([w - 1, h - 1]) / 2 + rng.uniform(-0.5, 0.5, size=2) * np.abs(room)
    affine = similarity(
        source_xy=centre,
        target_xy=(np.array(settings.size[::-1]) - 1) / 2,
        scale=zoom,
        is_mirrored=settings.is_mirrored_half and bool(rng.random() < 0.5),
    )
    image = warp(sample.image, affine, settings.size, fill=PADDING)
    return SegmentationSample(
        image=jitter(image, rng, strength=settings.light),
        labels=warp(sample.labels, affine, settings.size, fill=IGNORED, interpolation=cv2.INTER_NEAREST),
    )


def _pictures_in(folder: Path, pattern: str) -> list[Path]:
    paths = sorted(path for path in folder.glob(pattern) if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise DatasetError(f"{folder} holds no picture {pattern}; give the folder that the data unpacks to")
    return paths

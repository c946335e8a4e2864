"""Classes of pictures and of pixels: classification, segmentation, and segmentation beside poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.data.classification import (
    ClassificationCrops,
    ClassificationCropSettings,
    ClassifiedSet,
    read_cifar100,
    read_image_folder,
)
from fleetpose.data.label_maps import CAMVID_11, CITYSCAPES_CLASSES
from fleetpose.data.segmentation import (
    SegmentationCrops,
    SegmentationCropSettings,
    SegmentedPicture,
    load_segmented,
    read_camvid,
    read_cityscapes,
    read_synth,
)
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.losses import IGNORED_CLASS, class_loss, class_weights
from fleetpose.train.config import Phase, PictureSet, TrainConfig
from fleetpose.train.stream import Item, Labels
from fleetpose.train.tasks.bottom_up import BottomUp

#: Name of the codec in a model file.
CODEC_TYPE = "classes"
#: Pixels of so many pictures are counted to weigh classes.
COUNTED_PICTURES = 100


@dataclass(frozen=True, slots=True)
class ClassCodec:
    """Classes of scores, in their order; the greatest score decides."""

    names: tuple[str, ...]

    def settings(self) -> dict[str, Any]:
        """Plain data for a model file."""
        return {"type": CODEC_TYPE, "names": list(self.names)}


def read_classified(picture_set: PictureSet) -> ClassifiedSet:
    """Read pictures with one class each.

    Raises:
        ConfigError: the layout has classes of pixels.
        DatasetError: the files are missing or broken.
    """
    if picture_set.layout == "image_folder":
        return read_image_folder(picture_set.root / picture_set.split)
    if picture_set.layout == "cifar100":
        if picture_set.split not in {"train", "test"}:
            raise ConfigError(f"split of {picture_set.root} must be train or test, got {picture_set.split!r}")
        return read_cifar100(picture_set.root, split="test" if picture_set.split == "test" else "train")
    raise ConfigError(f"classification takes an image_folder or cifar100, got {picture_set.layout}")


def read_segmented(picture_set: PictureSet) -> list[SegmentedPicture]:
    """List pictures with a class per pixel.

    Raises:
        ConfigError: the layout has classes of whole pictures.
        DatasetError: the files are missing.
    """
    root, split = picture_set.root, picture_set.split
    if picture_set.layout == "cityscapes":
        return read_cityscapes(root, split=split)
    if picture_set.layout == "camvid":
        return read_camvid(root / split, root / f"{split}_labels")
    if picture_set.layout == "synth":
        return read_synth(root)
    raise ConfigError(f"segmentation takes cityscapes, camvid or synth, got {picture_set.layout}")


class ClassifiedDataset(Dataset[Item]):
    """Crop number i and its class."""

    def __init__(self, crops: ClassificationCrops) -> None:
        self.crops = crops

    def __getitem__(self, index: int) -> Item:
        image, label = self.crops.make(index)
        return torch.from_numpy(image), {"targets": {"classes": torch.full((1, 1), label)}}


class SegmentedDataset(Dataset[Item]):
    """Crop number i and the classes of its pixels."""

    def __init__(self, crops: SegmentationCrops) -> None:
        self.crops = crops

    def __getitem__(self, index: int) -> Item:
        sample = self.crops.make(index)
        labels = torch.from_numpy(sample.labels.astype(np.int64))
        return torch.from_numpy(sample.image), {"targets": {"classes": labels}}


class MixedDataset(Dataset[Item]):
    """Scenes with people and pictures with classes, in turns; each counts only for what it has labels of."""

    def __init__(
        self, scenes: Dataset[Item], pictures: Dataset[Item], *, size: tuple[int, int], share: float
    ) -> None:
        self.scenes = scenes
        self.pictures = pictures
        self.size = size
        self.share = share

    def __getitem__(self, index: int) -> Item:
        """Sample `index`: of every so many, that share is pictures with classes."""
        image, labels = self.scenes[index]
        targets, masks = labels["targets"], labels["masks"]
        classes = torch.full(self.size, IGNORED_CLASS)
        if int((index + 1) * self.share) > int(index * self.share):
            image, other = self.pictures[index]
            classes = other["targets"]["classes"]
            masks = {name: torch.zeros_like(mask) for name, mask in masks.items()}
            targets = {
                name: torch.full_like(value, -1) if value.dtype == torch.int64 else torch.zeros_like(value)
                for name, value in targets.items()
            }
        return image, {"targets": {**targets, "classes": classes}, "masks": masks}


class _Classes:
    """What all networks with scores of classes share."""

    def __init__(self, *, fields: tuple[Field, ...], config: TrainConfig) -> None:
        (self._field,) = (field for field in fields if field.kind is FieldKind.CLASSES)
        self._config = config
        self._weights: Tensor | None = None

    def _class_loss(
        self, predicted: Mapping[str, Tensor], labels: Labels, *, ignored: int = IGNORED_CLASS
    ) -> Tensor:
        scores = predicted[self._field.name]
        weights = None if self._weights is None else self._weights.to(scores.device)
        smoothing = self._config.loss.label_smoothing
        return class_loss(
            scores, labels["targets"]["classes"], weights=weights, smoothing=smoothing, ignored=ignored
        )

    def _segmented(self, phases: Sequence[Phase]) -> list[Dataset[Item]]:
        pictures = [one for item in self._config.pictures for one in read_segmented(item)]
        if not pictures:
            raise DatasetError("segmentation needs pictures with classes; name them in pictures")
        check_class_names(pictures, class_names(self._config, self._field.channels))
        if self._config.loss.is_class_balanced:
            self._weights = _balance(pictures, self._field.channels)
        return [
            SegmentedDataset(
                SegmentationCrops(
                    pictures,
                    SegmentationCropSettings(
                        size=phase.size, zoom=phase.pictures.zoom, light=phase.pictures.light
                    ),
                    seed=self._config.seed,
                )
            )
            for phase in phases
        ]


class Classification(_Classes):
    """Training of networks that name what a picture shows; see `Task`."""

    def __init__(self, *, fields: tuple[Field, ...], config: TrainConfig) -> None:
        super().__init__(fields=fields, config=config)
        numbers = tuple(str(number) for number in range(self._field.channels))
        self.codec = ClassCodec(config.class_names or numbers)
        self.input_size = config.phases[-1].size

    def datasets(self) -> Sequence[Dataset[Item]]:
        """One dataset of crops per phase; the codec takes over the names of their classes."""
        sets = [read_classified(item) for item in self._config.pictures]
        names = sets[0].classes if sets else ()
        if len(names) != self._field.channels:
            raise DatasetError(
                f"{self._config.model} tells {self._field.channels} classes, but the data have "
                f"{len(names) or 'none'}; set num_classes"
            )
        known = self._config.class_names
        if known and names != known:
            raise DatasetError(
                f"{self._config.pictures[0].root} must have the classes of class_names, in the same order; "
                f"{difference(names, known)}"
            )
        self.codec = ClassCodec(names)
        first = self._config.pictures[0].root
        for item, one in zip(self._config.pictures, sets, strict=True):
            if one.classes != names:
                reason = difference(one.classes, names)
                raise DatasetError(
                    f"{item.root} must have the classes of {first}, in the same order; {reason}"
                )
        pictures = [picture for one in sets for picture in one.pictures]
        return [
            ClassifiedDataset(
                ClassificationCrops(
                    pictures,
                    ClassificationCropSettings(
                        size=phase.size,
                        area=phase.pictures.area,
                        stretch=phase.pictures.stretch,
                        padding=phase.pictures.padding,
                        light=phase.pictures.light,
                    ),
                    seed=self._config.seed,
                )
            )
            for phase in self._config.phases
        ]

    def losses(self, predicted: Mapping[str, Tensor], labels: Labels) -> dict[str, Tensor]:
        """Cross-entropy; see `class_loss`."""
        return {"total": self._class_loss(predicted, labels, ignored=-1)}  # 255 is a class like others


class Segmentation(_Classes):
    """Training of networks that name what each pixel shows; see `Task`."""

    def __init__(self, *, fields: tuple[Field, ...], config: TrainConfig) -> None:
        super().__init__(fields=fields, config=config)
        self.codec = ClassCodec(class_names(config, self._field.channels))
        self.input_size = config.phases[-1].size

    def datasets(self) -> Sequence[Dataset[Item]]:
        """One dataset of crops per phase."""
        return self._segmented(self._config.phases)

    def losses(self, predicted: Mapping[str, Tensor], labels: Labels) -> dict[str, Tensor]:
        """Cross-entropy over pixels; see `class_loss`."""
        return {"total": self._class_loss(predicted, labels)}


class PoseAndSegmentation(_Classes):
    """Training of networks that do both, on pictures that are labelled for either; see `Task`."""

    def __init__(self, *, fields: tuple[Field, ...], config: TrainConfig) -> None:
        super().__init__(fields=fields, config=config)
        pose = tuple(field for field in fields if field.kind is not FieldKind.CLASSES)
        self._pose = BottomUp(fields=pose, config=config)
        self.codec = self._pose.codec
        self.input_size = self._pose.input_size

    def datasets(self) -> Sequence[Dataset[Item]]:
        """One mixed dataset per phase."""
        phases = self._config.phases
        pairs = zip(self._pose.datasets(), self._segmented(phases), phases, strict=True)
        return [
            MixedDataset(scenes, pictures, size=phase.size, share=self._config.pictures_share)
            for scenes, pictures, phase in pairs
        ]

    def losses(self, predicted: Mapping[str, Tensor], labels: Labels) -> dict[str, Tensor]:
        """Losses of poses, cross-entropy of classes as `classes`, and their weighted sum."""
        targets = {name: value for name, value in labels["targets"].items() if name != "classes"}
        parts = self._pose.losses(predicted, {**labels, "targets": targets})
        classes = self._class_loss(predicted, labels)
        total = parts.pop("total") + self._config.loss.classes * classes
        return {**parts, "classes": classes, "total": total}


def difference(classes: Sequence[str], expected: Sequence[str]) -> str:
    """Tell in words where two lists of classes first part."""
    pairs = enumerate(zip_longest(classes, expected, fillvalue="nothing"))
    number, (got, wanted) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    return f"class {number} is {got} instead of {wanted}"


def check_class_names(pictures: Sequence[SegmentedPicture], names: Sequence[str]) -> None:
    """Make sure that class k of every picture is the network's.

    Raises:
        DatasetError: they have other classes, or the same in another order.
    """
    for classes, picture in {one.label_map.classes: one for one in pictures}.items():
        if classes != tuple(names[: len(classes)]):
            raise DatasetError(
                f"{picture.labels} must have the classes of the network, in the same order; "
                f"{difference(classes, names[: len(classes)])}; train on one kind of classes"
            )


def class_names(config: TrainConfig, count: int) -> tuple[str, ...]:
    """Names of a segmentation's classes, by its data; numbers where those have others.

    Raises:
        ConfigError: the data have other classes than the network.
    """
    names = (
        CAMVID_11.classes if any(one.layout == "camvid" for one in config.pictures) else CITYSCAPES_CLASSES
    )
    if len(names) > count:
        raise ConfigError(f"{config.model} tells {count} classes, but the data have {len(names)}")
    return (*names, *(f"unused {number}" for number in range(len(names), count)))


def _balance(pictures: Sequence[SegmentedPicture], num_classes: int) -> Tensor:
    """Weights of the classes, from a sample of the pictures."""
    counts = np.zeros(num_classes)
    for picture in pictures[:: max(1, len(pictures) // COUNTED_PICTURES)]:
        labels = load_segmented(picture).labels
        counts += np.bincount(labels[labels < num_classes], minlength=num_classes)
    return class_weights(torch.from_numpy(counts).float())

"""Scores of what any tool has made of whole pictures: a class per pixel, or a score per class.

No model is run here: our networks for both are scored at the end of their training.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fleetpose.data.label_maps import (
    CAMVID_11,
    CAMVID_32,
    CAMVID_NUMBERS,
    CITYSCAPES_IDS,
    CITYSCAPES_TRAIN_IDS,
    IGNORED,
    SYNTH,
    LabelMap,
)
from fleetpose.data.segmentation import read_labels
from fleetpose.errors import DatasetError, UnknownNameError
from fleetpose.metrics.classification import top_accuracy
from fleetpose.metrics.segmentation import confusion, iou_scores

#: What the pixels of label pictures may mean, by the name that a user gives, and the end of their file names.
LABEL_MAPS: Mapping[str, tuple[LabelMap, str]] = {
    "cityscapes": (CITYSCAPES_IDS, "_gtFine_labelIds"),
    "cityscapes-train": (CITYSCAPES_TRAIN_IDS, "_gtFine_labelTrainIds"),
    "camvid": (CAMVID_11, "_L"),
    "camvid-32": (CAMVID_32, "_L"),
    "camvid-numbers": (CAMVID_NUMBERS, ""),
    "synth": (SYNTH, ""),
}

#: End of the names of Cityscapes' pictures; predictions are often called like them.
_PICTURE_ENDING = "_leftImg8bit"

#: Guesses that a classifier has, as far as there are so many classes.
_GUESSES = (1, 5)


@dataclass(frozen=True, slots=True)
class PictureScores:
    """What was reached on labelled pictures.

    Attributes:
        metric: "miou" or "top".
        scores: shares from 0 to 1 by name; NaN for a class that is nowhere.
        num_images: pictures that were scored.
    """

    metric: str
    scores: Mapping[str, float]
    num_images: int


def score_label_maps(predicted: Path, labels: Path, *, label_map: str = "cityscapes") -> PictureScores:
    """Score pictures with a class per pixel by intersection over union.

    Args:
        predicted: folder of grey PNG pictures of class numbers, 0 to one less than there are classes, for
            Cityscapes its train ids; in subfolders too.
        labels: folder of label pictures of the same names, apart from Cityscapes' and CamVid's own endings.
            Each must have its prediction, of the same size.
        label_map: what the labels' pixels mean (`LABEL_MAPS`).

    Returns:
        `mIoU`, the share of right pixels, and the intersection over union of each class.

    Raises:
        DatasetError: a folder has no pictures, or a prediction is missing, broken, of another size, or gives
            no class to a pixel that counts.
        UnknownNameError: there is no such label map.
    """
    if label_map not in LABEL_MAPS:
        raise UnknownNameError("label map", label_map, LABEL_MAPS)
    meaning, ending = LABEL_MAPS[label_map]
    truth, found = _pictures(labels, ending), _pictures(predicted, _PICTURE_ENDING)
    _check_same(truth, found, labels, predicted)
    classes = range(len(meaning.classes))
    numbers = LabelMap(meaning.name, meaning.classes, {number: number for number in classes})
    counts = np.zeros((len(classes), len(classes)), np.int64)
    for name, path in truth.items():
        right, guessed = read_labels(path, meaning), read_labels(found[name], numbers)
        if right.shape != guessed.shape:
            raise DatasetError(
                f"{found[name]} has {guessed.shape[0]} rows and {guessed.shape[1]} columns, but {path} has "
                f"{right.shape[0]} and {right.shape[1]}"
            )
        strange = int((guessed[right != IGNORED] == IGNORED).sum())
        if strange:
            raise DatasetError(
                f"{found[name]} has {strange} pixels that count and are no class from 0 to {classes[-1]}"
            )
        counts += confusion(guessed, right, num_classes=len(classes))
    result = iou_scores(counts, meaning.classes)
    scores = {"mIoU": result.mean, "right pixels": result.accuracy, **result.per_class}
    return PictureScores("miou", scores, len(truth))


def score_classes(predicted: Path, labels: Path) -> PictureScores:
    """Score a table of class scores by the share of pictures whose class is first, or among the first five.

    Args:
        predicted: CSV file, a line per picture: its name, then a score for each class, higher for surer.
        labels: CSV file, a line per picture: its name and the number of its class, from 0. Both without a
            header, in any order; each label must have its scores.

    Returns:
        `top-1`, and `top-5` where there are at least five classes.

    Raises:
        DatasetError: a file cannot be read, holds something else, or a picture lacks scores.
        ShapeError: a label is no class.
    """
    truth, found = _rows(labels), _rows(predicted)
    _check_same(truth, found, labels, predicted)
    widths = {len(found[name]) for name in truth}
    if widths == {0} or len(widths) > 1 or any(len(row) != 1 for row in truth.values()):
        raise DatasetError(
            f"{labels} must hold one class per picture and {predicted} equally many scores per picture"
        )
    numbers = [row[0] for row in truth.values()]
    if not all(number.is_integer() for number in numbers):
        raise DatasetError(f"{labels} must hold the whole number of a class per picture")
    scores, classes = np.array([found[name] for name in truth]), np.array(numbers, np.int64)
    tops = [top for top in _GUESSES if top <= scores.shape[1]]
    shares = {f"top-{top}": top_accuracy(scores, classes, top=top) for top in tops}
    return PictureScores("top", shares, len(truth))


def _pictures(folder: Path, ending: str) -> dict[str, Path]:
    """PNG pictures by name without its ending: those with the ending if there are any, else all."""
    paths = sorted(folder.rglob("*.png"))
    if not paths:
        raise DatasetError(f"{folder} is no folder with PNG pictures of classes")
    with_ending = [path for path in paths if path.stem.endswith(ending)]
    pictures = {path.stem.removesuffix(ending): path for path in with_ending or paths}
    if len(pictures) < len(with_ending or paths):
        raise DatasetError(f"{folder} holds several pictures of one name, which cannot be told apart")
    return pictures


def _check_same(truth: Mapping[str, object], found: Mapping[str, object], labels: Path, made: Path) -> None:
    """Refuse labels without a prediction; predictions for other pictures do no harm."""
    missing = sorted(truth.keys() - found.keys())
    if missing:
        raise DatasetError(
            f"{len(missing)} of the {len(truth)} pictures of {labels} are not in {made}, the first is "
            f"{missing[0]}"
        )


def _rows(path: Path) -> dict[str, list[float]]:
    """Numbers by picture."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = {line[0]: [float(number) for number in line[1:]] for line in csv.reader(file) if line}
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise DatasetError(
            f"{path} must hold a name and numbers in each line, without a header: {error}"
        ) from error
    if not rows:
        raise DatasetError(f"{path} holds no picture")
    return rows

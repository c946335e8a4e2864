"""Intersection over union of segmented pictures, per class and in the mean.

Cityscapes' table has 19 classes; pixels of label 255 count for nothing (Cordts et al., arXiv:1604.01685).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetpose.errors import ShapeError

Counts = npt.NDArray[np.int64]

IGNORED_LABEL = 255
CITYSCAPES_CLASSES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
    *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
    *("motorcycle", "bicycle"),
)


@dataclass(frozen=True, slots=True)
class IouScores:
    """Intersection over union, 0 to 1.

    Attributes:
        mean: over the classes that were labelled or predicted anywhere; NaN where none was.
        per_class: by name; NaN for a class that was neither.
        accuracy: share of counted pixels with the right class; NaN without such pixels.
    """

    mean: float
    per_class: Mapping[str, float]
    accuracy: float


def confusion(
    predicted: npt.NDArray[np.integer],
    labelled: npt.NDArray[np.integer],
    *,
    num_classes: int,
    ignored_label: int = IGNORED_LABEL,
) -> Counts:
    """Count pixels by labelled class (rows) and predicted class (columns); add up those of many pictures.

    Args:
        predicted: `[...]` class of each pixel.
        labelled: of the same shape; pixels of `ignored_label` count for nothing.
        num_classes: classes are 0 to this minus 1.
        ignored_label: stands for no class.

    Raises:
        ShapeError: the shapes differ, or a counted pixel has another class.

    >>> confusion(np.array([0, 1, 1]), np.array([0, 0, 255]), num_classes=2).tolist()
    [[1, 1], [0, 0]]
    """
    if predicted.shape != labelled.shape:
        raise ShapeError("predicted", f"of the labels' shape {list(labelled.shape)}", list(predicted.shape))
    is_counted = labelled != ignored_label
    rows, columns = labelled[is_counted].astype(np.int64), predicted[is_counted].astype(np.int64)
    for name, classes in (("labelled", rows), ("predicted", columns)):
        if classes.size and (classes.min() < 0 or classes.max() >= num_classes):
            strange = classes[(classes < 0) | (classes >= num_classes)][0]
            raise ShapeError(f"{name} classes", f"0 to {num_classes - 1} or {ignored_label}", int(strange))
    flat = np.bincount(rows * num_classes + columns, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def iou_scores(counts: Counts, names: Sequence[str] = CITYSCAPES_CLASSES) -> IouScores:
    """Sum up what `confusion` counted.

    Args:
        counts: pixels by labelled class (rows) and predicted class (columns).
        names: of the classes.

    Raises:
        ShapeError: there are other classes than names.
    """
    if counts.shape != (len(names), len(names)):
        raise ShapeError("counts", f"a square of {len(names)} classes", list(counts.shape))
    shared = np.diagonal(counts)
    union = counts.sum(axis=0) + counts.sum(axis=1) - shared
    shares = np.where(union > 0, shared / np.maximum(union, 1), np.nan)
    total = int(counts.sum())
    return IouScores(
        mean=float(np.nanmean(shares)) if (union > 0).any() else float("nan"),
        per_class=dict(zip(names, shares.tolist(), strict=True)),
        accuracy=float(shared.sum() / total) if total else float("nan"),
    )

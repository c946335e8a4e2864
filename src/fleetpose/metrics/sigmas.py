"""How exactly a keypoint can be placed: the sigmas of object keypoint similarity for one's own skeleton.

COCO had many people labelled more than once and took, for each keypoint, the spread of the labels as a
share of the square root of the person's area. `sigmas_from_repeated_labels` does that. Where nobody
labelled twice, `guess_sigmas` takes the value of the keypoint of the same name in a known skeleton, and
else a middle value; it warns, since scores over guessed sigmas compare models with each other but not with
published figures.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fleetpose.errors import DatasetError, ShapeError
from fleetpose.skeletons import GUESSED_SIGMA, SKELETONS

logger = logging.getLogger(__name__)

Array = npt.NDArray[np.floating]

#: Fewer pairs of labels than this say little about a spread.
FEWEST_REPEATS = 10
#: The smallest sigma of COCO, that of eyes: no hand is steadier.
_LOWEST = 0.025


def sigmas_from_repeated_labels(first: Array, second: Array, areas: Array) -> tuple[float, ...]:
    """Estimate sigmas from people who were labelled twice, by two annotators → K numbers.

    Each label is off the unknown truth by the same spread on average, so the squared distance between two
    labels is twice the square that is looked for.

    Args:
        first: `[N, K, 3]` (x, y, v).
        second: the same people, labelled by somebody else.
        areas: `[N]` in square pixels.

    Raises:
        DatasetError: a keypoint was labelled twice too rarely.

    >>> first = np.zeros((20, 1, 3)); first[..., 2] = 2
    >>> second = first.copy(); second[:, 0, 0] = 10.0
    >>> [round(sigma, 4) for sigma in sigmas_from_repeated_labels(first, second, np.full(20, 1e4))]
    [0.0707]
    """
    if first.shape != second.shape or first.ndim != 3 or areas.shape != first.shape[:1]:
        raise ShapeError(
            "labels and areas", "[N, K, 3] twice and [N]", [list(a.shape) for a in (first, second, areas)]
        )
    is_repeated = (first[..., 2] > 0) & (second[..., 2] > 0) & (areas > 0)[:, None]
    counts = is_repeated.sum(axis=0)
    if (counts < FEWEST_REPEATS).any():
        raise DatasetError(
            f"keypoint {int(counts.argmin())} was labelled twice on {counts.min()} people only, "
            f"expected at least {FEWEST_REPEATS}; label more people twice or guess by name"
        )
    squares = ((first[..., :2] - second[..., :2]) ** 2).sum(axis=-1) / np.maximum(areas, 1e-9)[:, None] / 2
    means = np.where(is_repeated, squares, 0).sum(axis=0) / counts
    return tuple(np.maximum(np.sqrt(means), _LOWEST).tolist())


def guess_sigmas(keypoints: Sequence[str]) -> tuple[float, ...]:
    """Guess sigmas by the keypoints' names, and warn.

    >>> guess_sigmas(["left_wrist", "hoof"])
    (0.062, 0.079)
    """
    known = {
        name: sigma
        for skeleton in SKELETONS.values()
        for name, sigma in zip(skeleton.keypoints, skeleton.sigmas, strict=True)
    }
    strange = [name for name in keypoints if name not in known]
    logger.warning(
        "no sigmas are given: those of COCO's keypoints of the same name stand in%s; such scores compare "
        "models with each other, not with published figures",
        f", and {GUESSED_SIGMA} for {', '.join(strange)}" if strange else "",
    )
    return tuple(known.get(name, GUESSED_SIGMA) for name in keypoints)

"""Accuracy of classified pictures: the right class first, or among the first few."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetpose.errors import ShapeError


def top_accuracy(scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], *, top: int = 1) -> float:
    """Share of pictures whose class is among the `top` highest scores; NaN without pictures.

    Of equal scores that of the lower class counts as higher.

    Args:
        scores: `[N, C]` of each class.
        labels: `[N]` right class.
        top: how many guesses a model has.

    Raises:
        ShapeError: shapes do not fit, a label is no class, or a score is not a number.

    >>> top_accuracy(np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]]), np.array([2, 0]))
    0.5
    >>> top_accuracy(np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]]), np.array([2, 0]), top=2)
    1.0
    """
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ShapeError(
            "scores and labels", "[N, C] and [N]", f"{list(scores.shape)} and {list(labels.shape)}"
        )
    if not 1 <= top <= scores.shape[1]:
        raise ShapeError("top", f"from 1 to the {scores.shape[1]} classes", top)
    if np.isnan(scores).any():
        raise ShapeError("scores", "numbers", "NaN")
    if not len(labels):
        return float("nan")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ShapeError("labels", f"0 to {scores.shape[1] - 1}", f"{labels.min()} to {labels.max()}")
    own = scores[np.arange(len(labels)), labels][:, None]
    is_lower = np.arange(scores.shape[1]) < labels[:, None]
    places = ((scores > own) | ((scores == own) & is_lower)).sum(axis=1)
    return float((places < top).mean())

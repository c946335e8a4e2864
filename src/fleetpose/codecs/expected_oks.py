"""Decoding by maximum expected similarity: guess where the score that one hopes for is highest.

A network that was trained with a cross-entropy of the place (`losses.location_loss`) says more than where its
peak is: its heatmap, read as a distribution over cells, tells how likely the keypoint lies in each. Where it
is unsure, between a left and a right wrist or along a sleeve, the highest cell is a gamble. What is asked of
a keypoint is object keypoint similarity (OKS, COCO's measure), exp(-d² / (2 A (2 sigma)²)) for a guess d away
from it on a person of area A. So each cell is judged by the similarity that a guess there can expect: the
chances of all places, each times the similarity to it, which is the distribution blurred by a Gaussian whose
peak is 1. The keypoint is put where that is highest; a broad cluster beats a lonely spike.

The expected similarity is a score too. Times the peak's chance, which tells whether there is anything to see,
it is what the keypoint is likely to bring, and its mean over all keypoints, the poor ones included, is what
the person is likely to bring: the number by which average precision wants people sorted. Such products are
small; their square root, the geometric mean of both factors, is given as score, because it sorts alike and
is of the size of other decoders' scores, for which thresholds are made.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fleetpose.codecs.peaks import subcell_tops

Array = npt.NDArray[np.floating]

#: Chances are kept so far from 0 and 1, where odds have no end.
CHANCE_FLOOR = 1e-5
#: Least spread of the similarity in cells: a narrower one would see the cells' middles only.
NARROWEST = 0.7


def similarity_spreads(sigmas: tuple[float, ...], *, person_cells: float) -> tuple[float, ...]:
    """Spreads in cells of each keypoint's similarity, for a person whose area is `person_cells` squared.

    >>> similarity_spreads((0.025, 0.107), person_cells=12)
    (0.7, 2.568)
    """
    return tuple(max(NARROWEST, 2 * sigma * person_cells) for sigma in sigmas)


def expected_tops(chances: Array, *, spreads: tuple[float, ...]) -> tuple[Array, Array]:
    """Find the places of the highest expected similarity.

    Args:
        chances: `[N, K, h, w]`, sigmoids of a network.
        spreads: of the similarity of each of the K keypoints, in cells.

    Returns:
        Places `[N, K, 2]` (x, y) in cells; and scores `[N, K]` in [0, 1], the geometric mean of the chance of
        each map's peak and of the expected similarity. A map that is nowhere above 0 has the score 0.
    """
    expected = expected_similarities(chances, spreads=spreads)
    h, w = expected.shape[-2:]
    flat = expected.reshape(-1, h * w)
    rows = np.arange(len(flat))
    best = flat.argmax(axis=1)
    tops = subcell_tops(flat.reshape(-1, h, w), rows, best % w, best // w)
    leading = chances.shape[:2]
    heights = np.clip(chances.max(axis=(2, 3)), 0, 1)
    similarities = np.minimum(flat[rows, best], 1).reshape(leading)
    return tops.reshape(*leading, 2), np.sqrt(heights * similarities)


def person_scores(keypoint_scores: Array, box_scores: Array) -> Array:
    """Scores of people `[N]`, from those of their keypoints `[N, K]` and of their boxes `[N]`.

    As those of keypoints they are roots: of the box's score times what the person is likely to bring.

    >>> person_scores(np.array([[0.8, 0.0]]), np.array([0.5])).tolist()
    [0.4]
    """
    return np.asarray(np.sqrt(box_scores * np.square(keypoint_scores).mean(axis=1)))


def expected_similarities(chances: Array, *, spreads: tuple[float, ...]) -> Array:
    """Similarity that a guess in each cell can expect → `[N, K, h, w]` in [0, 1]; nothing lies outside.

    >>> chances = np.full((1, 1, 1, 3), 0.5)
    >>> expected_similarities(chances, spreads=(1e6,)).round(6).tolist()
    [[[[1.0, 1.0, 1.0]]]]
    """
    kept = np.clip(chances, CHANCE_FLOOR, 1 - CHANCE_FLOOR)
    odds = kept / (1 - kept)  # a softmax over logits is the share in the sum of odds
    odds /= odds.sum(axis=(2, 3), keepdims=True)
    h, w = chances.shape[-2:]
    down, across = (_similarities_along(length, spreads) for length in (h, w))
    return np.asarray(down @ odds @ across)


@lru_cache(maxsize=16)
def _similarities_along(length: int, spreads: tuple[float, ...]) -> npt.NDArray[np.float32]:
    """Similarity between the cells of a line `[K, length, length]`; that of two lines is their product."""
    distances = np.subtract.outer(np.arange(length), np.arange(length))
    steps = distances / np.reshape(spreads, (-1, 1, 1))
    similarities = np.asarray(np.exp(-0.5 * steps**2), np.float32)
    similarities.flags.writeable = False
    return similarities

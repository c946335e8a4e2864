"""Which errors cost how much (after Ronchi & Perona, arXiv:1707.05388).

Detections are matched with labels at a similarity of 0.1, so that bad ones too have somebody to compare with.
A labelled keypoint of a matched person is good at a similarity of 0.85 or more. Below that the label nearest
by similarity decides: it is jitter if that is the keypoint's own, an inversion if it is the person's mirrored
keypoint, a swap if it is the same or the mirrored keypoint of somebody else in the picture; and a miss if no
label reaches 0.5. People without a match are not found. Detections without one are duplicates if a person
whom they resemble has gone to a better one, else they are false positives of the background.

What an error costs is the average precision that would be won if it alone were mended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetpose.metrics.matching import MAX_PER_IMAGE, Pairs, match, pair_up
from fleetpose.metrics.precision import ALL_SIZES, LARGE, MEDIUM, SMALL, curves
from fleetpose.metrics.tables import Detections, Labels
from fleetpose.skeletons import Skeleton

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]

#: What may be said of a labelled keypoint of a person who was found.
KINDS = ("good", "jitter", "inversion", "swap", "miss")
GOOD, JITTER, INVERSION, SWAP, MISS = range(len(KINDS))
VISIBILITIES = ("hidden", "visible")
SIZES = {"small": SMALL, "medium": MEDIUM, "large": LARGE}

#: Detections and labels less alike have nothing to do with each other.
MATCH_SIMILARITY = 0.1
JITTER_SIMILARITY, GOOD_SIMILARITY = 0.5, 0.85


@dataclass(frozen=True, slots=True, eq=False)
class Breakdown:
    """Errors of a model on a set of pictures.

    Attributes:
        skeleton: names of the K keypoints.
        keypoints: labelled keypoints of found people: counts by keypoint, hidden or visible, size of the
            person (`SIZES`) and kind (`KINDS`).
        not_found: `[K]` how many of the misses had no position at all.
        labelled: people with labels, by size.
        found: how many of these were found, by size.
        duplicates: detections of people who had gone to a better one, by size of the detection.
        background: detections where nobody is, by size of the detection.
        ap: average precision as it is.
        ap_if_mended: average precision if all errors of one kind were mended, by kind.
    """

    skeleton: Skeleton
    keypoints: Counts
    not_found: Counts
    labelled: Mapping[str, int]
    found: Mapping[str, int]
    duplicates: Mapping[str, int]
    background: Mapping[str, int]
    ap: float
    ap_if_mended: Mapping[str, float]

    @property
    def per_keypoint(self) -> dict[str, dict[str, int]]:
        """Counts by keypoint and kind."""
        return _nested(self.skeleton.keypoints, self.keypoints.sum(axis=(1, 2)))

    @property
    def per_visibility(self) -> dict[str, dict[str, int]]:
        """Counts by hidden or visible and kind."""
        return _nested(VISIBILITIES, self.keypoints.sum(axis=(0, 2)))

    @property
    def per_size(self) -> dict[str, dict[str, int]]:
        """Counts by size of the person and kind."""
        return _nested(tuple(SIZES), self.keypoints.sum(axis=(0, 1)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "ap": self.ap,
            "ap_if_mended": dict(self.ap_if_mended),
            "people": {
                size: {
                    "labelled": self.labelled[size],
                    "found": self.found[size],
                    "duplicates": self.duplicates[size],
                    "background": self.background[size],
                }
                for size in SIZES
            },
            "per_keypoint": self.per_keypoint,
            "not_found": dict(zip(self.skeleton.keypoints, self.not_found.tolist(), strict=True)),
            "per_visibility": self.per_visibility,
            "per_size": self.per_size,
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """People who were found.

    Attributes:
        people: `[N]` detections.
        labelled: `[N]` label of each.
        kinds: `[N, K]` kind of error of each keypoint; -1 where there is no label.
    """

    people: Indices
    labelled: Indices
    kinds: Counts


def break_down(labels: Labels, detections: Detections, skeleton: Skeleton) -> Breakdown:
    """Sort the errors of detections by kind, and tell what each kind costs.

    Args:
        labels: who is there; ignored people count for nothing.
        detections: who was found, of the labels' category.
        skeleton: keypoints, their mirror pairs and sigmas.
    """
    sigmas = np.asarray(skeleton.sigmas, np.float64)
    pairs = pair_up(labels, detections, sigmas, min_similarity=MATCH_SIMILARITY, max_per_image=MAX_PER_IMAGE)
    matches = match(pairs, labels, labels.is_ignored[None], np.array([MATCH_SIMILARITY]))[0]
    is_real = (matches >= 0) & ~labels.is_ignored[matches]
    people, labelled = pairs.order[is_real], matches[is_real]
    found = _Found(people, labelled, _kinds(labels, detections.keypoints[people], labelled, skeleton))
    is_missed = (found.kinds == MISS) & (detections.keypoints[people, :, 2] <= 0)
    is_alone = matches < 0
    is_near = np.zeros(len(matches), bool)
    is_near[pairs.found] = True
    is_found = np.zeros(len(labels), bool)
    is_found[labelled] = True
    is_person = ~labels.is_ignored
    return Breakdown(
        skeleton=skeleton,
        keypoints=_count(labels, found),
        not_found=np.asarray(is_missed.sum(axis=0)),
        labelled=_by_size(labels.areas[is_person]),
        found=_by_size(labels.areas[is_person & is_found]),
        duplicates=_by_size(detections.areas[pairs.order[is_alone & is_near]]),
        background=_by_size(detections.areas[pairs.order[is_alone & ~is_near]]),
        ap=_ap(labels, detections, skeleton.sigmas),
        ap_if_mended={
            **_ap_with_mended_keypoints(labels, detections, found, skeleton.sigmas),
            "duplicates": _ap_without(labels, detections, pairs.order[is_alone & is_near], skeleton.sigmas),
            "background": _ap_without(labels, detections, pairs.order[is_alone & ~is_near], skeleton.sigmas),
            "not found": _ap(
                replace(labels, is_ignored=labels.is_ignored | ~is_found), detections, skeleton.sigmas
            ),
            "scores": _ap(labels, _rescored(detections, pairs), skeleton.sigmas),
        },
    )


def _kinds(labels: Labels, keypoints: Array, labelled: Indices, skeleton: Skeleton) -> Counts:
    """Kind of each keypoint of matched people `[N, K]`; -1 where there is no label.

    Args:
        labels: who is there.
        keypoints: `[N, K, 3]` of matched detections.
        labelled: `[N]` label of each.
        skeleton: mirror pairs and sigmas.
    """
    points = keypoints[..., :2]
    mirror = skeleton.flip_permutation
    own = _similarity(points, labels, labelled, skeleton, np.arange(len(skeleton)))
    mirrored = _similarity(points, labels, labelled, skeleton, mirror)
    mirrored[:, mirror == np.arange(len(skeleton))] = 0
    others = np.zeros_like(own)
    # Everybody else in the picture is visited in turn: first the next label, then the one after it, …
    by_image = np.argsort(labels.images, kind="stable")
    place = np.argsort(by_image)
    counts = np.bincount(labels.images, minlength=len(labels.image_ids))
    starts = np.cumsum(counts) - counts
    image = labels.images[labelled]
    for step in range(1, int(counts[image].max(initial=0))):
        has_other = np.flatnonzero(step < counts[image])
        shifted = (place[labelled[has_other]] - starts[image[has_other]] + step) % counts[image[has_other]]
        other = by_image[starts[image[has_other]] + shifted]
        for which in (np.arange(len(skeleton)), mirror):
            similar = _similarity(points[has_other], labels, other, skeleton, which)
            others[has_other] = np.maximum(others[has_other], similar)
    nearest = np.stack([own, mirrored, others]).argmax(axis=0)
    highest = np.maximum(np.maximum(own, mirrored), others)
    kinds = np.choose(nearest, [JITTER, INVERSION, SWAP])
    kinds[highest < JITTER_SIMILARITY] = MISS
    kinds[own >= GOOD_SIMILARITY] = GOOD
    kinds[~labels.is_labelled[labelled]] = -1
    return np.asarray(kinds, np.int64)


def _similarity(
    points: Array, labels: Labels, labelled: Indices, skeleton: Skeleton, which: npt.NDArray[np.int64]
) -> Array:
    """Similarity `[N, K]` of each point to keypoint `which` `[K]` of its label; 0 where that has no label."""
    references = labels.keypoints[labelled][:, which]
    variances = (2 * np.asarray(skeleton.sigmas)[which]) ** 2
    squares = ((points - references[..., :2]) ** 2).sum(axis=-1)
    scale = 2 * variances * (labels.areas[labelled][:, None] + np.spacing(1))
    return np.where(references[..., 2] > 0, np.exp(-squares / scale), 0.0)


def _count(labels: Labels, found: _Found) -> Counts:
    """Count kinds by keypoint, visibility, size of the person and kind."""
    counts = np.zeros((found.kinds.shape[1], len(VISIBILITIES), len(SIZES), len(KINDS)), np.int64)
    rows, keypoints = np.nonzero(found.kinds >= 0)
    people = found.labelled[rows]
    is_visible = (labels.keypoints[people, keypoints, 2] >= 2).astype(np.int64)
    sizes = _size_numbers(labels.areas[people])
    np.add.at(counts, (keypoints, is_visible, sizes, found.kinds[rows, keypoints]), 1)
    return counts


def _ap_with_mended_keypoints(
    labels: Labels, detections: Detections, found: _Found, sigmas: Sequence[float]
) -> dict[str, float]:
    """Average precision if the keypoints of one kind of error stood on their labels, by kind."""
    mended = {}
    for kind in (JITTER, INVERSION, SWAP, MISS):
        keypoints = detections.keypoints.copy()
        rows, columns = np.nonzero(found.kinds == kind)
        keypoints[found.people[rows], columns, :2] = labels.keypoints[found.labelled[rows], columns, :2]
        mended[KINDS[kind]] = _ap(labels, replace(detections, keypoints=keypoints), sigmas)
    return mended


def _ap_without(labels: Labels, detections: Detections, people: Indices, sigmas: Sequence[float]) -> float:
    is_kept = np.ones(len(detections), bool)
    is_kept[people] = False
    return _ap(labels, detections.select(is_kept), sigmas)


def _rescored(detections: Detections, pairs: Pairs) -> Detections:
    """Give each detection the best score it can have: its similarity to the label that it resembles most."""
    scores = np.zeros(len(detections))
    np.maximum.at(scores, pairs.order[pairs.found], pairs.similarities)
    return replace(detections, scores=scores)


def _ap(labels: Labels, detections: Detections, sigmas: Sequence[float]) -> float:
    return curves(labels, detections, sigmas, sizes=(ALL_SIZES,)).average_precision()


def _size_numbers(areas: Array) -> Indices:
    """Position in `SIZES` per area."""
    return np.searchsorted([MEDIUM[0], LARGE[0]], areas, side="right")


def _by_size(areas: Array) -> dict[str, int]:
    counts = np.bincount(_size_numbers(areas), minlength=len(SIZES))
    return dict(zip(SIZES, counts.tolist(), strict=True))


def _nested(names: Sequence[str], counts: Counts) -> dict[str, dict[str, int]]:
    return {
        name: dict(zip(KINDS, row, strict=True)) for name, row in zip(names, counts.tolist(), strict=True)
    }

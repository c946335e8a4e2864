"""Grouping by part affinity fields: peaks of heatmaps, and the limbs that join them into people.

Cao et al., arXiv:1611.08050, section 2; the authors' steps as Lightweight OpenPose has them (Osokin,
arXiv:1811.12004). A limb between two peaks scores how well the field between them points along it.
`group_in_reference_order` equals that author's code to the last bit; `group_by_limbs` departs from it where
that is better:

- limbs of all kinds are accepted best first, where the author's go kind by kind and a kind's first keypoint
  must already be somebody's: a person whose neck is hidden then stays one person instead of falling apart;
- what is accepted may join two pieces that have no keypoint in common, so that the order of limbs, of their
  two ends and of people plays no part;
- peaks lie between cells and fields are interpolated there, so that the network's own grid is enough and no
  map need be enlarged first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetpose.codecs.peaks import Peaks, find_peaks, subcell_tops
from fleetpose.errors import ConfigError, ShapeError

Array = npt.NDArray[np.floating]
Indices = npt.NDArray[np.intp]

#: Keeps divisions finite; the size is that of the author's code, on which the last bit depends.
EPSILON = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class PartAffinitySettings:
    """How peaks and fields become people; the author's values, except where none is his.

    Attributes:
        detection_threshold: a peak is at least this high.
        affinity_threshold: a sample along a limb agrees if the field along it is more than this, 0 to 1.
        agreeing_share: more than this share of a limb's samples must agree.
        samples: places along a limb where the field is read, its ends included.
        radius_px: of two peaks of one keypoint that are closer, in pixels, one counts: in the reference the
            left one, else the higher one.
        max_people: people per picture, and peaks per keypoint.
        min_keypoints: people with fewer found keypoints are dropped.
        min_score: people are dropped whose keypoints and limbs score less than this per keypoint.
    """

    detection_threshold: float = 0.1
    affinity_threshold: float = 0.05
    agreeing_share: float = 0.8
    samples: int = 10
    radius_px: float = 12.0
    max_people: int = 100
    min_keypoints: int = 3
    min_score: float = 0.2

    def __post_init__(self) -> None:
        for name, least in (("samples", 2), ("max_people", 1), ("min_keypoints", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("detection_threshold", "affinity_threshold", "radius_px", "min_score"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.agreeing_share < 1:
            raise ConfigError(f"agreeing_share must be from 0 to below 1, got {self.agreeing_share}")


@dataclass(frozen=True, slots=True)
class Limb:
    """Two keypoints and the field that runs from the first to the second."""

    first: int  # channel among the heatmaps
    second: int
    field: int  # number of the pair of channels among the fields


@dataclass(frozen=True, slots=True, eq=False)
class ReferencePeople:
    """What the author's grouping gives.

    Attributes:
        candidates: `[C, 4]` column, row, height and running number of each peak, keypoint by keypoint.
        members: `[N, K]` running number of each person's keypoints, -1 where not found.
        totals: `[N]` sum of the heights of a person's keypoints and of the scores of its limbs.
        counts: `[N]` keypoints per person; those that a completing limb adds do not count.
    """

    candidates: npt.NDArray[np.float64]
    members: Indices
    totals: npt.NDArray[np.float64]
    counts: Indices


@dataclass(frozen=True, slots=True, eq=False)
class _Connections:
    """Limbs that may be: indices of the candidates at their two ends, and their scores `[M]`."""

    first: Indices
    second: Indices
    score: Array


def group_by_limbs(
    heatmaps: Array, pafs: Array, limbs: Sequence[Limb], settings: PartAffinitySettings, *, stride: float
) -> tuple[Array, Array]:
    """Find people in heatmaps and part affinity fields of the network's own grid.

    Args:
        heatmaps: `[K, h, w]` without the background.
        pafs: `[2 * L, h, w]`, x and y per field in turn.
        limbs: kinds of limbs.
        settings: thresholds and limits.
        stride: pixels per cell.

    Returns:
        keypoints `[N, K, 3]` float32 (x, y, score) in cells, all 0 where not found, and people's scores `[N]`
        float32, falling: the sum of the heights of keypoints and the scores of limbs over as many as a whole
        person has, so that what is missing counts 0.

    Raises:
        ShapeError: shapes that do not fit, or NaN or infinity where it matters.
    """
    check_maps(heatmaps, pafs, limbs)
    if not np.isfinite(pafs).all():
        raise ShapeError("pafs", "finite numbers", "NaN or infinity")
    peaks = _spread_peaks(heatmaps, settings, radius=settings.radius_px / stride)
    places = subcell_tops(heatmaps, peaks.keypoint, peaks.x, peaks.y)
    found = _limbs_that_may_be(pafs, limbs, places, peaks.keypoint, settings)
    members, limb_sums = _join_best_first(found, peaks.keypoint, len(heatmaps))
    return _people(members, limb_sums, places, peaks.score, settings, whole=2 * len(heatmaps) - 1)


def check_maps(heatmaps: Array, pafs: Array, limbs: Sequence[Limb]) -> None:
    """Check that heatmaps and fields fit each other and the limbs.

    Raises:
        ShapeError: they do not.
    """
    if heatmaps.ndim != 3 or 0 in heatmaps.shape:
        raise ShapeError("heatmaps", "of shape [K, h, w], none of them 0", list(heatmaps.shape))
    least = 2 * (1 + max(limb.field for limb in limbs))
    if pafs.ndim != 3 or len(pafs) < least or pafs.shape[1:] != heatmaps.shape[1:]:
        h, w = heatmaps.shape[1:]
        raise ShapeError("pafs", f"of shape [{least} or more, {h}, {w}]", list(pafs.shape))


def group_in_reference_order(
    heatmaps: Array,
    pafs: Array,
    limbs: Sequence[Limb],
    settings: PartAffinitySettings,
    *,
    radius: float = 6.0,
) -> ReferencePeople:
    """Group as Lightweight OpenPose's author does, on maps that were enlarged before.

    Args:
        heatmaps: `[K, h, w]` float32, without the background.
        pafs: `[2 * L, h, w]` float32.
        limbs: kinds of limbs in the order of grouping. One between two keypoints that earlier ones already
            join is a completing limb: it may give a person its missing keypoint but starts none.
        settings: thresholds and limits; `radius_px` and `max_people` play no part.
        radius: of two peaks closer than so many cells, the left one counts.

    Raises:
        ShapeError: shapes that do not fit.
    """
    check_maps(heatmaps, pafs, limbs)
    by_keypoint = []
    total = 0
    for heatmap in heatmaps:
        x, y = _strict_maxima(heatmap, settings.detection_threshold, radius)
        numbers = total + np.arange(len(x))
        by_keypoint.append(np.column_stack([x, y, heatmap[y, x].astype(np.float64), numbers]))
        total += len(x)
    candidates = np.concatenate(by_keypoint)
    builder = _ReferenceBuilder(candidates[:, 2], len(heatmaps))
    for limb, is_completing in zip(limbs, completing(limbs), strict=True):
        ends = by_keypoint[limb.first], by_keypoint[limb.second]
        if not len(ends[0]) or not len(ends[1]):
            continue
        field = pafs[2 * limb.field : 2 * limb.field + 2]
        first, second = (end.astype(np.float32) for end in ends)
        found = _reference_connections(field, first, second, settings)
        (builder.complete if is_completing else builder.extend)(limb, found)
    return builder.result(candidates, settings)


def completing(limbs: Sequence[Limb]) -> list[bool]:
    """Which limbs join two keypoints that those before them already join, on whatever way.

    >>> completing([Limb(0, 1, 0), Limb(1, 2, 1), Limb(2, 0, 2)])
    [False, False, True]
    """
    group = {limb_end: limb_end for limb in limbs for limb_end in (limb.first, limb.second)}
    found = []
    for limb in limbs:
        old, new = group[limb.first], group[limb.second]
        found.append(old == new)
        group = {keypoint: new if name == old else name for keypoint, name in group.items()}
    return found


def _spread_peaks(heatmaps: Array, settings: PartAffinitySettings, *, radius: float) -> Peaks:
    """Peaks of each heatmap, without those too close to a higher one of the same."""
    peaks = find_peaks(heatmaps, threshold=settings.detection_threshold, window=3, limit=settings.max_people)
    bounds = np.searchsorted(peaks.keypoint, np.arange(len(heatmaps) + 1)).tolist()
    slices = [slice(bounds[k], bounds[k + 1]) for k in range(len(heatmaps))]
    is_kept = np.concatenate([_far_from_earlier(peaks.x[part], peaks.y[part], radius) for part in slices])
    return Peaks(peaks.keypoint[is_kept], peaks.x[is_kept], peaks.y[is_kept], peaks.score[is_kept])


def _far_from_earlier(x: Indices, y: Indices, radius: float) -> npt.NDArray[np.bool_]:
    """Which points `[C]` stay if each that stays removes the later ones closer than `radius`."""
    is_near = np.hypot(x[:, None] - x, y[:, None] - y) < radius
    is_kept = np.ones(len(x), bool)
    for number in np.flatnonzero(np.triu(is_near, k=1).any(axis=1)).tolist():
        if is_kept[number]:
            is_kept[number + 1 :] &= ~is_near[number, number + 1 :]
    return is_kept


def _limbs_that_may_be(
    pafs: Array, limbs: Sequence[Limb], places: Array, keypoint: Indices, settings: PartAffinitySettings
) -> _Connections:
    """Find the pairs of candidates between which a limb's field runs.

    A pair is dropped as soon as too few samples can still agree. Most are, after two or three.

    Args:
        pafs: `[2 * L, h, w]`.
        limbs: kinds of limbs.
        places: `[C, 2]` (x, y) of each candidate, in cells.
        keypoint: `[C]` channel of each candidate, rising.
        settings: samples, and how they must agree.

    Returns:
        The pairs; a limb's score is the mean of the field along it.
    """
    bounds = np.searchsorted(keypoint, np.arange(1 + max(max(one.first, one.second) for one in limbs) + 1))
    found = [np.zeros((3, 0), np.intp)]
    for limb in limbs:
        ends = (np.arange(bounds[k], bounds[k + 1]) for k in (limb.first, limb.second))
        first, second = (numbers.reshape(-1) for numbers in np.meshgrid(*ends, indexing="ij"))
        found.append(np.stack([first, second, np.full(len(first), limb.field)]))
    pairs = np.concatenate(found, axis=1)
    steps = places[pairs[1]] - places[pairs[0]]
    directions = steps / np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), EPSILON)
    sums, misses = np.zeros(len(steps)), np.zeros(len(steps), np.intp)
    fields = pafs.reshape(-1, 2, *pafs.shape[1:])
    # Neighbouring samples tell the same, so that the next one to look at is far from the last.
    for number in sorted(range(settings.samples), key=lambda number: (number * 3) % settings.samples):
        share = number / (settings.samples - 1)
        vectors = _interpolated(fields, pairs[2], places[pairs[0]] + share * steps)
        along = (vectors * directions).sum(axis=1)
        sums += along
        misses += along <= settings.affinity_threshold
        is_open = (settings.samples - misses) / settings.samples > settings.agreeing_share
        pairs, steps, directions = pairs[:, is_open], steps[is_open], directions[is_open]
        sums, misses = sums[is_open], misses[is_open]
    return _Connections(pairs[0], pairs[1], sums / settings.samples)


def _interpolated(fields: Array, number: Indices, places: Array) -> Array:
    """Fields `[L, 2, h, w]` at places `[M, 2]` (x, y) of the field of each `number` `[M]` → `[M, 2]`."""
    h, w = fields.shape[2:]
    x, y = np.clip(places[:, 0], 0, w - 1), np.clip(places[:, 1], 0, h - 1)
    left, top = x.astype(np.intp), y.astype(np.intp)
    right, bottom = np.minimum(left + 1, w - 1), np.minimum(top + 1, h - 1)
    share_x, share_y = (x - left)[:, None], (y - top)[:, None]
    upper = fields[number, :, top, left] * (1 - share_x) + fields[number, :, top, right] * share_x
    lower = fields[number, :, bottom, left] * (1 - share_x) + fields[number, :, bottom, right] * share_x
    return np.asarray(upper * (1 - share_y) + lower * share_y)


def _join_best_first(found: _Connections, keypoint: Indices, num_keypoints: int) -> tuple[Indices, Array]:
    """Accept limbs from the best on, unless one would give a person two of a keypoint.

    Args:
        found: limbs that may be.
        keypoint: `[C]` which keypoint each candidate is.
        num_keypoints: how many there are.

    Returns:
        `[N, K]` candidate of each person's keypoints, -1 where there is none, and the people's sums of limbs'
        scores `[N]`; a limb that closes a ring counts nothing. Candidates without a limb are people too.
    """
    members = np.full((len(keypoint), num_keypoints), -1, np.intp)
    members[np.arange(len(keypoint)), keypoint] = np.arange(len(keypoint))
    piece, sums = np.arange(len(keypoint)), np.zeros(len(keypoint))
    for number in np.argsort(-found.score, kind="stable").tolist():
        kept, dropped = piece[found.first[number]], piece[found.second[number]]
        if kept == dropped or ((members[kept] >= 0) & (members[dropped] >= 0)).any():
            continue
        members[kept] = np.maximum(members[kept], members[dropped])
        sums[kept] += sums[dropped] + found.score[number]
        piece[members[dropped][members[dropped] >= 0]] = kept
        members[dropped] = -1
    is_person = (members >= 0).any(axis=1)
    return members[is_person], sums[is_person]


def _people(
    members: Indices,
    limb_sums: Array,
    places: Array,
    height: Array,
    settings: PartAffinitySettings,
    *,
    whole: int,
) -> tuple[Array, Array]:
    """Fill in the places of members `[N, K]`, drop doubtful people and sort the others by score."""
    is_found = members >= 0
    keypoints = np.zeros((*members.shape, 3))
    keypoints[is_found] = np.column_stack([places, height])[members[is_found]]
    totals = keypoints[..., 2].sum(axis=1) + limb_sums
    counts = is_found.sum(axis=1)
    is_kept = (counts >= settings.min_keypoints) & (totals >= settings.min_score * counts)
    keypoints, scores = keypoints[is_kept], totals[is_kept] / whole
    by_score = np.argsort(-scores, kind="stable")[: settings.max_people]
    return keypoints[by_score].astype(np.float32), scores[by_score].astype(np.float32)


def _strict_maxima(heatmap: Array, threshold: float, radius: float) -> tuple[Indices, Indices]:
    """Columns and rows of cells higher than their four neighbours, from left to right.

    A plateau has none. Of cells closer than `radius` the left one stays, and of one column the upper one.
    """
    cut = np.where(heatmap < threshold, 0, heatmap)
    padded = np.pad(cut, 1)
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    x, y = np.nonzero((cut > np.max(neighbours, axis=0)).T)
    is_kept = _far_from_earlier(x, y, radius)
    return x[is_kept], y[is_kept]


def _reference_connections(
    field: Array, first: Array, second: Array, settings: PartAffinitySettings
) -> _Connections:
    """Limbs between candidates `[A, 4]` and `[B, 4]` float32, best first, none with an end in common.

    The field is read at the nearest whole cells. Each step has the precision that the author's has.
    """
    limb = (second[:, None, :2] - first[None, :, :2]).reshape(-1, 1, 2)
    starts = np.broadcast_to(first[None, :, :2], (len(second), len(first), 2)).reshape(-1, 1, 2)
    grid = np.arange(settings.samples, dtype=np.float32).reshape(1, -1, 1)
    places = ((1 / (settings.samples - 1) * limb) * grid + starts).round().astype(np.intp)
    vectors = np.moveaxis(field[:, places[..., 1], places[..., 0]], 0, -1)
    direction = limb / (np.linalg.norm(limb, ord=2, axis=-1, keepdims=True) + EPSILON)
    along = (vectors * direction).sum(-1)
    agrees = along > settings.affinity_threshold
    score = (along * agrees).sum(1) / (agrees.sum(1) + EPSILON)
    is_limb = (score > 0) & (agrees.sum(1) / settings.samples > settings.agreeing_share)
    numbers = np.flatnonzero(is_limb)
    numbers = numbers[score[numbers].argsort()[::-1]]
    b, a = np.divmod(numbers, len(first))
    taken_a, taken_b, kept = set(), set(), []
    for place, ends in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        if ends[0] not in taken_a and ends[1] not in taken_b:
            taken_a.add(ends[0])
            taken_b.add(ends[1])
            kept.append(place)
    a, b, score = a[kept], b[kept], score[numbers[kept]]
    return _Connections(first[a, 3].astype(np.intp), second[b, 3].astype(np.intp), score)


class _ReferenceBuilder:
    """People in the making, in the author's order."""

    def __init__(self, heights: Array, num_keypoints: int) -> None:
        self._heights = heights
        self._members = np.full((0, num_keypoints), -1, np.intp)
        self._totals: list[float] = []
        self._counts: list[int] = []

    def extend(self, limb: Limb, found: _Connections) -> None:
        """Give each limb to everybody who has its first keypoint; where nobody has, a new person starts."""
        for first, second, score in zip(found.first, found.second, found.score, strict=True):
            owners = np.flatnonzero(self._members[:, limb.first] == first)
            for owner in owners.tolist():
                self._members[owner, limb.second] = second
                self._counts[owner] += 1
                self._totals[owner] += self._heights[second] + score
            if not len(owners):
                person = np.full((1, self._members.shape[1]), -1, np.intp)
                person[0, [limb.first, limb.second]] = first, second
                self._members = np.concatenate([self._members, person])
                self._counts.append(2)
                self._totals.append(np.sum(self._heights[[first, second]]) + score)

    def complete(self, limb: Limb, found: _Connections) -> None:
        """Give the other end to everybody who has one end and lacks the other."""
        for ends in zip(found.first, found.second, strict=True):
            for person in self._members:
                has_first, has_second = person[limb.first] == ends[0], person[limb.second] == ends[1]
                if has_first and person[limb.second] < 0:
                    person[limb.second] = ends[1]
                elif has_second and person[limb.first] < 0:
                    person[limb.first] = ends[0]

    def result(self, candidates: npt.NDArray[np.float64], settings: PartAffinitySettings) -> ReferencePeople:
        """People with enough keypoints that score enough."""
        totals, counts = np.array(self._totals, np.float64), np.array(self._counts, np.intp)
        is_kept = (counts >= settings.min_keypoints) & ~(totals / np.maximum(counts, 1) < settings.min_score)
        return ReferencePeople(candidates, self._members[is_kept], totals[is_kept], counts[is_kept])

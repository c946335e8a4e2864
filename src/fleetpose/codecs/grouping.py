"""Grouping by associative embedding: from heatmaps and tags to people (Newell et al., arXiv:1611.05424).

Peaks of the heatmaps are candidates; keypoint by keypoint they go to the people found so far whose tags are
alike, and those that fit nobody start a new person. `reference.py` has the authors' grouping to the last bit;
this one departs from it where that is better or faster:

- tag distances are root mean squares over the tag dimensions and are not rounded, so that the threshold means
  the same for one tag and for several, and no candidate jumps at a distance of a half;
- a candidate beyond the tag threshold never takes part in the assignment, so it pushes nobody aside;
- once `max_people` exist, a candidate that fits nobody is dropped, where the authors' start a person each;
- a keypoint that was not found is looked for among local maxima whose tags agree, not among all cells, so it
  is not put on the flank of a neighbour's; found keypoints are not searched again;
- tops of peaks come from a parabola in log space instead of a quarter of a cell either way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fleetpose.codecs.assignment import assign_greatest
from fleetpose.codecs.peaks import find_local_maxima, find_peaks, subcell_tops
from fleetpose.errors import ConfigError, ShapeError
from fleetpose.geometry import pixels_to_cells

Array = npt.NDArray[np.floating]
Indices = npt.NDArray[np.intp]

#: Head, shoulders, hips, elbows, wrists, knees, ankles of COCO: what is found most surely comes first.
COCO_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)

#: The authors use the front of COCO's list for CrowdPose too.
CROWDPOSE_ORDER = COCO_ORDER[:14]


#: Weak maxima, per person, among which a missing keypoint is looked for; lower ones are background.
MAXIMA_PER_PERSON = 4

#: Share of the tag threshold within which a weak maximum is alike; the authors' distance is rounded up there.
REACH = 0.5

#: The same for any cell, since of the few keypoints that hide on a flank a wider reach finds more.
FLANK_REACH = 0.75


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Places where keypoints may be, sorted by keypoint.

    Attributes:
        keypoint: `[C]` channel of each.
        score: `[C]` height of the heatmap.
        tags: `[C, T]`.
        locate: from indices `[F]` of candidates to their places `[F, 2]` (x, y) in cells, between them too.
            Most weak candidates are never asked for.
    """

    keypoint: Indices
    score: Array
    tags: Array
    locate: Callable[[Indices], Array]


#: What finds candidates in the given channels, rising; it is called once, if keypoints are missing.
WeakSearch: TypeAlias = Callable[[Indices], Candidates]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupingSettings:
    """How peaks become people.

    Attributes:
        detection_threshold: a candidate's peak is higher than this.
        tag_threshold: tags of one person differ by less than this.
        window: a candidate is the highest of window by window cells; odd, at least 3.
        max_people: people per picture, and candidates per keypoint.
        keypoint_order: in which keypoints are assigned; None for the authors' order, see `keypoint_order`.
        is_refined: whether keypoints that were not found are looked for again.
        refine_threshold: such a keypoint's peak is higher than this.
        min_keypoints: people with fewer found keypoints are dropped, before the search for missing ones.
        has_flank_search: whether keypoints that are missing even then are looked for among all cells above
            `refine_threshold`: in crowds it finds some that a neighbour's higher peak hides.
    """

    detection_threshold: float = 0.1
    tag_threshold: float = 1.0
    window: int = 5
    max_people: int = 30
    keypoint_order: tuple[int, ...] | None = None
    is_refined: bool = True
    refine_threshold: float = 0.01
    min_keypoints: int = 1
    has_flank_search: bool = False

    def __post_init__(self) -> None:
        if self.window < 3 or self.window % 2 == 0:
            raise ConfigError(f"window must be an odd number of cells from 3 on, got {self.window}")
        for name in ("max_people", "min_keypoints"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("detection_threshold", "refine_threshold"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.tag_threshold <= 0:
            raise ConfigError(f"tag_threshold must be more than 0, got {self.tag_threshold}")
        if self.keypoint_order is not None:
            # A model file gives it as a list.
            object.__setattr__(self, "keypoint_order", tuple(self.keypoint_order))

    @property
    def weak_limit(self) -> int:
        """Weak candidates per keypoint among which missing ones are looked for."""
        return MAXIMA_PER_PERSON * self.max_people

    def order_for(self, num_keypoints: int) -> tuple[int, ...]:
        """Order in which so many keypoints are assigned.

        Raises:
            ConfigError: the order that was asked for does not name each keypoint once.
        """
        if self.keypoint_order is None:
            return keypoint_order(num_keypoints)
        if sorted(self.keypoint_order) != list(range(num_keypoints)):
            raise ConfigError(
                f"keypoint_order must name each of {num_keypoints} keypoints once, got {self.keypoint_order}"
            )
        return self.keypoint_order


def keypoint_order(num_keypoints: int) -> tuple[int, ...]:
    """Order in which keypoints are assigned: the authors' for 17 and 14 keypoints, else as they stand.

    >>> keypoint_order(3)
    (0, 1, 2)
    """
    known = {len(COCO_ORDER): COCO_ORDER, len(CROWDPOSE_ORDER): CROWDPOSE_ORDER}
    return known.get(num_keypoints, tuple(range(num_keypoints)))


def group(heatmaps: Array, tags: Array, settings: GroupingSettings | None = None) -> tuple[Array, Array]:
    """Find people in heatmaps and tags.

    Args:
        heatmaps: `[K, h, w]`, 0 to 1.
        tags: `[K, h', w']`, or `[K, h', w', T]` with T tags per cell, such as one of each flip pass; may be a
            view. Its cells may be larger or smaller than the heatmaps' (h' / h = w' / w): tags are then
            interpolated at the candidates only.
        settings: thresholds and limits; None for the defaults.

    Returns:
        keypoints `[N, K, 3]` float32 (x, y, score), x and y in cells of the heatmaps (whole numbers are cell
        centres), all 0 where not found; and people's scores `[N]` float32, falling: the mean score over all
        K keypoints as first found, missing ones counting 0.

    Raises:
        ShapeError: shapes that do not fit, or NaN or infinity where it matters.

    >>> heatmaps = np.zeros((2, 8, 8)); heatmaps[0, 2, 3] = heatmaps[1, 5, 3] = 0.5
    >>> keypoints, scores = group(heatmaps, np.zeros((2, 8, 8)))
    >>> keypoints[0].tolist(), scores.tolist()
    ([[3.0, 2.0, 0.5], [3.0, 5.0, 0.5]], [0.5])
    """
    settings = settings or GroupingSettings()
    heatmaps, tags, ratio = check_maps(heatmaps, tags)

    def candidates(keypoint: Indices, x: Indices, y: Indices, score: Array) -> Candidates:
        def locate(chosen: Indices) -> Array:
            return subcell_tops(heatmaps, keypoint[chosen], x[chosen], y[chosen])

        return Candidates(keypoint, score, sample_tags(tags, keypoint, x, y, ratio=ratio), locate)

    def weak(channels: Indices) -> Candidates:
        keypoint, x, y = find_local_maxima(
            heatmaps,
            channels,
            threshold=settings.refine_threshold,
            limit=settings.weak_limit,
        )
        return candidates(keypoint, x, y, heatmaps[keypoint, y, x])

    peaks = find_peaks(
        heatmaps,
        threshold=settings.detection_threshold,
        window=settings.window,
        limit=settings.max_people,
    )
    strong = candidates(peaks.keypoint, peaks.x, peaks.y, peaks.score)
    cells = partial(_cells, heatmaps, tags, settings.refine_threshold, ratio=ratio)
    return group_candidates(strong, weak, settings, num_keypoints=len(heatmaps), cells=cells)


def group_candidates(
    strong: Candidates,
    weak: WeakSearch,
    settings: GroupingSettings,
    *,
    num_keypoints: int,
    cells: WeakSearch | None = None,
) -> tuple[Array, Array]:
    """Find people among candidates, wherever these come from; returns what `group` does.

    Args:
        strong: peaks above the detection threshold, within a keypoint by falling score.
        weak: finds maxima above the refinement threshold in the channels where somebody lacks a keypoint.
        settings: thresholds and limits.
        num_keypoints: channels of the heatmaps.
        cells: finds all cells above the refinement threshold; None if only candidates are known.
    """
    order = settings.order_for(num_keypoints)
    members = assign(strong, order=order, settings=settings)  # [N, K], -1 where not found
    members = members[(members >= 0).sum(axis=1) >= settings.min_keypoints]

    is_found = members >= 0
    keypoints = np.zeros((*members.shape, 3))
    keypoints[is_found] = _rows(strong, members[is_found])
    scores = keypoints[..., 2].mean(axis=1)
    searches = [(weak, REACH)] if settings.is_refined else []
    if searches and settings.has_flank_search and cells is not None:
        searches.append((cells, FLANK_REACH))
    person_tags = _mean_tags(members, strong.tags)
    for search, reach in searches:
        if is_found.all():
            break
        found = search(np.flatnonzero(~is_found.all(axis=0)))
        squared_reach = (reach * settings.tag_threshold) ** 2
        person, chosen = _fill_in(found, is_found, person_tags, squared_reach=squared_reach)
        keypoints[person, found.keypoint[chosen]] = _rows(found, chosen)
        is_found[person, found.keypoint[chosen]] = True
    by_score = np.argsort(-scores, kind="stable")
    return keypoints[by_score].astype(np.float32), scores[by_score].astype(np.float32)


def _cells(heatmaps: Array, tags: Array, threshold: float, channels: Indices, *, ratio: float) -> Candidates:
    """All cells above a threshold; unlike a peak, a cell on a flank has no top beside it."""
    number, y, x = (heatmaps[channels] > threshold).nonzero()
    keypoint = channels[number]

    def locate(chosen: Indices) -> Array:
        return np.stack([x[chosen], y[chosen]], axis=1).astype(np.float64)

    return Candidates(
        keypoint, heatmaps[keypoint, y, x], sample_tags(tags, keypoint, x, y, ratio=ratio), locate
    )


def _rows(candidates: Candidates, chosen: Indices) -> Array:
    """Places and scores of some candidates → `[F, 3]` (x, y, score)."""
    return np.concatenate([candidates.locate(chosen), candidates.score[chosen, None]], axis=1)


def check_maps(heatmaps: Array, tags: Array) -> tuple[Array, Array, float]:
    """Check the shapes of heatmaps and tags → float32 heatmaps, tags `[K, h', w', T]`, tag cells' size.

    The size is in heatmap cells: 2.0 where the tag map has half the resolution.
    """
    if heatmaps.ndim != 3 or 0 in heatmaps.shape:
        raise ShapeError("heatmaps", "of shape [K, h, w], none of them 0", list(heatmaps.shape))
    if tags.ndim not in {3, 4} or len(tags) != len(heatmaps) or 0 in tags.shape:
        expected = f"of shape [{len(heatmaps)}, h', w'] or [{len(heatmaps)}, h', w', T], none of them 0"
        raise ShapeError("tags", expected, list(tags.shape))
    ratio = heatmaps.shape[1] / tags.shape[1]
    if heatmaps.shape[2] != ratio * tags.shape[2]:
        raise ShapeError(
            "tags", f"of the same aspect as heatmaps {list(heatmaps.shape[1:])}", list(tags.shape[1:3])
        )
    return np.ascontiguousarray(heatmaps, np.float32), tags if tags.ndim == 4 else tags[..., None], ratio


def sample_tags(tags: Array, keypoint: Indices, x: Indices, y: Indices, *, ratio: float) -> Array:
    """Tags at cells of the heatmaps → `[C, T]`, interpolated where tag cells have another size.

    Args:
        tags: `[K, h', w', T]`.
        keypoint: `[C]` channel per cell.
        x: `[C]` column per cell, in heatmap cells.
        y: `[C]` row per cell, in heatmap cells.
        ratio: size of a tag cell, in heatmap cells.

    Raises:
        ShapeError: one of these tags is NaN or infinite.
    """
    size = (tags.shape[1], tags.shape[2])
    return tags_among(lambda column, row: tags[keypoint, row, column], x, y, size=size, ratio=ratio)


def tags_among(
    read: Callable[[Indices, Indices], Array],
    x: Indices,
    y: Indices,
    *,
    size: tuple[int, int],
    ratio: float,
) -> Array:
    """Do what `sample_tags` does, on tags wherever they are kept.

    Args:
        read: from column and row `[C]` of tag cells to the tags `[C, T]` there; at most a cell away.
        x: `[C]` column per cell, in heatmap cells.
        y: `[C]` row per cell, in heatmap cells.
        size: (h, w) of the tag maps.
        ratio: size of a tag cell, in heatmap cells.
    """
    if ratio == 1:
        sampled = read(x, y).astype(np.float64)
    else:
        h, w = size
        column = np.clip(pixels_to_cells(x.astype(np.float64), ratio), 0, w - 1)
        row = np.clip(pixels_to_cells(y.astype(np.float64), ratio), 0, h - 1)
        left, top = column.astype(np.intp), row.astype(np.intp)
        right, bottom = np.minimum(left + 1, w - 1), np.minimum(top + 1, h - 1)
        share_x, share_y = (column - left)[:, None], (row - top)[:, None]
        upper = read(left, top) * (1 - share_x) + read(right, top) * share_x
        lower = read(left, bottom) * (1 - share_x) + read(right, bottom) * share_x
        sampled = upper * (1 - share_y) + lower * share_y
    if not np.isfinite(sampled).all():
        raise ShapeError("tags", "finite numbers", "NaN or infinity")
    return np.asarray(sampled)


def assign(peaks: Candidates, *, order: tuple[int, ...], settings: GroupingSettings) -> Indices:
    """Assign candidates to people, keypoint by keypoint → `[N, K]` of their indices, -1 where none.

    Within a keypoint the assignment has the greatest total gain; a pair gains the candidate's score and by
    how much its squared tag distance stays below the squared threshold.
    """
    bounds = np.searchsorted(peaks.keypoint, np.arange(len(order) + 1)).tolist()
    most, reach = settings.max_people, settings.tag_threshold**2
    members = np.full((most, len(order)), -1, np.intp)
    tag_sums, counts = np.zeros((most, peaks.tags.shape[1])), np.zeros((most, 1))
    people = 0
    for k in order:
        start, stop = bounds[k], bounds[k + 1]
        if start == stop:
            continue
        tags = peaks.tags[start:stop]
        owners = np.full(stop - start, -1, np.intp)
        if people:
            rest = reach - squared_distances(tags, tag_sums[:people] / counts[:people])
            owners = assign_greatest(np.where(rest > 0, rest + peaks.score[start:stop, None], 0.0))
        strangers = (owners < 0).nonzero()[0][: most - people]
        owners[strangers] = np.arange(people, people + len(strangers))
        people += len(strangers)
        kept = (owners >= 0).nonzero()[0]
        owners = owners[kept]
        members[owners, k] = kept + start
        tag_sums[owners] += tags[kept]
        counts[owners] += 1
    return members[:people]


def squared_distances(tags_a: Array, tags_b: Array) -> Array:
    """Mean squared difference of tags `[C, T]` and `[N, T]` → `[C, N]`."""
    difference = tags_a[:, None] - tags_b[None]
    return np.asarray(np.einsum("cnt,cnt->cn", difference, difference) / tags_a.shape[1])


def _mean_tags(members: Indices, peak_tags: Array) -> Array:
    """Mean tag of each person's found keypoints → `[N, T]`."""
    is_found = (members >= 0)[..., None]
    return np.asarray(np.where(is_found, peak_tags[members], 0).sum(axis=1) / is_found.sum(axis=1))


def _fill_in(
    maxima: Candidates,
    is_found: npt.NDArray[np.bool_],
    person_tags: Array,
    *,
    squared_reach: float,
) -> tuple[Indices, Indices]:
    """Look for the keypoints that people lack among weak candidates.

    The best is high and alike: its height counts less the more its tag differs, and nothing beyond reach.

    Returns:
        Person `[F]`, and which of the candidates it gets `[F]`.
    """
    bounds = np.searchsorted(maxima.keypoint, np.arange(is_found.shape[1] + 1)).tolist()
    people, chosen = [np.zeros(0, np.intp)], [np.zeros(0, np.intp)]
    for k, is_found_here in enumerate(is_found.T):
        start, stop = bounds[k], bounds[k + 1]
        missing = (~is_found_here).nonzero()[0]
        if start == stop or not len(missing):
            continue
        distances = squared_distances(person_tags[missing], maxima.tags[start:stop])
        merit = maxima.score[start:stop] * (1 - distances / squared_reach)
        alike = (merit.max(axis=1) > 0).nonzero()[0]
        people.append(missing[alike])
        chosen.append(start + merit.argmax(axis=1)[alike])
    return np.concatenate(people), np.concatenate(chosen)

"""The authors' grouping by associative embedding, equal to theirs in every step and every quirk.

HigherHRNet (arXiv:1908.10357), EfficientHRNet and LitePose share it. It is here to compare with published
numbers; `grouping.group` is faster and better, and its module says in what.

What equality takes and no paper says: how equal peaks are ordered (`highest_cells`), which of several best
assignments is taken (`assignment.py`), that a person is known by the first of its tags, so that two people
whose first tags are equal become one, and that beyond `max_people` every candidate starts its own person.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.codecs.assignment import assign_in_reference_order
from fleetpose.codecs.grouping import GroupingSettings, check_maps
from fleetpose.codecs.peaks import quarter_offset_tops
from fleetpose.errors import ShapeError

Array = npt.NDArray[np.floating]
Indices = npt.NDArray[np.intp]

#: Cost of the columns that stand in for new people where there are more candidates than people.
NEW_PERSON_COST = 1e10

#: Weight of the rounded tag distance against the candidate's score.
DISTANCE_WEIGHT = 100.0

#: The authors' coordinates count from the corner of the first cell, ours from its centre.
CORNER_TO_CENTRE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceSteps:
    """What each step of the authors' grouping leaves, with their coordinates.

    Attributes:
        matched: `[N, K, 3 + T]` (column, row, score, tags) in whole cells; 0 where not found.
        adjusted: the same, moved a quarter of a cell towards the higher neighbour, and by half a cell.
        refined: the same with missing keypoints filled in.
        scores: `[N]` mean score over all keypoints before they were filled in.
    """

    matched: npt.NDArray[np.float32]
    adjusted: npt.NDArray[np.float32]
    refined: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]


def group_reference(
    heatmaps: Array, tags: Array, settings: GroupingSettings | None = None
) -> tuple[Array, Array]:
    """Find people as the authors' code does; takes and returns what `grouping.group` does.

    People come in the order in which they were started. Tags must have the heatmaps' resolution, and of the
    settings `refine_threshold` and `min_keypoints` play no part.

    Raises:
        ShapeError: shapes that do not fit, or NaN or infinity in a map.
    """
    steps = reference_steps(heatmaps, tags, settings or GroupingSettings())
    keypoints = steps.refined[..., :3].copy()
    keypoints[..., :2] -= CORNER_TO_CENTRE * (keypoints[..., 2:] > 0)
    return keypoints, steps.scores


def reference_steps(heatmaps: Array, tags: Array, settings: GroupingSettings) -> ReferenceSteps:
    """Run the authors' grouping and keep the result of each step.

    Raises:
        ShapeError: shapes that do not fit, or NaN or infinity in a map.
    """
    heatmaps, tags, ratio = check_maps(heatmaps, tags)
    if ratio != 1:
        raise ShapeError("tags", f"of the heatmaps' size {list(heatmaps.shape[1:])}", list(tags.shape[1:3]))
    tags = np.ascontiguousarray(tags, np.float32)
    for name, maps in (("heatmaps", heatmaps), ("tags", tags)):
        if not np.isfinite(maps).all():
            raise ShapeError(name, "finite numbers", "NaN or infinity")
    order = settings.order_for(len(heatmaps))
    candidates = [_candidates(heatmaps[k], tags[k], settings) for k in range(len(heatmaps))]
    matched = _match(candidates, order=order, settings=settings)
    adjusted = _adjust(matched, heatmaps)
    refined = adjusted.copy()
    if settings.is_refined:
        for person in refined:
            _refine(person, heatmaps, tags)
    scores = np.array([person[:, 2].mean() for person in adjusted], np.float32)
    return ReferenceSteps(matched, adjusted, refined, scores)


def highest_cells(values: Array, limit: int) -> Indices:
    """Indices `[limit]` of the highest of `values` `[C]`, falling, equal ones in the order of torch's top-k.

    That is the order in which a partial sort by binary heap leaves them: the first `limit` values form a heap
    with the lowest on top, each later value that is higher takes the top's place, and at the end the heap is
    taken down from the top. (Torch sorts otherwise where `values` has fewer than 64 per wanted one; then
    equal values may come in another order.)
    """
    limit = min(limit, len(values))
    heap = list(range(limit))
    keys = values.tolist()
    for parent in range(limit // 2 - 1, -1, -1):
        _sift(heap, keys, heap[parent], start=parent, size=limit)
    rising = limit + np.flatnonzero(values[limit:] > values[:limit].min(initial=np.inf))
    for index in rising.tolist():
        if keys[index] > keys[heap[0]]:
            _sift(heap, keys, index, start=0, size=limit)
    for size in range(limit - 1, 0, -1):
        lowest, moved = heap[0], heap[size]
        _sift(heap, keys, moved, start=0, size=size)
        heap[size] = lowest
    return np.array(heap, np.intp)


def _sift(heap: list[int], keys: list[float], item: int, *, start: int, size: int) -> None:
    """Put `item` in place of the heap's entry `start`: let the hole sink to a leaf, then rise with the item.

    The hole goes to the lower child; of equal children, to the right one.
    """
    hole = start
    while (child := 2 * hole + 2) <= size:
        if child == size or keys[heap[child]] > keys[heap[child - 1]]:
            child -= 1
        heap[hole] = heap[child]
        hole = child
    while hole > start and keys[heap[(hole - 1) // 2]] > keys[item]:
        heap[hole] = heap[(hole - 1) // 2]
        hole = (hole - 1) // 2
    heap[hole] = item


def _candidates(heatmap: Array, tags: Array, settings: GroupingSettings) -> Array:
    """Candidates of one keypoint → `[C, 3 + T]` (column, row, score, tags), the highest first.

    All cells of a plateau are candidates.
    """
    highest = cv2.dilate(heatmap, np.ones((settings.window, settings.window), np.uint8))
    flat = np.where(heatmap == highest, heatmap, 0).reshape(-1)
    cells = highest_cells(flat, settings.max_people)
    # Compared in double precision, in which a cell of 0.1 in single precision is above 0.1.
    cells = cells[flat[cells].astype(np.float64) > settings.detection_threshold]
    row, column = np.divmod(cells, heatmap.shape[1])
    return np.column_stack([column, row, flat[cells].astype(np.float64), tags[row, column]])


def _match(
    candidates: list[Array], *, order: tuple[int, ...], settings: GroupingSettings
) -> npt.NDArray[np.float32]:
    """Assign candidates to people, keypoint by keypoint → `[N, K, 3 + T]`."""
    width = candidates[0].shape[1]
    people: dict[float, Array] = {}
    tags: dict[float, list[Array]] = {}
    for k in order:
        rows = candidates[k]
        known = list(people)[: settings.max_people]
        for row, owner in zip(rows, _owners(rows, known, tags, settings), strict=True):
            key = float(row[3]) if owner is None else owner
            tag = row[3:].astype(np.float32)
            if owner is None:
                tags[key] = [tag]
            else:
                tags[key].append(tag)
            people.setdefault(key, np.zeros((len(candidates), width)))[k] = row
    return np.array(list(people.values()), np.float32).reshape(-1, len(candidates), width)


def _owners(
    rows: Array, known: list[float], tags: dict[float, list[Array]], settings: GroupingSettings
) -> list[float | None]:
    """Key of the person that each candidate goes to, None for a new one."""
    if not known or not len(rows):
        return [None] * len(rows)
    means = np.array([np.mean(tags[key], axis=0) for key in known])
    distances = np.linalg.norm(rows[:, None, 3:] - means[None], axis=2)
    costs = np.round(distances) * DISTANCE_WEIGHT - rows[:, 2:3]
    surplus = max(0, len(rows) - len(known))
    costs = np.concatenate([costs, np.full((len(rows), surplus), NEW_PERSON_COST)], axis=1)
    columns = assign_in_reference_order(costs)
    return [
        known[column] if column < len(known) and distances[row, column] < settings.tag_threshold else None
        for row, column in enumerate(columns.tolist())
    ]


def _adjust(matched: npt.NDArray[np.float32], heatmaps: Array) -> npt.NDArray[np.float32]:
    adjusted = matched.copy()
    person, k = np.nonzero(matched[..., 2] > 0)
    x, y = matched[person, k, 0].astype(np.intp), matched[person, k, 1].astype(np.intp)
    adjusted[person, k, :2] = quarter_offset_tops(heatmaps, k, x, y) + CORNER_TO_CENTRE
    return adjusted


def _refine(person: npt.NDArray[np.float32], heatmaps: Array, tags: Array) -> None:
    """Fill in the missing keypoints of a person `[K, 3 + T]`, in place: the best cell of the map each."""
    found = np.flatnonzero(person[:, 2] > 0)
    columns, rows = person[found, 0].astype(np.intp), person[found, 1].astype(np.intp)
    mean = np.mean(list(tags[found, rows, columns]), axis=0)
    for k in np.flatnonzero(person[:, 2] == 0):
        distances = ((tags[k] - mean) ** 2).sum(axis=2) ** 0.5
        y, x = np.unravel_index(np.argmax(heatmaps[k] - np.round(distances)), heatmaps[k].shape)
        if heatmaps[k, y, x] > 0:
            one = (np.array([k]), np.array([x]), np.array([y]))
            person[k, :2] = quarter_offset_tops(heatmaps, *one)[0] + CORNER_TO_CENTRE
            person[k, 2] = heatmaps[k, y, x]

"""The assignment problem: which candidate belongs to which person, each at most once.

Where several assignments cost the same, which one comes out depends on the order in which columns are looked
at, and with rounded tag distances many cost the same. The authors' grouping takes whatever the `munkres`
package returns. This is the same method, shortest augmenting paths (Crouse, IEEE TAES 2016) after a greedy
start, in the order of that package's version 3; its older versions break ties otherwise.

SciPy's solver is up to fifty times faster with thirty people who all resemble one another, but a picture has
at most a few such keypoints, and SciPy would be a quarter of the whole installation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: Smaller problems are looked through from the first column to the last, and larger ones the other way.
SMALL_PROBLEM = 16


def assign_greatest(gains: npt.ArrayLike) -> Indices:
    """Match rows and columns so that the sum of gains is greatest; what gains nothing stays unmatched.

    Args:
        gains: `[R, C]`, 0 for pairs that must not be.

    Returns:
        `[R]` column per row, -1 where unmatched.

    >>> assign_greatest([[2.0, 1.5, 0.0], [1.9, 0.0, 0.0], [0.0, 0.0, 0.0]]).tolist()
    [1, 0, -1]
    """
    table = np.asarray(gains, np.float64)
    if not table.size:
        return np.full(len(table), -1)
    columns: Indices = table.argmax(axis=1)
    columns[table.max(axis=1) <= 0] = -1
    takers = np.bincount(columns + 1, minlength=table.shape[1] + 1)  # the first are those who take none
    if takers[1:].max() > 1:
        is_disputed = (columns >= 0) & (takers[columns + 1] > 1)
        rows, disputed = _drawn_in(table > 0, is_disputed)
        columns[rows] = _share_out(table[np.ix_(rows, disputed)], disputed)
    return columns


def _drawn_in(is_pair: npt.NDArray[np.bool_], is_disputed: npt.NDArray[np.bool_]) -> tuple[Indices, Indices]:
    """Rows `[R]` that want the same column, all that these could take instead, and so on → rows, columns.

    Everybody else has what gains them most, and nobody to dispute it.
    """
    is_row = is_disputed
    while True:
        is_column = is_pair[is_row].any(axis=0)
        reached = is_pair[:, is_column].any(axis=1)
        if np.array_equal(reached, is_row):
            return np.flatnonzero(is_row), np.flatnonzero(is_column)
        is_row = np.asarray(reached)


def _share_out(gains: Array, names: Indices) -> Indices:
    """Column of `names` for each row `[R]`, -1 where unmatched, so that the sum of gains is greatest."""
    if len(names) == 1:
        return np.where(np.arange(len(gains)) == gains[:, 0].argmax(), names[0], -1)
    to_stay_alone = np.zeros((len(gains), len(gains)))
    columns = assign_in_reference_order(np.concatenate([-gains, to_stay_alone], axis=1))
    is_matched = columns < gains.shape[1]
    is_matched[is_matched] = gains[is_matched, columns[is_matched]] > 0
    return np.where(is_matched, names[np.where(is_matched, columns, 0)], -1)


def assign_in_reference_order(costs: npt.ArrayLike) -> Indices:
    """Cheapest column for each row, each column at most once.

    Args:
        costs: `[R, C]` with R ≤ C.

    Returns:
        `[R]` column per row.

    >>> assign_in_reference_order([[1.0, 2.0], [1.0, 5.0]]).tolist()
    [1, 0]
    """
    table = np.asarray(costs, np.float64)
    columns, owners = _greedy_start(table)
    row_prices, column_prices = table.min(axis=1), np.zeros(table.shape[1])
    extend = _extend_small if table.size < SMALL_PROBLEM else _extend
    for row in np.flatnonzero(columns < 0).tolist():
        free, came_from = extend(table, row, owners, row_prices, column_prices)
        _flip_path(columns, owners, came_from, start=row, end=free)
    return columns


def _greedy_start(costs: Array) -> tuple[Indices, Indices]:
    """Give each row, in order, the first free column that is its cheapest → columns, owners; -1 for none."""
    columns, owners = np.full(costs.shape[0], -1), np.full(costs.shape[1], -1)
    for row, is_cheapest in enumerate(costs == costs.min(axis=1, keepdims=True)):
        free = np.flatnonzero(is_cheapest & (owners < 0))
        if len(free):
            columns[row], owners[free[0]] = free[0], row
    return columns, owners


def _extend(
    costs: Array, start: int, owners: Indices, row_prices: Array, column_prices: Array
) -> tuple[int, Indices]:
    """Find the shortest path from a row to a free column, and update the prices, in place.

    Of equally near columns it takes the last free one, or the first; a column that is done leaves its place
    in the order to the last one.

    Returns:
        The free column, and for each column the row from which it was reached.
    """
    order = list(range(costs.shape[1] - 1, -1, -1))
    lengths = np.full(costs.shape[1], np.inf)
    came_from = np.full(costs.shape[1], -1)
    done: list[int] = []
    row, length = start, 0.0
    while True:
        steps = length + costs[row, order] - row_prices[row] - column_prices[order]
        is_shorter = steps < lengths[order]
        closer = np.array(order)[is_shorter]
        lengths[closer], came_from[closer] = steps[is_shorter], row
        length = float(lengths[order].min())
        nearest = [place for place, column in enumerate(order) if lengths[column] == length]
        free = [place for place in nearest if owners[order[place]] < 0]
        if free:
            break
        column = order[nearest[0]]
        order[nearest[0]] = order[-1]
        order.pop()
        done.append(column)
        row = int(owners[column])
    row_prices[start] += length
    row_prices[owners[done]] += length - lengths[done]
    column_prices[done] -= length - lengths[done]
    return order[free[-1]], came_from


def _extend_small(
    costs: Array, start: int, owners: Indices, row_prices: Array, column_prices: Array
) -> tuple[int, Indices]:
    """Do what `_extend` does, but take the first of equally near columns and update prices at each step."""
    lengths = np.full(costs.shape[1], np.inf)
    came_from = np.full(costs.shape[1], -1)
    is_done = np.zeros(costs.shape[1], bool)
    rows = [start]
    while True:
        steps = costs[rows[-1]] - row_prices[rows[-1]] - column_prices
        is_shorter = ~is_done & (steps < lengths)
        lengths[is_shorter], came_from[is_shorter] = steps[is_shorter], rows[-1]
        column = int(np.where(is_done, np.inf, lengths).argmin())
        length = lengths[column]
        row_prices[rows] += length
        column_prices[is_done] -= length
        lengths[~is_done] -= length
        if owners[column] < 0:
            return column, came_from
        is_done[column] = True
        rows.append(int(owners[column]))


def _flip_path(columns: Indices, owners: Indices, came_from: Indices, *, start: int, end: int) -> None:
    """Give each row of the path the column it reached, from the free column back to the first row."""
    column, row = end, -1
    while row != start:
        row = int(came_from[column])
        owners[column] = row
        column, columns[row] = int(columns[row]), column

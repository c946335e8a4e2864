"""The assignment with fixed ties: optimal, and equal to recorded answers where several are optimal."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from fleetpose.codecs.assignment import assign_greatest, assign_in_reference_order

RECORDED = [
    ([[1, 1, 0, 0, 0], [2, 0, 0, 0, 0], [2, 0, 0, 1, 2]], [2, 3, 1]),
    ([[0, 1, 1], [0, 2, 1], [0, 0, 2]], [0, 2, 1]),
    (
        [
            [0, 0, 2, 0, 2, 0, 1],
            [2, 1, 2, 2, 0, 1, 2],
            [1, 0, 1, 2, 1, 2, 2],
            [1, 1, 1, 1, 0, 2, 2],
            [2, 0, 0, 0, 1, 2, 2],
            [1, 0, 1, 1, 1, 2, 0],
        ],
        [0, 4, 1, 3, 2, 6],
    ),
    ([[2, 2, 1, 0], [1, 2, 0, 1], [2, 2, 1, 2]], [3, 2, 0]),
    (
        [[1, 2, 1, 0, 1, 2, 0], [1, 1, 2, 0, 2, 0, 1], [2, 2, 2, 2, 2, 1, 2], [2, 1, 2, 0, 2, 0, 0]],
        [3, 5, 1, 6],
    ),
    (
        [
            [1, 2, 0, 1, 1, 1, 2],
            [2, 2, 2, 0, 1, 1, 1],
            [2, 1, 2, 1, 2, 2, 2],
            [2, 1, 0, 2, 2, 1, 0],
            [1, 0, 1, 0, 2, 1, 2],
            [0, 1, 1, 2, 2, 1, 2],
        ],
        [2, 4, 1, 6, 3, 0],
    ),
    (
        [
            [0, 2, 2, 1, 1, 2, 1],
            [1, 1, 2, 1, 2, 1, 0],
            [1, 2, 1, 2, 1, 1, 0],
            [2, 2, 2, 1, 2, 0, 0],
            [1, 1, 0, 0, 2, 2, 0],
            [2, 0, 1, 1, 0, 0, 2],
        ],
        [0, 3, 6, 5, 2, 1],
    ),
    (
        [
            [0, 2, 2, 0, 0, 2, 2],
            [2, 0, 0, 2, 0, 1, 0],
            [1, 0, 1, 2, 2, 2, 2],
            [2, 0, 2, 2, 0, 2, 1],
            [1, 0, 0, 2, 1, 2, 0],
        ],
        [0, 6, 1, 4, 2],
    ),
    ([[0, 0, 2, 1], [1, 2, 0, 1], [1, 2, 0, 2]], [1, 2, 0]),
    (
        [
            [0, 2, 2, 2, 0, 2, 2],
            [2, 2, 1, 1, 2, 1, 0],
            [0, 2, 1, 2, 1, 1, 2],
            [0, 1, 2, 2, 0, 1, 1],
            [2, 1, 0, 1, 0, 0, 0],
        ],
        [4, 6, 0, 1, 2],
    ),
]


@pytest.mark.parametrize(("costs", "columns"), RECORDED)
def test_ties_are_broken_as_recorded(costs, columns):
    assert assign_in_reference_order(costs).tolist() == columns


@pytest.mark.parametrize("seed", range(20))
def test_no_assignment_is_cheaper(seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(1, 12)
    costs = rng.uniform(size=(rows, rows + rng.integers(0, 4)))

    columns = assign_in_reference_order(costs)

    best = costs[linear_sum_assignment(costs)].sum()
    assert len(set(columns.tolist())) == rows
    assert costs[np.arange(rows), columns].sum() == pytest.approx(best, abs=1e-12)


def test_columns_at_the_cost_of_a_new_person_come_last():
    assert assign_in_reference_order([[5.0, 1e10], [3.0, 1e10]]).tolist() == [1, 0]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("seed", range(10))
def test_no_assignment_gains_more(seed, share):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 9, 2)
    gains = rng.uniform(size=shape) * (rng.uniform(size=shape) < share)

    columns = assign_greatest(gains)

    matched = np.flatnonzero(columns >= 0)
    assert len(set(columns[matched].tolist())) == len(matched)
    assert (gains[matched, columns[matched]] > 0).all()
    best = gains[linear_sum_assignment(gains, maximize=True)].sum()
    assert gains[matched, columns[matched]].sum() == pytest.approx(best, abs=1e-12)


def test_of_two_rows_that_want_one_column_the_better_one_gets_it():
    assert assign_greatest([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]).tolist() == [-1, 0, 1]


def test_a_row_yields_to_another_if_both_together_gain_more():
    # The first row evades to the second column, whose own row evades to the third.
    gains = [[2.0, 1.9, 0.0], [2.0, 0.0, 0.0], [0.0, 2.0, 1.9]]

    assert assign_greatest(gains).tolist() == [1, 0, 2]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_where_there_is_nothing_to_match_nobody_is_matched(shape):
    assert assign_greatest(np.zeros(shape)).tolist() == [-1] * shape[0]

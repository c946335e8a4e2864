"""The authors' grouping: equal to their recorded results, and each quirk by a scene made for it."""

import numpy as np
import pytest

from fleetpose.codecs.grouping import GroupingSettings
from fleetpose.codecs.reference import group_reference, highest_cells, reference_steps
from fleetpose.errors import ShapeError

STEPS = {"match": "matched", "adjusted": "adjusted", "refined": "refined", "scores": "scores"}


@pytest.mark.parametrize(
    "case", ["N1_T2_96", "N10_T2_96", "N3_T1_120", "N4_nonsquare_T1_96x144", "N8_ambiguous_tags_T1_120"]
)
def test_every_step_equals_the_authors_to_the_last_bit(case, shared):
    with np.load(shared / "golden" / "grouping" / f"{case}.npz") as golden:
        recorded = dict(golden)

    steps = reference_steps(
        recorded["det"][0].astype(np.float32), recorded["tag"][0].astype(np.float32), GroupingSettings()
    )

    for theirs, ours in STEPS.items():
        if theirs in recorded:
            np.testing.assert_array_equal(getattr(steps, ours), recorded[theirs], err_msg=theirs)


def one_peak_maps(peaks, *, num_keypoints=2, size=(12, 24)):
    """Maps with single bright cells, as (keypoint, column, row, height, tag); other cells are tagged 50."""
    heatmaps = np.zeros((num_keypoints, *size), np.float32)
    tags = np.full((num_keypoints, *size), 50.0, np.float32)
    for k, x, y, height, tag in peaks:
        heatmaps[k, y, x], tags[k, y, x] = height, tag
    return heatmaps, tags


def test_coordinates_are_ours_and_a_flat_peak_moves_left_and_up():
    keypoints, scores = group_reference(*one_peak_maps([(0, 5, 4, 0.5, 0.0), (1, 9, 8, 0.75, 0.0)]))

    assert keypoints.tolist() == [[[4.75, 3.75, 0.5], [8.75, 7.75, 0.75]]]
    assert scores.tolist() == [0.625]


def test_a_peak_moves_towards_its_higher_neighbour():
    heatmaps, tags = one_peak_maps([(0, 5, 4, 0.5, 0.0)], num_keypoints=1)
    heatmaps[0, 4, 6] = heatmaps[0, 5, 5] = 0.1

    keypoints, _ = group_reference(heatmaps, tags)

    assert keypoints[0, 0].tolist() == [5.25, 4.25, 0.5]


def test_people_come_in_the_order_in_which_they_were_started():
    _, scores = group_reference(*one_peak_maps([(0, 5, 4, 0.5, 0.0), (1, 9, 8, 0.9, 9.0)]))

    assert scores.tolist() == [0.25, np.float32(0.45)]


def test_beyond_the_limit_every_candidate_starts_a_person():
    peaks = [(k, 2 + 6 * n, 4, 0.9 - 0.1 * n, 5.0 * n + 0.1 * k) for k in range(3) for n in range(3)]
    settings = GroupingSettings(max_people=3, keypoint_order=(0, 1, 2), is_refined=False)
    overflowing = [(0, 2, 4, 0.9, -40.0), (0, 8, 4, 0.9, -30.0), (0, 14, 4, 0.9, -20.0)]

    fitting, _ = group_reference(*one_peak_maps(peaks, num_keypoints=3), settings)
    cascade, _ = group_reference(*one_peak_maps([*overflowing, *peaks[3:]], num_keypoints=3), settings)

    assert len(fitting) == 3
    # Three people of the first keypoint; the others' candidates never find each other.
    assert len(cascade) == 9


def test_people_whose_first_tag_is_equal_become_one():
    heatmaps, tags = one_peak_maps([(0, 5, 4, 0.5, 1.0), (0, 15, 4, 0.9, 1.0)], num_keypoints=1)

    keypoints, _ = group_reference(heatmaps, tags)

    assert keypoints[:, 0].tolist() == [[4.75, 3.75, 0.5]]  # the later, lower one has overwritten the other


def test_a_rounded_distance_lets_the_higher_candidate_win():
    # Both are nearer than a half, so both round to 0 and only the score decides.
    peaks = [(0, 5, 4, 0.9, 0.0), (1, 5, 8, 0.3, 0.1), (1, 15, 8, 0.6, 0.45)]

    keypoints, _ = group_reference(*one_peak_maps(peaks), GroupingSettings(is_refined=False))

    assert keypoints[0, 1, 0] == 14.75


def test_a_missing_keypoint_is_put_on_the_best_cell_of_the_whole_map():
    heatmaps, tags = one_peak_maps([(0, 5, 4, 0.9, 0.0), (1, 20, 8, 0.05, 0.4), (1, 3, 3, 0.09, 0.6)])

    keypoints, scores = group_reference(heatmaps, tags)

    np.testing.assert_array_equal(keypoints[0, 1], np.array([19.75, 7.75, 0.05], np.float32))
    assert scores[0] == np.float32(0.45)


def test_nothing_is_filled_in_where_the_map_is_zero():
    keypoints, _ = group_reference(*one_peak_maps([(0, 5, 4, 0.9, 0.0)]))

    assert keypoints[0, 1].tolist() == [0, 0, 0]


def test_empty_maps_give_nobody():
    keypoints, scores = group_reference(np.zeros((17, 8, 8)), np.zeros((17, 8, 8, 2)))

    assert keypoints.shape == (0, 17, 3)
    assert scores.shape == (0,)


@pytest.mark.parametrize("name", ["heatmaps", "tags"])
def test_maps_that_are_not_finite_are_refused_by_name(name):
    maps = dict(zip(("heatmaps", "tags"), one_peak_maps([]), strict=True))
    maps[name][0, 0, 0] = np.nan

    with pytest.raises(ShapeError, match=f"^{name} must be finite"):
        group_reference(**maps)


def test_tags_of_another_resolution_are_refused():
    with pytest.raises(ShapeError, match=r"tags must be of the heatmaps' size \[8, 8\]"):
        group_reference(np.zeros((17, 8, 8)), np.zeros((17, 4, 4)))


def test_the_highest_cells_come_in_falling_order():
    values = np.array([0.1, 0.5, 0.3, 0.9, 0.2])

    assert highest_cells(values, 3).tolist() == [3, 1, 2]
    assert highest_cells(values, 9).tolist() == [3, 1, 2, 4, 0]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("levels", [1, 3, 20])
def test_equal_cells_come_in_the_order_of_torch(seed, levels):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    values = (rng.integers(0, levels + 1, 3000) * (rng.uniform(size=3000) < 0.1)).astype(np.float32)

    expected = torch.topk(torch.from_numpy(values), 30).indices

    assert highest_cells(values, 30).tolist() == expected.tolist()

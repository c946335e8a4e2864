"""Grouping of peaks into people, on scenes whose answer is known."""

import cv2
import numpy as np
import pytest

from fleetpose.codecs.grouping import GroupingSettings, group, keypoint_order, sample_tags
from fleetpose.errors import ConfigError, ShapeError
from fleetpose.skeletons import COCO


def draw(people, tags, *, size=(64, 64), heights=None, sigma=1.5, num_tags=1, tag_stride=1):
    """Heatmaps and tags of people `[N, K, 2]` in cells; NaN draws nothing; empty cells are tagged 99."""
    people = np.asarray(people, float)
    heights = np.full(people.shape[:2], 0.9) if heights is None else np.asarray(heights, float)
    h, w = size
    heatmaps = np.zeros((people.shape[1], h, w), np.float32)
    tag_maps = np.full((people.shape[1], h // tag_stride, w // tag_stride, num_tags), 99.0, np.float32)
    for n, k in np.argwhere(np.isfinite(people[..., 0])):
        x, y = people[n, k]
        rows, columns = np.mgrid[max(0, round(y) - 8) : round(y) + 9, max(0, round(x) - 8) : round(x) + 9]
        is_inside = (rows < h) & (columns < w)
        rows, columns = rows[is_inside], columns[is_inside]
        blob = heights[n, k] * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
        is_higher = blob > heatmaps[k, rows, columns]
        is_near = is_higher & (np.abs(columns - x) <= 4) & (np.abs(rows - y) <= 4)
        tag_maps[k, rows[is_near] // tag_stride, columns[is_near] // tag_stride] = tags[n]
        heatmaps[k, rows[is_higher], columns[is_higher]] = blob[is_higher]
    return heatmaps, tag_maps


def crowd(count, num_keypoints, *, size, seed=0, spacing=10):
    """People `[N, K, 2]` whose keypoints of one kind are at least some cells apart, and their tags `[N]`."""
    rng = np.random.default_rng(seed)
    columns, rows = (side // spacing for side in size[::-1])
    places = np.stack([rng.permutation(columns * rows)[:count] for _ in range(num_keypoints)], axis=1)
    corner = np.stack([places % columns, places // columns], axis=-1) * spacing
    return corner + rng.uniform(3, spacing - 3, corner.shape), 3.0 * rng.permutation(count)


def by_position(keypoints):
    return keypoints[np.lexsort(keypoints[:, 0, :2].T)]


TWO_PEOPLE = [[[10, 10], [12, 30], [14, 50]], [[40, 12], [42, 32], [44, 52]]]


def test_two_people_are_told_apart_by_their_tags():
    heatmaps, tags = draw(TWO_PEOPLE, [0.0, 3.0], heights=[[0.9] * 3, [0.6] * 3])

    keypoints, scores = group(heatmaps, tags)

    np.testing.assert_allclose(keypoints[..., :2], TWO_PEOPLE, atol=1e-4)
    np.testing.assert_allclose(keypoints[..., 2], [[0.9] * 3, [0.6] * 3], atol=1e-6)
    np.testing.assert_allclose(scores, [0.9, 0.6], atol=1e-6)


def test_a_keypoint_goes_to_the_person_with_its_tag_and_not_to_the_nearest_one():
    crossed = [[[10, 10], [40, 30]], [[40, 10], [10, 30]]]
    heatmaps, tags = draw(crossed, [0.0, 3.0], heights=[[0.9] * 2, [0.6] * 2])

    keypoints, _ = group(heatmaps, tags)

    np.testing.assert_allclose(keypoints[..., :2], crossed, atol=1e-4)


def test_people_come_with_falling_scores():
    # The first person's first keypoint is the highest, so it is the first to be found.
    heatmaps, tags = draw(TWO_PEOPLE, [0.0, 3.0], heights=[[0.9, 0.3, 0.3], [0.8] * 3])

    keypoints, scores = group(heatmaps, tags)

    np.testing.assert_allclose(scores, [0.8, 0.5], atol=1e-6)
    assert keypoints[0, 0, 0] == pytest.approx(40, abs=1e-3)


def test_a_missing_keypoint_lowers_the_score_and_stays_zero_where_nothing_is_there():
    heatmaps, tags = draw([[[10, 10], [12, 30], [np.nan, np.nan]]], [0.0])

    keypoints, scores = group(heatmaps, tags)

    assert keypoints[0, 2].tolist() == [0, 0, 0]
    assert scores[0] == pytest.approx(0.9 * 2 / 3, abs=1e-5)


def test_a_weak_keypoint_is_filled_in_with_its_own_height_and_does_not_change_the_score():
    heatmaps, tags = draw([[[10, 10], [12, 30.3]]], [0.0], heights=[[0.9, 0.06]])

    keypoints, scores = group(heatmaps, tags)

    np.testing.assert_allclose(keypoints[0, 1, :2], [12, 30.3], atol=1e-3)
    assert keypoints[0, 1, 2] == heatmaps[1, 30, 12]
    assert scores[0] == pytest.approx(0.45, abs=1e-5)


def hidden_on_a_flank():
    """Two people; the second one's other keypoint is low and three cells beside the first one's high one."""
    people = [[[10, 10], [30, 30]], [[40, 10], [33, 30]]]
    return draw(people, [0.0, 3.0], heights=[[0.9, 0.9], [0.8, 0.12]])


def test_a_keypoint_that_a_neighbours_peak_hides_is_found_on_its_flank_if_asked_for():
    heatmaps, tags = hidden_on_a_flank()
    tags[1, 28:33, 32:36] = 3.0

    without, _ = group(heatmaps, tags)
    found, scores = group(heatmaps, tags, GroupingSettings(has_flank_search=True))

    assert without[1, 1].tolist() == [0, 0, 0]
    assert found[1, 1].tolist() == [32, 30, heatmaps[1, 30, 32]]
    np.testing.assert_array_equal(found[:, 0], without[:, 0])
    assert scores[1] == pytest.approx(0.4)


def test_a_flank_whose_tags_differ_hides_nobody():
    heatmaps, tags = hidden_on_a_flank()
    tags[1] = 0.0

    found, _ = group(heatmaps, tags, GroupingSettings(has_flank_search=True))

    assert found[1, 1].tolist() == [0, 0, 0]


def test_a_maximum_is_preferred_to_a_higher_cell_on_a_flank():
    heatmaps, tags = hidden_on_a_flank()
    tags[1, 28:33, 32:36] = 3.0
    heatmaps[1, 50, 50], tags[1, 50, 50] = 0.05, 3.0

    found, _ = group(heatmaps, tags, GroupingSettings(has_flank_search=True))

    assert found[1, 1, :2].tolist() == [50, 50]


def test_without_refinement_no_flank_is_searched():
    heatmaps, tags = hidden_on_a_flank()
    tags[1, 28:33, 32:36] = 3.0

    found, _ = group(heatmaps, tags, GroupingSettings(has_flank_search=True, is_refined=False))

    assert found[1, 1].tolist() == [0, 0, 0]


def test_without_refinement_a_weak_keypoint_stays_missing():
    heatmaps, tags = draw([[[10, 10], [12, 30]]], [0.0], heights=[[0.9, 0.06]])

    keypoints, _ = group(heatmaps, tags, GroupingSettings(is_refined=False))

    assert keypoints[0, 1].tolist() == [0, 0, 0]


def test_a_weak_keypoint_of_somebody_else_is_not_filled_in():
    people = [[[10, 10], [np.nan, np.nan]], [[40, 10], [42, 30]]]
    heatmaps, tags = draw(people, [0.0, 0.6], heights=[[0.9, 0.9], [0.9, 0.06]])

    keypoints, _ = group(heatmaps, tags)

    assert (by_position(keypoints)[:, 1, 2] > 0).tolist() == [False, True]


def test_the_higher_of_two_alike_weak_peaks_is_filled_in():
    heatmaps, tags = draw(
        [[[10, 10], [12, 30]], [[np.nan, np.nan], [50, 50]]], [0.0, 0.0], heights=[[0.9, 0.04], [0, 0.07]]
    )

    keypoints, _ = group(heatmaps, tags)

    np.testing.assert_allclose(keypoints[0, 1, :2], [50, 50], atol=1e-3)


def test_among_candidates_of_one_tag_the_higher_is_taken():
    heatmaps, tags = draw(
        [[[10, 10], [12, 30]], [[np.nan, np.nan], [40, 30]]], [0.0, 0.0], heights=[[0.9, 0.3], [0, 0.8]]
    )

    keypoints, _ = group(heatmaps, tags, GroupingSettings(min_keypoints=2))

    assert keypoints[0, 1, 0] == pytest.approx(40, abs=1e-3)


def test_a_higher_candidate_is_taken_before_a_slightly_more_alike_one():
    people = [[[10, 10], [12, 30]], [[np.nan, np.nan], [40, 30]]]
    heatmaps, tags = draw(people, [0.0, 0.3], heights=[[0.9, 0.3], [0, 0.8]])

    keypoints, _ = group(heatmaps, tags, GroupingSettings(min_keypoints=2))

    assert keypoints[0, 1, 0] == pytest.approx(40, abs=1e-3)


def test_a_much_more_alike_candidate_is_taken_before_a_higher_one():
    people = [[[10, 10], [12, 30]], [[np.nan, np.nan], [40, 30]]]
    heatmaps, tags = draw(people, [0.0, 0.9], heights=[[0.9, 0.3], [0, 0.8]])

    keypoints, _ = group(heatmaps, tags, GroupingSettings(min_keypoints=2))

    assert keypoints[0, 1, 0] == pytest.approx(12, abs=1e-3)


def test_people_with_too_few_keypoints_are_dropped():
    people = [[[10, 10], [12, 30], [14, 50]], [[40, 12], [np.nan, np.nan], [np.nan, np.nan]]]
    maps = draw(people, [0.0, 3.0])

    counts = [len(group(*maps, GroupingSettings(min_keypoints=least))[0]) for least in (1, 2, 3)]

    assert counts == [2, 1, 1]


def test_weak_keypoints_of_several_people_are_filled_in_each():
    heatmaps, tags = draw(TWO_PEOPLE, [0.0, 3.0], heights=[[0.9, 0.9, 0.05], [0.6, 0.6, 0.08]])

    keypoints, _ = group(heatmaps, tags)

    np.testing.assert_allclose(keypoints[..., :2], TWO_PEOPLE, atol=1e-3)


def test_a_candidate_beyond_the_tag_threshold_starts_a_person():
    people = [[[10, 10], [np.nan, np.nan]], [[np.nan, np.nan], [12, 30]]]

    near = group(*draw(people, [0.0, 0.9]), GroupingSettings(is_refined=False))
    far = group(*draw(people, [0.0, 1.1]), GroupingSettings(is_refined=False))

    assert len(near[0]) == 1
    assert len(far[0]) == 2


def test_a_tag_distance_means_the_same_for_one_tag_and_for_four():
    people = [[[10, 10], [np.nan, np.nan]], [[np.nan, np.nan], [12, 30]]]
    settings = GroupingSettings(is_refined=False)

    counts = [len(group(*draw(people, [0.0, 0.9], num_tags=count), settings)[0]) for count in (1, 2, 4)]

    assert counts == [1, 1, 1]


def test_people_found_are_compared_by_their_mean_tag():
    # Tags 0 and 0.8 make a mean of 0.4; 1.3 is then within 1 of the mean, but not of the first.
    people = np.full((3, 3, 2), np.nan)
    people[0, 0], people[1, 1], people[2, 2] = [10, 10], [10, 30], [10, 50]
    heatmaps, tags = draw(people, [0.0, 0.8, 1.3])

    keypoints, _ = group(heatmaps, tags)

    assert len(keypoints) == 1


def test_no_more_than_max_people_are_returned_and_the_strongest_stay():
    people, tags = crowd(12, 5, size=(64, 64))
    heights = np.repeat(np.linspace(0.3, 0.9, 12)[:, None], 5, axis=1)
    heatmaps, tag_maps = draw(np.rint(people), tags, heights=heights)

    _, scores = group(heatmaps, tag_maps, GroupingSettings(max_people=4))

    np.testing.assert_allclose(scores, np.linspace(0.3, 0.9, 12)[:7:-1], atol=1e-5)


def test_a_candidate_that_fits_nobody_is_dropped_once_there_are_max_people():
    people = np.full((3, 2, 2), np.nan)
    people[:2] = [[[10, 10], [12, 30]], [[40, 12], [42, 32]]]
    people[2, 1] = [25, 50]
    heatmaps, tags = draw(people, [0.0, 3.0, 9.0], heights=[[0.9, 0.5], [0.6, 0.5], [0, 0.8]])

    keypoints, _ = group(heatmaps, tags, GroupingSettings(max_people=2))

    np.testing.assert_allclose(keypoints[0], [[10, 10, 0.9], [12, 30, 0.5]], atol=1e-3)
    assert len(keypoints) == 2


def test_300_people_are_found():
    people, tags = crowd(300, 2, size=(256, 256), spacing=14)
    heatmaps, tag_maps = draw(people, tags, size=(256, 256))

    keypoints, _ = group(heatmaps, tag_maps, GroupingSettings(max_people=300))

    np.testing.assert_allclose(by_position(keypoints)[..., :2], by_position(people), atol=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_in_which_people_stand_changes_nothing_but_their_order(seed):
    people, tags = crowd(8, 17, size=(96, 96), seed=seed, spacing=16)
    heights = np.random.default_rng(seed).uniform(0.2, 1, people.shape[:2])
    order = np.random.default_rng(seed).permutation(8)

    straight, _ = group(*draw(people, tags, size=(96, 96), heights=heights))
    shuffled, _ = group(*draw(people[order], tags[order], size=(96, 96), heights=heights[order]))

    np.testing.assert_array_equal(by_position(straight), by_position(shuffled))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tag_stride", [1, 2])
def test_mirrored_maps_give_mirrored_people(seed, tag_stride):
    people, tags = crowd(6, 17, size=(96, 96), seed=seed, spacing=16)
    heights = np.random.default_rng(seed).uniform(0.02, 1, people.shape[:2])
    heatmaps, tag_maps = draw(people, tags, size=(96, 96), heights=heights, tag_stride=tag_stride)
    swap = COCO.flip_permutation

    straight, _ = group(heatmaps, tag_maps)
    mirrored, _ = group(heatmaps[swap, :, ::-1], tag_maps[swap, :, ::-1])

    back = mirrored[:, swap].copy()
    back[..., 0] = np.where(back[..., 2] > 0, 95 - back[..., 0], 0)
    np.testing.assert_allclose(by_position(back), by_position(straight), atol=1e-4)


def test_coarser_tags_are_read_at_the_same_place_of_the_picture():
    # Tags rise by 1 per coarse cell; heatmap cell 21 of a twice finer map lies at coarse cell 10.25.
    heatmaps, _ = draw([[[21, 10]], [[30, 10]]], [0.0, 0.0], size=(32, 48))
    tags = np.tile(np.arange(24.0), (1, 16, 1))
    settings = GroupingSettings(tag_threshold=0.3, is_refined=False)
    second = np.full((1, 32, 48), 0.0, np.float32)
    second[0, 4, 5] = 0.9

    def people_with(tag):
        other = np.full((1, 16, 24), tag)
        return len(group(np.concatenate([heatmaps, second]), np.concatenate([tags, other]), settings)[0])

    assert people_with(10.25 + 0.29) == 2
    assert people_with(10.25 - 0.29) == 2
    assert people_with(10.25 + 0.31) == 3
    assert people_with(10.25 - 0.31) == 3


def test_coarser_tags_are_read_between_rows_as_between_columns():
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(1, 16, 24, 2)).astype(np.float32)
    fine = np.stack([cv2.resize(coarse[0, ..., t], (48, 32)) for t in range(2)], axis=-1)
    y, x = (index.ravel() for index in np.mgrid[:32, :48])

    read = sample_tags(coarse, np.zeros(len(x), int), x, y, ratio=2.0)

    np.testing.assert_allclose(read, fine[y, x], atol=1e-5)


def test_tags_may_be_a_view_of_stacked_passes():
    heatmaps, tags = draw(TWO_PEOPLE, [0.0, 3.0], num_tags=2)
    view = np.moveaxis(np.ascontiguousarray(np.moveaxis(tags, -1, 0)), 0, -1)

    keypoints, _ = group(heatmaps, view)

    np.testing.assert_array_equal(keypoints, group(heatmaps, tags)[0])


def test_empty_maps_give_nobody():
    keypoints, scores = group(np.zeros((17, 32, 32)), np.zeros((17, 32, 32, 2)))

    assert keypoints.shape == (0, 17, 3)
    assert scores.shape == (0,)
    assert keypoints.dtype == scores.dtype == np.float32


def test_maps_of_one_cell_give_a_person_in_that_cell():
    keypoints, scores = group(np.full((17, 1, 1), 0.5), np.zeros((17, 1, 1)))

    assert keypoints.tolist() == [[[0.0, 0.0, 0.5]] * 17]
    assert scores.tolist() == [0.5]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_heatmap_that_is_not_finite_is_refused_by_name(value):
    heatmaps, tags = draw(TWO_PEOPLE, [0.0, 3.0])
    heatmaps[2, 7, 7] = value

    with pytest.raises(ShapeError, match=r"^heatmaps must be finite"):
        group(heatmaps, tags)


@pytest.mark.parametrize("tag_stride", [1, 2])
def test_a_tag_that_is_not_finite_is_refused_by_name(tag_stride):
    heatmaps, tags = draw(TWO_PEOPLE, [0.0, 3.0], tag_stride=tag_stride)
    tags[:] = np.nan

    with pytest.raises(ShapeError, match=r"^tags must be finite"):
        group(heatmaps, tags)


@pytest.mark.parametrize(
    ("heatmap_shape", "tag_shape", "message"),
    [
        ((32, 32), (17, 32, 32), r"heatmaps must be of shape \[K, h, w\].*got \[32, 32\]"),
        ((0, 32, 32), (0, 32, 32), r"heatmaps must be"),
        ((17, 32, 32), (17, 32), r"tags must be of shape \[17, h', w'\]"),
        ((17, 32, 32), (16, 32, 32), r"tags must be of shape \[17, h', w'\].*got \[16, 32, 32\]"),
        ((17, 32, 32), (17, 16, 32), r"tags must be of the same aspect.*got \[16, 32\]"),
    ],
)
def test_maps_that_do_not_fit_are_refused(heatmap_shape, tag_shape, message):
    with pytest.raises(ShapeError, match=message):
        group(np.zeros(heatmap_shape), np.zeros(tag_shape))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window", 4),
        ("window", 1),
        ("max_people", 0),
        ("min_keypoints", 0),
        ("detection_threshold", -0.1),
        ("refine_threshold", -1.0),
        ("tag_threshold", 0.0),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=name):
        GroupingSettings(**{name: value})


def test_an_order_that_misses_a_keypoint_is_refused():
    with pytest.raises(ConfigError, match=r"keypoint_order must name each of 3 keypoints once, got \(0, 2\)"):
        group(*draw(TWO_PEOPLE, [0.0, 3.0]), GroupingSettings(keypoint_order=[0, 2]))


def test_the_keypoint_that_comes_first_decides_who_there_is():
    # Tags 0 and 0.8 fit together, and 0.8 and 1.6, but 0 and 1.6 do not: two people with either start, ...
    people = np.full((3, 3, 2), np.nan)
    people[0, 0], people[1, 1], people[2, 2] = [10, 10], [10, 30], [10, 50]
    maps = draw(people, [0.0, 0.8, 1.6])

    def groups(order):
        keypoints, _ = group(*maps, GroupingSettings(keypoint_order=order, is_refined=False))
        return sorted(np.flatnonzero(person[:, 2]).tolist() for person in keypoints)

    # ... but which of them takes the middle one depends on who is asked first.
    assert groups((0, 1, 2)) == [[0, 1], [2]]
    assert groups((2, 1, 0)) == [[0], [1, 2]]


def test_trunk_comes_before_arms_and_legs():
    names = [COCO.keypoints[k] for k in keypoint_order(17)]

    assert names.index("left_hip") < names.index("left_elbow") < names.index("left_knee")
    assert sorted(keypoint_order(17)) == list(range(17))
    assert sorted(keypoint_order(14)) == list(range(14))
    assert keypoint_order(5) == (0, 1, 2, 3, 4)

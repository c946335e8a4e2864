import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetpose.codecs.associative_embedding import TAG_CELLS, AssociativeEmbeddingCodec
from fleetpose.codecs.fields import Field, FieldKind, associative_embedding_fields
from fleetpose.codecs.grouping import GroupingSettings
from fleetpose.errors import ConfigError, ShapeError
from fleetpose.geometry import cells_to_pixels

SIZE = (64, 96)  # (H, W) of the input, in pixels
K = 3


@pytest.fixture
def codec():
    return AssociativeEmbeddingCodec(fields=associative_embedding_fields(K))


def _people(*people):
    """People given as K tuples (x, y) or (x, y, v), or None → `[N, K, 3]` float32."""
    rows = [[(*point, 2)[:3] if point else (0, 0, 0) for point in person] for person in people]
    return np.array(rows, np.float32).reshape(-1, K, 3)


def _middle_of_mass(heatmap):
    ys, xs = np.mgrid[: heatmap.shape[0], : heatmap.shape[1]]
    mass = heatmap.astype(float)
    return np.array([(mass * xs).sum(), (mass * ys).sum()]) / mass.sum()


# What is drawn


def test_maps_have_one_channel_per_keypoint_and_the_size_of_their_stride(codec):
    targets = codec.encode(_people([(40, 30)] * K), size=SIZE)

    assert targets["heatmaps_s4"].shape == (K, 16, 24)
    assert targets["heatmaps_s2"].shape == (K, 32, 48)
    assert targets[TAG_CELLS].shape == (30, K)
    assert targets["heatmaps_s4"].dtype == np.float32
    assert set(targets) == {"heatmaps_s4", "heatmaps_s2", TAG_CELLS}


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("xy", [(40, 30), (41.7, 29.2), (48.5, 32.5)])
def test_a_gaussian_is_centred_on_its_keypoint_to_a_hundredth_of_a_cell(codec, stride, xy):
    (heatmap, *_) = codec.encode(_people([xy, None, None]), size=SIZE)[f"heatmaps_s{stride}"]

    # Counted in pixels by hand: cell c covers pixels c * stride to c * stride + stride - 1.
    middle = [c * stride + (stride - 1) / 2 for c in _middle_of_mass(heatmap)]

    np.testing.assert_allclose(middle, xy, atol=0.01 * stride)


def test_mirroring_the_picture_mirrors_the_maps(codec):
    people = _people([(40.2, 30), (13, 50.4), None], [(80, 11), (70.6, 20), (60, 33.3)])
    mirrored = people.copy()
    mirrored[..., 0] = 96 - 1 - people[..., 0]

    targets, flipped = codec.encode(people, size=SIZE), codec.encode(mirrored, size=SIZE)

    for name in ("heatmaps_s4", "heatmaps_s2"):
        np.testing.assert_allclose(flipped[name], targets[name][:, :, ::-1], atol=1e-5)


@pytest.mark.parametrize("stride", [2, 4])
def test_a_gaussian_is_two_cells_wide_on_every_map(codec, stride):
    x, y = cells_to_pixels(np.array([8.0, 7.0]), stride)

    (heatmap, *_) = codec.encode(_people([(x, y), None, None]), size=SIZE)[f"heatmaps_s{stride}"]

    assert heatmap[7, 8] == 1
    np.testing.assert_allclose(heatmap[7, 8 + 2], np.exp(-0.5), rtol=1e-6)
    np.testing.assert_allclose(heatmap[7 + 4, 8], np.exp(-2), rtol=1e-6)
    np.testing.assert_allclose(heatmap[7 + 2, 8 - 2], np.exp(-1), rtol=1e-6)


def test_each_map_may_have_its_own_width():
    codec = AssociativeEmbeddingCodec(fields=associative_embedding_fields(K), sigma_cells=(1.0, 3.0))
    coarse, fine = (cells_to_pixels(np.array([8.0, 8.0]), stride).tolist() for stride in (4, 2))

    targets = codec.encode(_people([coarse, fine, None]), size=SIZE)

    assert targets["heatmaps_s4"][0, 8, 9] == pytest.approx(np.exp(-1 / 2))
    assert targets["heatmaps_s2"][1, 8, 11] == pytest.approx(np.exp(-1 / 2))


def test_where_people_overlap_the_higher_value_stands(codec):
    one, other = [(40, 30), None, None], [(46, 34), None, None]

    both = codec.encode(_people(one, other), size=SIZE)["heatmaps_s4"]

    alone = [codec.encode(_people(person), size=SIZE)["heatmaps_s4"] for person in (one, other)]
    np.testing.assert_array_equal(both, np.maximum(*alone))


def test_hidden_keypoints_count_like_visible_ones(codec):
    visible = codec.encode(_people([(40, 30, 2), (50, 30, 2), None]), size=SIZE)
    hidden = codec.encode(_people([(40, 30, 1), (50, 30, 2), None]), size=SIZE)

    for name, target in visible.items():
        np.testing.assert_array_equal(hidden[name], target)


@pytest.mark.parametrize(
    "point", [(40, 30, 0), (np.nan, np.nan, 0), (-0.6, 30, 2), (40, 63.6, 2), (96, 30, 2), (40, -9, 1)]
)
def test_a_keypoint_without_label_or_outside_the_picture_leaves_no_trace(codec, point):
    targets = codec.encode(_people([point, (20, 20), None]), size=SIZE)

    for name in ("heatmaps_s4", "heatmaps_s2"):
        assert targets[name][0].max() == 0
        assert targets[name][1].max() > 0.9
    assert targets[TAG_CELLS][0, 0] == -1


@pytest.mark.parametrize("people", [_people(), _people([None] * K), _people([(-20, -20)] * K)])
def test_a_picture_without_people_has_empty_maps(codec, people):
    targets = codec.encode(people, size=SIZE)

    assert targets["heatmaps_s4"].shape == (K, 16, 24)
    assert targets["heatmaps_s4"].max() == targets["heatmaps_s2"].max() == 0
    assert (targets[TAG_CELLS] == -1).all()


def test_the_given_keypoints_stay_as_they_were(codec):
    people = _people([(40, 30), (-5, 30), None])

    codec.encode(people, size=SIZE)

    np.testing.assert_array_equal(people, _people([(40, 30), (-5, 30), None]))


# Where tags are read


def test_a_tag_is_read_in_the_cell_that_covers_the_keypoint(codec):
    # Cells of the tag map are 4 pixels across, its rows 24 cells long.
    tag_cells = codec.encode(_people([(0, 0), (4, 8), (95, 63)]), size=SIZE)[TAG_CELLS]

    assert tag_cells[0].tolist() == [0, 2 * 24 + 1, 15 * 24 + 23]


@pytest.mark.parametrize(
    ("x", "column"), [(-0.5, 0), (3, 0), (3.4, 0), (3.6, 1), (7.4, 1), (7.6, 2), (95.49, 23)]
)
def test_cells_border_between_pixels(codec, x, column):
    tag_cells = codec.encode(_people([(x, 0), None, None]), size=SIZE)[TAG_CELLS]

    assert tag_cells[0, 0] == column


def test_people_are_packed_in_order_and_those_without_keypoints_left_out(codec):
    people = _people([None] * K, [(0, 0), None, None], [(-50, 0)] * K, [None, (4, 0), None])

    tag_cells = codec.encode(people, size=SIZE)[TAG_CELLS]

    assert tag_cells[:3].tolist() == [[0, -1, -1], [-1, 1, -1], [-1, -1, -1]]


def test_beyond_the_limit_people_are_drawn_but_their_tags_not_trained():
    codec = AssociativeEmbeddingCodec(fields=associative_embedding_fields(K), max_people=2)
    people = _people(*([(x, 10), None, None] for x in (10, 40, 70)))

    targets = codec.encode(people, size=SIZE)

    assert targets[TAG_CELLS].shape == (2, K)
    assert (targets[TAG_CELLS][:, 0] >= 0).all()
    assert targets["heatmaps_s4"][0, 2, 17] > 0.9


# What counts in the loss


def _masks(codec, *, counts=None, boxes=(), is_known=()):
    return codec.masks(
        np.ones(SIZE, np.uint8) if counts is None else counts,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        is_known=np.array(is_known, bool).reshape(-1, K),
    )


def test_without_anything_to_ignore_everything_counts(codec):
    masks = _masks(codec)

    assert {name: mask.shape for name, mask in masks.items()} == {
        "heatmaps_s4": (K, 16, 24),
        "heatmaps_s2": (K, 32, 48),
    }
    assert all(mask.dtype == np.uint8 and mask.all() for mask in masks.values())


def test_a_region_to_ignore_is_ignored_in_every_channel(codec):
    counts = np.ones(SIZE, np.uint8)
    counts[16:32, 8:40] = 0

    masks = _masks(codec, counts=counts)

    for stride in (2, 4):
        expected = np.ones((SIZE[0] // stride, SIZE[1] // stride), bool)
        expected[16 // stride : 32 // stride, 8 // stride : 40 // stride] = False
        assert (masks[f"heatmaps_s{stride}"] == expected).all()


def test_a_keypoint_that_nobody_looked_for_is_ignored_in_its_persons_box_alone(codec):
    # Pixels 8 to 15 across and 20 to 27 down are cells 2, 3 and 5, 6.
    masks = _masks(codec, boxes=[[7.5, 19.5, 15.5, 27.5], [50, 10, 60, 20]], is_known=[[1, 0, 1], [1, 1, 1]])

    mask = masks["heatmaps_s4"]
    assert mask[0].all()
    assert mask[2].all()
    assert np.argwhere(mask[1] == 0).tolist() == [[5, 2], [5, 3], [6, 2], [6, 3]]
    assert (masks["heatmaps_s2"][1] == 0).sum() == 16


def test_cells_that_a_box_only_touches_are_ignored_too(codec):
    mask = _masks(codec, boxes=[[7, 19, 16, 28]], is_known=[[1, 0, 1]])["heatmaps_s4"]

    assert np.argwhere(mask[1] == 0)[[0, -1]].tolist() == [[4, 1], [7, 4]]


@pytest.mark.parametrize("box", [[-30, 5, -10, 60], [5, -30, 60, -10], [120, 5, 150, 60], [5, 80, 60, 90]])
def test_a_box_outside_the_picture_hides_nothing(codec, box):
    assert all(mask.all() for mask in _masks(codec, boxes=[box], is_known=[[0, 0, 0]]).values())


def test_a_box_larger_than_the_picture_hides_its_channel(codec):
    mask = _masks(codec, boxes=[[-30, -30, 200, 200]], is_known=[[0, 1, 1]])["heatmaps_s4"]

    assert mask[0].max() == 0
    assert mask[1:].all()


def test_masks_and_targets_fit_each_other_where_the_size_is_no_multiple(codec):
    size = (67, 97)

    masks = codec.masks(np.ones(size, np.uint8), boxes=np.zeros((0, 4)), is_known=np.zeros((0, K), bool))

    targets = codec.encode(_people(), size=size)
    assert all(masks[name].shape == targets[name].shape for name in masks)


# What comes back

#: Keypoints of one kind stand in squares of so many pixels, this far from the squares' edges or further.
SQUARE, EDGE = 32, 12
#: Tag of cells that belong to nobody.
NOBODYS_TAG = -99.0


def _scattered(count, *, seed, size=(192, 256), num_keypoints=K, is_complete=False):
    """People `[N, K, 3]` whose keypoints of a kind lie well apart; some lack keypoints, but not the first."""
    rng = np.random.default_rng(seed)
    rows, columns = (side // SQUARE for side in size)
    squares = np.stack([rng.permutation(rows * columns)[:count] for _ in range(num_keypoints)], axis=1)
    corners = SQUARE * np.stack([squares % columns, squares // columns], axis=-1)
    points = corners + rng.uniform(EDGE, SQUARE - EDGE, corners.shape)
    is_labelled = (rng.uniform(size=squares.shape) < 0.8) | is_complete
    is_labelled[:, 0] = True
    return np.dstack([points, 2 * is_labelled]).astype(np.float32)


def _perfect_maps(codec, people, tags, *, size=(192, 256)):
    """What a network without errors returns: the target heatmaps, and each person's tag around keypoints."""
    maps = codec.encode(people, size=size)
    h, w = size[0] // 4, size[1] // 4
    tag_maps = np.full((people.shape[1], h, w), NOBODYS_TAG, np.float32)
    cells = maps.pop(TAG_CELLS)
    for person, k in np.argwhere(cells >= 0):
        y, x = divmod(cells[person, k], w)
        tag_maps[k, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = tags[person]
    return {**maps, "tags_s4": tag_maps}


def _crowd_codec(num_people, num_keypoints=K):
    return AssociativeEmbeddingCodec(
        fields=associative_embedding_fields(num_keypoints),
        max_people=num_people,
        grouping=GroupingSettings(max_people=num_people),
    )


def _by_place(keypoints):
    return keypoints[np.lexsort(keypoints[:, 0, :2].T)]


def _assert_found(keypoints, people, *, atol):
    is_labelled = people[..., 2] > 0
    found, expected = _by_place(keypoints), _by_place(people)
    assert len(found) == len(people)
    np.testing.assert_array_equal(found[..., 2] > 0, expected[..., 2] > 0)
    expected_points = np.where(expected[..., 2:] > 0, expected[..., :2], 0)
    np.testing.assert_allclose(found[..., :2], expected_points, atol=atol)
    assert keypoints[..., 2].max() > 0.9 * is_labelled.max()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), count=st.integers(1, 10))
def test_away_from_borders_decode_inverts_encode_to_a_twentieth_of_a_pixel(seed, count):
    people = _scattered(count, seed=seed)
    codec = _crowd_codec(30)

    keypoints, scores = codec.decode(_perfect_maps(codec, people, 3.0 * np.arange(count)))

    _assert_found(keypoints, people, atol=0.05)
    assert (np.diff(scores) <= 0).all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), count=st.integers(2, 10))
def test_the_order_of_the_people_changes_nothing_but_their_order(seed, count):
    people, tags = _scattered(count, seed=seed), 3.0 * np.arange(count)
    order = np.random.default_rng(seed).permutation(count)
    codec = _crowd_codec(30)

    plain, scores = codec.decode(_perfect_maps(codec, people, tags))
    permuted, permuted_scores = codec.decode(_perfect_maps(codec, people[order], tags[order]))

    np.testing.assert_array_equal(_by_place(permuted), _by_place(plain))
    np.testing.assert_array_equal(permuted_scores, scores)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), count=st.integers(1, 10))
def test_mirrored_maps_decode_to_mirrored_people(seed, count):
    people = _scattered(count, seed=seed)
    swap = np.array([0, 2, 1])
    codec = _crowd_codec(30)
    maps = _perfect_maps(codec, people, 3.0 * np.arange(count))

    plain, _ = codec.decode(maps)
    mirrored, _ = codec.decode({name: values[swap, :, ::-1] for name, values in maps.items()})

    back = mirrored[:, swap]
    back[..., 0] = np.where(back[..., 2] > 0, 256 - 1 - back[..., 0], 0)
    np.testing.assert_allclose(_by_place(back), _by_place(plain), atol=1e-3)


def test_300_people_come_back():
    size = (480, 640)
    people = _scattered(300, seed=0, size=size, num_keypoints=2, is_complete=True)
    codec = _crowd_codec(300, num_keypoints=2)

    keypoints, _ = codec.decode(_perfect_maps(codec, people, 3.0 * np.arange(300), size=size))

    _assert_found(keypoints, people, atol=0.05)


def _flat_maps(height, *, cells=(8, 12)):
    h, w = cells
    return {
        "heatmaps_s4": np.full((K, h, w), height, np.float32),
        "heatmaps_s2": np.full((K, 2 * h, 2 * w), height, np.float32),
        "tags_s4": np.zeros((K, h, w), np.float32),
    }


def test_empty_maps_decode_to_nobody(codec):
    keypoints, scores = codec.decode(_flat_maps(0))

    assert (keypoints.shape, scores.shape) == ((0, K, 3), (0,))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["heatmaps_s4", "heatmaps_s2", "tags_s4"])
def test_maps_that_hold_no_numbers_are_refused_in_one_line(codec, name, value):
    maps = _flat_maps(0)
    maps["heatmaps_s2"][:, 4, 6] = 0.9
    maps[name][:, 2, 3] = value

    with pytest.raises(ShapeError, match=r"^(heatmaps|tags) must be finite numbers, but got") as refusal:
        codec.decode(maps)

    assert "\n" not in str(refusal.value)


def test_a_missing_map_is_refused_by_name(codec):
    maps = _flat_maps(0)
    del maps["tags_s4"]

    with pytest.raises(ShapeError, match="outputs must be a mapping that holds tags_s4, but got"):
        codec.decode(maps)


def test_maps_of_one_pixel_decode_to_a_person_in_it(codec):
    maps = {name: np.full((K, 1, 1), 0.5, np.float32) for name in _flat_maps(0)}

    keypoints, scores = codec.decode(maps)

    # The finest cell covers pixels 0 and 1.
    assert keypoints.tolist() == [[[0.5, 0.5, 0.5]] * K]
    assert scores.tolist() == [0.5]


def test_the_smallest_picture_that_a_network_takes_decodes_within_it(codec):
    keypoints, _ = codec.decode(_flat_maps(0.5, cells=(1, 1)))

    assert len(keypoints) == 1
    assert ((keypoints[..., :2] >= -0.5) & (keypoints[..., :2] <= 3.5)).all()


# Construction


@pytest.mark.parametrize(
    ("fields", "sigma_cells", "message"),
    [
        ((Field(FieldKind.HEATMAPS, K, 4),), (2.0,), "needs heatmaps and one field of tags"),
        ((Field(FieldKind.TAGS, K, 4),), (), "needs heatmaps and one field of tags"),
        (associative_embedding_fields(K), (2.0,), "for each of 2 heatmap fields"),
        (associative_embedding_fields(K), (2.0, 0.0), "sigma_cells must be a positive number"),
    ],
)
def test_fields_that_make_no_associative_embedding_are_refused(fields, sigma_cells, message):
    with pytest.raises(ConfigError, match=message):
        AssociativeEmbeddingCodec(fields=fields, sigma_cells=sigma_cells)


# Against the authors' targets

#: The authors' coordinates are image pixels divided by the stride, without the half pixel of ours.
AUTHORS_STRIDE = 4


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "targets" / "bottomup_128.npz") as file:
        return dict(file)


@pytest.fixture
def authors_codec():
    return AssociativeEmbeddingCodec(fields=associative_embedding_fields(17))


def _authors_cells(golden):
    """Keypoints `[N, 17, 3]` in the authors' cells, cut to whole cells as they do, and which they draw."""
    joints = golden["joints"]
    cells = np.trunc(joints[..., :2])
    is_drawn = (joints[..., 2] > 0) & (cells >= 0).all(axis=2) & (cells < 128).all(axis=2)
    return cells, is_drawn


@pytest.mark.parametrize("name", ["heatmaps", "heatmaps_default_sigma"])
def test_on_whole_cells_the_authors_gaussians_come_out(name, golden, authors_codec):
    cells, is_drawn = _authors_cells(golden)
    keypoints = np.dstack([cells_to_pixels(cells, AUTHORS_STRIDE), 2 * is_drawn]).astype(np.float32)

    ours = authors_codec.encode(keypoints, size=(512, 512))["heatmaps_s4"]

    # They cut the Gaussian off 7 cells away, where exp(-8² / 8) is left at most.
    near = golden[name] > 0
    np.testing.assert_allclose(ours[near], golden[name][near], atol=1e-6)
    assert ours[~near].max() <= np.exp(-(8**2) / 8) + 1e-6


def test_on_whole_cells_tags_are_read_where_the_authors_read_them(golden, authors_codec):
    cells, is_drawn = _authors_cells(golden)
    keypoints = np.dstack([cells_to_pixels(cells, AUTHORS_STRIDE), 2 * is_drawn]).astype(np.float32)

    tag_cells = authors_codec.encode(keypoints, size=(512, 512))[TAG_CELLS]

    for ours, theirs in zip(tag_cells, golden["joint_idx_shared_tag"], strict=True):
        assert ours[ours >= 0].tolist() == theirs[theirs[:, 1] > 0, 0].tolist()
    # With a tag map per keypoint, as ours are, their index runs through all maps.
    for ours, theirs in zip(tag_cells, golden["joint_idx"], strict=True):
        in_all_maps = ours + np.arange(17) * 128 * 128
        assert in_all_maps[ours >= 0].tolist() == theirs[theirs[:, 1] > 0, 0].tolist()


def test_between_cells_we_differ_from_the_authors_by_no_more_than_their_cut_and_half_pixel(
    golden, authors_codec
):
    keypoints = golden["joints"].astype(np.float32) * (AUTHORS_STRIDE, AUTHORS_STRIDE, 1)
    # Within a cell of the edge they and we need not agree on whether a keypoint lies on the picture.
    from_middle = np.abs(golden["joints"][..., :2] - 64).max(axis=2)
    is_near_edge = (np.abs(from_middle - 64) < 1).any(axis=0)

    targets = authors_codec.encode(keypoints.astype(np.float32), size=(512, 512))

    # Our centre lies -3/8 to 5/8 of a cell from theirs, and no Gaussian is steeper than exp(-1/2) / sigma.
    bound = np.hypot(5 / 8, 5 / 8) * np.exp(-0.5) / 2
    difference = np.abs(targets["heatmaps_s4"] - golden["heatmaps"])[~is_near_edge]
    assert 0.05 < difference.max() <= bound


def test_between_cells_a_tag_moves_on_only_in_the_last_eighth_of_the_authors_cell(golden, authors_codec):
    keypoints = (golden["joints"] * (AUTHORS_STRIDE, AUTHORS_STRIDE, 1)).astype(np.float32)
    cells, is_drawn = _authors_cells(golden)

    tag_cells = authors_codec.encode(keypoints, size=(512, 512))[TAG_CELLS][: len(keypoints)]

    both = is_drawn & (tag_cells >= 0)
    step = np.stack([tag_cells % 128, tag_cells // 128], axis=-1)[both] - cells[both]
    share = (golden["joints"][..., :2] - cells)[both]
    np.testing.assert_array_equal(step, share >= 7 / 8)
    assert both.sum() > 30

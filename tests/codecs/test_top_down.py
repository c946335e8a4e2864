import json
from dataclasses import replace

import numpy as np
import pytest

from fleetpose.codecs.description import ModelDescription
from fleetpose.codecs.fields import Field, FieldKind, associative_embedding_fields
from fleetpose.codecs.top_down import KEYPOINT_WEIGHTS, TopDownCodec
from fleetpose.errors import CheckpointError, ConfigError, ShapeError
from fleetpose.geometry import cells_to_pixels, invert, similarity, transform_points
from fleetpose.skeletons import COCO

NAME = "heatmaps_s4"
DECODINGS = ("dark", "quarter", "parabola")


def _codec(num_keypoints=17, **settings):
    return TopDownCodec(fields=(Field(FieldKind.HEATMAPS, num_keypoints, stride=4),), **settings)


def _keypoints(*, seed=0, margin=24, size=(256, 192)):
    rng = np.random.default_rng(seed)
    h, w = size
    points = rng.uniform(margin, [w - 1 - margin, h - 1 - margin], size=(17, 2))
    return np.column_stack([points, np.full(17, 2.0)])


@pytest.mark.parametrize(("decoding", "atol"), [("dark", 0.01), ("parabola", 0.001), ("quarter", 1.01)])
@pytest.mark.parametrize("seed", range(5))
def test_decode_inverts_encode_away_from_borders(decoding, atol, seed):
    codec = _codec(decoding=decoding)
    keypoints = _keypoints(seed=seed)

    decoded = codec.decode(codec.encode(keypoints))

    np.testing.assert_allclose(decoded[:, :2], keypoints[:, :2], atol=atol)
    assert decoded[:, 2].min() > 0.9


@pytest.mark.parametrize("decoding", DECODINGS)
def test_mirrored_maps_decode_to_mirrored_keypoints(decoding):
    codec = _codec(decoding=decoding)
    keypoints = _keypoints(seed=3)
    maps = codec.encode(keypoints)[NAME]

    plain = codec.decode({NAME: maps})
    mirrored = codec.decode({NAME: maps[..., ::-1]})

    np.testing.assert_allclose(mirrored[:, 0], 191 - plain[:, 0], atol=1e-3)
    np.testing.assert_allclose(mirrored[:, 1:], plain[:, 1:], atol=1e-3)


def test_a_map_moved_by_a_cell_decodes_four_pixels_further():
    codec = _codec()
    maps = codec.encode(_keypoints(margin=40))[NAME]

    moved = codec.decode({NAME: np.roll(maps, (1, 2), axis=(1, 2))})

    difference = moved[:, :2] - codec.decode({NAME: maps})[:, :2]
    np.testing.assert_allclose(difference, np.tile([8, 4], (17, 1)), atol=1e-3)


def test_a_crop_of_another_size_may_be_encoded():
    codec = _codec()
    keypoints = _keypoints(size=(128, 96))

    maps = codec.encode(keypoints, size=(128, 96))

    assert maps[NAME].shape == (17, 32, 24)
    np.testing.assert_allclose(codec.decode(maps)[:, :2], keypoints[:, :2], atol=0.01)


@pytest.mark.parametrize("decoding", DECODINGS)
def test_several_crops_decode_as_each_does_alone(decoding):
    codec = _codec(decoding=decoding)
    crops = [codec.encode(_keypoints(seed=seed))[NAME] for seed in range(3)]
    crops[1][4] = 0

    together = codec.decode({NAME: np.stack(crops)})

    np.testing.assert_array_equal(together, [codec.decode({NAME: one}) for one in crops])
    assert codec.decode({NAME: np.zeros((0, 17, 64, 48), np.float32)}).shape == (0, 17, 3)


@pytest.mark.parametrize("decoding", DECODINGS)
def test_300_crops_decode_at_once(decoding):
    codec = _codec(decoding=decoding)
    crops = np.stack([codec.encode(_keypoints(seed=seed))[NAME] for seed in range(3)])

    keypoints = codec.decode({NAME: np.tile(crops, (100, 1, 1, 1))})

    np.testing.assert_array_equal(keypoints, np.tile(codec.decode({NAME: crops}), (100, 1, 1)))


@pytest.mark.parametrize("decoding", DECODINGS)
def test_heights_of_any_size_decode_to_the_same_place_with_a_score_in_its_range(decoding):
    codec = _codec(decoding=decoding)
    maps = codec.encode(_keypoints())[NAME]
    expected = codec.decode({NAME: maps})[:, :2]

    low = codec.decode({NAME: 0.01 * maps})
    high = codec.decode({NAME: 7 * maps})

    np.testing.assert_allclose(low[:, :2], expected, atol=1e-3)
    np.testing.assert_allclose(high[:, :2], expected, atol=1e-3)
    assert low[:, 2].max() <= 0.01
    assert high[:, 2].tolist() == [1.0] * 17


@pytest.mark.parametrize("decoding", DECODINGS)
def test_maps_with_values_below_zero_decode_near_their_peaks(decoding):
    codec = _codec(decoding=decoding)
    keypoints = _keypoints()
    noise = np.random.default_rng(5).normal(-0.02, 0.01, (17, 64, 48))

    decoded = codec.decode({NAME: codec.encode(keypoints)[NAME] + noise})

    np.testing.assert_allclose(decoded[:, :2], keypoints[:, :2], atol=1.7)


@pytest.mark.parametrize("decoding", DECODINGS)
def test_an_empty_map_finds_nothing(decoding):
    maps = _codec().encode(_keypoints())[NAME]
    maps[3] = 0
    maps[9] = -0.5

    decoded = _codec(decoding=decoding).decode({NAME: maps})

    assert decoded[3].tolist() == decoded[9].tolist() == [0, 0, 0]
    assert np.flatnonzero(decoded[:, 2] == 0).tolist() == [3, 9]


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (5, 5)])
def test_the_smallest_maps_decode_to_their_highest_cell(decoding, size):
    maps = np.zeros((2, *size), np.float32)
    maps[0, -1, -1] = 0.5
    maps[1, size[0] // 2, size[1] // 2] = 0.25

    decoded = _codec(2, decoding=decoding).decode({NAME: maps})

    corner = cells_to_pixels(np.array([size[1] - 1, size[0] - 1]), 4)
    middle = cells_to_pixels(np.array([size[1] // 2, size[0] // 2]), 4)
    np.testing.assert_allclose(decoded[0], [*corner, 0.5], atol=1e-3)
    np.testing.assert_allclose(decoded[1], [*middle, 0.25], atol=1e-3)


@pytest.mark.parametrize("decoding", DECODINGS)
def test_a_flat_map_decodes_to_one_of_its_cells(decoding):
    decoded = _codec(1, decoding=decoding).decode({NAME: np.full((1, 16, 12), 0.3, np.float32)})

    assert decoded[0, 2] == pytest.approx(0.3)
    assert (decoded[0, :2] >= 0).all()
    assert (decoded[0, :2] <= [47, 63]).all()


def test_darks_step_stays_within_the_cells_it_was_computed_from():
    rng = np.random.default_rng(0)
    maps = rng.uniform(0, 1, (400, 16, 12)).astype(np.float32)  # nothing like Gaussians
    cells = maps.reshape(400, -1).argmax(axis=1)

    for kernel_cells in (1, 3):
        tops, _ = _codec(400, kernel_cells=kernel_cells).peaks(maps)

        steps = tops - np.stack([cells % 12, cells // 12], axis=1)
        assert np.abs(steps).max() <= 2
        assert (steps != 0).any(axis=1).mean() > 0.1


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_maps_that_are_no_numbers_are_refused(wrong):
    maps = np.zeros((17, 64, 48), np.float32)
    maps[2, 3, 4] = wrong

    with pytest.raises(ShapeError, match="heatmaps_s4 must be finite numbers"):
        _codec().decode({NAME: maps})


def test_maps_of_other_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"heatmaps_s4 must be of shape \[17, h, w\] or .* \[16, 64, 48\]"):
        _codec().decode({NAME: np.zeros((16, 64, 48), np.float32)})
    with pytest.raises(ShapeError, match=r"h and w not 0, but got \[17, 0, 48\]"):
        _codec().decode({NAME: np.zeros((17, 0, 48), np.float32)})
    with pytest.raises(ShapeError, match="outputs must be a mapping that holds heatmaps_s4"):
        _codec().decode({})
    with pytest.raises(ShapeError, match=r"keypoints must be of shape \[17, 3\], but got \[17, 2\]"):
        _codec().encode(np.zeros((17, 2)))


def test_unlabelled_and_far_keypoints_have_no_weight_and_no_map():
    keypoints = _keypoints()
    keypoints[2] = (np.nan, np.nan, 0)
    keypoints[5] = (-40, 50, 2)  # the map's reach ends six cells beyond its border
    keypoints[6] = (90, 290, 2)
    keypoints[7, 2] = 1  # hidden ones count

    maps = _codec().encode(keypoints)

    assert np.flatnonzero(maps[KEYPOINT_WEIGHTS] == 0).tolist() == [2, 5, 6]
    assert maps[KEYPOINT_WEIGHTS].max() == 1
    np.testing.assert_array_equal(maps[NAME][[2, 5, 6]], 0)
    assert maps[NAME][7].max() > 0.9


def test_a_keypoint_just_beyond_the_border_leaves_its_flank():
    keypoints = np.array([[-6.5, 101.5, 2]])

    maps = _codec(1).encode(keypoints)

    assert maps[KEYPOINT_WEIGHTS].tolist() == [1]
    assert maps[NAME][0, 25, 0] == pytest.approx(np.exp(-0.5))  # two cells away, one spread


def test_settings_survive_the_way_through_a_model_file(fake_description):
    codec = _codec(input_size=(128, 96), sigma_cells=1.5, decoding="quarter", kernel_cells=3, box_padding=1.1)
    description = replace(
        fake_description, fields=codec.fields, codec=json.loads(json.dumps(codec.settings()))
    )

    again = TopDownCodec.from_description(ModelDescription.from_json(description.to_json()))

    assert again == codec
    assert codec.settings()["type"] == "top_down"


def test_files_that_ask_for_something_else_are_refused(fake_description):
    fields = _codec().fields

    with pytest.raises(CheckpointError, match="codec must be top_down, got 'associative_embedding'"):
        TopDownCodec.from_description(replace(fake_description, fields=fields))
    with pytest.raises(CheckpointError, match=r"wrong codec setting: .*sigma"):
        TopDownCodec.from_description(
            replace(fake_description, fields=fields, codec={"type": "top_down", "sigma": 2})
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decoding": "darc"}, "decoding must be one of dark, quarter, parabola, expected_oks, got 'darc'"),
        ({"kernel_cells": 4}, "kernel_cells must be an odd number of cells, got 4"),
        ({"sigma_cells": 0}, "sigma_cells must be more than 0"),
        ({"box_padding": float("nan")}, "box_padding must be more than 0"),
        ({"input_size": (250, 192)}, r"input_size must be \(h, w\) in positive multiples of 4 pixels"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        _codec(**settings)


def test_fields_of_another_family_are_refused():
    with pytest.raises(ConfigError, match=r"one field of heatmaps, got .*tags_s4"):
        TopDownCodec(fields=associative_embedding_fields(17))


def test_dark_equals_its_authors(shared):
    golden = np.load(shared / "golden" / "dark" / "dark_64x48_s2_k11.npz")

    tops, heights = _codec().peaks(golden["hm"].reshape(-1, 64, 48))

    np.testing.assert_allclose(tops, golden["coords"].reshape(-1, 2), atol=1e-5)
    np.testing.assert_array_equal(heights, golden["maxvals"].ravel())


def test_the_quarter_offset_equals_its_authors(shared):
    golden = np.load(shared / "golden" / "dark" / "hrnet_quarter_offset_64x48.npz")
    codec = _codec(decoding="quarter")

    for n in range(2):
        tops, heights = codec.peaks(golden["hm"][n])

        # The authors take cells to the picture by a map of their own, half a cell beside ours.
        scale = 48 / (200 * golden["scale"][n, 0])
        affine = similarity(source_xy=golden["center"][n], target_xy=(24, 32), scale=float(scale))
        np.testing.assert_allclose(
            transform_points(tops, invert(affine)), golden["preds"][n], rtol=0, atol=1e-4
        )
        np.testing.assert_array_equal(heights, golden["maxvals"][n, :, 0])


def test_targets_equal_darks(shared):
    golden = np.load(shared / "golden" / "targets" / "topdown_256x192_s2.npz")
    cells = golden["dark_joints_heatmap_px"][:, :2]

    maps = _codec().encode(np.column_stack([cells_to_pixels(cells, 4), golden["vis"][:, 0]]))

    np.testing.assert_allclose(maps[NAME], golden["dark_target"], atol=1e-6)
    np.testing.assert_array_equal(maps[KEYPOINT_WEIGHTS], golden["dark_weight"][:, 0])


def test_on_whole_cells_targets_equal_hrnets(shared):
    golden = np.load(shared / "golden" / "targets" / "topdown_256x192_s2.npz")
    # They add a half and cut towards zero, and draw six cells to each side.
    cells = np.trunc(golden["joints"][:, :2] / 4 + 0.5)

    maps = _codec().encode(np.column_stack([cells_to_pixels(cells, 4), golden["vis"][:, 0]]))

    near = golden["target"] > 0
    np.testing.assert_allclose(maps[NAME][near], golden["target"][near], atol=1e-6)
    assert maps[NAME][~near].max() <= np.exp(-(7**2) / 8) + 1e-6
    np.testing.assert_array_equal(maps[KEYPOINT_WEIGHTS], golden["weight"][:, 0])


def test_the_default_takes_the_papers_crops():
    codec = _codec(len(COCO))

    assert (codec.input_size, codec.decoding, codec.box_padding) == ((256, 192), "dark", 1.25)


@pytest.mark.parametrize("decoding", DECODINGS)
def test_the_order_of_the_crops_changes_nothing_but_their_order(decoding):
    codec = _codec(decoding=decoding)
    crops = np.stack([codec.encode(_keypoints(seed=seed))[NAME] for seed in range(4)])

    plain, permuted = (codec.decode({NAME: maps}) for maps in (crops, crops[::-1]))

    np.testing.assert_array_equal(permuted, plain[::-1])


@pytest.mark.parametrize("has_flip_shift", [False, True])
def test_the_mirrored_crop_is_averaged_keypoint_by_keypoint(has_flip_shift):
    codec = _codec(has_flip_shift=has_flip_shift)
    keypoints = _keypoints()
    mirrored = keypoints[COCO.flip_permutation].copy()
    mirrored[:, 0] = 191 - mirrored[:, 0]

    merged = codec.merge_flipped(codec.encode(keypoints), codec.encode(mirrored), COCO.flip_permutation)

    # Our cells need no shift: with it, one of both maps is a cell, or 4 pixels, off.
    difference = codec.decode(merged)[:, :2] - keypoints[:, :2]
    np.testing.assert_allclose(difference, np.tile([2.0 * has_flip_shift, 0], (17, 1)), atol=0.02)


def test_weights_aligned_at_corners_need_the_shift():
    codec = _codec(is_corner_aligned=True)
    keypoints = _keypoints()
    mirrored = keypoints[COCO.flip_permutation].copy()
    mirrored[:, 0] = 191 - mirrored[:, 0]
    maps = codec.encode(keypoints), codec.encode(mirrored)

    errors = {
        shift: codec.decode(
            _codec(is_corner_aligned=True, has_flip_shift=shift).merge_flipped(*maps, COCO.flip_permutation)
        )[:, 0]
        - keypoints[:, 0]
        for shift in (False, True)
    }

    np.testing.assert_allclose(codec.decode(maps[0])[:, :2], keypoints[:, :2], atol=0.01)
    np.testing.assert_allclose(errors[False], -1.5, atol=0.02)
    np.testing.assert_allclose(errors[True], 0.5, atol=0.02)


def test_cells_aligned_at_corners_lie_on_every_fourth_pixel():
    maps = np.zeros((1, 64, 48), np.float32)
    maps[0, 30, 20] = 1

    for is_corner_aligned, expected in ((True, [80, 120]), (False, [81.5, 121.5])):
        codec = _codec(1, decoding="parabola", is_corner_aligned=is_corner_aligned)

        assert codec.decode({NAME: maps})[0, :2].tolist() == pytest.approx(expected)

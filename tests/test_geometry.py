import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetpose.geometry import (
    IMAGE_MEAN,
    KEYPOINT_BOX_MARGIN,
    PADDING,
    affine_of_cells,
    affine_scale,
    box_areas,
    box_ious,
    boxes_from_coco,
    boxes_to_coco,
    cells_to_pixels,
    compose,
    fit_canvas,
    flip_boxes,
    flip_points,
    invert,
    is_inside,
    keypoint_boxes,
    pixels_to_cells,
    scaling,
    similarity,
    touched_cells,
    transform_points,
    warp,
    xywh_to_xyxy,
    xyxy_to_xywh,
)

#: Reproducible, and indifferent to a busy machine.
calm = settings(deadline=None, derandomize=True, max_examples=40)

coordinates = st.floats(-3000, 3000)
points = st.tuples(coordinates, coordinates).map(lambda xy: np.array([xy]))
affines = st.builds(
    similarity,
    source_xy=st.tuples(coordinates, coordinates),
    target_xy=st.tuples(coordinates, coordinates),
    scale=st.floats(0.05, 20),
    angle_deg=st.floats(-180, 180),
    is_mirrored=st.booleans(),
)
sides = st.integers(1, 12_000)


def _blob(xy, size, *, spread):
    """Grey picture of `size` (h, w) with a soft bright spot at `xy`."""
    ys, xs = np.mgrid[: size[0], : size[1]]
    return np.rint(255 * np.exp(-((xs - xy[0]) ** 2 + (ys - xy[1]) ** 2) / (2 * spread**2))).astype(np.uint8)


def _centre(image):
    """Brightest place (x, y), as the centre of mass with whole pixels counted at whole coordinates."""
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]]
    mass = image.astype(float)
    return np.array([(mass * xs).sum(), (mass * ys).sum()]) / mass.sum()


# Pixels and cells


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 32])
def test_a_cell_is_centred_in_the_middle_of_its_pixels(stride):
    cells = np.arange(5)

    centres = cells_to_pixels(cells.astype(float), stride)

    np.testing.assert_allclose(centres, np.arange(5 * stride).reshape(5, stride).mean(axis=1), atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 32])
def test_every_pixel_lies_in_the_cell_that_covers_it(stride):
    pixels = np.arange(5 * stride)

    cells = pixels_to_cells(pixels.astype(float), stride)

    np.testing.assert_array_equal(np.floor(cells + 0.5), pixels // stride)


def test_averaging_a_picture_by_cells_leaves_things_where_they_are():
    image = _blob((41.3, 22.8), (64, 96), spread=5)

    cells = image.reshape(16, 4, 24, 4).mean(axis=(1, 3))

    np.testing.assert_allclose(cells_to_pixels(_centre(cells), 4), (41.3, 22.8), atol=0.02)


@calm
@given(points, st.sampled_from([1, 2, 4, 8, 16, 32]))
def test_cells_and_pixels_are_inverses(xy, stride):
    np.testing.assert_allclose(cells_to_pixels(pixels_to_cells(xy, stride), stride), xy, atol=1e-9)


def test_cells_keep_the_precision_of_float32():
    xy = np.array([[11_999.25, 0.25]], np.float32)

    cells = pixels_to_cells(xy, 4)

    assert cells.dtype == np.float32
    np.testing.assert_allclose(cells_to_pixels(cells, 4), xy, atol=0.002)


@pytest.mark.parametrize("is_corner_aligned", [False, True])
def test_cells_move_as_their_pixels_do(is_corner_aligned):
    affine = similarity(source_xy=(10.0, 4.0), target_xy=(7.0, 9.0), scale=1.7, angle_deg=25.0)
    cells = np.array([[0.0, 0.0], [3.0, 5.0], [-2.0, 8.5]])
    pixels = cells_to_pixels(cells, 4, is_corner_aligned=is_corner_aligned)

    moved = transform_points(cells, affine_of_cells(affine, 4, is_corner_aligned=is_corner_aligned))

    by_pixels = transform_points(pixels, affine)
    expected = pixels_to_cells(by_pixels, 4, is_corner_aligned=is_corner_aligned)
    np.testing.assert_allclose(moved, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("box", "cells"),
    [
        ([-0.5, -0.5, 3.5, 7.5], [0, 0, 1, 2]),  # pixels 0 to 3 across and 0 to 7 down, and no more
        ([3.4, 7.4, 3.6, 7.6], [0, 1, 2, 3]),
        ([5.0, 5.0, 5.0, 5.0], [1, 1, 2, 2]),
        ([-9.0, -9.0, -5.0, -5.0], [-3, -3, -1, -1]),
    ],
)
def test_a_box_touches_the_cells_of_its_pixels(box, cells):
    assert touched_cells(np.array([box]), 4).tolist() == [cells]


# Inside and outside


@pytest.mark.parametrize(
    ("xy", "expected"),
    [
        ((0, 0), True),
        ((-0.5, -0.5), True),
        ((639.49, 479.49), True),
        ((-0.51, 0), False),
        ((0, -0.51), False),
        ((639.5, 0), False),
        ((0, 479.5), False),
        ((479.6, 479.6), False),
        ((np.nan, 0), False),
    ],
)
def test_an_image_reaches_half_a_pixel_beyond_its_outermost_centres(xy, expected):
    assert is_inside(np.array(xy), (480, 640)) == expected


def test_further_columns_do_not_matter_for_being_inside():
    people = np.array([[[1.0, 2.0, 99.0], [9.0, 2.0, 0.0]]])

    assert is_inside(people, (5, 5)).tolist() == [[True, False]]


# Flips


def test_a_mirrored_picture_has_the_point_where_flip_points_puts_it():
    image = np.zeros((4, 10), np.uint8)
    image[3, 2] = 255

    (mirrored,) = flip_points(np.array([[2.0, 3.0, 0.9]]), width=10)

    assert image[:, ::-1][int(mirrored[1]), int(mirrored[0])] == 255
    assert mirrored[2] == 0.9


@calm
@given(points, st.integers(1, 3000))
def test_mirroring_points_twice_changes_nothing(xy, width):
    np.testing.assert_allclose(flip_points(flip_points(xy, width), width), xy, atol=1e-9)


def test_the_box_of_a_whole_image_is_its_own_mirror_image():
    whole = np.array([[-0.5, -0.5, 9.5, 3.5]])

    np.testing.assert_array_equal(flip_boxes(whole, width=10), whole)


def test_a_mirrored_box_holds_the_mirrored_points_and_keeps_its_corners_in_order():
    boxes = np.array([[1.0, 2.0, 4.0, 3.0], [5.0, 0.0, 9.0, 2.0]])

    flipped = flip_boxes(boxes, width=10)

    np.testing.assert_array_equal(flipped, [[5, 2, 8, 3], [0, 0, 4, 2]])


@calm
@given(points, st.integers(1, 3000))
def test_a_mirroring_map_and_flip_points_agree(xy, width):
    middle = ((width - 1) / 2, 0.0)

    affine = similarity(source_xy=middle, target_xy=middle, scale=1, is_mirrored=True)

    np.testing.assert_allclose(transform_points(xy, affine), flip_points(xy, width), atol=1e-9)


def test_mirroring_leaves_the_given_arrays_alone():
    keypoints, boxes = np.ones((2, 3)), np.ones((2, 4))

    flip_points(keypoints, width=10)
    flip_boxes(boxes, width=10)

    assert keypoints.min() == boxes.min() == keypoints.max() == boxes.max() == 1


# Affine maps


@calm
@given(affines, affines, points)
def test_composed_maps_apply_the_first_one_first(first, then, xy):
    composed = transform_points(xy, compose(first, then))

    np.testing.assert_allclose(
        composed, transform_points(transform_points(xy, first), then), rtol=1e-9, atol=1e-6
    )


@calm
@given(affines, points)
def test_an_inverse_leads_back(affine, xy):
    np.testing.assert_allclose(
        transform_points(transform_points(xy, affine), invert(affine)), xy, rtol=1e-9, atol=1e-6
    )


@calm
@given(affines)
def test_the_scale_of_a_map_is_how_much_distances_grow(affine):
    ends = transform_points(np.array([[0.0, 0.0], [3.0, 4.0]]), affine)

    assert affine_scale(affine) == pytest.approx(np.linalg.norm(ends[1] - ends[0]) / 5, rel=1e-6)


def test_the_scale_of_a_map_that_stretches_is_the_mean_of_both_sides():
    assert affine_scale(scaling(4.0, 1.0)) == pytest.approx(2.0)


def test_positive_angles_turn_clockwise_as_seen_in_the_picture():
    quarter = similarity(source_xy=(10, 10), target_xy=(10, 10), scale=1, angle_deg=90)

    right_of_it = transform_points(np.array([[13.0, 10.0]]), quarter)

    np.testing.assert_allclose(right_of_it, [[10, 13]], atol=1e-12)  # below, since y points down


def test_a_map_mirrors_before_it_turns():
    affine = similarity(source_xy=(10, 10), target_xy=(0, 0), scale=2, angle_deg=90, is_mirrored=True)

    moved = transform_points(np.array([[13.0, 10.0], [10.0, 11.0]]), affine)

    np.testing.assert_allclose(moved, [[0, -6], [-2, 0]], atol=1e-12)


def test_only_x_and_y_move():
    keypoints = np.array([[[1, 2, 0.5]]], np.float32)

    moved = transform_points(keypoints, scaling(3, 5))

    np.testing.assert_allclose(moved, [[[4, 12, 0.5]]])
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(keypoints, [[[1, 2, 0.5]]])


def test_whole_numbers_move_to_fractions():
    np.testing.assert_allclose(transform_points(np.array([[1, 2]]), scaling(0.5, 0.5)), [[0.25, 0.75]])


def test_nobody_moves_to_nobody():
    assert transform_points(np.zeros((0, 17, 3), np.float32), scaling(2, 2)).shape == (0, 17, 3)


def test_float32_points_of_a_large_picture_come_back_within_a_hundredth_of_a_pixel():
    affine, _ = fit_canvas((9000, 12_000), short_side=256, multiple=32)
    xy = np.random.default_rng(0).uniform(0, 9000, (500, 2)).astype(np.float32)

    back = transform_points(transform_points(xy, affine), invert(affine))

    np.testing.assert_allclose(back, xy, atol=0.01)


# Pictures under affine maps


@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("angle_deg", [0, 30, -100])
@pytest.mark.parametrize("scale", [0.15, 0.45, 0.8, 1.0, 2.5])
def test_a_bright_spot_and_its_coordinates_move_together(scale, angle_deg, is_mirrored):
    xy, target = np.array([130.3, 71.8]), (51.2, 40.7)
    affine = similarity(
        source_xy=(126, 75), target_xy=target, scale=scale, angle_deg=angle_deg, is_mirrored=is_mirrored
    )

    moved = warp(_blob(xy, (150, 260), spread=max(3, 1.5 / scale)), affine, (90, 110))

    np.testing.assert_allclose(_centre(moved), transform_points(xy, affine), atol=0.05)


@pytest.mark.parametrize(("h", "w"), [(32, 48), (128, 192), (50, 70)])
def test_scaling_is_what_resizing_a_picture_does(h, w):
    xy = (40.4, 25.7)
    image = _blob(xy, (64, 96), spread=6)

    resized = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)

    np.testing.assert_allclose(
        _centre(resized), transform_points(np.array(xy), scaling(w / 96, h / 64)), atol=0.05
    )


def test_the_identity_leaves_every_pixel_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)

    np.testing.assert_array_equal(warp(image, scaling(1, 1), (7, 9)), image)


def test_the_canvas_has_the_asked_height_and_width():
    assert warp(np.zeros((5, 6, 3), np.uint8), scaling(1, 1), (20, 30)).shape == (20, 30, 3)
    assert warp(np.zeros((5, 6), np.uint8), scaling(1, 1), (20, 30)).shape == (20, 30)


def test_what_the_picture_does_not_cover_has_the_asked_colour():
    image = np.full((4, 4, 3), 200, np.uint8)

    moved = warp(image, scaling(1, 1), (4, 8), fill=(1, 2, 3))

    assert (moved[:, :4] == 200).all()
    assert (moved[:, 4:] == (1, 2, 3)).all()


def test_one_number_fills_all_channels():
    assert (warp(np.zeros((2, 2, 3), np.uint8), scaling(1, 1), (2, 4), fill=9)[:, 2:] == 9).all()


def test_fine_texture_turns_grey_and_not_into_false_stripes():
    stripes = np.tile(np.array([0, 255], np.uint8), (200, 100))

    small = warp(stripes, scaling(0.21, 0.21), (42, 42))

    assert np.abs(small.astype(int) - 127).max() <= 40  # unreduced, they would reach 0 and 255


def test_labels_are_not_mixed_where_they_are_taken_from_the_nearest_pixel():
    labels = np.repeat(np.array([[0, 7]], np.uint8), 40, axis=1).repeat(40, axis=0)

    small = warp(labels, scaling(0.3, 0.3), (12, 24), interpolation=cv2.INTER_NEAREST)

    assert set(np.unique(small)) == {0, 7}


@pytest.mark.parametrize("size", [(1, 1), (12_000, 1), (1, 12_000), (3, 2)])
def test_pictures_of_a_pixel_across_can_be_moved(size):
    image = np.full((*size, 3), 90, np.uint8)
    affine, canvas_size = fit_canvas(size, short_side=64, multiple=32)

    assert warp(image, affine, canvas_size, fill=PADDING).shape == (*canvas_size, 3)


# The canvas of a network's input


@calm
@given(sides, sides, st.sampled_from([64, 256, 448, 512]), st.sampled_from([1, 32, 64]))
def test_a_fitted_image_lies_centred_and_whole_on_the_smallest_canvas(h, w, short_side, multiple):
    affine, size = fit_canvas((h, w), short_side=short_side, multiple=multiple)

    (left, top), (right, bottom) = transform_points(np.array([[-0.5, -0.5], [w - 0.5, h - 0.5]]), affine)

    margins_x = left + 0.5, size[1] - 0.5 - right
    margins_y = top + 0.5, size[0] - 0.5 - bottom
    assert size[0] % multiple == size[1] % multiple == 0
    for before, after in (margins_x, margins_y):
        assert before == pytest.approx(after, abs=1e-6)
        assert -0.001 <= before <= multiple / 2
    assert max(size) <= 2048


@calm
@given(sides, sides)
def test_a_fitted_image_keeps_its_proportions_and_gets_the_asked_short_side(h, w):
    affine, _ = fit_canvas((h, w), short_side=256, multiple=32)

    assert affine[0, 0] == affine[1, 1]
    assert affine[0, 1] == affine[1, 0] == 0
    if max(h, w) <= 8 * min(h, w):
        assert min(h, w) * affine_scale(affine) == pytest.approx(256)
    else:
        assert max(h, w) * affine_scale(affine) == pytest.approx(2048)


@pytest.mark.parametrize(
    ("size", "canvas"),
    [
        ((480, 640), (256, 352)),
        ((640, 480), (352, 256)),
        ((256, 256), (256, 256)),
        ((1, 1), (256, 256)),
        ((12_000, 1), (2048, 32)),
        ((1, 12_000), (32, 2048)),
        ((1080, 1920), (256, 480)),
    ],
)
def test_canvases_of_common_and_of_odd_pictures(size, canvas):
    assert fit_canvas(size, short_side=256, multiple=32)[1] == canvas


def test_an_exact_fit_is_not_widened_by_a_rounding_error():
    assert 101 * (448 / 101) > 448  # by a hair, in floating point

    assert fit_canvas((101, 101), short_side=448, multiple=64)[1] == (448, 448)


def test_padding_is_the_mean_colour():
    np.testing.assert_allclose(PADDING, IMAGE_MEAN, atol=0.5)


# Boxes


def test_corner_and_size_become_two_corners_and_back():
    xywh = np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]])

    xyxy = xywh_to_xyxy(xywh)

    np.testing.assert_array_equal(xyxy, [[1, 2, 4, 6], [0, 0, 0, 0]])
    np.testing.assert_array_equal(xyxy_to_xywh(xyxy), xywh)


def test_cocos_box_of_a_whole_image_reaches_from_edge_to_edge():
    whole = boxes_from_coco(np.array([[0.0, 0.0, 640.0, 480.0]]))

    np.testing.assert_array_equal(whole, [[-0.5, -0.5, 639.5, 479.5]])
    np.testing.assert_array_equal(boxes_to_coco(whole), [[0, 0, 640, 480]])


def test_the_area_of_a_whole_image_is_its_number_of_pixels():
    assert box_areas(np.array([-0.5, -0.5, 639.5, 479.5])) == 640 * 480


def test_boxes_turned_inside_out_have_no_area():
    assert box_areas(np.array([[3, 0, 1, 5], [3, 5, 1, 0]])).tolist() == [0, 0]


def test_overlap_is_shared_area_over_joint_area():
    a = np.array([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 4.0, 1.0]])
    b = np.array([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0], [2.0, 2.0, 3.0, 3.0]])

    np.testing.assert_allclose(box_ious(a, b), [[1, 1 / 3, 0], [1 / 3, 1 / 3, 0]])


def test_boxes_without_area_overlap_nothing():
    point = np.array([[1.0, 1.0, 1.0, 1.0]])

    assert box_ious(point, point).tolist() == [[0.0]]


def test_overlaps_with_nobody_make_an_empty_table():
    assert box_ious(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)
    assert box_ious(np.zeros((2, 4)), np.zeros((0, 4))).shape == (2, 0)


def test_a_persons_box_reaches_a_tenth_beyond_the_found_keypoints():
    keypoints = np.array([[[10, 20, 0.9], [30, 60, 0.1], [300, 300, 0]]], np.float32)

    boxes = keypoint_boxes(keypoints, (480, 640))

    assert KEYPOINT_BOX_MARGIN == 0.1
    np.testing.assert_allclose(boxes, [[8, 16, 32, 64]])
    assert boxes.dtype == np.float32


def test_a_persons_box_ends_at_the_images_edges():
    keypoints = np.array([[[0.0, 0.0, 1.0], [639.0, 479.0, 1.0]]])

    np.testing.assert_array_equal(keypoint_boxes(keypoints, (480, 640)), [[-0.5, -0.5, 639.5, 479.5]])


def test_the_box_of_a_single_keypoint_is_its_pixel():
    keypoints = np.array([[[7.0, 5.0, 1.0], [0.0, 0.0, 0.0]]])

    np.testing.assert_array_equal(keypoint_boxes(keypoints, (480, 640)), [[6.5, 4.5, 7.5, 5.5]])


def test_the_box_of_keypoints_in_a_row_has_an_area():
    keypoints = np.array([[[100.0, 50.0, 1.0], [200.0, 50.0, 1.0]]])

    np.testing.assert_array_equal(keypoint_boxes(keypoints, (480, 640)), [[90, 49.5, 210, 50.5]])


def test_a_person_without_keypoints_has_an_empty_box_and_disturbs_no_other():
    keypoints = np.zeros((2, 3, 3), np.float32)
    keypoints[1, :, :] = [[4, 4, 1], [14, 4, 1], [4, 24, 1]]

    np.testing.assert_allclose(keypoint_boxes(keypoints, (480, 640)), [[0, 0, 0, 0], [3, 2, 15, 26]])


def test_nobody_has_no_boxes():
    assert keypoint_boxes(np.zeros((0, 17, 3), np.float32), (480, 640)).shape == (0, 4)

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetpose.geometry import (
    affine_scale,
    fit_box,
    fit_canvas_64,
    flip_points,
    invert,
    transform_points,
    warp,
)


def _corners(box):
    x1, y1, x2, y2 = box
    return np.array([(x1, y1), (x2, y2)])


@pytest.mark.parametrize(
    ("box", "edges"),
    [
        ((9.5, 19.5, 39.5, 59.5), (-0.5, -0.5, 191.5, 255.5)),  # of the crop's own aspect
        ((9.5, 19.5, 29.5, 59.5), (31.5, -0.5, 159.5, 255.5)),  # slimmer
        ((9.5, 19.5, 69.5, 59.5), (-0.5, 63.5, 191.5, 191.5)),  # wider
    ],
)
def test_a_box_fills_its_crop_from_edge_to_edge_undistorted(box, edges):
    affine = fit_box(np.array(box), (256, 192))

    np.testing.assert_allclose(transform_points(_corners(box), affine), _corners(edges), atol=1e-9)


def test_padding_leaves_room_around_the_box():
    affine = fit_box(np.array([9.5, 19.5, 39.5, 59.5]), (256, 192), padding=1.25)

    low, high = transform_points(_corners((9.5, 19.5, 39.5, 59.5)), affine)
    np.testing.assert_allclose(high - low, np.array([192, 256]) / 1.25)
    np.testing.assert_allclose((low + high) / 2, [95.5, 127.5])


@pytest.mark.parametrize("box", [(5, 7, 5, 7), (5, 7, 4, 6), (5, 7, 5.001, 7)])
def test_a_box_without_area_counts_as_a_pixel(box):
    affine = fit_box(np.array(box, float), (64, 48))

    assert affine_scale(affine) == pytest.approx(48)
    np.testing.assert_allclose(transform_points(np.mean(_corners(box), axis=0), affine), [23.5, 31.5])


def test_a_crop_turns_clockwise_and_mirrors_about_its_middle():
    box = np.array([9.5, 19.5, 39.5, 59.5])
    right_of_the_middle = np.array([34.5, 39.5])

    turned = transform_points(right_of_the_middle, fit_box(box, (256, 192), angle_deg=90))
    mirrored = transform_points(right_of_the_middle, fit_box(box, (256, 192), is_mirrored=True))

    np.testing.assert_allclose(turned, [95.5, 127.5 + 64])
    np.testing.assert_allclose(mirrored, [95.5 - 64, 127.5])


@given(
    box=st.tuples(*[st.floats(-500, 500)] * 2, *[st.floats(1, 900)] * 2),
    padding=st.floats(0.5, 2),
    width=st.integers(20, 2000),
)
@settings(max_examples=60)
def test_the_crop_of_the_mirrored_picture_is_the_mirrored_crop(box, padding, width):
    x, y, w, h = box
    plain = fit_box(np.array([x, y, x + w, y + h]), (256, 192), padding=padding)
    mirrored_box = np.array([width - 1 - x - w, y, width - 1 - x, y + h])

    mirrored = fit_box(mirrored_box, (256, 192), padding=padding)

    points = np.array([[x, y], [x + w / 3, y + h]])
    np.testing.assert_allclose(
        transform_points(flip_points(points, width), mirrored),
        flip_points(transform_points(points, plain), 192),
        atol=1e-6,
    )


def test_crops_equal_the_authors_of_simplebaseline(shared):
    golden = np.load(shared / "golden" / "transforms" / "topdown_affine.npz")

    for center, scale, rot, (w, h), expected in zip(
        *(golden[name] for name in ("center", "scale", "rot", "size", "mat")), strict=True
    ):
        side = 200 * float(scale[0])
        # Their coordinates start at the first pixel's corner, and their boxes are made of the width alone.
        middle = np.asarray(center, float) - 0.5
        half = np.array([side, side * h / w / 2]) / 2
        ours = fit_box(np.concatenate([middle - half, middle + half]), (h, w), angle_deg=-float(rot))

        corners = np.array([(0.0, 0.0), (640.0, 0.0), (0.0, 480.0)])
        np.testing.assert_allclose(
            transform_points(corners - 0.5, ours) + 0.5,
            transform_points(corners, expected),
            atol=0.01 if rot else 1e-3,
        )
        assert affine_scale(invert(ours)) == pytest.approx(side / w, rel=1e-5)


def test_the_papers_canvas_rounds_the_short_side_up_and_fills_it():
    affine, size = fit_canvas_64((500, 333), short_side=480)

    assert size == (768, 512)
    corners = transform_points(np.array([(-0.5, -0.5), (332.5, 499.5)]), affine)
    np.testing.assert_allclose(corners[1, 0] - corners[0, 0], 512)
    # The odd width puts the picture half of its own pixels left of the middle.
    np.testing.assert_allclose(corners.mean(axis=0), [255.5 - 0.5 * 512 / 333, 383.5])


def test_the_papers_canvases_of_several_scales_are_multiples_of_the_smallest():
    sizes = [
        fit_canvas_64((480, 640), short_side=512, scale=scale, min_scale=0.5)[1] for scale in (0.5, 1, 2)
    ]

    assert sizes == [(256, 384), (512, 768), (1024, 1536)]


def test_canvases_equal_the_authors_of_higherhrnet(shared):
    cases = json.loads(
        (shared / "golden" / "transforms" / "bottomup_resize.json").read_text(encoding="utf-8")
    )

    for case in cases:
        h, w = case["h"], case["w"]
        affine, size = fit_canvas_64(
            (h, w), short_side=case["input"], scale=case["current_scale"], min_scale=case["min_scale"]
        )

        assert size == tuple(case["size_wh"][::-1])
        corners = np.array([(0.0, 0.0), (w, h)])  # theirs start at the first pixel's corner
        np.testing.assert_allclose(
            transform_points(corners - 0.5, affine) + 0.5,
            transform_points(corners, np.array(case["affine"])),
            atol=1e-3,
        )


def test_a_resized_picture_equals_the_authors_of_higherhrnet(shared):
    golden = np.load(shared / "golden" / "transforms" / "bottomup_resize_image.npz")
    affine, size = fit_canvas_64(golden["image"].shape[:2], short_side=128)
    # They draw with a map between corners as if it were one between centres.
    theirs = np.column_stack([affine[:, :2], affine[:, 2] + 0.5 - affine[:, :2] @ [0.5, 0.5]])

    np.testing.assert_array_equal(warp(golden["image"], theirs, size), golden["resized"])
    np.testing.assert_allclose(
        transform_points(golden["joints_in"][:2], invert(theirs)), golden["joints_out"][0, 0, :2], atol=1e-4
    )

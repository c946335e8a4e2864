"""EfficientPose's decoding: equal to the authors', without upscaling more than needed; several people."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetpose.codecs.description import ModelDescription
from fleetpose.codecs.efficientpose import (
    CODEC_TYPE,
    EFFICIENTPOSE_KEYPOINTS,
    EfficientPoseCodec,
    pixel_weights,
    upscaled_peaks,
)
from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.codecs.part_affinity_grouping import PartAffinitySettings
from fleetpose.errors import CheckpointError, ConfigError, ShapeError
from fleetpose.geometry import flip_points
from fleetpose.skeletons import MPII

COARSE = (Field(FieldKind.HEATMAPS, 16, 8, label="pass2"),)
FULL = (Field(FieldKind.HEATMAPS, 16, 1),)
ALL = (
    Field(FieldKind.PAFS, 28, 8),
    Field(FieldKind.HEATMAPS, 16, 8, label="pass1"),
    *COARSE,
    *FULL,
)
SIZE = (256, 320)

#: A standing person of MPII's 16 keypoints (x, y), about 100 x 200 pixels.
PERSON = np.array(
    [
        *[(38, 205), (40, 165), (42, 125), (78, 125), (80, 165), (82, 205), (60, 125), (60, 50)],
        *[(60, 34), (60, 4), (20, 120), (25, 85), (35, 50), (85, 50), (95, 85), (100, 120)],
    ],
    float,
)


def people_at(corners, *, scale=1.0):
    points = np.array([scale * PERSON + corner for corner in corners])
    return np.concatenate([points, np.full((*points.shape[:2], 1), 2.0)], axis=-1)


def by_column(people):
    return people[np.argsort(people[:, 0, 0])]


def doubled(heatmaps):
    """Bilinear doubling with zeros beyond the border, as the network does it."""
    for axis in (1, 2):
        before, after = (
            np.concatenate([part, np.zeros_like(part[:, :1] if axis == 1 else part[:, :, :1])], axis=axis)
            for part in (heatmaps, heatmaps)
        )
        before = np.roll(before, 1, axis=axis)
        shrunk = [slice(None)] * 3
        shrunk[axis] = slice(None, -1)
        lower = 0.75 * heatmaps + 0.25 * before[tuple(shrunk)]
        shrunk[axis] = slice(1, None)
        upper = 0.75 * heatmaps + 0.25 * after[tuple(shrunk)]
        stacked = np.stack([lower, upper], axis=axis + 1)
        shape = list(heatmaps.shape)
        shape[axis] *= 2
        heatmaps = stacked.reshape(shape)
    return heatmaps


def full_map(heatmaps, *, is_blurred):
    full = doubled(doubled(doubled(heatmaps.astype(np.float64))))
    if not is_blurred:
        return full
    return np.stack([cv2.GaussianBlur(one, (9, 9), 1.0, borderType=cv2.BORDER_REFLECT) for one in full])


def as_authors(places, *, frame_size, cells):
    """The authors' coordinates, shares of the frame's width and height, of cells of a square map."""
    frame_h, frame_w = frame_size
    shares = (places + 0.5) / cells
    for axis, (own, other) in enumerate(((frame_w, frame_h), (frame_h, frame_w))):
        if own < other:  # the frame was padded along this axis
            padding = (other - own) / (2 * other)
            share = (shares[:, axis] - padding) / (1 - 2 * padding)
            shares[:, axis] = np.where(share < 0, -0.5 / cells, np.minimum(share, 1))
    return shares


@pytest.mark.parametrize("frame_size", [(720, 1280), (1280, 720), (500, 500)])
@pytest.mark.parametrize("mode", ["std", "rt"])
def test_places_equal_the_authors_exactly(frame_size, mode, shared):
    with np.load(shared / "golden" / "efficientpose_decode" / "coords.npz") as file:
        heatmaps = file["conf"].transpose(2, 0, 1)
        expected = file[f"xy_{frame_size[0]}x{frame_size[1]}_{mode}"]
    own = replace(MPII, keypoints=EFFICIENTPOSE_KEYPOINTS)
    codec = EfficientPoseCodec(
        fields=FULL,
        skeleton=own,
        is_blurred=mode == "std",
        detection_threshold=0.3 if mode == "rt" else 0.0,
    )

    keypoints, _ = codec.decode({"heatmaps_s1": heatmaps})

    is_found = keypoints[0, :, 2] > 0
    ours = as_authors(keypoints[0, :, :2].astype(np.float64), frame_size=frame_size, cells=64)
    np.testing.assert_array_equal(ours[is_found], expected[is_found])
    # What he calls missing on a camera stands half a cell outside.
    assert (expected[~is_found] == -0.5 / 64).all()
    assert is_found.all() == (mode == "std")


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16), h=st.integers(1, 14), w=st.integers(1, 14), smooth=st.sampled_from([0, 1, 3])
)
def test_peaks_are_those_of_the_full_upscaled_map(seed, h, w, smooth):
    heatmaps = np.random.default_rng(seed).normal(0.1, 1, (4, h, w)).astype(np.float32)
    if smooth:
        heatmaps = np.stack([cv2.GaussianBlur(one, (0, 0), smooth) for one in heatmaps])

    for is_blurred in (True, False):
        x, y, height = upscaled_peaks(heatmaps, is_blurred=is_blurred)

        full = full_map(heatmaps, is_blurred=is_blurred)
        np.testing.assert_allclose(height, full.max(axis=(1, 2)), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(full[np.arange(4), y, x], height, rtol=1e-6, atol=1e-7)


def test_a_far_cell_that_is_upscaled_higher_is_found():
    # The highest cell stands alone and sinks; the plateau keeps its height.
    heatmaps = np.zeros((1, 12, 24), np.float32)
    heatmaps[0, 3, 3], heatmaps[0, 6:9, 15:18] = 1.0, 0.95

    x, y, height = upscaled_peaks(heatmaps)

    assert 15 * 8 <= x[0] < 18 * 8
    assert 6 * 8 <= y[0] < 9 * 8
    assert height[0] > 0.94


def test_equal_pixels_give_the_first_in_reading_order():
    heatmaps = np.zeros((1, 9, 20), np.float32)
    heatmaps[0, 4, 4] = heatmaps[0, 4, 12] = 1

    x, y, _ = upscaled_peaks(heatmaps)

    assert (x[0], y[0]) == (35, 35)


def test_weights_of_a_pixel_away_from_the_border_add_up_to_one():
    weights = pixel_weights(9, 8, True)

    np.testing.assert_allclose(weights[3:6].sum(axis=2), 1, atol=1e-12)
    assert (weights >= 0).all()


def test_a_factor_that_is_no_power_of_two_is_refused():
    with pytest.raises(ConfigError, match="powers of two, got 6"):
        upscaled_peaks(np.zeros((1, 2, 2), np.float32), factor=6)


@pytest.mark.parametrize("fields", [COARSE, FULL])
def test_the_parabola_finds_a_person_to_a_twentieth_of_a_pixel(fields):
    codec = EfficientPoseCodec(fields=fields, skeleton=MPII, is_upscaled=False)
    people = people_at([(60.3, 20.6)])

    keypoints, scores = codec.decode(codec.encode(people, size=SIZE))

    np.testing.assert_allclose(keypoints[0, :, :2], people[0, :, :2], atol=0.05)
    assert scores[0] > 0.7


@pytest.mark.parametrize(("fields", "tolerance"), [(COARSE, 2.5), (FULL, 0.51)])
def test_the_authors_way_finds_a_person_to_its_pixel(fields, tolerance):
    codec = EfficientPoseCodec(fields=fields, skeleton=MPII)
    people = people_at([(60.3, 20.6)])

    keypoints, _ = codec.decode(codec.encode(people, size=SIZE))

    np.testing.assert_allclose(keypoints[0, :, :2], people[0, :, :2], atol=tolerance)


def test_channels_are_matched_by_name():
    codec = EfficientPoseCodec(fields=FULL, skeleton=MPII)
    heatmaps = np.zeros((16, 16, 32), np.float32)
    heatmaps[EFFICIENTPOSE_KEYPOINTS.index("left_wrist"), 5, 20] = 1

    keypoints, _ = codec.decode({"heatmaps_s1": heatmaps})

    assert np.flatnonzero(keypoints[0, :, 2]).tolist() == [MPII.index("left_wrist")]
    assert keypoints[0, MPII.index("left_wrist"), :2].tolist() == [20, 5]


def test_several_people_are_told_apart_and_have_a_pelvis_each():
    codec = EfficientPoseCodec(fields=ALL, skeleton=MPII, max_people=5)
    people = people_at([(10.4, 20.3), (80.2, 30.1), (190.7, 25.5)])

    keypoints, _ = codec.decode(codec.encode(people, size=SIZE))

    assert len(keypoints) == 3
    np.testing.assert_allclose(by_column(keypoints)[..., :2], people[..., :2], atol=0.05)


def test_no_more_people_come_than_asked_for():
    codec = EfficientPoseCodec(fields=ALL, skeleton=MPII, max_people=2)
    people = people_at([(10.4, 20.3), (80.2, 30.1), (190.7, 25.5)])

    keypoints, _ = codec.decode(codec.encode(people, size=SIZE))

    assert len(keypoints) == 2


def test_a_pelvis_far_from_the_hips_is_nobodys():
    codec = EfficientPoseCodec(fields=ALL, skeleton=MPII, max_people=2)
    targets = codec.encode(people_at([(60.3, 20.6)]), size=SIZE)
    pelvis = EFFICIENTPOSE_KEYPOINTS.index("pelvis")
    targets["heatmaps_s8_pass2"][pelvis] = np.roll(targets["heatmaps_s8_pass2"][pelvis], 12, axis=1)

    keypoints, _ = codec.decode(targets)

    assert np.flatnonzero(keypoints[0, :, 2] == 0).tolist() == [MPII.index("pelvis")]


def test_mirrored_maps_give_the_mirrored_person():
    codec = EfficientPoseCodec(fields=ALL, skeleton=MPII, max_people=2)
    people = people_at([(60.3, 20.6)])
    mirrored = flip_points(people, SIZE[1])[:, MPII.flip_permutation]
    ours, theirs = codec.encode(people, size=SIZE), codec.encode(mirrored, size=SIZE)

    merged = codec.merge_flipped(ours, theirs, MPII.flip_permutation)

    for name in ("heatmaps_s8_pass2", "pafs_s8"):
        np.testing.assert_allclose(merged[name], ours[name], atol=1e-5)


def test_mirrored_maps_decode_to_mirrored_people():
    codec = EfficientPoseCodec(fields=ALL, skeleton=MPII, max_people=5)
    people = people_at([(10.4, 20.3), (80.2, 30.1), (190.7, 25.5)])
    mirrored = flip_points(people, SIZE[1])[:, MPII.flip_permutation]

    keypoints, _ = codec.decode(codec.encode(people, size=SIZE))
    found, _ = codec.decode(codec.encode(mirrored, size=SIZE))

    back = flip_points(found, SIZE[1])[:, MPII.flip_permutation]
    np.testing.assert_allclose(by_column(back), by_column(keypoints), atol=1e-2)


@pytest.mark.parametrize("order", [[2, 0, 1], [1, 2, 0], [2, 1, 0]])
def test_the_order_of_people_changes_nothing_but_their_order(order):
    codec = EfficientPoseCodec(fields=ALL, skeleton=MPII, max_people=5)
    people = people_at([(10.4, 20.3), (80.2, 30.1), (190.7, 25.5)])

    keypoints, scores = codec.decode(codec.encode(people, size=SIZE))
    others, other_scores = codec.decode(codec.encode(people[order], size=SIZE))

    np.testing.assert_allclose(by_column(others), by_column(keypoints), atol=1e-4)
    np.testing.assert_allclose(np.sort(other_scores), np.sort(scores), atol=1e-5)


def test_three_hundred_people_are_told_apart():
    grouping = PartAffinitySettings(max_people=300, radius_px=8)
    codec = EfficientPoseCodec(fields=ALL[:3], skeleton=MPII, max_people=300, grouping=grouping)
    columns, rows = np.meshgrid(np.arange(25), np.arange(12))
    corners = np.stack([138 * columns, 246 * rows], axis=-1).reshape(-1, 2) + 12
    # In even steps the samples between a neck and a far shoulder could all fall on other people's limbs.
    people = people_at(corners + np.random.default_rng(0).uniform(0, 14, (300, 2)))

    keypoints, _ = codec.decode(codec.encode(people, size=(3008, 3488)))

    assert len(keypoints) == 300
    nearest = np.abs(keypoints[:, None, 0, :2] - people[None, :, 0, :2]).max(axis=2).argmin(axis=1)
    np.testing.assert_allclose(keypoints[..., :2], people[nearest, :, :2], atol=0.05)


@pytest.mark.parametrize("is_upscaled", [True, False])
def test_maps_of_one_pixel_decode_to_a_person_in_it(is_upscaled):
    codec = EfficientPoseCodec(fields=FULL, skeleton=MPII, is_upscaled=is_upscaled)

    keypoints, _ = codec.decode({"heatmaps_s1": np.full((16, 1, 1), 0.5, np.float32)})

    assert keypoints[..., :2].tolist() == [[[0, 0]] * 16]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (20, 30)])
@pytest.mark.parametrize("changes", [{}, {"is_upscaled": False}, {"fields": ALL, "max_people": 9}])
def test_empty_maps_of_any_size_give_nobody(size, changes):
    codec = replace(EfficientPoseCodec(fields=COARSE, skeleton=MPII), **changes)
    outputs = {item.name: np.zeros((item.channels, *size), np.float32) for item in codec.fields}

    keypoints, scores = codec.decode(outputs)

    assert keypoints.shape == (0, 16, 3)
    assert scores.shape == (0,)


def test_maps_that_are_not_finite_are_refused_by_name():
    codec = EfficientPoseCodec(fields=COARSE, skeleton=MPII)

    with pytest.raises(ShapeError, match=r"^heatmaps_s8_pass2 must be finite"):
        codec.decode({"heatmaps_s8_pass2": np.full((16, 4, 4), np.nan, np.float32)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": ALL[:1]}, "needs 16 heatmaps"),
        ({"sigma_px": 0.0}, "above 0"),
        ({"max_people": 2}, "asks for part affinity fields"),
        ({"fields": (Field(FieldKind.PAFS, 30, 8), *COARSE)}, "do not fit the 30 channels"),
        ({"fields": (ALL[0], *FULL), "max_people": 2}, "heatmaps of stride 8"),
    ],
)
def test_settings_that_do_not_fit_the_network_are_refused(changes, message):
    codec = EfficientPoseCodec(fields=COARSE, skeleton=MPII)

    with pytest.raises(ConfigError, match=message):
        replace(codec, **changes)


def test_a_model_file_gives_the_codec_back(fake_description):
    codec = EfficientPoseCodec(fields=ALL, skeleton=MPII, max_people=4, is_upscaled=False)
    description = replace(fake_description, skeleton=MPII, fields=ALL, codec=codec.settings())

    again = EfficientPoseCodec.from_description(ModelDescription.from_json(description.to_json()))

    assert again == codec


def test_a_model_file_with_other_settings_is_refused(fake_description):
    description = replace(fake_description, skeleton=MPII, fields=COARSE)

    with pytest.raises(CheckpointError, match=f"codec must be {CODEC_TYPE}"):
        EfficientPoseCodec.from_description(description)
    with pytest.raises(CheckpointError, match="unknown codec setting"):
        EfficientPoseCodec.from_description(replace(description, codec={"type": CODEC_TYPE, "blur": 1}))

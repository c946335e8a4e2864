from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetpose.data.annotations import Picture
from fleetpose.data.samples import Sample, drop_outside, load_sample, people_in_view, warp_sample
from fleetpose.errors import DatasetError
from fleetpose.geometry import PADDING, similarity

SIZE = (90, 120)
POINTS = np.array([(58.25, 40.5), (40.5, 60.75), (75.0, 55.25)])
SWAP = np.array([0, 2, 1])  # tip, left_end, right_end
MIRROR = similarity(source_xy=(59.5, 44.5), target_xy=(59.5, 44.5), scale=1.0, is_mirrored=True)


def sample_of(image, points, *, counts=None, is_known=None):
    keypoints = np.concatenate([points, np.full((len(points), 1), 2)], axis=1)[None].astype(np.float32)
    low, high = points.min(axis=0), points.max(axis=0)
    return Sample(
        image=image,
        keypoints=keypoints,
        is_known=np.ones((1, len(points)), bool) if is_known is None else is_known,
        boxes=np.array([[*low, *high]], np.float32),
        counts=np.ones(image.shape[:2], np.uint8) if counts is None else counts,
    )


def picture_of(path, *, ignored=(), boxes=()):
    people = len(boxes)
    return Picture(
        path=Path(path),
        image_id=1,
        keypoints=np.zeros((people, 3, 3), np.float32),
        is_known=np.ones((people, 3), bool),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        ignored=ignored,
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    scale=st.floats(0.4, 2.2),
    angle_deg=st.floats(-180, 180),
    is_mirrored=st.booleans(),
    target_xy=st.tuples(st.floats(92, 108), st.floats(102, 118)),
)
def test_a_bright_spot_and_its_keypoint_move_together(draw_spots, spot_centre, is_mirrored, **placing):
    sample = sample_of(draw_spots(POINTS, SIZE), POINTS)
    affine = similarity(source_xy=(58, 52), is_mirrored=is_mirrored, **placing)

    moved = warp_sample(sample, affine, (220, 200), flip_permutation=SWAP)

    for keypoint, (x, y, v) in enumerate(moved.keypoints[0]):
        # The spot keeps its colour, the keypoint its side: after mirroring, left is what was right.
        channel = SWAP[keypoint] if is_mirrored else keypoint
        assert v == 2
        np.testing.assert_allclose(spot_centre(moved.image, channel, (x, y)), (x, y), atol=0.08)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(scale=st.floats(0.5, 2.0), angle_deg=st.floats(-180, 180), is_mirrored=st.booleans())
def test_ignored_regions_move_with_the_picture(scale, angle_deg, is_mirrored):
    disc = np.zeros(SIZE, np.uint8)
    cv2.circle(disc, (58, 40), 12, 1, cv2.FILLED)
    sample = sample_of(np.repeat(disc[..., None] * 255, 3, axis=2), POINTS, counts=1 - disc)
    affine = similarity(
        source_xy=(58, 40), target_xy=(80.3, 80.6), scale=scale, angle_deg=angle_deg, is_mirrored=is_mirrored
    )

    moved = warp_sample(sample, affine, (160, 160), flip_permutation=SWAP)

    inner = np.hypot(*(np.mgrid[:160, :160] - np.array([80.6, 80.3])[:, None, None])) < 12 * scale + 4
    centres = [
        np.argwhere(mask & inner).mean(axis=0) for mask in (moved.counts == 0, moved.image[..., 0] > 127)
    ]
    np.testing.assert_allclose(centres[0], (80.6, 80.3), atol=0.51)  # masks are warped to the nearest pixel
    np.testing.assert_allclose(centres[0], centres[1], atol=0.51)


def test_boxes_hold_what_they_held(draw_spots):
    sample = sample_of(draw_spots(POINTS, SIZE), POINTS)
    affine = similarity(source_xy=(50, 50), target_xy=(90, 90), scale=1.3, angle_deg=35, is_mirrored=True)

    moved = warp_sample(sample, affine, (200, 200), flip_permutation=SWAP)

    points, (x1, y1, x2, y2) = moved.keypoints[0], moved.boxes[0]
    assert (points[:, 0] >= x1 - 1e-3).all()
    assert (points[:, 0] <= x2 + 1e-3).all()
    assert (points[:, 1] >= y1 - 1e-3).all()
    assert (points[:, 1] <= y2 + 1e-3).all()
    assert x2 - x1 < 1.3 * (35 + 21)  # and little more


def test_mirroring_swaps_left_and_right(draw_spots):
    known = np.array([[True, True, False]])
    sample = sample_of(draw_spots(POINTS, SIZE), POINTS, is_known=known)

    mirrored = warp_sample(sample, MIRROR, SIZE, flip_permutation=SWAP)

    np.testing.assert_allclose(mirrored.keypoints[0, :, 0], 119 - POINTS[SWAP, 0])
    np.testing.assert_array_equal(mirrored.is_known, [[True, False, True]])
    np.testing.assert_array_equal(mirrored.image, sample.image[:, ::-1])


def test_mirroring_twice_changes_nothing():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    sample = sample_of(image, POINTS, counts=rng.integers(0, 2, SIZE, dtype=np.uint8))

    once = warp_sample(sample, MIRROR, SIZE, flip_permutation=SWAP)
    twice = warp_sample(once, MIRROR, SIZE, flip_permutation=SWAP)

    np.testing.assert_array_equal(twice.image, sample.image)
    np.testing.assert_array_equal(twice.counts, sample.counts)
    np.testing.assert_array_equal(twice.keypoints, sample.keypoints)
    np.testing.assert_array_equal(twice.boxes, sample.boxes)


def test_keypoints_that_leave_the_canvas_are_unlabelled(draw_spots):
    sample = sample_of(draw_spots(POINTS, SIZE), POINTS)
    affine = similarity(source_xy=(58.25, 40.5), target_xy=(-0.6, 20), scale=1.0)

    moved = warp_sample(sample, affine, SIZE, flip_permutation=SWAP)

    np.testing.assert_array_equal(moved.keypoints[0, :2], 0)
    np.testing.assert_allclose(moved.keypoints[0, 2], [16.15, 34.75, 2], atol=1e-4)


def test_the_outermost_pixels_belong_to_the_canvas_up_to_their_edges():
    keypoints = np.array([[[-0.5, 0, 1], [9.4, 4.4, 2], [9.5, 4, 2], [3, 3, 0]]], np.float32)

    kept = drop_outside(keypoints, (-0.5, -0.5, 9.5, 4.5))

    np.testing.assert_array_equal(kept[0, :, 2], [1, 2, 0, 0])


@pytest.mark.parametrize(("has_ignored", "outside"), [(False, 1), (True, 0)])
def test_canvas_beyond_the_picture_is_empty_unless_the_picture_hides_people(has_ignored, outside):
    counts = np.ones(SIZE, np.uint8)
    counts[:10, :10] = not has_ignored
    sample = sample_of(np.zeros((*SIZE, 3), np.uint8), POINTS, counts=counts)
    affine = similarity(source_xy=(0, 0), target_xy=(50, 50), scale=0.5)

    moved = warp_sample(sample, affine, (120, 120), flip_permutation=SWAP)

    np.testing.assert_array_equal(moved.image[0, 0], PADDING)
    assert moved.counts[0, 0] == outside


def test_people_without_labels_stay_only_where_the_loss_must_look_away():
    keypoints = np.zeros((4, 2, 3), np.float32)
    keypoints[0, 0] = (5, 5, 2)
    sample = Sample(
        image=np.zeros((20, 30, 3), np.uint8),
        keypoints=keypoints,
        is_known=np.array([[True, True], [True, True], [True, False], [True, False]]),
        boxes=np.array([[1, 1, 9, 9], [1, 1, 9, 9], [1, 1, 9, 9], [40, 1, 49, 9]], np.float32),
        counts=np.ones((20, 30), np.uint8),
    )

    seen = people_in_view(sample)

    # The second is known to show nothing, the last lies outside.
    np.testing.assert_array_equal(seen.is_known, [[True, True], [True, False]])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_grey_pictures_become_rgb(tmp_path, suffix):
    path = tmp_path / f"grey{suffix}"
    cv2.imwrite(str(path), np.full((12, 20), 77, np.uint8))

    sample = load_sample(picture_of(path))

    assert sample.image.shape == (12, 20, 3)
    assert (np.abs(sample.image.astype(int) - 77) <= 2).all()


def test_transparent_and_16_bit_pictures_become_rgb(tmp_path):
    clear, deep = tmp_path / "clear.png", tmp_path / "deep.png"
    cv2.imwrite(str(clear), np.array([[[10, 20, 30, 0]]], np.uint8))  # blue, green, red, alpha
    cv2.imwrite(str(deep), np.array([[[10 * 256, 20 * 256, 30 * 256]]], np.uint16))

    samples = [load_sample(picture_of(path)) for path in (clear, deep)]

    assert [sample.image.tolist() for sample in samples] == [[[[30, 20, 10]]]] * 2


def test_an_exif_orientation_does_not_turn_a_labelled_picture(tmp_path):
    path = tmp_path / "turned.jpg"
    _, data = cv2.imencode(".jpg", np.zeros((12, 20, 3), np.uint8))
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    path.write_bytes(data.tobytes()[:2] + segment + data.tobytes()[2:])

    sample = load_sample(picture_of(path))

    assert cv2.imread(str(path)).shape == (20, 12, 3)  # others turn it
    assert sample.image.shape == (12, 20, 3)


def test_a_picture_that_is_missing_or_broken_is_named(tmp_path, capfd):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")

    for name in ("missing.jpg", "broken.jpg"):
        with pytest.raises(DatasetError, match=rf"cannot read the picture .*{name}"):
            load_sample(picture_of(tmp_path / name))

    assert capfd.readouterr().err == ""


def test_outside_a_lone_persons_box_nothing_counts(tmp_path):
    path = tmp_path / "1.png"
    cv2.imwrite(str(path), np.zeros((100, 100, 3), np.uint8))

    sample = load_sample(picture_of(path, boxes=[(40, 30, 60, 70)]), is_single_person=True)

    rows, columns = np.nonzero(sample.counts)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (24, 76, 34, 66)  # 15 % of 40 more
    assert sample.counts.sum() == 53 * 33


#: A 3 by 4 picture whose second column is to be ignored, as COCO writes it: uncompressed and compressed.
RUNS = {"counts": [3, 3, 6], "size": [3, 4]}
PACKED = {"counts": "336", "size": [3, 4]}


@pytest.mark.parametrize(
    "segmentation", [[[1, 0, 1, 2, 1, 0]], RUNS, PACKED], ids=["polygon", "runs", "packed"]
)
def test_every_way_to_write_a_mask_ignores_the_same_pixels(tmp_path, segmentation):
    path = tmp_path / "1.png"
    cv2.imwrite(str(path), np.zeros((3, 4, 3), np.uint8))

    sample = load_sample(picture_of(path, ignored=(segmentation,)))

    np.testing.assert_array_equal(sample.counts, [[1, 0, 1, 1]] * 3)


def test_a_mask_of_another_size_is_refused(tmp_path):
    path = tmp_path / "1.png"
    cv2.imwrite(str(path), np.zeros((4, 3, 3), np.uint8))

    with pytest.raises(DatasetError, match="has 4 rows and 3 columns, but one of its masks 3 and 4"):
        load_sample(picture_of(path, ignored=(RUNS,)))

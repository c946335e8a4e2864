"""Copy-paste of people: pixels and labels move together, and what is covered becomes hidden."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from fleetpose.data.annotations import read_coco
from fleetpose.data.paste import Cutouts, PasteSettings, cut_out, paste, paste_people
from fleetpose.data.samples import Sample
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.geometry import similarity

#: A person: a bright rectangle with a keypoint of each kind on it.
BOX = (30, 20, 90, 100)  # x1, y1, x2, y2 in whole pixels, the last ones outside
POINTS = [[60, 30, 2], [80, 60, 2], [40, 60, 2]]


@pytest.fixture
def person(write_coco):
    """Function that writes a picture with the person → pictures read with outlines."""

    def write(skeleton, *, points=POINTS, box=BOX, outline=None):
        x1, y1, x2, y2 = box
        image = np.full((120, 120, 3), 10, np.uint8)
        image[y1:y2, x1:x2] = (200, 180, 160)
        if outline is None:
            outline = [[x1, y1, x2 - 1, y1, x2 - 1, y2 - 1, x1, y2 - 1]]
        annotation = {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "segmentation": outline,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "keypoints": np.ravel(points).tolist(),
        }
        return read_coco(*write_coco([image], [annotation]), skeleton=skeleton, has_outlines=True)

    return write


def scene(people=(), size=(160, 200), level=60):
    """Sample of an even colour; `people` are keypoints `[3, 3]`."""
    points = np.array(people, np.float32).reshape(-1, 3, 3)
    return Sample(
        image=np.full((*size, 3), level, np.uint8),
        keypoints=points,
        is_known=np.ones(points.shape[:2], bool),
        boxes=np.tile(np.array([[0, 0, 50, 80]], np.float32), (len(points), 1)),
        counts=np.ones(size, np.uint8),
    )


def moved_by(x, y, *, scale=1.0, is_mirrored=False):
    """Affine map that takes the middle of the cut-out to (x, y)."""
    return similarity(source_xy=(29.5, 39.5), target_xy=(x, y), scale=scale, is_mirrored=is_mirrored)


def test_a_person_is_cut_out_along_the_outline_with_the_keypoints(person, arrow):
    (picture,) = person(arrow)

    cutout = cut_out(picture, 0)

    assert cutout.mask.shape == (80, 60)
    assert cutout.mask.all()
    assert (cutout.image == (200, 180, 160)).all()
    np.testing.assert_array_equal(cutout.keypoints, [[30, 10, 2], [50, 40, 2], [10, 40, 2]])
    assert cutout.is_known.all()


def test_keypoints_that_were_not_cut_out_are_unknown_and_those_just_beside_stay(person, arrow):
    (picture,) = person(arrow, points=[[60, 30, 2], [91, 60, 1], [110, 60, 1]])

    cutout = cut_out(picture, 0)

    assert cutout.keypoints[:, 2].tolist() == [2, 1, 0]
    assert cutout.is_known.tolist() == [True, True, False]


def test_whom_the_edge_of_the_picture_cuts_is_not_cut_out(person, arrow):
    (picture,) = person(arrow, box=(30, 40, 90, 120))

    assert cut_out(picture, 0) is None


def test_run_lengths_are_outlines_too(person, arrow):
    mask = np.zeros((120, 120), np.uint8)
    mask[20:100, 30:90] = 1
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], mask.T.ravel(), [2]]))))
    (picture,) = person(arrow, outline={"size": [120, 120], "counts": runs.tolist()})

    assert cut_out(picture, 0).mask.shape == (80, 60)


def test_pixels_and_keypoints_of_a_pasted_person_land_on_the_same_spot(person, arrow):
    cutout = cut_out(person(arrow)[0], 0)

    pasted = paste(
        scene(), cutout, moved_by(100, 80, scale=0.5), flip_permutation=arrow.flip_permutation, light=0
    )

    np.testing.assert_allclose(
        pasted.keypoints, [[[100.25, 65.25, 2], [110.25, 80.25, 2], [90.25, 80.25, 2]]]
    )
    # Half of 60 x 80 pixels around (100, 80), less the rim that is left off.
    np.testing.assert_allclose(pasted.boxes, [[85.5, 60.5, 114.5, 99.5]], atol=1.01)
    assert (pasted.image[80, 100] == (200, 180, 160)).all()
    assert (pasted.image[80, 130] == 60).all()
    is_person = np.abs(pasted.image[..., 0].astype(int) - 60) > 70
    x, y, w, h = cv2.boundingRect(is_person.astype(np.uint8))
    np.testing.assert_allclose([x - 0.5, y - 0.5, x + w - 0.5, y + h - 0.5], pasted.boxes[0], atol=1.01)


def test_a_mirrored_person_swaps_sides(person, arrow):
    cutout = cut_out(person(arrow)[0], 0)

    pasted = paste(
        scene(), cutout, moved_by(100, 80, is_mirrored=True), flip_permutation=arrow.flip_permutation
    )

    # The left end lay on the picture's right and still does, as a mirrored right end.
    np.testing.assert_allclose(pasted.keypoints[0, 1], [119.5, 80.5, 2])
    np.testing.assert_allclose(pasted.keypoints[0, 2], [79.5, 80.5, 2])


def test_what_is_covered_becomes_hidden_and_the_rest_stays(person, arrow):
    cutout = cut_out(person(arrow)[0], 0)
    there = [[100, 80, 2], [105, 85, 1], [10, 10, 2]]

    pasted = paste(scene([there]), cutout, moved_by(100, 80), flip_permutation=arrow.flip_permutation)

    np.testing.assert_array_equal(pasted.keypoints[0], [[100, 80, 1], [105, 85, 1], [10, 10, 2]])
    assert pasted.is_known.all()


def test_nobody_is_hidden_beyond_the_limit(person, arrow):
    cutout = cut_out(person(arrow)[0], 0)
    sample = scene([[[100, 80, 2], [10, 10, 2], [105, 85, 2]]])
    flip = arrow.flip_permutation

    assert paste(sample, cutout, moved_by(100, 80), flip_permutation=flip, hidden=0.5) is None
    assert paste(sample, cutout, moved_by(100, 80), flip_permutation=flip, hidden=0.7) is not None
    assert paste(sample, cutout, moved_by(-100, 80), flip_permutation=flip) is None  # out of the picture


def test_a_pasted_person_counts_where_the_picture_does_not(person, arrow):
    cutout = cut_out(person(arrow)[0], 0)
    sample = replace(scene(), counts=np.zeros((160, 200), np.uint8))

    counts = paste(sample, cutout, moved_by(100, 80), flip_permutation=arrow.flip_permutation).counts

    assert counts[80, 100] == 1
    assert counts[80, 150] == 0
    assert 58 * 78 <= counts.sum() <= 60 * 80


def test_edges_are_soft_and_keypoints_beyond_the_picture_are_dropped(person, arrow):
    cutout = cut_out(person(arrow)[0], 0)

    pasted = paste(scene(), cutout, moved_by(190, 80), flip_permutation=arrow.flip_permutation, light=0)

    row = pasted.image[80, 150:175, 0].astype(int)
    assert row[0] == 60
    assert row[-1] == 200
    assert ((row > 65) & (row < 195)).sum() >= 2
    assert pasted.keypoints[0, :, 2].tolist() == [2, 0, 2]


def test_brightness_is_drawn_towards_the_surroundings(person, arrow):
    cutout = cut_out(person(arrow)[0], 0)

    def brightness(light):
        pasted = paste(
            scene(level=90), cutout, moved_by(100, 80), flip_permutation=arrow.flip_permutation, light=light
        )
        return float(pasted.image[80, 100].mean())

    assert brightness(0) == 180
    assert 120 < brightness(0.5) < 135  # the geometric mean
    assert brightness(1) > 90  # never by more than the largest factor


def test_one_integer_decides_everything(person, arrow):
    cutouts = Cutouts(person(arrow), arrow)
    sample = scene([[[5, 5, 2], [6, 6, 2], [7, 7, 2]]], size=(80, 100))
    settings = PasteSettings(chance=0.5, most=3)

    counts = []
    for number in range(24):
        first, second = (
            paste_people(sample, cutouts, np.random.default_rng(number), settings) for _ in range(2)
        )
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.keypoints, second.keypoints)
        assert len(first.keypoints) == len(first.boxes) == len(first.is_known)
        counts.append(len(first.keypoints) - 1)

    assert 6 < counts.count(0) < 18
    assert set(counts) == {0, 1, 2, 3}


def test_pasted_people_are_as_large_as_those_who_are_there_where_that_is_asked_for(person, arrow):
    cutouts = Cutouts(person(arrow), arrow)
    sample = replace(
        scene([[[5, 5, 0], [6, 6, 0], [7, 7, 0]]], size=(300, 300)),
        boxes=np.array([[0, 0, 20, 40]], np.float32),
    )

    def largest(likeness):
        settings = PasteSettings(chance=1, most=1, likeness=likeness, size=(0.3, 0.3), rotation_deg=0)
        boxes = [
            paste_people(sample, cutouts, np.random.default_rng(number), settings).boxes[-1]
            for number in range(10)
        ]
        return max(float(np.max(box[2:] - box[:2])) for box in boxes)

    assert 36 <= largest(1) <= 40
    assert 84 <= largest(0) <= 90


def test_only_people_worth_it_are_on_offer(person, arrow):
    assert len(Cutouts(person(arrow), arrow)) == 1
    for pictures in (
        person(arrow, points=[[60, 30, 2], [80, 60, 1], [40, 60, 1]]),
        person(arrow, box=(30, 20, 50, 40), points=[[35, 30, 2], [45, 30, 2], [40, 30, 2]]),
        [replace(person(arrow)[0], outlines=())],
    ):
        with pytest.raises(DatasetError, match="nobody can be cut out"):
            Cutouts(pictures, arrow)


def test_people_are_drawn_as_often_as_their_pictures_weights_say(person, arrow):
    (one,) = person(arrow)
    (other,) = person(arrow, box=(30, 20, 90, 80))
    cutouts = Cutouts([one, other, other], arrow, weights=[3, 1, 0])
    rng = np.random.default_rng(0)

    heights = [cutouts.draw(rng).mask.shape[0] for _ in range(200)]

    assert len(cutouts) == 2
    assert 130 < heights.count(80) < 170
    assert 30 < heights.count(60) < 70


@pytest.mark.parametrize(
    "values", [{"chance": 2}, {"most": 0}, {"size": (1, 0.5)}, {"hidden": -1}, {"rotation_deg": -1}]
)
def test_impossible_settings_are_refused(values):
    with pytest.raises(ConfigError, match="past"):
        PasteSettings(**values)

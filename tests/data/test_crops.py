import json
import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fleetpose.data.crops import CropMaker, CropSettings
from fleetpose.data.scenes import Source
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.skeletons import Skeleton

SIZE = (240, 320)
#: (x, y) of tip, left end and right end of the people of one picture.
PEOPLE = np.array([[(70, 60), (40, 130), (110, 150)], [(230, 90), (280, 170), (200, 180)]], float)
STILL = CropSettings(
    scale=(1, 1), turn_chance=0, shift=0, part_chance=0, cutout_chance=0, light=0, padding=1.0
)
LIVELY = CropSettings(light=0, cutout_chance=0, padding=1.6, scale=(0.4, 1.2))


def annotation(number, points, **more):
    low, high = points.min(axis=0) - 15, points.max(axis=0) + 15
    return {
        "id": number,
        "image_id": 1,
        "category_id": 1,
        "keypoints": [value for x, y in points for value in (x, y, 2)],
        "bbox": [*low, *(high - low)],
        **more,
    }


@pytest.fixture
def people(draw_spots, write_coco):
    """Annotation file and folder of one picture with two people of bright spots."""
    picture = np.maximum(*(draw_spots(points, SIZE, sigma=6) for points in PEOPLE))
    return write_coco([picture], [annotation(number, points) for number, points in enumerate(PEOPLE)])


@pytest.fixture
def as_jpeg(people):
    """The same data with a JPEG, which can be read at a reduced size."""
    labels, folder = people
    image = cv2.imread(str(folder / "1.png"))
    cv2.imwrite(str(folder / "1.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 98])
    labels.write_text(labels.read_text().replace("1.png", "1.jpg"))
    return people


def maker_of(data, skeleton, settings=STILL, **source):
    return CropMaker([Source(images=data[1], annotations=data[0], **source)], skeleton, settings)


def crops_of(maker, count, size=(128, 96)):
    return [maker.make(np.random.default_rng(seed), size) for seed in range(count)]


@pytest.mark.parametrize("size", [(160, 120), (64, 48)], ids=["large", "small"])
@pytest.mark.parametrize("data", ["people", "as_jpeg"])
def test_bright_spots_and_keypoints_meet_in_every_crop(request, arrow, spot_centre, data, size):
    maker = maker_of(request.getfixturevalue(data), arrow, LIVELY)
    errors, mirrored = [], []

    for crop in crops_of(maker, 30, size):
        inner = (crop.keypoints[:, :2] > 6) & (crop.keypoints[:, :2] < np.array(size[::-1]) - 7)
        for swapped in (False, True):
            # A mirrored person has swapped sides: where its left end is, the right one's spot was drawn.
            spots = [
                spot_centre(crop.image, channel, crop.keypoints[keypoint, :2], radius=6)
                for keypoint, channel in ((1, 2 if swapped else 1), (2, 1 if swapped else 2))
            ]
            if inner[1:].all() and spots[0] is not None and spots[1] is not None:
                errors += list(np.abs(crop.keypoints[1:, :2] - spots).max(axis=1))
                mirrored.append(swapped)

    assert len(errors) > 20
    assert 5 < sum(mirrored) < len(mirrored) - 5
    assert max(errors) < 0.5


def test_a_box_fills_the_crop_but_for_its_padding(people, arrow):
    close, padded = (
        crops_of(maker_of(people, arrow, replace(STILL, padding=padding)), 10) for padding in (1.0, 1.25)
    )

    for tight, loose in zip(close, padded, strict=True):
        # The boxes are 15 wider on each side than 70 and 80, and less than 4/3 as high: width decides.
        extent = np.ptp(tight.keypoints[:, 0])
        assert min(abs(extent - 96 * 70 / 100), abs(extent - 96 * 80 / 110)) < 0.1
        assert np.ptp(loose.keypoints[:, 0]) == pytest.approx(extent / 1.25, rel=1e-3)


def test_a_crop_follows_from_its_number_alone(people, arrow):
    maker = maker_of(people, arrow, CropSettings())

    first, again, other = (maker.make(np.random.default_rng(seed), (64, 48)) for seed in (5, 5, 6))

    assert (first.image == again.image).all()
    assert (first.keypoints == again.keypoints).all()
    assert (first.image != other.image).any()


def test_a_maker_that_was_sent_to_another_process_draws_the_same(people, arrow):
    maker = maker_of(people, arrow)

    sent = pickle.loads(pickle.dumps(maker))  # noqa: S301

    assert (crops_of(sent, 1)[0].image == crops_of(maker, 1)[0].image).all()


def test_people_with_few_labels_are_left_out(draw_spots, write_coco, arrow):
    few = annotation(1, PEOPLE[1])
    few["keypoints"][2] = 0
    data = write_coco([draw_spots(PEOPLE[0], SIZE)], [annotation(0, PEOPLE[0]), few])

    assert len(maker_of(data, arrow)) == 1


def test_skeletons_of_fewer_keypoints_than_a_box_needs_are_drawn_all_the_same(draw_spots, write_coco, arrow):
    short = Skeleton.from_dict({"keypoints": list(arrow.keypoints[:2]), "sigmas": [0.1, 0.1]})
    data = write_coco([draw_spots(PEOPLE[0], SIZE)], [annotation(0, PEOPLE[0])])

    maker = maker_of(data, short, replace(STILL, cut_chance=1.0))

    assert len(maker) == 1
    assert maker.make(np.random.default_rng(0), SIZE).keypoints.shape == (2, 3)


def test_a_source_without_anybody_to_crop_is_refused(draw_spots, write_coco, arrow):
    few = annotation(1, PEOPLE[1])
    few["keypoints"][2] = 0

    with pytest.raises(DatasetError, match="nobody with 3 labelled keypoints"):
        maker_of(write_coco([draw_spots(PEOPLE[0], SIZE)], [few]), arrow)


def test_sources_without_annotations_alone_are_refused(people, arrow):
    with pytest.raises(DatasetError, match="no source of the training mixture has annotations"):
        CropMaker([Source(images=people[1])], arrow, STILL)
    with pytest.raises(DatasetError, match="at least one source with a weight above 0"):
        maker_of(people, arrow, weight=0)


def test_pictures_without_people_take_no_part(people, arrow, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    cv2.imwrite(str(empty / "1.png"), np.full((20, 20, 3), 255, np.uint8))

    maker = CropMaker(
        [Source(images=empty, weight=9), Source(images=people[1], annotations=people[0])], arrow, STILL
    )

    assert len(maker) == 2
    assert all(crop.keypoints[:, 2].all() for crop in crops_of(maker, 5))


def test_a_lone_person_is_framed_by_the_labels_and_not_by_the_box(people, arrow):
    labels, _ = people
    content = json.loads(labels.read_text())
    content["annotations"] = [{**content["annotations"][0], "bbox": [0, 0, 320, 240]}]
    labels.write_text(json.dumps(content))

    by_box, by_labels = (
        np.ptp(crops_of(maker_of(people, arrow, is_single_person=single), 1)[0].keypoints[:, 0])
        for single in (False, True)
    )

    assert by_box == pytest.approx(70 * 96 / 320, rel=1e-3)
    assert by_labels == pytest.approx(70 * 96 / (70 + 2 * 0.12 * 90), rel=1e-3)


def test_keypoints_nobody_labelled_stay_unlabelled(draw_spots, write_coco):
    skeleton = Skeleton.from_dict(
        {"name": "four", "keypoints": ["tip", "left_end", "right_end", "tail"], "sigmas": [0.05] * 4}
    )
    data = write_coco([draw_spots(PEOPLE[0], SIZE)], [annotation(0, PEOPLE[0])])

    crop = crops_of(maker_of(data, skeleton), 1)[0]

    assert crop.keypoints[:, 2].tolist() == [2, 2, 2, 0]
    assert crop.keypoints[3].tolist() == [0, 0, 0]


def test_a_part_of_a_person_is_framed_more_closely(draw_spots, write_coco):
    names = [f"p{number}" for number in range(10)]
    skeleton = Skeleton.from_dict({"name": "line", "keypoints": names, "sigmas": [0.05] * 10})
    points = np.stack([np.full(10, 100.0), np.linspace(20, 200, 10)], axis=1)
    data = write_coco([draw_spots(points[:3], SIZE)], [annotation(0, points)], names=names)
    settings = replace(STILL, part_chance=1.0)

    whole, part = (crops_of(maker_of(data, skeleton, one), 12) for one in (STILL, settings))

    inside = [((crop.keypoints[:, 1] >= 0) & (crop.keypoints[:, 1] < 128)).sum() for crop in part]
    assert all(np.ptp(crop.keypoints[:, 1]) < 128 for crop in whole)
    assert set(inside) <= {5, 6, 7}
    # Labelled ones that are cut off are still known.
    assert all((crop.keypoints[:, 2] == 2).all() for crop in part)
    assert len({crop.keypoints[0, 1].round() for crop in part}) > 3


def test_people_are_cut_off_at_an_edge_beyond_which_nothing_is_to_be_found(write_coco):
    names = [f"p{number}" for number in range(10)]
    skeleton = Skeleton.from_dict({"name": "line", "keypoints": names, "sigmas": [0.05] * 10})
    points = np.stack([np.linspace(40, 130, 10), np.linspace(20, 200, 10)], axis=1)
    picture = np.full((*SIZE, 3), 255, np.uint8)
    for place in points.astype(int).tolist():
        cv2.circle(picture, place, 6, (0, 0, 0), -1)
    data = write_coco([picture], [annotation(0, points)], names=names)
    settings = replace(STILL, cut_chance=1.0)

    crops = crops_of(maker_of(data, skeleton, settings), 40)
    whole = crops_of(maker_of(data, skeleton), 1)[0]

    counts, heads = [], 0
    for crop in crops:
        assert (crop.keypoints[:, 2] == 2).all()
        is_inside = ((crop.keypoints[:, :2] >= 0) & (crop.keypoints[:, :2] < (96, 128))).all(axis=1)
        counts.append(int(is_inside.sum()))
        # As many spots are left as keypoints, but for one that the edge may halve, and each on its spot.
        is_black = (crop.image.max(axis=2) < 60).astype(np.uint8)
        assert cv2.connectedComponents(is_black)[0] - 1 - counts[-1] in {0, 1}
        x, y = crop.keypoints[is_inside, :2].astype(int).T
        assert is_black[y, x].all()
        heads += bool(is_inside[0])
    assert {*counts} <= set(range(3, 10))
    assert len({*counts}) > 3
    assert 28 < heads < 40  # mostly cut off below or on the far side of the first keypoint
    assert ((whole.keypoints[:, :2] >= 0) & (whole.keypoints[:, :2] < (96, 128))).all()


def test_people_with_few_labels_are_not_cut_off(people, arrow):
    settings = replace(STILL, cut_chance=1.0)

    for one, other in zip(
        crops_of(maker_of(people, arrow), 4), crops_of(maker_of(people, arrow, settings), 4), strict=True
    ):
        assert np.ptp(one.keypoints, axis=0) == pytest.approx(np.ptp(other.keypoints, axis=0), abs=1e-3)


def test_something_is_painted_over_as_often_as_asked(people, arrow):
    settings = replace(STILL, cutout_chance=1.0, cutout_share=(0.3, 0.3))

    plain, painted = (crops_of(maker_of(people, arrow, one), 8) for one in (STILL, settings))

    shares = [
        (one.image != other.image).any(axis=2).mean() for one, other in zip(plain, painted, strict=True)
    ]
    assert min(shares) > 0.01
    assert max(shares) <= 0.095


def test_what_is_in_front_may_be_a_piece_of_somebody_else(people, arrow):
    settings = replace(STILL, cutout_chance=1.0, cutout_share=(0.5, 0.5))
    flat, peopled = (
        crops_of(maker_of(people, arrow, replace(settings, cutout_people=share)), 12) for share in (0.0, 1.0)
    )
    plain = crops_of(maker_of(people, arrow), 12)

    def differences(crops):
        """Numbers of different colours among the pixels that are not those of the plain crop."""
        for crop, whole in zip(crops, plain, strict=True):
            np.testing.assert_array_equal(crop.keypoints, whole.keypoints)
            is_other = (crop.image != whole.image).any(axis=2)
            yield len(np.unique(crop.image[is_other].reshape(-1, 3), axis=0))

    assert max(differences(flat)) == 1
    assert (
        sum(count > 5 for count in differences(peopled)) >= 4
    )  # some show one picture over the same picture


def test_coarse_crops_lose_their_detail_but_not_their_labels(people, arrow):
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    cv2.imwrite(str(people[1] / "1.png"), noise)
    settings = replace(STILL, coarse_chance=1.0, coarse_share=(0.25, 0.25))
    half_of_them = replace(settings, coarse_chance=0.5)

    plain, coarse = (crops_of(maker_of(people, arrow, one), 8) for one in (STILL, settings))
    mixed = crops_of(maker_of(people, arrow, half_of_them), 60)

    def detail(crop):
        return np.abs(np.diff(crop.image.astype(int), n=2, axis=1)).mean()

    assert max(map(detail, coarse)) < 0.3 * min(map(detail, plain))
    for one, other in zip(plain, coarse, strict=True):
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
        assert one.image.shape == other.image.shape
    middle = (detail(plain[0]) + detail(coarse[0])) / 2
    assert 15 < sum(detail(crop) < middle for crop in mixed) < 45


def test_other_settings_draw_from_the_same_people(people, arrow):
    maker = maker_of(people, arrow)

    other = maker.with_settings(replace(STILL, padding=2.0))

    assert len(other) == len(maker)
    assert np.ptp(crops_of(other, 1)[0].keypoints[:, 0]) == pytest.approx(
        np.ptp(crops_of(maker, 1)[0].keypoints[:, 0]) / 2, rel=1e-3
    )


def test_missing_and_broken_pictures_are_named(people, arrow):
    maker = maker_of(people, arrow)
    picture = people[1] / "1.png"
    picture.write_bytes(b"no picture")

    with pytest.raises(DatasetError, match=r"cannot read the picture .*1\.png: it is missing or broken"):
        crops_of(maker, 1)
    picture.unlink()
    with pytest.raises(DatasetError, match=r"1 of 1 pictures are missing"):
        maker.check_pictures()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"padding": 0}, r"crops\.padding must be above 0"),
        ({"scale": (2, 1)}, r"crops\.scale must be a lowest and a highest above 0"),
        ({"cutout_share": (0, 1)}, r"crops\.cutout_share must be a lowest and a highest above 0"),
        ({"shift": -1}, r"crops\.shift must be at least 0"),
        ({"rotation_deg": -1}, r"crops\.rotation_deg must be at least 0"),
        ({"turn_chance": 1.5}, r"crops\.turn_chance must be from 0 to 1"),
        ({"cut_chance": 2}, r"crops\.cut_chance must be from 0 to 1"),
        ({"cutout_people": 2}, r"crops\.cutout_people must be from 0 to 1"),
        ({"part_chance": -0.5}, r"crops\.part_chance must be from 0 to 1"),
        ({"light": 2}, r"crops\.light must be from 0 to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        CropSettings(**setting)

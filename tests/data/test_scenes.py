import json
import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fleetpose.data.paste import PasteSettings
from fleetpose.data.scenes import SceneMaker, SceneSettings, Source
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.geometry import PADDING
from fleetpose.skeletons import Skeleton

SIZE = (90, 120)
#: (x, y) of tip, left end and right end; one person per picture.
PEOPLE = (
    np.array([(58.25, 30.5), (40.5, 60.75), (75.0, 55.25)]),
    np.array([(70.0, 40.25), (50.5, 58.5), (45.25, 35.0)]),
    np.array([(60.5, 62.0), (44.0, 40.5), (72.75, 44.25)]),
)
DARK = SceneSettings(light=0)


@pytest.fixture
def spots(draw_spots, write_coco):
    """Annotation file and folder of three pictures with a person of bright spots each."""
    annotations = [
        {
            "id": number,
            "image_id": number,
            "category_id": 1,
            "keypoints": [value for x, y in points for value in (x, y, 2)],
            "bbox": [30, 20, 60, 50],
        }
        for number, points in enumerate(PEOPLE, start=1)
    ]
    return write_coco([draw_spots(points, SIZE, sigma=2.5) for points in PEOPLE], annotations)


@pytest.fixture
def maker_of(spots, arrow):
    """Function that makes scenes of the pictures of spots."""

    def make(settings=DARK, **source):
        return SceneMaker([Source(images=spots[1], annotations=spots[0], **source)], arrow, settings)

    return make


@pytest.mark.parametrize("is_single_person", [False, True])
@pytest.mark.parametrize("tiles", [(1, 0, 0), (0, 1, 0), (0, 0, 1)], ids=["whole", "halves", "quarters"])
def test_bright_spots_and_keypoints_meet_in_every_scene(maker_of, spot_centre, tiles, is_single_person):
    settings = SceneSettings(tiles=tiles, light=0, zoom=(0.9, 1.6), person_share=(0.5, 1.2))
    maker = maker_of(settings, is_single_person=is_single_person)
    errors, swapped = [], 0

    for seed in range(14):
        scene = maker.make(np.random.default_rng(seed), (180, 200))
        for person in scene.keypoints:
            for keypoint in np.flatnonzero(person[:, 2]):
                point = person[keypoint, :2]
                if not is_undisturbed(scene.image, point):
                    continue
                # A mirrored person has swapped sides: where its left end is, the right one's spot was drawn.
                channel = scene.image[tuple(np.rint(point[::-1]).astype(int))].argmax()
                swapped += channel != keypoint
                assert {channel, keypoint} in ({0}, {1}, {2}, {1, 2})
                errors.append(np.abs(spot_centre(scene.image, channel, point) - point).max())

    assert len(errors) > 20
    assert swapped > 3
    assert np.quantile(errors, 0.8) < 0.1  # the seam of a mosaic may cut through the others
    assert max(errors) < 3


def is_undisturbed(image, point, radius=9):
    """Whether neither padding nor the edge of the scene lies around a point."""
    x, y = np.rint(point).astype(int)
    window = image[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
    return window.shape[:2] == (2 * radius + 1, 2 * radius + 1) and not (window.min(axis=2) > 90).any()


def test_a_scene_follows_from_its_number_alone(maker_of):
    first, second = maker_of(SceneSettings()), maker_of(SceneSettings())
    first.make(np.random.default_rng(1), (64, 64))

    scenes = [maker.make(np.random.default_rng(5), (64, 64)) for maker in (first, second)]

    np.testing.assert_array_equal(scenes[0].image, scenes[1].image)
    np.testing.assert_array_equal(scenes[0].keypoints, scenes[1].keypoints)


def test_a_maker_that_was_sent_to_another_process_draws_the_same(maker_of):
    maker = maker_of(SceneSettings())

    copy = pickle.loads(pickle.dumps(maker))  # noqa: S301

    scenes = [each.make(np.random.default_rng(5), (64, 64)) for each in (maker, copy)]
    np.testing.assert_array_equal(scenes[0].image, scenes[1].image)


def test_a_mosaic_joins_people_of_several_pictures_and_keeps_them_in_their_tiles(maker_of):
    maker = maker_of(SceneSettings(tiles=(0, 0, 1), light=0, zoom=(0.8, 0.8), shift=0, rotation_deg=0))

    people = [len(maker.make(np.random.default_rng(seed), (180, 200)).keypoints) for seed in range(5)]

    assert people == [4] * 5


def test_a_neighbouring_tile_hides_what_reaches_into_it(maker_of):
    settings = SceneSettings(tiles=(0, 1, 0), light=0, zoom=(2.5, 2.5), shift=0.3)
    maker = maker_of(settings)

    for seed in range(10):
        rng = np.random.default_rng(seed)
        scene = maker.make(rng, (100, 100))
        x, y, v = np.moveaxis(scene.keypoints, -1, 0)
        assert ((v == 0) | ((x >= -0.5) & (x < 99.5) & (y >= -0.5) & (y < 99.5))).all()
        assert (scene.boxes >= -0.5).all()
        assert (scene.boxes <= 99.5).all()
        widths = scene.boxes[:, 2] - scene.boxes[:, 0]
        assert (widths <= 0.62 * 100 + 1e-3).all()  # no tile is wider


@pytest.mark.parametrize("tiles", [(1, 0, 0), (0, 1, 0), (0, 0, 1)], ids=["whole", "halves", "quarters"])
def test_what_a_picture_asks_to_ignore_is_ignored_in_its_scene(write_coco, arrow, tiles):
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:, 60:] = 255
    crowd = {"id": 1, "image_id": 1, "iscrowd": 1, "segmentation": [[60, 0, 119, 0, 119, 89, 60, 89]]}
    annotations, images = write_coco([image], [crowd])
    settings = SceneSettings(tiles=tiles, light=0, zoom=(1.0, 1.3))
    maker = SceneMaker([Source(images=images, annotations=annotations)], arrow, settings)

    for seed in range(4):
        scene = maker.make(np.random.default_rng(seed), (100, 120))
        is_white, is_black = (scene.image == 255).all(axis=2), (scene.image == 0).all(axis=2)
        assert scene.counts[is_white].mean() < 0.02  # but for rounding along the edge
        assert scene.counts[is_black].mean() > 0.98


def test_a_lone_person_is_framed_by_the_share_asked_for(maker_of):
    settings = SceneSettings(tiles=(1, 0, 0), light=0, person_share=(0.5, 0.5), rotation_deg=0, shift=0)
    maker = maker_of(settings, is_single_person=True)

    for seed in range(5):
        scene = maker.make(np.random.default_rng(seed), (200, 160))
        (box,) = scene.boxes
        assert max(box[2:] - box[:2]) == pytest.approx(80, abs=0.5)
        np.testing.assert_allclose((box[:2] + box[2:]) / 2, (79.5, 99.5), atol=0.01)


def test_held_out_pictures_are_never_drawn(maker_of):
    maker = maker_of(held_out_every=2)

    assert len(maker) == 2  # of 1, 2 and 3


def test_a_source_may_leave_out_what_other_networks_doubt(maker_of, spots):
    labels = json.loads(spots[0].read_text())
    for annotation, agreement in zip(labels["annotations"], (0.9, 0.5, 0.4), strict=True):
        annotation |= {"agreement": agreement, "votes": [1, 1, 0]}
    spots[0].write_text(json.dumps(labels))

    maker = maker_of(is_single_person=True, least_agreement=0.5, least_votes=1)

    assert len(maker) == 2
    for seed in range(5):
        scene = maker.make(np.random.default_rng(seed), (90, 120))
        # Whoever is mirrored has swapped sides.
        assert sorted(scene.is_known.sum(axis=1)) in ([2] * len(scene.is_known), [])


@pytest.fixture
def with_outlines(spots):
    """The pictures of spots, each person with an outline."""
    labels = json.loads(spots[0].read_text())
    for annotation in labels["annotations"]:
        annotation["segmentation"] = [[25, 15, 95, 15, 95, 75, 25, 75]]
    spots[0].write_text(json.dumps(labels))
    return Source(images=spots[1], annotations=spots[0])


def test_people_are_pasted_into_scenes_where_the_settings_say_so(with_outlines, arrow):
    calm = SceneSettings(tiles=(1, 0, 0), light=0, zoom=(1, 1), rotation_deg=0, shift=0)
    pasting = replace(calm, paste=PasteSettings(chance=1, most=1, hidden=1, light=0, size=(0.4, 0.6)))
    maker = SceneMaker([with_outlines], arrow, calm, has_outlines=True)

    plain = [maker.make(np.random.default_rng(seed), (90, 120)) for seed in range(6)]
    pasted = [maker.with_settings(pasting).make(np.random.default_rng(seed), (90, 120)) for seed in range(6)]

    assert {len(scene.keypoints) for scene in plain} == {1}
    assert sum(len(scene.keypoints) == 2 for scene in pasted) >= 4
    for before, after in zip(plain, pasted, strict=True):
        np.testing.assert_array_equal(after.keypoints[0, :, :2], before.keypoints[0, :, :2])
        if len(after.keypoints) == 2:
            x1, y1, x2, y2 = np.rint(after.boxes[1]).astype(int)
            outside = np.ones((90, 120), bool)
            outside[max(y1 - 3, 0) : y2 + 3, max(x1 - 3, 0) : x2 + 3] = False
            np.testing.assert_array_equal(after.image[outside], before.image[outside])
            assert (after.image != before.image).any()


def test_pasted_people_come_from_sources_by_weight(with_outlines, arrow, tmp_path):
    labels = json.loads(with_outlines.annotations.read_text())
    for annotation in labels["annotations"]:
        annotation["segmentation"] = [[25, 45, 95, 45, 95, 55, 25, 55]]  # a flat strip
    flat = replace(with_outlines, annotations=tmp_path / "flat.json", weight=9)
    flat.annotations.write_text(json.dumps(labels))
    settings = SceneSettings(tiles=(1, 0, 0), zoom=(1, 1), shift=0, rotation_deg=0)
    settings = replace(settings, paste=PasteSettings(chance=1, most=1, hidden=1, rotation_deg=0))

    maker = SceneMaker([with_outlines, flat], arrow, settings)

    pasted = [maker.make(np.random.default_rng(seed), (200, 200)).boxes[1:] for seed in range(40)]
    heights, widths = np.array([[box[3] - box[1], box[2] - box[0]] for boxes in pasted for box in boxes]).T
    assert len(heights) >= 20
    assert 0.75 <= (heights < 0.5 * widths).mean() < 1


def test_scenes_without_pasting_are_the_same_whether_or_not_outlines_were_read(with_outlines, arrow):
    makers = [SceneMaker([with_outlines], arrow, has_outlines=has_outlines) for has_outlines in (False, True)]

    scenes = [maker.make(np.random.default_rng(5), (64, 64)) for maker in makers]

    np.testing.assert_array_equal(scenes[0].image, scenes[1].image)


def test_pasting_needs_outlines(maker_of, with_outlines, arrow):
    pasting = SceneSettings(paste=PasteSettings())

    with pytest.raises(ConfigError, match="only by a maker with has_outlines"):
        SceneMaker([with_outlines], arrow).with_settings(pasting)
    with_outlines.annotations.write_text(
        with_outlines.annotations.read_text().replace("segmentation", "something")
    )
    with pytest.raises(DatasetError, match="nobody can be cut out"):
        maker_of(pasting)


def test_sources_are_drawn_by_weight(spots, arrow, tmp_path):
    negatives = tmp_path / "negatives"
    negatives.mkdir()
    cv2.imwrite(str(negatives / "white.png"), np.full((50, 50, 3), 255, np.uint8))
    sources = [Source(images=spots[1], annotations=spots[0], weight=1), Source(images=negatives, weight=3)]
    maker = SceneMaker(sources, arrow, SceneSettings(tiles=(1, 0, 0), light=0, zoom=(1, 1), shift=0))

    empty = [len(maker.make(np.random.default_rng(seed), (32, 32)).keypoints) == 0 for seed in range(200)]

    assert np.mean(empty) == pytest.approx(0.75, abs=0.08)


def test_a_mixture_without_weight_or_pictures_is_refused(maker_of, arrow):
    with pytest.raises(DatasetError, match="at least one source with a weight above 0"):
        SceneMaker([], arrow)
    with pytest.raises(DatasetError, match="at least one source with a weight above 0"):
        maker_of(weight=0)
    with pytest.raises(DatasetError, match="leaves no picture to train on"):
        maker_of(held_out_every=1)


def test_a_missing_picture_is_found_before_training(maker_of, spots):
    maker = maker_of()
    (spots[1] / "2.png").unlink()

    with pytest.raises(DatasetError, match=r"1 of 3 pictures are missing, the first is .*2\.png"):
        maker.check_pictures()


def test_other_settings_draw_from_the_same_pictures(maker_of, spots):
    maker = maker_of(SceneSettings(tiles=(1, 0, 0)))
    spots[0].unlink()  # labels are not read again

    other = maker.with_settings(SceneSettings(tiles=(0, 0, 1)))

    assert len(other) == 3
    assert maker.settings.tiles == (1, 0, 0)
    assert other.settings.tiles == (0, 0, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SceneSettings(tiles=(0, 0, 0)), "scenes.tiles must be chances"),
        (lambda: SceneSettings(tiles=(-1, 2, 0)), "scenes.tiles must be chances"),
        (lambda: SceneSettings(zoom=(2.0, 1.0)), "scenes.zoom must be a lowest and a highest"),
        (
            lambda: SceneSettings(person_share=(0.0, 1.0)),
            "scenes.person_share must be a lowest and a highest",
        ),
        (lambda: SceneSettings(rotation_deg=-1), "scenes.rotation_deg must be at least 0"),
        (lambda: SceneSettings(light=2), "scenes.light must be from 0 to 1"),
        (lambda: Source(images="x", weight=-1), "a source needs a finite weight and a held_out_every"),
        (lambda: Source(images="x", weight=float("nan")), "a finite weight .*got nan and 0 for x"),
        (lambda: Source(images="x", weight=float("inf")), "a finite weight .*got inf and 0 for x"),
        (lambda: Source(images="x", least_agreement=2), "least_agreement of a source must be from 0 to 1"),
        (lambda: Source(images="x", least_votes=-2), "least_votes of a source must be at least -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_an_edge_cuts_lone_people_off(write_coco):
    names = [f"p{number}" for number in range(10)]
    skeleton = Skeleton.from_dict({"name": "line", "keypoints": names, "sigmas": [0.05] * 10})
    points = np.stack([np.full(10, 60.0), np.linspace(10, 80, 10)], axis=1)
    picture = np.full((*SIZE, 3), 255, np.uint8)
    label = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "keypoints": [value for x, y in points for value in (x, y, 2)],
        "bbox": [40, 5, 40, 80],
    }
    labels, folder = write_coco([picture], [label], names=names)
    settings = SceneSettings(
        tiles=(1, 0, 0), person_share=(0.5, 0.9), rotation_deg=0, shift=0.1, light=0, cut_chance=1.0
    )
    source = Source(images=folder, annotations=labels, is_single_person=True)
    maker = SceneMaker([source], skeleton, settings)

    left, below, above = [], 0, 0
    for seed in range(40):
        person = maker.make(np.random.default_rng(seed), (100, 100)).keypoints[0]
        seen = person[person[:, 2] > 0]
        left.append(len(seen))
        below += bool(person[0, 2] and not person[-1, 2])
        above += bool(person[-1, 2] and not person[0, 2])
    whole = SceneMaker([source], skeleton, replace(settings, cut_chance=0.0))

    assert set(left) <= set(range(3, 11))
    assert sum(count < 10 for count in left) > 24  # an upright edge has nothing to cut off of this line
    assert below > 18
    assert above < 8
    assert all(
        (whole.make(np.random.default_rng(seed), (100, 100)).keypoints[0, :, 2] > 0).all()
        for seed in range(8)
    )


def test_pictures_without_people_are_seen_around_small_ones(spots, arrow, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    cv2.imwrite(str(empty / "sea.png"), np.full((50, 70, 3), (200, 30, 10), np.uint8))
    sources = [
        Source(images=spots[1], annotations=spots[0], is_single_person=True),
        Source(images=empty, weight=0.0),
    ]
    settings = SceneSettings(tiles=(1, 0, 0), person_share=(0.2, 0.2), light=0)
    bare, before_sea = (
        SceneMaker(sources, arrow, replace(settings, backdrop_chance=chance)).make(
            np.random.default_rng(0), (120, 120)
        )
        for chance in (0.0, 1.0)
    )

    is_padding = (bare.image == PADDING).all(axis=2)
    is_sea = (before_sea.image == (10, 30, 200)).all(axis=2)
    assert is_padding.mean() > 0.3
    # The sea lies where nothing did, and nobody is there; the person is left as it was.
    assert (is_sea == is_padding)[8:-8, 8:-8].mean() > 0.97
    assert (before_sea.counts[is_sea] == 1).all()
    assert (bare.counts[is_padding] == 0).mean() > 0.9
    np.testing.assert_array_equal(before_sea.keypoints, bare.keypoints)


@pytest.mark.parametrize("setting", ["cut_chance", "backdrop_chance"])
def test_chances_of_scenes_are_checked(setting):
    with pytest.raises(ConfigError, match=rf"scenes\.{setting} must be from 0 to 1, got 1\.5"):
        SceneSettings(**{setting: 1.5})

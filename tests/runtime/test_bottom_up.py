"""Scales, resize rules and second looks of a bottom-up model."""

from dataclasses import replace

import numpy as np
import pytest

from fleetpose.codecs.aggregate import AggregationSettings
from fleetpose.codecs.description import ModelDescription
from fleetpose.errors import ConfigError
from fleetpose.geometry import invert, keypoint_boxes, transform_points
from fleetpose.runtime.bottom_up import BottomUp, BottomUpSettings
from fleetpose.runtime.predictor import Predictor
from fleetpose.runtime.session import OnnxSession
from fleetpose.runtime.timing import Stopwatch
from fleetpose.runtime.zoom import ZoomSettings, zoom
from fleetpose.skeletons import COCO


class _Watching:
    """The fake network; remembers the sizes that it saw."""

    def __init__(self, path, *, has_tags=True):
        self._has_tags = has_tags
        session = OnnxSession(path, threads=1)
        self.description, self._session, self.sizes = session.description, session, []

    def run(self, image):
        self.sizes.append(image.shape[2:])
        maps = self._session.run(image)
        return maps if self._has_tags else {**maps, "tags_s4": 0 * maps["tags_s4"]}


def _settings(**changes):
    zoom_settings = changes.pop("zoom", None)
    has_canvas_of_64 = changes.pop("has_canvas_of_64", False)
    return BottomUpSettings(
        aggregation=AggregationSettings(**changes), zoom=zoom_settings, has_canvas_of_64=has_canvas_of_64
    )


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"scales": (0.5, 1.0, 2.0)}, [(160, 128), (320, 256), (640, 512)]),
        ({"scales": (0.5,)}, [(160, 128)]),
        ({"is_projected": True}, [(320, 256)]),
        ({"has_canvas_of_64": True}, [(320, 256)]),
        ({"scales": (1.0, 0.5), "has_canvas_of_64": True}, [(384, 256), (192, 128)]),
    ],
)
def test_people_are_found_where_they_stand_however_they_are_looked_at(
    dots_model, draw_dots, stick_person, settings, sizes
):
    person = stick_person + np.array([5, 20])
    network = _Watching(dots_model)

    result = Predictor(network, bottom_up=_settings(**settings))(draw_dots([person], (280, 246)))

    assert network.sizes == sizes
    assert len(result) == 1
    np.testing.assert_allclose(result.keypoints[0, :, :2], person, atol=1.0)


def test_the_flip_test_doubles_every_look(dots_model, draw_dots, stick_person):
    network = _Watching(dots_model)

    Predictor(network, has_flip_test=True, bottom_up=_settings(scales=(0.5, 1.0)))(draw_dots([stick_person]))

    assert network.sizes == [(128, 128)] * 2 + [(256, 256)] * 2


def test_a_codec_that_joins_no_scales_says_so(fake_description):
    class Network:
        description = replace(fake_description, codec={"type": "other"})

    with pytest.raises(ConfigError, match="model dots decodes by other, which joins no scales"):
        BottomUp(Network(), object(), threshold=0.1, settings=_settings(scales=(0.5, 1.0)))


class _Recording:
    """A network that finds nothing; remembers its canvas."""

    def __init__(self, description):
        self.description = description

    def run(self, image):
        self.canvas = image
        return {}


class _Nobody:
    def decode(self, outputs):
        del outputs
        return np.zeros((0, 17, 3), np.float32), np.zeros(0, np.float32)


@pytest.mark.parametrize(
    ("image_size", "min_side", "canvas_size", "top_left"),
    [
        ((64, 80), 1, (64, 96), (0, 8)),
        ((64, 80), 96, (96, 96), (16, 8)),
        ((80, 64), 96, (96, 96), (8, 16)),
        ((80, 64), 128, (128, 128), (24, 32)),
    ],
)
def test_the_picture_lies_in_the_middle_and_the_models_colour_around_it(
    fake_description, image_size, min_side, canvas_size, top_left
):
    # Nothing is normalised, so that the canvas holds the colours themselves.
    given = replace(
        fake_description.input,
        short_side=64,
        multiple=32,
        min_side=min_side,
        padding=(10, 200, 30),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    network = _Recording(ModelDescription.from_json(replace(fake_description, input=given).to_json()))
    image = np.random.default_rng(0).integers(0, 256, (*image_size, 3), dtype=np.uint8)

    BottomUp(network, _Nobody(), threshold=0.1).find(image, Stopwatch())

    expected = np.full((*canvas_size, 3), (10, 200, 30), np.uint8)
    (top, left), (h, w) = top_left, image_size
    expected[top : top + h, left : left + w] = image
    np.testing.assert_array_equal(network.canvas[0].transpose(1, 2, 0), expected)


def test_zooming_finds_small_people_more_exactly(dots_model, draw_dots, stick_person):
    person = stick_person + np.array([301, 202])
    image = draw_dots([person], (600, 700))
    network = _Watching(dots_model, has_tags=False)

    coarse = Predictor(network)(image)
    fine = Predictor(network, bottom_up=_settings(zoom=ZoomSettings()))(image)

    errors = [np.abs(result.keypoints[0, :, :2] - person).max() for result in (coarse, fine)]
    assert len(fine) == 1
    assert errors[1] < 0.6
    assert errors[1] < errors[0] / 2
    assert fine.scores[0] > coarse.scores[0]


def test_zooming_looks_at_square_canvases_of_the_networks_size(dots_model, draw_dots, stick_person):
    network = _Watching(dots_model)

    Predictor(network, bottom_up=_settings(zoom=ZoomSettings()))(draw_dots([stick_person], (300, 400)))

    assert network.sizes == [(256, 352), (256, 256)]


SIZE = (400, 600)


def _person(score, *, shift=0.0):
    rng = np.random.default_rng(0)
    points = rng.uniform([100, 100], [200, 300], (17, 2))
    points[:, 0] += shift
    return np.column_stack([points, np.full(17, score)]).astype(np.float32)


def _zoom(people, found, **settings):
    """Zoom on `people`, where every second look finds `found`."""
    looks = []

    def look(affine, size):
        looks.append((affine, size))
        return np.array(found, np.float32).reshape(-1, 17, 3), np.array(
            [person[:, 2].mean() for person in found], np.float32
        )

    keypoints = np.array(people, np.float32)
    result = zoom(
        keypoints,
        keypoints[..., 2].mean(axis=1),
        look=look,
        image_size=SIZE,
        sigmas=COCO.sigmas,
        canvas_side=256,
        settings=ZoomSettings(**settings),
    )
    return *result, looks


@pytest.mark.parametrize("fill", [0.7, 0.9])
def test_a_persons_longer_side_fills_its_share_of_the_canvas(fill):
    person = _person(0.5)

    _, _, ((affine, size),) = _zoom([person], [], fill=fill)

    box = keypoint_boxes(person[None], SIZE)[0]
    low, high = transform_points(box.reshape(2, 2), affine)
    assert size == (256, 256)
    assert (high - low).max() == pytest.approx(fill * 256)
    np.testing.assert_allclose((low + high) / 2, 127.5, atol=1e-3)


@pytest.mark.parametrize(("second", "expected"), [(0.9, 0.9), (0.4, 0.5)])
def test_the_surer_of_both_looks_stays(second, expected):
    keypoints, scores, _ = _zoom([_person(0.5)], [_person(second, shift=3)])

    np.testing.assert_allclose(scores, [expected])
    np.testing.assert_allclose(keypoints[0], _person(expected, shift=3 if second > 0.5 else 0))


def test_the_second_look_may_always_be_taken():
    _, scores, _ = _zoom([_person(0.5)], [_person(0.4, shift=3)], is_best_kept=False)

    np.testing.assert_allclose(scores, [0.4])


def test_of_several_in_the_cut_out_the_one_in_the_persons_place_is_taken():
    keypoints, _, _ = _zoom([_person(0.5)], [_person(0.95, shift=60), _person(0.9, shift=5)])

    np.testing.assert_allclose(keypoints[0], _person(0.9, shift=5))


def test_somebody_elsewhere_is_not_taken_for_the_person():
    keypoints, _, _ = _zoom([_person(0.5)], [_person(0.95, shift=300)])

    np.testing.assert_allclose(keypoints[0], _person(0.5))


def test_two_halves_of_one_person_become_one():
    upper, lower = _person(0.5), _person(0.4)
    upper[:8, 2] = 0.3
    lower[8:, 2] = 0.3

    keypoints, scores, looks = _zoom([upper, lower], [_person(0.9)])

    assert len(looks) == 2
    assert len(keypoints) == len(scores) == 1


def test_only_the_surest_are_looked_at_again():
    people = [_person(0.7, shift=390), _person(0.9), _person(0.8, shift=200)]

    keypoints, scores, looks = _zoom(people, [], max_people=2)

    middles = [invert(affine) @ [127.5, 127.5, 1] for affine, _ in looks]
    assert [round(float(x)) // 200 for x, _ in middles] == [0, 1]
    assert len(keypoints) == 3
    np.testing.assert_allclose(scores, [0.9, 0.8, 0.7])


@pytest.mark.parametrize("settings", [{"fill": 0}, {"fill": 1.1}, {"min_overlap": 0}, {"max_people": 0}])
def test_wrong_settings_are_named(settings):
    with pytest.raises(ConfigError, match=f"zoom.{next(iter(settings))} must be"):
        ZoomSettings(**settings)

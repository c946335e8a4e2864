"""People found in boxes, on a fake network that answers coloured dots."""

from dataclasses import replace

import numpy as np
import pytest

from fleetpose.codecs.top_down import TopDownCodec
from fleetpose.errors import ConfigError, ShapeError
from fleetpose.geometry import flip_boxes, flip_points
from fleetpose.media.images import write_image
from fleetpose.media.video import VideoWriter
from fleetpose.results import PoseResult
from fleetpose.runtime.predictor import Predictor, load
from fleetpose.runtime.session import OnnxSession
from fleetpose.runtime.timing import Stopwatch
from fleetpose.runtime.top_down import TopDown, TopDownSettings, boxes_around, check_boxes, rescore
from fleetpose.skeletons import COCO

SIZE = (256, 400)


@pytest.fixture(scope="module")
def predictor(crop_dots_model):
    return load(crop_dots_model, threshold=0.0, threads=1)


@pytest.fixture
def two_people(stick_person):
    """So far apart that neither's crop shows the other."""
    return np.array([stick_person, stick_person + np.array([250, 20])])


def _boxes(people, *, margin=8):
    people = np.asarray(people, float)
    return np.concatenate([people.min(axis=1) - margin, people.max(axis=1) + margin], axis=1)


def _by_x(result):
    return result.keypoints[np.argsort(result.keypoints[:, :, 0].mean(axis=1))]


def test_people_are_found_in_their_boxes_in_pixels_of_the_picture(predictor, draw_dots, two_people):
    result = predictor(draw_dots(two_people, SIZE), boxes=_boxes(two_people))

    assert len(result) == 2
    assert result.image_size == SIZE
    np.testing.assert_allclose(_by_x(result)[..., :2], two_people, atol=0.5)
    assert result.keypoints[..., 2].min() > 0.5
    assert list(result.timings_ms) == ["decode", "resize", "network", "grouping"]


def test_the_given_boxes_are_returned_cut_to_the_picture(predictor, draw_dots, stick_person):
    box = np.array([[-30.0, 4.0, 110.0, 300.0]])

    result = predictor(draw_dots([stick_person]), boxes=box)

    assert result.boxes.tolist() == [[-0.5, 4.0, 110.0, 255.5]]
    np.testing.assert_allclose(result.keypoints[0, :, :2], stick_person, atol=0.7)


@pytest.mark.parametrize("factor", [0.5, 3])
def test_small_and_large_people_are_brought_to_the_crops_size(predictor, draw_dots, stick_person, factor):
    person = (stick_person + 0.5) * factor - 0.5
    image = draw_dots([person], (int(300 * factor), int(400 * factor)), radius=round(6 * factor))

    result = predictor(image, boxes=_boxes([person]))

    np.testing.assert_allclose(result.keypoints[0, :, :2], person, atol=0.6 * max(factor, 1))


def test_the_order_of_the_boxes_changes_nothing(predictor, draw_dots, two_people):
    image, boxes = draw_dots(two_people, SIZE), _boxes(two_people)

    plain, permuted = predictor(image, boxes=boxes), predictor(image, boxes=boxes[::-1])

    np.testing.assert_array_equal(_by_x(plain), _by_x(permuted))


def test_the_mirrored_picture_has_mirrored_people(predictor, draw_dots, two_people):
    image, boxes = draw_dots(two_people, SIZE), _boxes(two_people)

    plain = predictor(image, boxes=boxes)
    mirrored = predictor(np.ascontiguousarray(image[:, ::-1]), boxes=flip_boxes(boxes, SIZE[1]))

    np.testing.assert_allclose(_by_x(mirrored), flip_points(_by_x(plain), SIZE[1])[::-1], atol=0.02)


def test_scores_are_the_boxes_times_those_of_clear_keypoints(predictor, draw_dots, two_people):
    image = draw_dots(two_people, SIZE)
    boxes = np.column_stack([_boxes(two_people), [0.3, 0.9]])

    result = predictor(image, boxes=boxes)

    assert result.keypoints[0, :, 0].mean() > 200  # the surer box comes first
    expected = np.array([0.9, 0.3]) * result.keypoints[..., 2].mean(axis=1)
    np.testing.assert_allclose(result.scores, expected, rtol=1e-5)


def test_faint_keypoints_do_not_count_in_the_score():
    keypoints = np.zeros((3, 4, 3))
    keypoints[0, :, 2] = [0.9, 0.7, 0.2, 0.1]
    keypoints[1, :, 2] = 0.2

    scores = rescore(keypoints, np.array([0.5, 1, 1]), above=0.2)

    np.testing.assert_allclose(scores, [0.4, 0, 0])


def test_expected_similarities_of_all_keypoints_count_in_the_score(crop_dots_model, draw_dots, two_people):
    network = OnnxSession(crop_dots_model, threads=1)
    about = network.description
    codec = TopDownCodec(
        fields=about.fields, input_size=(256, 192), decoding="expected_oks", sigmas=about.skeleton.sigmas
    )
    image = draw_dots(two_people, SIZE)
    boxes = np.column_stack([_boxes(two_people), [0.3, 0.9]]).astype(np.float32)
    image[:60, 250:] = 0  # without head or arms

    result = TopDown(network, codec).find(image, boxes, Stopwatch())

    squares = np.square(result.keypoints[..., 2])
    assert (squares.min(axis=1) < 0.01).any()
    order = np.argsort(-result.keypoints[:, :, 0].mean(axis=1))
    box_scores = np.where(order.argsort() == 0, 0.9, 0.3)
    np.testing.assert_allclose(result.scores, np.sqrt(box_scores * squares.mean(axis=1)), rtol=1e-5)


def test_a_person_in_two_boxes_is_one(predictor, draw_dots, two_people):
    boxes = np.concatenate([_boxes(two_people), _boxes(two_people, margin=12)])
    boxes = np.column_stack([boxes, [0.5, 0.9, 0.6, 0.8]])

    result = predictor(draw_dots(two_people, SIZE), boxes=boxes)

    assert len(result) == 2
    np.testing.assert_allclose(result.boxes, boxes[[1, 2], :4])


def test_people_below_the_threshold_are_left_out(crop_dots_model, draw_dots, two_people):
    boxes = np.column_stack([_boxes(two_people), [0.1, 1]])

    result = load(crop_dots_model, threshold=0.3)(draw_dots(two_people, SIZE), boxes=boxes)

    assert len(result) == 1
    assert result.keypoints[0, :, 0].mean() > 200


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), np.zeros((0, 5))])
def test_no_boxes_give_an_empty_result(predictor, boxes):
    result = predictor(np.zeros((60, 80, 3), np.uint8), boxes=boxes)

    assert (len(result), result.image_size) == (0, (60, 80))


@pytest.mark.parametrize("size", [(1, 1), (300, 2), (33, 31)])
def test_boxes_of_any_size_on_any_picture_give_a_result(predictor, size):
    boxes = [[0, 0, 0, 0], [-500, -500, 900, 900], [1000, 1000, 1001, 1001]]

    result = predictor(np.full((*size, 3), 255, np.uint8), boxes=boxes)

    assert result.image_size == size


def test_without_boxes_the_whole_picture_is_one_person(crop_dots_model, draw_dots, stick_person):
    image = draw_dots([stick_person], (226, 120))
    predictor = load(crop_dots_model, threads=1, has_closer_look=False)

    result = predictor(image)

    np.testing.assert_allclose(result.keypoints[0, :, :2], stick_person, atol=0.6)
    assert 0 < result.boxes[0, 0] < 20  # around the keypoints, not the frame
    np.testing.assert_array_equal(predictor(image, boxes="whole").keypoints, result.keypoints)


def test_the_person_of_a_whole_picture_is_looked_at_twice_one_in_a_given_box_once(
    crop_dots_model, draw_dots, stick_person
):
    image = draw_dots([stick_person], (270, 170))
    given = _boxes([stick_person])
    calls, people = {}, {}
    for boxes in ("whole", given):
        for has_closer_look in (None, True, False):
            network = _SideAware(OnnxSession(crop_dots_model))
            predictor = Predictor(network, boxes=boxes, has_closer_look=has_closer_look)
            people[str(boxes), has_closer_look] = predictor(image).keypoints[0, :, :2]
            calls[str(boxes), has_closer_look] = len(network.seen)

    assert [calls["whole", chosen] for chosen in (None, True, False)] == [2, 2, 1]
    assert [calls[str(given), chosen] for chosen in (None, True, False)] == [1, 2, 1]
    for found in people.values():
        np.testing.assert_allclose(found, stick_person, atol=1.5)
    once, twice = (np.abs(people["whole", chosen] - stick_person).mean() for chosen in (False, None))
    assert twice < once  # the person fills more of the second crop


def test_a_callable_is_asked_for_boxes_of_each_picture(crop_dots_model, draw_dots, stick_person, tmp_path):
    seen = []

    def detector(image):
        seen.append(image)
        return _boxes([stick_person])

    found = load(crop_dots_model, boxes=detector, threads=1)
    with VideoWriter(tmp_path / "clip.mp4") as writer:
        for _ in range(2):
            writer.add(draw_dots([stick_person]))

    results = [found(draw_dots([stick_person])), *found.stream(tmp_path / "clip.mp4")]

    assert [image.shape for image in seen] == [(256, 256, 3)] * 3
    for result in results:
        np.testing.assert_allclose(result.keypoints[0, :, :2], stick_person, atol=1.5)
        assert list(result.timings_ms) == ["decode", "boxes", "resize", "network", "grouping"]


def test_a_list_of_pictures_may_share_boxes(predictor, draw_dots, stick_person, tmp_path):
    write_image(tmp_path / "a.png", draw_dots([stick_person]))

    first, second = predictor([tmp_path / "a.png", draw_dots([stick_person])], boxes=_boxes([stick_person]))

    assert (first.source, second.source) == (str(tmp_path / "a.png"), None)
    np.testing.assert_array_equal(first.keypoints, second.keypoints)


class _Counting:
    """A session that notes how many crops it was shown each time."""

    def __init__(self, session):
        self.description, self.takes_batches = session.description, session.takes_batches
        self._session, self.seen = session, []

    def run(self, image):
        self.seen.append(len(image))
        return self._session.run(image)

    def run_batch(self, images):
        self.seen.append(len(images))
        return self._session.run_batch(images)


def _crowd(stick_person, count):
    """People who stand in each other's way, so that every crop differs."""
    people = [stick_person + np.array([30 * number, 3 * number]) for number in range(count)]
    return np.array(people), (340, 200 + 30 * count)


@pytest.mark.parametrize("has_flip_test", [False, True])
def test_people_in_batches_are_those_found_one_by_one(
    crop_dots_model, crop_dots_batch_model, draw_dots, stick_person, has_flip_test
):
    people, size = _crowd(stick_person, 11)
    image, boxes = draw_dots(people, size), _boxes(people)
    sessions = [_Counting(OnnxSession(path)) for path in (crop_dots_model, crop_dots_batch_model)]

    alone, together = (
        Predictor(session, threshold=0.0, has_flip_test=has_flip_test)(image, boxes=boxes)
        for session in sessions
    )

    looks = 2 if has_flip_test else 1
    assert [session.seen for session in sessions] == [[1] * 11 * looks, [8] * looks + [3] * looks]
    assert len(together) == len(alone) > 8
    np.testing.assert_allclose(together.keypoints, alone.keypoints, rtol=0, atol=1e-5)
    np.testing.assert_allclose(together.scores, alone.scores, rtol=0, atol=1e-6)
    assert list(together.timings_ms) == list(alone.timings_ms) == ["decode", "resize", "network", "grouping"]


def test_one_person_needs_no_batch(crop_dots_batch_model, draw_dots, stick_person):
    session = OnnxSession(crop_dots_batch_model)

    result = Predictor(session, threshold=0.0)(draw_dots([stick_person]), boxes=_boxes([stick_person]))

    np.testing.assert_allclose(result.keypoints[0, :, :2], stick_person, atol=0.5)


class _SideAware:
    """The fake network, but on mirrored crops it names sides as a real one would.

    Every second crop is a mirrored one, or all from the number `mirrored_from` on.
    """

    def __init__(self, session, *, mirrored_from=None):
        self.description, self._session, self.seen = session.description, session, []
        self._mirrored_from = mirrored_from

    def run(self, image):
        number, first = len(self.seen), self._mirrored_from
        self.seen.append(image)
        maps = self._session.run(image)
        swap = self.description.skeleton.flip_permutation
        is_mirrored = number % 2 if first is None else number >= first
        return {name: values[swap] for name, values in maps.items()} if is_mirrored else maps


def test_the_flip_test_finds_the_same_people_in_mirrored_crops(crop_dots_model, draw_dots, two_people):
    network = _SideAware(OnnxSession(crop_dots_model))

    result = Predictor(network, has_flip_test=True)(draw_dots(two_people, SIZE), boxes=_boxes(two_people))

    np.testing.assert_allclose(_by_x(result)[..., :2], two_people, atol=0.4)
    assert len(network.seen) == 4
    np.testing.assert_array_equal(network.seen[1], network.seen[0][..., ::-1])


def test_the_shift_of_the_flip_test_moves_people_by_half_a_cell(crop_dots_model, draw_dots, stick_person):
    session = OnnxSession(crop_dots_model)
    codec = {**session.description.codec, "has_flip_shift": True}
    network = _SideAware(session)
    network.description = replace(session.description, codec=codec)
    box = [[-0.5, -0.5, 191.5, 255.5]]  # with the padding, 1.25 pixels of the picture per pixel of the crop

    result = Predictor(network, has_flip_test=True)(draw_dots([stick_person]), boxes=box)

    difference = result.keypoints[0, :, :2] - stick_person
    np.testing.assert_allclose(difference.mean(axis=0), [0.5 * 4 * 1.25, 0], atol=0.2)


def _looking_twice(network):
    codec = TopDownCodec.from_description(network.description)
    return TopDown(network, codec, settings=TopDownSettings(has_closer_look=True))


def test_the_closer_look_is_framed_by_the_keypoints_and_mirrored(crop_dots_model, draw_dots, stick_person):
    network = _SideAware(OnnxSession(crop_dots_model))
    image = draw_dots([stick_person], SIZE)
    wide = check_boxes(_boxes([stick_person], margin=40))
    around = _boxes([stick_person])[0]

    result = _looking_twice(network).find(image, wide, Stopwatch())

    np.testing.assert_allclose(result.keypoints[0, :, :2], stick_person, atol=1.0)
    first, second = network.seen
    assert (second > 1.5).sum() > 1.3 * (first > 1.5).sum()  # the dots fill more of the crop
    np.testing.assert_allclose(result.boxes[0], around, atol=12)
    assert list(result.timings_ms) == ["resize", "network", "grouping"]
    again = _SideAware(OnnxSession(crop_dots_model))
    again.seen.append(None)  # a first look that is taken for a mirrored one
    flipped = _looking_twice(again).find(
        np.ascontiguousarray(image[:, ::-1]), check_boxes(flip_boxes(wide, SIZE[1])), Stopwatch()
    )
    np.testing.assert_allclose(
        flip_points(flipped.keypoints[0][network.description.skeleton.flip_permutation], SIZE[1])[:, :2],
        stick_person,
        atol=1.0,
    )


def test_a_closer_look_at_hardly_anything_keeps_its_frame(crop_dots_model, draw_dots, stick_person):
    network = _SideAware(OnnxSession(crop_dots_model))
    image = draw_dots([stick_person], SIZE)
    image[13:] = 0  # less than four dots are nobody to be framed
    box = check_boxes(_boxes([stick_person]))

    result = _looking_twice(network).find(image, box, Stopwatch())

    np.testing.assert_array_equal(network.seen[1], network.seen[0][..., ::-1])
    assert result.boxes.tolist() == box[:, :4].tolist()


class _SeesOnce:
    """The fake network, whose maps are empty but for the call that it is told of."""

    def __init__(self, session, call):
        self.description, self._side_aware, self._call = session.description, _SideAware(session), call

    def run(self, image):
        maps = self._side_aware.run(image)
        if len(self._side_aware.seen) - 1 == self._call:
            return maps
        return {name: np.zeros_like(values) for name, values in maps.items()}


@pytest.mark.parametrize("call", [0, 1])
def test_what_only_one_of_two_looks_saw_is_found_where_it_is(call, crop_dots_model, draw_dots, stick_person):
    network = _SeesOnce(OnnxSession(crop_dots_model), call)
    wide = check_boxes(
        _boxes([stick_person], margin=40)
    )  # so that the frames differ where the first one sees

    result = _looking_twice(network).find(draw_dots([stick_person], SIZE), wide, Stopwatch())

    np.testing.assert_allclose(result.keypoints[0, :, :2], stick_person, atol=2.5)


def test_only_those_who_are_left_are_looked_at_once_more(crop_dots_model, draw_dots, stick_person):
    network = _SideAware(OnnxSession(crop_dots_model), mirrored_from=2)
    twice = np.repeat(check_boxes(_boxes([stick_person])), 2, axis=0)
    twice[:, 4] = 0.4, 1.0

    result = _looking_twice(network).find(draw_dots([stick_person], SIZE), twice, Stopwatch())

    assert len(network.seen) == 3
    assert len(result) == 1
    np.testing.assert_allclose(result.keypoints[0, :, :2], stick_person, atol=1.0)


def test_nobody_is_looked_at_twice_where_nobody_is(crop_dots_model):
    network = _SideAware(OnnxSession(crop_dots_model))

    result = _looking_twice(network).find(np.zeros((*SIZE, 3), np.uint8), check_boxes([]), Stopwatch())

    assert len(result) == 0
    assert network.seen == []


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (np.zeros((2, 3)), r"boxes must be of shape \[N, 4\].*got \(2, 3\)"),
        (np.zeros(4), r"boxes must be of shape \[N, 4\]"),
        ([[0, 0, np.nan, 1]], "finite numbers"),
        ([[5, 0, 4, 1]], "turned inside out"),
        ([[0, 0, 4, 1, 1.5]], "scores of boxes must be from 0 to 1, but got 1.5"),
    ],
)
def test_what_is_no_box_is_refused(predictor, boxes, message):
    with pytest.raises(ShapeError, match=message):
        predictor(np.zeros((9, 9, 3), np.uint8), boxes=boxes)


def test_a_word_that_says_nothing_is_refused(crop_dots_model):
    with pytest.raises(ConfigError, match="boxes must be an array, a callable or 'whole', got 'hole'"):
        load(crop_dots_model, boxes="hole")


def test_scores_of_found_people_draw_together_and_few_pixels_make_them_less_sure(stick_person):
    points = np.stack([0.5 * stick_person, stick_person, 20 * stick_person])
    found = PoseResult(
        keypoints=np.concatenate([points, np.ones((3, 17, 1))], axis=2).astype(np.float32),
        boxes=np.zeros((3, 4), np.float32),
        scores=np.array([0.25, 0.81, 0.25], np.float32),
        image_size=(10_000, 10_000),
        skeleton=COCO,
    )

    boxes = boxes_around(found)

    areas = np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1)
    assert areas[1] < 256**2 < areas[2]
    expected = np.array([0.5, 0.9, 0.5]) * np.minimum(areas / 256**2, 1) ** 0.3
    np.testing.assert_allclose(boxes[:, 4], expected, rtol=1e-5)


def test_boxes_without_score_are_sure():
    assert check_boxes([[0, 1, 2, 3]]).tolist() == [[0, 1, 2, 3, 1]]
    assert check_boxes([[0, 1, 2, 3, 0.25]]).tolist() == [[0, 1, 2, 3, 0.25]]


def test_models_and_settings_that_do_not_go_together_are_refused(crop_dots_model, dots_model):
    image = np.zeros((9, 9, 3), np.uint8)

    with pytest.raises(ConfigError, match="model dots is bottom-up and takes no boxes"):
        load(dots_model, boxes="whole")
    with pytest.raises(ConfigError, match="model dots is bottom-up and takes no boxes"):
        load(dots_model)(image, boxes="whole")
    with pytest.raises(ConfigError, match="model dots is bottom-up and takes no boxes"):
        load(dots_model, refine=crop_dots_model)(image, boxes="whole")
    with pytest.raises(ConfigError, match="crop-dots is top-down and sees crops of one size"):
        load(crop_dots_model, short_side=128)
    with pytest.raises(ConfigError, match="crop-dots is top-down and finds nobody by itself"):
        load(crop_dots_model, refine=crop_dots_model)
    with pytest.raises(ConfigError, match="dots is bottom-up and a closer look is a top-down model's"):
        load(dots_model, has_closer_look=True, threads=1)
    with pytest.raises(ConfigError, match="model dots is bottom-up and refines nobody"):
        load(dots_model, refine=dots_model)

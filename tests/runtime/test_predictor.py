import threading
from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image as Pil

import fleetpose
from fleetpose.errors import CheckpointError, ConfigError, MediaError, ShapeError, UnknownNameError
from fleetpose.media.images import write_image
from fleetpose.media.video import VideoWriter
from fleetpose.runtime.canvas import normalise
from fleetpose.runtime.predictor import Predictor, load
from fleetpose.runtime.session import OnnxSession


@pytest.fixture
def two_people(stick_person):
    """One in each half of a picture of 256 pixels; the fake network tells them apart by that."""
    return [stick_person, stick_person + np.array([128, 20])]


def _by_x(result):
    return result.keypoints[np.argsort(result.keypoints[:, :, 0].mean(axis=1))]


def test_people_are_found_where_they_stand(dots_predictor, draw_dots, two_people):
    result = dots_predictor(draw_dots(two_people))

    assert len(result) == 2
    assert result.image_size == (256, 256)
    assert result.skeleton.name == "coco17"
    np.testing.assert_allclose(_by_x(result)[..., :2], two_people, atol=0.4)
    assert result.keypoints[..., 2].min() > 0.5
    assert (np.abs(np.diff(result.scores)) < 0.05).all()


@pytest.mark.parametrize(("factor", "atol"), [(3, 1.2), (0.5, 0.5)])
def test_keypoints_are_in_pixels_of_the_original_picture(
    dots_predictor, draw_dots, stick_person, factor, atol
):
    # The picture's short side is brought to 256 pixels, where dots have the size the network knows.
    size = (int(256 * factor), int(400 * factor))
    person = (stick_person + 0.5) * factor - 0.5
    image = draw_dots([person], size, radius=round(6 * factor))

    result = dots_predictor(image)

    assert result.image_size == size
    np.testing.assert_allclose(result.keypoints[0, :, :2], person, atol=atol)


def test_a_tall_picture_on_a_padded_canvas_keeps_its_pixels(dots_predictor, draw_dots, stick_person):
    person = stick_person + np.array([20, 90])

    result = dots_predictor(draw_dots([person], (347, 260)))

    np.testing.assert_allclose(result.keypoints[0, :, :2], person, atol=0.6)


def test_boxes_hold_the_keypoints_and_stay_on_the_picture(dots_predictor, draw_dots, two_people):
    result = dots_predictor(draw_dots(two_people))

    points = result.keypoints[..., :2]
    assert (points >= result.boxes[:, None, :2]).all()
    assert (points <= result.boxes[:, None, 2:]).all()
    assert result.boxes.min() >= -0.5
    assert result.boxes.max() <= 255.5


def test_a_path_an_array_and_a_pil_image_give_the_same(dots_predictor, draw_dots, two_people, tmp_path):
    image = draw_dots(two_people)
    write_image(tmp_path / "a.png", image)

    results = dots_predictor([tmp_path / "a.png", str(tmp_path / "a.png"), image, Pil.fromarray(image)])

    assert [result.source for result in results] == [str(tmp_path / "a.png")] * 2 + [None] * 2
    for result in results:
        np.testing.assert_array_equal(result.keypoints, results[0].keypoints)


def test_bgr_arrays_are_understood_when_named_so(dots_predictor, draw_dots, two_people):
    image = draw_dots(two_people)

    right = dots_predictor(image[..., ::-1], color="bgr")
    wrong = dots_predictor(image[..., ::-1])

    np.testing.assert_array_equal(right.keypoints, dots_predictor(image).keypoints)
    assert not np.allclose(wrong.keypoints, right.keypoints, atol=20)


def test_grey_and_transparent_arrays_are_taken(dots_predictor, draw_dots, two_people):
    image = draw_dots(two_people)
    transparent = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])

    assert len(dots_predictor(np.zeros((50, 60), np.uint8))) == 0
    assert len(dots_predictor(np.zeros((50, 60, 1), np.uint8))) == 0
    assert len(dots_predictor(transparent)) == 2


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (12_000, 30), (33, 31)])
def test_a_picture_of_any_size_gives_a_result(dots_predictor, size):
    result = dots_predictor(np.zeros((*size, 3), np.uint8))

    assert len(result) == 0
    assert result.image_size == size


def test_a_picture_without_people_gives_an_empty_result(dots_predictor):
    result = dots_predictor(np.zeros((64, 64, 3), np.uint8))

    assert result.keypoints.shape == (0, 17, 3)
    assert result.boxes.shape == (0, 4)


def test_people_below_the_threshold_are_left_out(dots_model, draw_dots, two_people):
    image = draw_dots(two_people)
    image[170:, 128:] = 0  # hides ankles and knees of the right person

    everyone = load(dots_model, threshold=0.0)(image)
    surest = load(dots_model, threshold=float(everyone.scores.mean()))(image)

    assert len(everyone) == 2
    assert len(surest) == 1
    assert surest.keypoints[0, :, 0].mean() < 128


def test_a_person_on_the_padding_alone_is_left_out_and_others_are_clipped(fake_description):
    # A picture of 256 x 100 pixels lies centred on a canvas of 672 x 256: 8 rows of padding above and below.
    keypoints = np.zeros((2, 17, 3), np.float32)
    keypoints[0, 5] = (100, 2, 0.9)
    keypoints[1, 5] = (100, 2, 0.9)
    keypoints[1, 6] = (100, 330, 0.8)
    network = _Network(fake_description)
    predictor = Predictor(network, threshold=0.0)
    predictor._finder._codec = _Codec(keypoints)

    result = predictor(np.zeros((256, 100, 3), np.uint8))

    assert len(result) == 1
    assert result.keypoints[0, 5].tolist() == [
        pytest.approx((100.5) / 2.56 - 0.5, abs=0.01),
        0.0,
        pytest.approx(0.9),
    ]
    assert result.keypoints[0, 0].tolist() == [0, 0, 0]


class _Network:
    def __init__(self, description):
        self.description = description
        self.seen = []

    def run(self, image):
        self.seen.append(image)
        return {}


class _Codec:
    def __init__(self, keypoints):
        self.keypoints = keypoints

    def decode(self, outputs):
        del outputs
        return self.keypoints, self.keypoints[..., 2].mean(axis=1)


def test_the_network_sees_normalised_rgb_on_a_padded_canvas(fake_description):
    network = _Network(fake_description)
    predictor = Predictor(network)
    predictor._finder._codec = _Codec(np.zeros((0, 17, 3), np.float32))

    predictor(np.full((256, 250, 3), (150, 140, 65), np.uint8))

    (tensor,) = network.seen
    assert tensor.shape == (1, 3, 288, 256)
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor[0, :, 144, 128], [2.0, 1.0, -1.0], atol=1e-5)
    padding = (np.array([124, 116, 104]) - [90, 20, 140]) / [30, 120, 75]
    np.testing.assert_allclose(tensor[0, :, 2, 128], padding, atol=1e-5)


def test_normalising_equals_its_formula(fake_description):
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    settings = fake_description.input

    tensor = normalise(image, settings)

    expected = (image.astype(float) - settings.mean) / settings.std
    np.testing.assert_allclose(tensor[0].transpose(1, 2, 0), expected, atol=1e-5)


def test_the_short_side_can_be_chosen(fake_description):
    network = _Network(fake_description)
    predictor = Predictor(network, short_side=128)
    predictor._finder._codec = _Codec(np.zeros((0, 17, 3), np.float32))

    predictor(np.zeros((480, 640, 3), np.uint8))

    assert network.seen[0].shape == (1, 3, 128, 192)
    with pytest.raises(ConfigError, match="short_side must be at least 1 pixel, got 0"):
        Predictor(network, short_side=0)


class _SideAware:
    """The fake network, but on every second call it names sides as a real one would on a mirrored picture."""

    def __init__(self, session):
        self.description, self._session, self._calls = session.description, session, 0

    def run(self, image):
        maps = self._session.run(image)
        self._calls += 1
        if self._calls % 2:
            return maps
        swap = self.description.skeleton.flip_permutation
        return {name: values[swap] for name, values in maps.items()}


def test_the_flip_test_finds_the_same_people(dots_model, draw_dots, two_people):
    image = draw_dots(two_people)

    result = Predictor(_SideAware(OnnxSession(dots_model)), has_flip_test=True)(image)

    assert len(result) == 2
    np.testing.assert_allclose(_by_x(result)[..., :2], two_people, atol=0.3)


def test_the_flip_test_runs_the_network_on_the_mirrored_picture(fake_description, draw_dots, stick_person):
    class Maps(_Network):
        def run(self, image):
            self.seen.append(image)
            h, w = image.shape[2:]
            return {
                field.name: np.zeros((17, h // field.stride, w // field.stride), np.float32)
                for field in self.description.fields
            }

    network = Maps(fake_description)

    Predictor(network, has_flip_test=True)(draw_dots([stick_person]))

    plain, mirrored = network.seen
    np.testing.assert_array_equal(mirrored, plain[..., ::-1])


def test_each_step_is_timed(dots_predictor, draw_dots, two_people):
    result = dots_predictor(draw_dots(two_people))

    assert list(result.timings_ms) == ["decode", "resize", "network", "grouping"]
    assert min(result.timings_ms.values()) >= 0
    assert result.timings_ms["network"] > 0


@pytest.fixture
def clip(tmp_path, draw_dots, stick_person):
    """Twelve frames of a person walking right by four pixels a frame, 12.5 frames per second."""
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, fps=12.5) as writer:
        for index in range(12):
            writer.add(draw_dots([stick_person + np.array([4 * index - 15, 0])]))
    return path


def test_a_video_streams_one_result_per_frame(dots_predictor, clip, stick_person):
    results = list(dots_predictor.stream(clip))

    assert [result.frame_index for result in results] == list(range(12))
    assert [result.timestamp_s for result in results] == pytest.approx([i / 12.5 for i in range(12)])
    assert {result.source for result in results} == {str(clip)}
    assert list(results[0].timings_ms) == ["decode", "resize", "network", "grouping"]
    for index in (0, 5, 8):
        found = results[index].keypoints[0, :, :2]
        np.testing.assert_allclose(found, stick_person + np.array([4 * index - 15, 0]), atol=1.5)


def test_a_stream_reads_only_what_is_asked_for(dots_predictor, clip):
    stream = dots_predictor.stream(clip)

    assert next(stream).frame_index == 0
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("video")]


def test_a_broken_video_streams_what_is_there_and_then_says_so(dots_predictor, clip):
    with av.open(str(clip)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.size]
    clip.write_bytes(clip.read_bytes()[: positions[8]])
    results = []

    with pytest.raises(MediaError, match="is damaged"):
        results.extend(dots_predictor.stream(clip))
    assert len(results) > 3


def test_a_missing_file_is_an_error_and_not_an_empty_result(dots_predictor):
    with pytest.raises(MediaError, match=r"cannot read nothing\.jpg: No such file"):
        dots_predictor("nothing.jpg")
    with pytest.raises(MediaError, match="no such file"):
        next(dots_predictor.stream("nothing.mp4"))


def test_an_array_of_floats_is_refused(dots_predictor):
    with pytest.raises(ShapeError, match="float64"):
        dots_predictor(np.zeros((4, 4, 3)))


def test_an_unknown_codec_is_named(fake_description):
    odd = replace(fake_description, codec={"type": "associative_embeding"})

    with pytest.raises(UnknownNameError, match="did you mean associative_embedding"):
        Predictor(_Network(odd))


def test_the_package_loads_a_model_by_path(dots_model):
    predictor = fleetpose.load(dots_model)

    assert isinstance(predictor, fleetpose.Predictor)
    assert predictor.description.name == "dots"
    assert len(predictor.skeleton) == 17


def test_a_path_that_leads_nowhere_is_an_error():
    with pytest.raises(CheckpointError, match=r"cannot read the model no\.onnx: no such file"):
        load("no.onnx")


def test_threads_reach_the_runtime(dots_model):
    session = OnnxSession(dots_model, threads=3)

    assert session._session.get_session_options().intra_op_num_threads == 3

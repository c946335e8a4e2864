"""Boxes without a detector: from files, and from the people of a bottom-up model."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pil

from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.codecs.top_down import TopDownCodec
from fleetpose.errors import DatasetError, MediaError
from fleetpose.geometry import fit_box, keypoint_boxes, transform_points
from fleetpose.runtime.cascade import BoxTable, coco_boxes, read_boxes
from fleetpose.runtime.predictor import Predictor, load
from fleetpose.runtime.session import OnnxSession
from fleetpose.skeletons import COCO
from fleetpose.weights import DEFAULT_MODEL, DEFAULT_REFINER


@pytest.fixture
def coco_file(tmp_path):
    """Function that writes JSON and returns its path."""

    def write(data):
        path = tmp_path / "boxes.json"
        path.write_text(json.dumps(data), encoding="utf-8")
        return path

    return write


IMAGES = [{"id": 1, "file_name": "a.png"}, {"id": 7, "file_name": "folder/b.png"}]


def test_the_people_of_a_bottom_up_model_are_refined_by_a_top_down_one(
    dots_model, crop_dots_model, draw_dots, stick_person
):
    people = [stick_person, stick_person + np.array([256, 20])]
    # Dots look the same in a mirror, so this network would take one side for the other in a closer look.
    cascade = load(dots_model, refine=crop_dots_model, threads=1, has_closer_look=False)

    result = cascade(draw_dots(people, (256, 400)))

    assert cascade.description.name == "crop-dots"
    assert len(result) == 2
    found = result.keypoints[np.argsort(result.keypoints[:, :, 0].mean(axis=1))]
    np.testing.assert_allclose(found[..., :2], people, atol=0.5)
    assert list(result.timings_ms) == ["decode", "resize", "network", "grouping"]


def test_the_cascade_finds_again_what_the_first_look_was_too_coarse_for(
    dots_model, crop_dots_model, draw_dots, stick_person
):
    person = (stick_person + 0.5) * 3 - 0.5
    image = draw_dots([person], (800, 600), radius=18)

    coarse = load(dots_model, short_side=128, threads=1)(image)
    refined = load(dots_model, short_side=128, refine=crop_dots_model, threads=1, has_closer_look=False)(
        image
    )

    errors = [np.abs(result.keypoints[0, :, :2] - person).max() for result in (coarse, refined)]
    assert errors[1] < 2
    assert errors[1] < 0.8 * errors[0]


def test_the_default_is_the_bundled_pair_and_a_named_model_stands_alone(
    dots_model, crop_dots_model, tmp_path, monkeypatch
):
    for name, source in ((DEFAULT_MODEL, dots_model), (DEFAULT_REFINER, crop_dots_model)):
        (tmp_path / f"{name}.onnx").write_bytes(source.read_bytes())
    monkeypatch.setattr("fleetpose.weights.FOLDER", tmp_path)

    names = [load(threads=1).name, load(DEFAULT_MODEL, threads=1).name, load(max_ms=1e6, threads=1).name]

    assert names == ["dots + crop-dots", "dots", "dots + crop-dots"]


def test_the_people_of_a_pair_are_looked_at_twice_unless_told_otherwise(
    dots_model, crop_dots_model, draw_dots, stick_person
):
    image = draw_dots([stick_person, stick_person + np.array([256, 20])], (256, 400))
    found = {}
    for has_closer_look in (None, True, False):
        network = _Mirrored(OnnxSession(crop_dots_model))
        extra = {} if has_closer_look is None else {"has_closer_look": has_closer_look}
        found[has_closer_look] = Predictor(OnnxSession(dots_model), refiner=network, **extra)(image), network

    assert [network.count for _, network in found.values()] == [4, 4, 2]
    np.testing.assert_array_equal(found[None][0].keypoints, found[True][0].keypoints)
    for result, _ in found.values():
        assert len(result) == 2


class _Mirrored:
    """The fake network; it names sides as a real one would: the second half of its crops are mirrored."""

    def __init__(self, session):
        self.description, self._session, self.count = session.description, session, 0

    def run(self, image):
        self.count += 1
        maps = self._session.run(image)
        swap = self.description.skeleton.flip_permutation
        return {name: values[swap] for name, values in maps.items()} if self.count > 2 else maps


def test_refined_people_below_the_threshold_are_left_out(
    dots_model, crop_dots_model, draw_dots, stick_person
):
    image = draw_dots([stick_person], (256, 400))
    kept, left_out = (
        load(dots_model, refine=crop_dots_model, threads=1, threshold=0.1)(image),
        Predictor(OnnxSession(dots_model), refiner=_Faint(OnnxSession(crop_dots_model)), threshold=0.1)(
            image
        ),
    )

    assert len(kept) == 1
    assert len(left_out) == 0


class _Faint:
    """The fake network, a tenth as sure."""

    def __init__(self, session):
        self.description, self._session = session.description, session

    def run(self, image):
        return {name: values * 0.1 for name, values in self._session.run(image).items()}


def test_nobody_found_is_nobody_refined(dots_model, crop_dots_model):
    result = load(dots_model, refine=crop_dots_model, threads=1)(np.zeros((64, 64, 3), np.uint8))

    assert len(result) == 0


class _Same:
    """A network that gives the same maps whatever it sees."""

    def __init__(self, description, maps):
        self.description = description
        self._maps = maps

    def run(self, image):
        del image
        return self._maps


class _Found:
    """A codec that finds the same people whatever the maps."""

    def __init__(self, people, scores=(0.9, 0.9)):
        self._people = people
        self._scores = np.array(scores, np.float32)

    def decode(self, outputs):
        del outputs
        return self._people, self._scores


@pytest.mark.parametrize(("similarity", "people"), [(0.88, 1), (0.74, 1), (0.66, 2), (0.6, 2)])
def test_refined_people_are_one_above_a_similarity_of_seven_tenths(
    fake_description, stick_person, similarity, people
):
    # The same maps in crops some pixels apart are the same person, some pixels apart.
    person = np.column_stack([stick_person + np.array([50, 20]), np.ones(17)]).astype(np.float32)
    other = person + np.array([_apart(stick_person, similarity), 0, 0], np.float32)
    predictor = _predictor_of(fake_description, _Found(np.stack([person, other])))

    result = predictor(np.zeros((256, 256, 3), np.uint8))

    assert len(result) == people
    np.testing.assert_allclose(result.keypoints[0, :, :2], person[:, :2], atol=0.5)


# A quarter of the area makes the box 0.66 times as sure, and the root of 0.6 / 0.9 is 0.82: together 0.54.
@pytest.mark.parametrize(("score", "people"), [(0.5, 1), (0.6, 2)])
def test_refined_people_within_one_who_is_more_than_twice_as_sure_are_dropped(
    fake_description, stick_person, score, people
):
    person = np.column_stack([stick_person + np.array([50, 20]), np.ones(17)]).astype(np.float32)
    squeezed = person * np.array([0.5, 0.5, 1], np.float32)
    squeezed[:, :2] += person[:, :2].mean(axis=0) / 2
    predictor = _predictor_of(fake_description, _Found(np.stack([person, squeezed]), (0.9, score)))

    result = predictor(np.zeros((256, 256, 3), np.uint8))

    assert len(result) == people
    np.testing.assert_allclose(result.keypoints[0, :, :2], person[:, :2], atol=0.5)


def _predictor_of(fake_description, found):
    """Cascade whose second look sees the first of the found people, as large as the crop, in every crop."""
    description = replace(
        fake_description,
        fields=(Field(FieldKind.HEATMAPS, 17, stride=4),),
        codec={"type": "top_down", "input_size": [256, 192], "kernel_cells": 5},
    )
    people, _ = found.decode({})
    codec = TopDownCodec.from_description(description)
    affine = fit_box(keypoint_boxes(people[:1], (256, 256))[0], codec.input_size, padding=codec.box_padding)
    in_crop = np.column_stack([transform_points(people[0, :, :2], affine), np.full(17, 2)])
    predictor = Predictor(
        _Same(fake_description, {}),
        refiner=_Same(description, codec.encode(in_crop.astype(np.float32))),
        has_closer_look=False,
    )
    predictor._finder._finder._codec = found
    return predictor


def _apart(person, similarity):
    """How many pixels apart two such people have this object keypoint similarity."""
    distances = np.linspace(0, 60, 6001)
    spread = 2 * np.ptp(person, axis=0).prod() * (2 * np.array(COCO.sigmas)) ** 2
    alike = np.exp(-(distances[:, None] ** 2) / spread).mean(axis=1)
    return distances[np.argmin(np.abs(alike - similarity))]


def test_annotations_give_boxes_by_file_name(coco_file):
    annotations = [
        {"image_id": 7, "bbox": [10, 20, 30, 40], "score": 0.5},
        {"image_id": 7, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        {"image_id": 7, "bbox": [0, 0, 6, 6], "keypoints": [0, 0, 0, 0, 0, 0]},
        {"image_id": 7, "bbox": [0, 0, 7, 7], "keypoints": [0, 0, 0, 3, 3, 1]},
    ]

    table = read_boxes(coco_file({"images": IMAGES, "annotations": annotations}))

    expected = [[9.5, 19.5, 39.5, 59.5, 0.5], [-0.5, -0.5, 6.5, 6.5, 1]]
    assert table.of("elsewhere/b.png").tolist() == expected
    assert table.of("a.png").shape == (0, 5)


def test_annotations_without_boxes_give_those_around_their_keypoints():
    person = {"image_id": 7, "keypoints": [20, 30, 2, 0, 0, 0, 60, 130, 1]}

    boxes = coco_boxes(
        {"images": IMAGES, "annotations": [person, {"image_id": 7, "keypoints": []}]}, source="x"
    )

    found = boxes.of("b.png")
    assert found.shape == (1, 5)
    around = keypoint_boxes(np.reshape(person["keypoints"], (1, 3, 3)).astype(float), (400, 400))
    np.testing.assert_allclose(found[:, :4], around)


def test_results_of_a_detector_need_the_names_of_the_pictures(coco_file):
    path = coco_file(
        [{"image_id": 1, "bbox": [0, 0, 10, 10], "score": 0.25}, {"image_id": 9, "bbox": [0] * 4}]
    )

    table = read_boxes(path, names={1: "a.png"})

    assert table.of("a.png").tolist() == [[-0.5, -0.5, 9.5, 9.5, 0.25]]
    with pytest.raises(DatasetError, match="numbers but no names of pictures"):
        read_boxes(path)


def test_a_picture_that_the_file_does_not_list_is_named():
    table = BoxTable({"a.png": []}, source="boxes.json")

    with pytest.raises(MediaError, match=r"no boxes for x/c\.png in boxes\.json"):
        table.of("x/c.png")
    with pytest.raises(MediaError, match="no boxes for a picture without name"):
        table.of(None)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"images": []}, "holds no boxes"),
        ([{"image_id": 1, "bbox": [1, 2]}], "a row of picture 1 has no bbox of 4 numbers"),
        ([{"image_id": 1}], "a row of picture 1 has no bbox of 4 numbers"),
    ],
)
def test_files_without_boxes_are_refused(coco_file, data, message):
    with pytest.raises(DatasetError, match=message):
        read_boxes(coco_file(data), names={1: "a.png"})


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "broken.json").write_text("[", encoding="utf-8")

    with pytest.raises(DatasetError, match=r"cannot read boxes .*none\.json: No such file"):
        read_boxes(tmp_path / "none.json")
    with pytest.raises(DatasetError, match=r"broken\.json is no valid JSON"):
        read_boxes(tmp_path / "broken.json")


def test_pictures_of_one_name_cannot_be_told_apart():
    images = [{"id": 1, "file_name": "x/a.png"}, {"id": 2, "file_name": "y/a.png"}]

    with pytest.raises(DatasetError, match="share a file name"):
        coco_boxes({"images": images, "annotations": []}, source="labels")


def test_files_with_pixels_as_stored_find_their_boxes_by_name(
    crop_dots_model, draw_dots, stick_person, tmp_path
):
    path = tmp_path / "a.jpg"
    exif = Pil.Exif()
    exif[0x0112] = 6  # viewers turn it by a quarter
    Pil.fromarray(draw_dots([stick_person])).save(path, quality=95, exif=exif)
    box = [*(stick_person.min(axis=0) - 8), *(stick_person.max(axis=0) + 8)]
    predictor = load(crop_dots_model, boxes=BoxTable({"a.jpg": [box]}, source="labels"), threads=1)

    result = predictor.find_as_stored(path)

    assert result.source == str(path)
    np.testing.assert_allclose(result.keypoints[0, :, :2], stick_person, atol=1)

"""Scores of a network while it trains: which there are is known before."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

from dataclasses import replace

from fleetpose.errors import ConfigError, DatasetError
from fleetpose.recipes.scores import _segment, validator
from fleetpose.recipes.top_down_first import recipe
from fleetpose.skeletons import COCO, Skeleton
from fleetpose.train.config import PictureSet, ValidationSet

PERSON = {
    "id": 10,
    "image_id": 1,
    "category_id": 1,
    "iscrowd": 0,
    "bbox": [0, 0, 40, 40],
    "area": 900.0,
    "num_keypoints": 17,
    "keypoints": [20, 20, 2] * 17,
}


ROAD = {"id": 1, "file_name": "1.png", "semantic_file": "1_mask.png"}


def write_labels(folder, *people):
    """Annotations of one picture, which is there."""
    (folder / "1.png").touch()
    data = {
        "images": [{"id": 1, "file_name": "1.png", "height": 40, "width": 40}],
        "annotations": people,
        "categories": [{"id": 1, "keypoints": list(COCO.keypoints)}],
    }
    (folder / "labels.json").write_text(json.dumps(data))
    return folder / "labels.json"


def write_folders(folder, *classes):
    """A folder of one picture for each class."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        (folder / name / "1.png").touch()


@pytest.fixture
def config(tmp_path):
    """Settings with a validation set whose files are there."""
    labels = write_labels(tmp_path, PERSON)
    mine = ValidationSet(name="mine", annotations=labels, images=tmp_path)
    return replace(recipe(tmp_path), validation=(mine,))


def test_a_best_by_that_is_no_score_is_refused_before_training(config):
    with pytest.raises(ConfigError, match="best_by must be one of mine/AP, mine/AP50, mine/PCK, got coco/AP"):
        validator(replace(config, best_by="coco/AP"))


@pytest.mark.parametrize("best_by", ["", "mine/PCK", "image_folder/top1", "synth/mIoU"])
def test_a_best_by_that_is_a_score_is_taken(config, tmp_path, best_by):
    write_folders(tmp_path / "classes" / "val", "cat", "dog")
    (tmp_path / "synth.json").write_text(json.dumps({"images": [ROAD]}))
    given = {
        "image_folder": (PictureSet("image_folder", tmp_path / "classes", split="val"),),
        "synth": (PictureSet("synth", tmp_path / "synth.json"),),
    }
    pictures = given.get(best_by.partition("/")[0], ())

    settings = replace(config, best_by=best_by, pictures=pictures, validation_pictures=pictures)
    assert validator(settings) is not None


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ([], "nobody in its 1 pictures has a labelled keypoint of coco17, so that nothing can be scored"),
        ([PERSON | {"iscrowd": 1}], "nobody in its 1 pictures"),
        ([PERSON | {"keypoints": [20, 20, 0] * 17, "num_keypoints": 0}], "nobody in its 1 pictures"),
        ([PERSON | {"keypoints": [20, 20, 2] * 16}], "annotation 10 has 48 keypoint numbers"),
        ([PERSON | {"keypoints": ["a", "b", 2] * 17}], "annotation 10 has keypoints that are no numbers"),
        ([{name: value for name, value in PERSON.items() if name != "area"}], "annotation 10 lacks area"),
    ],
)
def test_labels_that_cannot_be_scored_are_refused_before_training(config, tmp_path, people, message):
    write_labels(tmp_path, *people)

    with pytest.raises(DatasetError, match=rf"validation set mine: \S*labels\.json: {message}"):
        validator(config)


def test_a_broken_file_of_labels_is_refused_before_training(config, tmp_path):
    labels = tmp_path / "labels.json"
    labels.write_text(labels.read_text()[:-20])

    with pytest.raises(DatasetError, match=r"validation set mine: \S*labels\.json is no valid JSON"):
        validator(config)


def test_an_every_that_keeps_no_picture_is_refused_before_training(config):
    with pytest.raises(DatasetError, match=r"mine: .* lists no picture whose id is a multiple of 7$"):
        validator(replace(config, validation=(replace(config.validation[0], every=7),)))


def test_a_missing_picture_is_named_before_training(config, tmp_path):
    (tmp_path / "1.png").unlink()

    with pytest.raises(DatasetError, match=r"1 of the 1 pictures .* the first is 1\.png"):
        validator(config)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["cat"], "must have the classes of .*, in the same order; class 1 is nothing instead of dog"),
        (["cat", "cow", "dog"], "class 1 is cow instead of dog"),
        ([], "holds no picture; expected a folder per class"),
    ],
)
def test_pictures_of_other_classes_are_refused_before_training(config, tmp_path, classes, message):
    write_folders(tmp_path / "train", "cat", "dog")
    write_folders(tmp_path / "val", *classes)
    taught, checked = (PictureSet("image_folder", tmp_path, split=split) for split in ("train", "val"))
    settings = replace(config, pictures=(taught,), validation_pictures=(taught,))
    assert validator(settings) is not None

    with pytest.raises(DatasetError, match=rf"^validation pictures {tmp_path}.* {message}"):
        validator(replace(settings, validation_pictures=(checked,)))


def test_street_scenes_without_labels_are_refused_before_training(config, tmp_path):
    pictures = (PictureSet("cityscapes", tmp_path, split="val"),)

    with pytest.raises(DatasetError, match=f"^validation pictures {tmp_path}: "):
        validator(replace(config, pictures=pictures, validation_pictures=pictures))


@pytest.mark.parametrize(("learnt", "what"), [("", "people alone"), ("image_folder", "image_folder")])
def test_pictures_of_another_kind_are_refused_before_training(config, tmp_path, learnt, what):
    pictures = (PictureSet(learnt, tmp_path, split=""),) if learnt else ()
    streets = (PictureSet("cityscapes", tmp_path, split="val"),)

    with pytest.raises(ConfigError, match=f"are cityscapes, but .* learns from {what}; leave them out"):
        validator(replace(config, pictures=pictures, validation_pictures=streets))


def test_street_scenes_are_seen_undistorted():
    seen = []

    class Session:
        description = SimpleNamespace(
            fields=(SimpleNamespace(name="classes"),), input=SimpleNamespace(multiple=32)
        )

        def run(self, images):
            seen.append(images.shape[2:])
            return {"classes": images[0, :2, ::4, ::4]}

    classes = _segment(Session(), np.zeros((100, 200, 3), np.uint8), (64, 64))

    assert seen == [(64, 128)]
    assert classes.shape == (100, 200)


def test_keypoints_of_ones_own_are_found_among_those_of_the_labels(config, tmp_path):
    nose = Skeleton(name="one", keypoints=("nose",), limbs=(), flip_pairs=(), sigmas=(0.05,))
    assert validator(replace(config, skeleton=nose)) is not None

    write_labels(tmp_path, PERSON | {"keypoints": [0, 0, 0] + [20, 20, 2] * 16, "num_keypoints": 16})
    with pytest.raises(DatasetError, match="nobody in its 1 pictures has a labelled keypoint of one,"):
        validator(replace(config, skeleton=nose))


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        (("labels.json", "nowhere"), "{}/nowhere"),
        (("none.json", "."), "{}/none.json"),
        (("none.json", "nowhere"), "{0}/none.json and {0}/nowhere"),
    ],
)
def test_a_set_that_is_left_out_names_what_is_missing(config, tmp_path, caplog, files, missing):
    labels, images = (tmp_path / name for name in files)
    mine = ValidationSet(name="mine", annotations=labels, images=images)

    assert validator(replace(config, validation=(mine,))) is None

    expected = f"validation set mine is left out: {missing.format(tmp_path)} is missing"
    assert [record.getMessage() for record in caplog.records] == [expected]

"""Pictures with a class per pixel: what the label pictures of each data set mean, and how crops are drawn."""

import json

import cv2
import numpy as np
import pytest

from fleetpose.data.label_maps import (
    CAMVID_11,
    CAMVID_32,
    CITYSCAPES_CLASSES,
    CITYSCAPES_IDS,
    IGNORED,
    SYNTH,
)
from fleetpose.data.segmentation import (
    SegmentationCrops,
    SegmentationCropSettings,
    SegmentationSample,
    SegmentedPicture,
    crop,
    load_segmented,
    read_camvid,
    read_cityscapes,
    read_synth,
)
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.synth.mesh import Semantic

STILL = {"zoom": (1, 1), "is_mirrored_half": False, "light": 0}


def _write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image if image.ndim == 2 else image[..., ::-1])


def test_cityscapes_label_ids_become_the_19_classes_and_255(tmp_path):
    ids = np.array([[0, 7, 8, 11], [24, 25, 26, 33], [1, 10, 18, 29]], np.uint8)
    _write(tmp_path / "leftImg8bit/val/ulm/ulm_1_2_leftImg8bit.png", np.full((3, 4, 3), 9, np.uint8))
    _write(tmp_path / "gtFine/val/ulm/ulm_1_2_gtFine_labelIds.png", ids)

    (picture,) = read_cityscapes(tmp_path, split="val")

    sample = load_segmented(picture)
    assert sample.labels.tolist() == [[255, 0, 1, 2], [11, 12, 13, 18], [255, 255, 255, 255]]
    assert (sample.image == 9).all()


def test_cityscapes_train_ids_are_taken_where_they_were_made(tmp_path):
    _write(tmp_path / "leftImg8bit/train/ulm/a_leftImg8bit.png", np.zeros((1, 3, 3), np.uint8))
    _write(tmp_path / "gtFine/train/ulm/a_gtFine_labelIds.png", np.array([[7, 7, 7]], np.uint8))
    _write(tmp_path / "gtFine/train/ulm/a_gtFine_labelTrainIds.png", np.array([[18, 255, 3]], np.uint8))

    (picture,) = read_cityscapes(tmp_path)

    assert load_segmented(picture).labels.tolist() == [[18, 255, 3]]


def test_a_picture_without_labels_is_named(tmp_path):
    _write(tmp_path / "leftImg8bit/train/ulm/a_leftImg8bit.png", np.zeros((1, 3, 3), np.uint8))

    with pytest.raises(DatasetError, match=r"a_leftImg8bit\.png has no labels; .*labelIds"):
        read_cityscapes(tmp_path)
    with pytest.raises(DatasetError, match="holds no picture"):
        read_cityscapes(tmp_path, split="val")


def test_camvids_colours_become_11_or_31_classes(tmp_path):
    colours = [(128, 128, 128), (192, 0, 128), (192, 128, 64), (0, 0, 0), (1, 2, 3)]
    _write(tmp_path / "train/a.png", np.zeros((1, 5, 3), np.uint8))
    _write(tmp_path / "labels/a_L.png", np.array([colours], np.uint8))

    (few,) = read_camvid(tmp_path / "train", tmp_path / "labels")
    (all_,) = read_camvid(tmp_path / "train", tmp_path / "labels", label_map=CAMVID_32)

    labels = load_segmented(few).labels[0]
    assert [CAMVID_11.classes[k] for k in labels[:3]] == ["sky", "building", "pedestrian"]
    assert labels[3:].tolist() == [IGNORED, IGNORED]
    labels = load_segmented(all_).labels[0]
    assert [CAMVID_32.classes[k] for k in labels[:3]] == ["Sky", "Archway", "Child"]
    assert labels[3:].tolist() == [IGNORED, IGNORED]


def test_camvid_has_32_classes_in_11_groups():
    assert len(CAMVID_32.classes) == 32
    assert len(CAMVID_11.classes) == 11
    assert set(CAMVID_11.values) == set(CAMVID_32.values)


def test_camvids_grey_copies_hold_class_numbers(tmp_path):
    _write(tmp_path / "train/a.png", np.zeros((1, 3, 3), np.uint8))
    _write(tmp_path / "trainannot/a.png", np.array([[0, 10, 11]], np.uint8))

    (picture,) = read_camvid(tmp_path / "train", tmp_path / "trainannot")

    assert load_segmented(picture).labels.tolist() == [[0, 10, 255]]


def test_rendered_masks_become_the_classes_of_streets_where_there_are_such(tmp_path):
    values = [Semantic.HAIR, Semantic.SHOES, Semantic.WALL, Semantic.SKY, Semantic.VEGETATION, Semantic.ROAD]
    values += [Semantic.BUILDING, Semantic.GROUND, Semantic.UNKNOWN, Semantic.OBJECT]
    _write(tmp_path / "a.jpg", np.zeros((1, 10, 3), np.uint8))
    _write(tmp_path / "a.classes.png", np.array([values], np.uint8))
    record = {"id": 1, "file_name": "a.jpg", "semantic_file": "a.classes.png"}
    (tmp_path / "labels.json").write_text(json.dumps({"images": [record, {"id": 2, "file_name": "b.jpg"}]}))

    (picture,) = read_synth(tmp_path / "labels.json")

    labels = load_segmented(picture).labels[0].tolist()
    names = [CITYSCAPES_CLASSES[k] for k in labels[:7]]
    assert names == ["person", "person", "wall", "sky", "vegetation", "road", "building"]
    assert labels[7:] == [255, 255, 255]
    assert {Semantic(value).name for value in SYNTH.values} >= {s.name for s in Semantic if 0 < s < 10}


@pytest.mark.parametrize("record", [{"semantic_file": "m.png"}, {"file_name": "a.jpg", "semantic_file": 3}])
def test_rendered_pictures_whose_files_are_not_named_are_refused(tmp_path, record):
    (tmp_path / "labels.json").write_text(json.dumps({"images": [record]}))

    with pytest.raises(
        DatasetError, match=r"labels\.json names masks, but some of its pictures lack a file_name"
    ):
        read_synth(tmp_path / "labels.json")


def test_rendered_pictures_without_masks_say_how_to_get_them(tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}]}))

    with pytest.raises(DatasetError, match="--semantic"):
        read_synth(tmp_path / "labels.json")


def _picture(folder, image, labels):
    _write(folder / "a.png", image)
    _write(folder / "a_labels.png", labels)
    return SegmentedPicture(folder / "a.png", folder / "a_labels.png", CITYSCAPES_IDS)


def test_labels_of_another_size_or_kind_are_refused(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)

    with pytest.raises(DatasetError, match="has 3 rows and 4 columns"):
        load_segmented(_picture(tmp_path, image, np.zeros((3, 4), np.uint8)))
    with pytest.raises(DatasetError, match="must be a grey picture"):
        load_segmented(_picture(tmp_path, image, image))
    with pytest.raises(DatasetError, match="cannot read the labels"):
        load_segmented(SegmentedPicture(tmp_path / "a.png", tmp_path / "none.png", CITYSCAPES_IDS))


def _stripes(size=(40, 60)):
    """Picture of vertical stripes, 6 pixels wide, whose labels tell their brightness."""
    labels = np.broadcast_to(np.arange(size[1]) // 6 % 10, size).astype(np.uint8)
    return SegmentationSample(np.repeat(labels[..., None] * 25, 3, axis=2).astype(np.uint8), labels)


def test_picture_and_labels_move_together():
    settings = SegmentationCropSettings(size=(24, 32), zoom=(0.5, 2), light=0)
    for number in range(20):
        drawn = crop(_stripes(), settings, np.random.default_rng(number))

        shown = np.rint(drawn.image[..., 0] / 25)
        inside = drawn.labels != IGNORED
        # Only the blurred edges of stripes may differ.
        assert np.mean(np.abs(shown - drawn.labels)[inside] > 0.9) < 0.2
        assert drawn.image.shape == (24, 32, 3)


def test_a_crop_at_the_pictures_own_scale_is_a_part_of_it():
    stripes = _stripes()

    drawn = crop(stripes, SegmentationCropSettings(size=(40, 60), **STILL), np.random.default_rng(0))

    np.testing.assert_array_equal(drawn.image, stripes.image)
    np.testing.assert_array_equal(drawn.labels, stripes.labels)


def test_crops_show_every_part_of_the_picture_and_both_sides():
    settings = SegmentationCropSettings(size=(10, 10), zoom=(1, 1), light=0)
    ramp = np.broadcast_to(np.arange(60, dtype=np.uint8), (40, 60))
    sample = SegmentationSample(np.repeat(ramp[..., None], 3, axis=2), ramp)

    drawn = [crop(sample, settings, np.random.default_rng(number)).labels[5] for number in range(100)]

    assert min(row.min() for row in drawn) <= 3
    assert max(row.max() for row in drawn) >= 56
    assert 30 < sum(int(row[0]) > int(row[-1]) for row in drawn) < 70


def test_what_lies_beyond_a_small_picture_is_ignored():
    drawn = crop(
        _stripes((10, 12)), SegmentationCropSettings(size=(20, 24), **STILL), np.random.default_rng(0)
    )

    assert (drawn.labels != IGNORED).sum() == 120


def test_a_crops_number_alone_decides_it_and_every_picture_comes_once_an_epoch(tmp_path):
    pictures = []
    for number in range(4):
        _write(tmp_path / f"{number}.png", np.full((8, 8, 3), 50 * number, np.uint8))
        _write(tmp_path / f"{number}_l.png", np.full((8, 8), 7, np.uint8))
        pictures.append(
            SegmentedPicture(tmp_path / f"{number}.png", tmp_path / f"{number}_l.png", CITYSCAPES_IDS)
        )
    crops = SegmentationCrops(pictures, SegmentationCropSettings(size=(8, 8), **STILL), seed=3)

    epochs = [[int(crops.make(4 * epoch + k).image[0, 0, 0]) for k in range(4)] for epoch in range(8)]

    assert all(sorted(epoch) == [0, 50, 100, 150] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 3
    again = SegmentationCrops(pictures, SegmentationCropSettings(size=(8, 8), zoom=(0.5, 2)), seed=3)
    np.testing.assert_array_equal(again.make(9).image, again.make(9).image)


@pytest.mark.parametrize("values", [{"size": (0, 8)}, {"zoom": (2, 1)}, {"light": 2}])
def test_impossible_crops_are_refused(values):
    with pytest.raises(ConfigError, match="crops need"):
        SegmentationCropSettings(**{"size": (8, 8), **values})
    with pytest.raises(DatasetError, match="at least one"):
        SegmentationCrops([], SegmentationCropSettings(size=(8, 8)))

"""Pictures with one class each: folders, CIFAR-100 without trust in its pickles, and how crops are drawn."""

import os
import pickle

import cv2
import numpy as np
import pytest

from fleetpose.data.classification import (
    CIFAR_CROPS,
    ClassificationCrops,
    ClassificationCropSettings,
    ClassifiedPicture,
    centre_crop,
    random_crop,
    read_cifar100,
    read_image_folder,
)
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.geometry import PADDING


def test_folders_are_classes_in_the_order_of_their_names(tmp_path):
    for name, value in (("dog/b.png", 20), ("dog/more/a.png", 30), ("cat/c.png", 10)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.full((2, 2, 3), value, np.uint8))
    (tmp_path / "dog/notes.txt").write_text("no picture")

    found = read_image_folder(tmp_path)

    assert found.classes == ("cat", "dog")
    assert [(int(one.load()[0, 0, 0]), one.label) for one in found.pictures] == [(10, 0), (20, 1), (30, 1)]


def test_a_class_without_pictures_is_named(tmp_path):
    with pytest.raises(DatasetError, match="holds no picture"):
        read_image_folder(tmp_path / "absent")
    (tmp_path / "dog").mkdir()
    with pytest.raises(DatasetError, match="dog holds no picture"):
        read_image_folder(tmp_path)


def _as_python_2(data):
    """Pickle of a dict with byte strings, number lists and one uint8 array, as Python 2 wrote CIFAR's."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    out = b"\x80\x02}("
    for key, value in data.items():
        out += text(key)
        if isinstance(value, np.ndarray):
            rows, columns = (b"M" + int(side).to_bytes(2, "little") for side in value.shape)
            out += b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
            out += b"(K\x01" + rows + columns + b"\x86cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
            out += b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
            out += b"T" + value.nbytes.to_bytes(4, "little") + value.tobytes() + b"tb"
        elif isinstance(value[0], bytes):
            out += b"](" + b"".join(text(one) for one in value) + b"e"
        else:
            out += b"](" + b"".join(b"K" + bytes([one]) for one in value) + b"e"
    return out + b"u."


def _write_official(folder, *, labels=(7, 3)):
    pixels = np.zeros((2, 3, 32, 32), np.uint8)
    pixels[0, 0, 2, 5], pixels[1, 2, 31, 0] = 200, 100
    content = {
        b"data": pixels.reshape(2, -1),
        b"fine_labels": list(labels),
        b"coarse_labels": [1, 0],
        b"filenames": [b"a.png", b"b.png"],
    }
    names = {
        b"fine_label_names": [b"class %d" % k for k in range(8)],
        b"coarse_label_names": [b"low", b"high"],
    }
    (folder / "train").write_bytes(_as_python_2(content))
    (folder / "meta").write_bytes(_as_python_2(names))


def test_cifar_100_is_read_with_planes_of_red_green_and_blue(tmp_path):
    _write_official(tmp_path)

    found = read_cifar100(tmp_path)

    assert [found.classes[one.label] for one in found.pictures] == ["class 7", "class 3"]
    first, second = (one.load() for one in found.pictures)
    assert first.shape == (32, 32, 3)
    assert np.argwhere(first).tolist() == [[2, 5, 0]]
    assert np.argwhere(second).tolist() == [[31, 0, 2]]


def test_cifar_100_has_coarse_classes_too(tmp_path):
    _write_official(tmp_path)

    found = read_cifar100(tmp_path, is_coarse=True)

    assert [found.classes[one.label] for one in found.pictures] == ["high", "low"]


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_that_calls_functions_is_refused_before_it_does(tmp_path):
    _write_official(tmp_path)
    (tmp_path / "train").write_bytes(pickle.dumps({b"data": _Bomb(str(tmp_path / "boom"))}))

    with pytest.raises(DatasetError, match=r"it wants posix\.mkdir"):
        read_cifar100(tmp_path)

    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no pickle", "is no pickle of plain data"),
        (b"", "is no pickle of plain data"),
        (pickle.dumps([1]), "must hold a dict, got list"),
        (pickle.dumps({}), "is no CIFAR-100"),
    ],
)
def test_other_files_are_no_cifar_100(tmp_path, content, message):
    _write_official(tmp_path)
    (tmp_path / "train").write_bytes(content)

    with pytest.raises(DatasetError, match=message):
        read_cifar100(tmp_path)


def test_labels_that_do_not_fit_the_pictures_are_refused(tmp_path):
    _write_official(tmp_path, labels=[7, 99])

    with pytest.raises(DatasetError, match="do not go together"):
        read_cifar100(tmp_path)
    with pytest.raises(DatasetError, match="cannot read"):
        read_cifar100(tmp_path / "absent")


def test_cifars_crops_are_shifted_by_whole_pixels_and_mirrored():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    padded = cv2.copyMakeBorder(image, 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=PADDING)
    windows = [padded[y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
    windows += [window[:, ::-1] for window in windows]

    places = set()
    for number in range(200):
        drawn = random_crop(image, CIFAR_CROPS, np.random.default_rng(number))
        places |= {k for k, window in enumerate(windows) if np.array_equal(window, drawn)}

    assert len(places) > 100
    assert {k >= 81 for k in places} == {False, True}


def test_crops_show_a_part_of_the_picture_in_its_place():
    """A ramp of brightness tells from which place a crop's edge comes."""
    image = np.repeat(np.broadcast_to(np.arange(200, dtype=np.uint8), (100, 200))[..., None], 3, axis=2)
    settings = ClassificationCropSettings(size=(20, 20), area=(0.25, 0.25), stretch=1, light=0)

    drawn = [random_crop(image, settings, np.random.default_rng(k))[10, :, 0].astype(int) for k in range(50)]

    widths = [abs(row[-1] - row[0]) / 19 * 20 for row in drawn]
    np.testing.assert_allclose(widths, 100, atol=4)
    assert min(row.min() for row in drawn) < 15
    assert max(row.max() for row in drawn) > 185


def test_the_number_alone_decides_a_crop_and_every_picture_comes_once_an_epoch():
    pictures = [ClassifiedPicture(np.full((8, 8, 3), 60 * k, np.uint8), k) for k in range(4)]
    crops = ClassificationCrops(pictures, ClassificationCropSettings(size=(8, 8)), seed=1)

    labels = [[crops.make(4 * epoch + k)[1] for k in range(4)] for epoch in range(8)]

    assert all(sorted(epoch) == [0, 1, 2, 3] for epoch in labels)
    assert len({tuple(epoch) for epoch in labels}) > 3
    np.testing.assert_array_equal(crops.make(5)[0], crops.make(5)[0])
    assert len(crops) == 4


def test_the_centre_crop_shows_the_middle():
    image = np.repeat(np.broadcast_to(np.arange(200, dtype=np.uint8), (100, 200))[..., None], 3, axis=2)

    drawn = centre_crop(image, (50, 50), share=1.0)[25, :, 0].astype(int)

    assert abs(drawn[0] - 50) <= 2
    assert abs(drawn[-1] - 149) <= 2


@pytest.mark.parametrize("values", [{"size": (0, 8)}, {"area": (0, 1)}, {"stretch": 0.5}, {"padding": -1}])
def test_impossible_crops_are_refused(values):
    with pytest.raises(ConfigError, match="crops need"):
        ClassificationCropSettings(**{"size": (8, 8), **values})
    with pytest.raises(DatasetError, match="at least one"):
        ClassificationCrops([], CIFAR_CROPS)

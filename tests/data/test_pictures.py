import cv2
import numpy as np
import pytest

from fleetpose.data.crops import CropMaker, CropSettings
from fleetpose.data.pictures import PictureCache
from fleetpose.data.scenes import SceneMaker, SceneSettings, Source
from fleetpose.errors import DatasetError

SIDE = 700  # 1.4 MiB of pixels


@pytest.fixture
def photos(tmp_path):
    """Three JPEG photos of different greys."""
    files = [tmp_path / f"{number}.jpg" for number in range(3)]
    for number, file in enumerate(files):
        cv2.imwrite(str(file), np.full((SIDE, SIDE, 3), 50 * number + 20, np.uint8))
    return files


@pytest.fixture
def people(write_coco):
    """Annotation file and folder of one noisy photo with one person."""
    picture = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    points = [(60, 30), (40, 90), (100, 95)]
    person = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "keypoints": [value for x, y in points for value in (x, y, 2)],
        "bbox": [30, 20, 80, 85],
    }
    return write_coco([picture], [person])


def test_what_fits_is_read_once_and_the_rest_each_time(photos):
    cache = PictureCache(3)  # two of the three
    before = [cache.read(photo) for photo in photos]
    for photo in photos:
        photo.unlink()

    for photo, image in zip(photos[:2], before, strict=False):
        np.testing.assert_array_equal(cache.read(photo), image)
    with pytest.raises(DatasetError, match=r"2\.jpg"):
        cache.read(photos[2])


def test_by_default_nothing_is_kept(photos):
    cache = PictureCache()
    cache.read(photos[0])
    photos[0].unlink()

    with pytest.raises(DatasetError, match=r"0\.jpg"):
        cache.read(photos[0])


def test_what_a_picture_takes_is_what_it_has_when_reduced(photos):
    cache = PictureCache(1)  # none of them whole, all of them at a quarter of their size
    quarters = [cache.read(photo, reduction=4) for photo in photos]
    whole = cache.read(photos[0])
    for photo in photos:
        photo.unlink()

    assert whole.shape == (SIDE, SIDE, 3)
    for photo, quarter in zip(photos, quarters, strict=True):
        assert quarter.shape == (SIDE // 4, SIDE // 4, 3)
        assert cache.read(photo, reduction=4) is quarter
    with pytest.raises(DatasetError):
        cache.read(photos[0])


def test_nobody_can_spoil_what_is_kept(photos):
    with pytest.raises(ValueError, match="read-only"):
        PictureCache(10).read(photos[0])[0, 0] = 0


@pytest.mark.parametrize(
    ("maker", "settings"),
    [(CropMaker, CropSettings(cut_chance=1.0)), (SceneMaker, SceneSettings(cut_chance=1.0))],
    ids=["crops", "scenes"],
)
def test_samples_are_the_same_whatever_is_kept(people, arrow, maker, settings):
    source = Source(images=people[1], annotations=people[0], is_single_person=True)
    forgetful = maker([source], arrow, settings)
    mindful = maker([source], arrow, settings, cache=PictureCache(10))

    for seed in range(12):
        expected, got = (one.make(np.random.default_rng(seed), (96, 96)) for one in (forgetful, mindful))
        np.testing.assert_array_equal(got.image, expected.image)
        np.testing.assert_array_equal(got.keypoints, expected.keypoints)
    (people[1] / "1.png").unlink()
    mindful.make(np.random.default_rng(0), (96, 96))

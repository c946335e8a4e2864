import numpy as np
import pytest

from fleetpose.data.photometric import jitter


@pytest.fixture
def photo():
    """Smooth colours with a hard edge, 40 by 60 pixels."""
    ys, xs = np.mgrid[:40, :60]
    image = np.stack([xs * 4, ys * 6, 120 + 0 * xs], axis=-1).astype(np.uint8)
    image[:, 30:] //= 2
    return image


def test_strength_zero_changes_nothing(photo):
    changed = jitter(photo, np.random.default_rng(0), strength=0)

    np.testing.assert_array_equal(changed, photo)


def test_the_picture_given_stays_as_it_was(photo):
    before = photo.copy()

    for seed in range(10):
        jitter(photo, np.random.default_rng(seed))

    np.testing.assert_array_equal(photo, before)


def test_shape_and_type_stay_and_every_draw_differs(photo):
    changed = [jitter(photo, np.random.default_rng(seed)) for seed in range(30)]

    assert {(image.shape, image.dtype.name) for image in changed} == {((40, 60, 3), "uint8")}
    assert len({image.tobytes() for image in changed}) == 30


def test_edges_stay_where_they_are(photo):
    for seed in range(60):
        changed = jitter(photo, np.random.default_rng(seed)).astype(int).sum(axis=2)
        # Where does brightness fall most from column to column, over all rows?
        steepest = np.diff(changed.sum(axis=0)).argmin()
        assert steepest in (28, 29, 30), seed


def test_brightness_is_not_biased(photo):
    means = [jitter(photo, np.random.default_rng(seed)).mean() for seed in range(300)]

    assert np.mean(means) == pytest.approx(photo.mean(), abs=8)
    assert np.std(means) > 10


def test_some_pictures_turn_grey(photo):
    changed = [jitter(photo, np.random.default_rng(seed)).astype(int) for seed in range(200)]

    # A cast tints a grey picture, so channels are then proportional, not equal.
    spread = [np.corrcoef(image[..., 0].ravel(), image[..., 2].ravel())[0, 1] for image in changed]
    assert 5 < sum(value > 0.98 for value in spread) < 60

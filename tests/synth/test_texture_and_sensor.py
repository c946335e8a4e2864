import numpy as np
import pytest

from fleetpose.synth.sensor import Sensor, blur_by_depth, expose, motion_kernel, take_picture, tone_curve
from fleetpose.synth.texture import TextureAtlas, sample, srgb_to_linear

QUARTERS = np.zeros((8, 8, 3), np.uint8)
QUARTERS[:4, :4], QUARTERS[:4, 4:], QUARTERS[4:, :4] = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def look_up(atlas, number, level, u, v):
    out = np.empty(4)
    sample(atlas.textures(), number, level, u, v, out)
    return out


@pytest.mark.parametrize(("u", "v", "channel"), [(0.25, 0.75, 0), (0.75, 0.75, 1), (0.25, 0.25, 2)])
def test_v_points_up_in_a_texture(u, v, channel):
    atlas = TextureAtlas()
    number = atlas.add(QUARTERS)

    colour = look_up(atlas, number, 0, u, v)

    assert colour[channel] == 200
    assert colour[:3].sum() == 200
    assert colour[3] == 255


def test_textures_repeat_or_mirror():
    atlas = TextureAtlas()
    plain, mirrored = atlas.add(QUARTERS), atlas.add(QUARTERS, mirrored=True)

    np.testing.assert_allclose(look_up(atlas, plain, 0, 1.25, 0.75), look_up(atlas, plain, 0, 0.25, 0.75))
    np.testing.assert_allclose(
        look_up(atlas, mirrored, 0, 1.25, 0.75), look_up(atlas, mirrored, 0, 0.75, 0.75)
    )


def test_higher_levels_are_means():
    atlas = TextureAtlas()
    number = atlas.add(QUARTERS)

    np.testing.assert_allclose(look_up(atlas, number, 3, 0.5, 0.5)[:3], [50, 50, 50], atol=1)


def test_a_pictures_own_textures_are_forgotten():
    atlas = TextureAtlas()
    kept = atlas.add(QUARTERS)
    atlas.freeze()
    first = atlas.add(QUARTERS // 2)

    atlas.reset()

    assert atlas.add(QUARTERS // 4) == first
    assert look_up(atlas, kept, 0, 0.25, 0.75)[0] == 200


def test_srgb_codes_become_linear_light():
    np.testing.assert_allclose(srgb_to_linear((0, 188, 255)), [0.0, 0.503, 1.0], atol=0.002)


def test_the_tone_curve_rises_to_white():
    curve = tone_curve()

    assert (np.diff(curve) >= 0).all()
    assert curve[0] == 0
    assert curve[-1] == 255


def test_exposure_brings_dark_and_bright_scenes_together():
    rng = np.random.default_rng(0)
    scene = rng.uniform(0.2, 0.4, (64, 64, 3)).astype(np.float32)

    nobody = np.zeros((64, 64))

    dark, bright = (scene * factor * expose(scene * factor, nobody, Sensor()) for factor in (0.01, 30.0))

    np.testing.assert_allclose(dark, bright, rtol=1e-3)


def test_people_before_a_bright_window_are_exposed_for():
    scene = np.full((64, 64, 3), 4.0, np.float32)
    scene[20:60, 20:44] = 0.05
    person = np.zeros((64, 64))
    person[20:60, 20:44] = 0.3

    metered, blind = expose(scene, person, Sensor()), expose(scene, 0 * person, Sensor())

    assert metered > 2 * blind


def test_a_blurred_background_does_not_touch_the_person_in_focus():
    colour = np.zeros((40, 40, 3), np.float32)
    colour[:, ::2] = 1.0
    nearness = np.zeros((40, 40), np.float32)
    nearness[10:30, 10:30] = 0.25
    colour[10:30, 10:30] = 5.0

    blurred = blur_by_depth(colour, nearness, Sensor(defocus=3.0, focus=4.0))

    np.testing.assert_allclose(blurred[10:30, 10:30], 5.0)
    assert blurred[2].std() < 0.2 * colour[2].std()
    assert blurred[:9].max() < 1.01  # nothing of the person's 5.0 bleeds out


def test_motion_blur_keeps_the_light_and_the_place():
    kernel = motion_kernel((7.0, 3.0))

    ys, xs = np.mgrid[: kernel.shape[0], : kernel.shape[1]]
    assert kernel.sum() == pytest.approx(1)
    assert (kernel * xs).sum() == pytest.approx(kernel.shape[1] // 2, abs=1e-5)
    assert (kernel * ys).sum() == pytest.approx(kernel.shape[0] // 2, abs=1e-5)


def test_noise_is_decided_by_the_seed():
    colour = np.full((32, 48, 3), 0.3, np.float32)
    shots = [
        take_picture(
            np.random.default_rng(seed),
            colour,
            colour[..., 0],
            np.full(colour.shape[:2], -1),
            Sensor(noise=0.05),
            (32, 48),
        )
        for seed in (1, 1, 2)
    ]

    np.testing.assert_array_equal(shots[0], shots[1])
    assert (shots[0] != shots[2]).any()

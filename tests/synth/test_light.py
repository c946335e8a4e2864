import numpy as np
import pytest

from fleetpose.synth.light import Light, cast_shadows, light_from_map, map_directions
from fleetpose.synth.raster import rasterise_depth
from fleetpose.synth.shade import irradiance, sun_visibility

UP = np.array([0.0, 1.0, 0.0])


def soft_light(light, direction):
    return np.array([irradiance(light.harmonics, *direction, channel) for channel in range(3)])


def test_an_even_sky_lights_every_side_alike():
    light = light_from_map(np.full((32, 64, 3), 0.7, np.float32), yaw_rad=0.3, is_indoor=False)

    for direction in (UP, -UP, np.array([0.6, 0.0, 0.8])):
        np.testing.assert_allclose(soft_light(light, direction), 0.7, rtol=0.01)
    assert light.ground_share() < 0.01


@pytest.mark.parametrize("yaw", [0.0, 1.2])
def test_the_sun_is_found_where_it_stands(yaw):
    radiance = np.full((32, 64, 3), 0.2, np.float32)
    radiance[8, 20] = 3000.0

    light = light_from_map(radiance, yaw_rad=yaw, is_indoor=False)

    direction = map_directions(32, 64)[0].reshape(32, 64, 3)[8, 20]
    azimuth = np.arctan2(direction[0], -direction[2]) + yaw
    level = np.hypot(direction[0], direction[2])
    expected = np.array([np.sin(azimuth) * level, direction[1], -np.cos(azimuth) * level])
    assert light.sun @ expected > 0.999
    assert light.ground_share() > 0.8


def test_taking_the_sun_out_keeps_the_energy():
    radiance = np.full((32, 64, 3), 0.2, np.float32)
    radiance[2, 10] = 500.0

    light = light_from_map(radiance, yaw_rad=0.0, is_indoor=False)

    direction, solid = map_directions(32, 64)
    received = (radiance.reshape(-1, 3).mean(axis=1) * np.maximum(direction[:, 1], 0) * solid).sum() / np.pi
    ours = soft_light(light, UP).mean() + light.sun_colour.mean() * light.sun[1]
    assert ours == pytest.approx(received, rel=0.02)


def roof(height):
    verts = np.array([[-1, height, -1], [1, height, -1], [1, height, 1], [-1, height, 1]], np.float32)
    return verts, np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def test_a_roof_shades_what_is_under_it_and_nothing_else():
    overhead = Light(np.zeros((9, 3)), UP, np.ones(3), softness=0.01)

    shadow = cast_shadows(*roof(2.0), overhead)

    def lit(x, y, z):
        return sun_visibility(shadow, 0.01, np.array([x, y, z]), 0.02, 0.0)

    assert lit(0.0, 0.0, 0.0) == 0.0
    assert lit(0.0, 3.0, 0.0) == 1.0
    assert lit(1.5, 0.0, 0.0) == 1.0
    assert 0.0 < lit(1.0, 0.0, 0.0) < 1.0


def test_a_faint_sun_casts_no_shadow():
    even = np.zeros((9, 3))
    even[0] = 5.0
    gloomy = Light(even, UP, np.full(3, 0.01), softness=0.01)

    shadow = cast_shadows(*roof(2.0), gloomy)

    assert sun_visibility(shadow, 0.01, np.zeros(3), 0.02, 0.0) == 1.0


def test_the_suns_view_keeps_the_highest_surface():
    nearness = np.full((8, 8), -1e9, np.float32)
    screen = np.array([[0, 0, 1], [7, 0, 1], [0, 7, 1], [0, 0, 2], [7, 0, 2], [0, 7, 2]], np.float32)

    rasterise_depth(screen, np.array([[3, 4, 5], [0, 1, 2]], np.int32), nearness, np.empty((8, 8), np.int32))

    assert nearness[1, 1] == 2

"""Light of a scene: a soft surrounding (spherical harmonics), one sun or lamp, and its shadow map."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fleetpose.synth.arrays import Array
from fleetpose.synth.raster import rasterise_depth
from fleetpose.synth.records import Lamp, ShadowMap

SHADOW_PIXELS = 768
FAINT = 0.03  # share of a sun on the ground below which its shadow cannot be seen
COARSE = 16  # shadow-map pixels per side of a coarse block
# Cosine-lobe factors of bands 0 to 2 (Ramamoorthi and Hanrahan 2001, "An efficient representation for
# irradiance").
BAND = np.array([np.pi, *[2 * np.pi / 3] * 3, *[np.pi / 4] * 5])


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """A soft surrounding and a sun.

    harmonics: `[9, 3]` irradiance coefficients / pi. sun: `[3]` towards the lamp, unit. sun_colour: `[3]` /
    pi.

    softness: penumbra width per metre of distance, 0.01 for the sun, more for windows.
    """

    harmonics: Array
    sun: Array
    sun_colour: Array
    softness: float

    def lamp(self) -> Lamp:
        """The light as compiled functions take it."""
        return Lamp(self.harmonics, self.sun, self.sun_colour, self.softness, self.ground_share())

    def ground_share(self) -> float:
        """Share of the light on the ground that comes from the sun: how dark its shadow is."""
        ambient = float((basis(np.array([[0.0, 1.0, 0.0]])) @ self.harmonics)[0].mean())
        sun = float(self.sun_colour.mean()) * max(float(self.sun[1]), 0.0)
        return sun / max(sun + ambient, 1e-9)


def basis(direction: Array) -> Array:
    """Real spherical harmonics of bands 0 to 2 at unit directions `[N, 3]` → `[N, 9]`."""
    x, y, z = direction[:, 0], direction[:, 1], direction[:, 2]
    return np.stack(
        [
            0.282095 + 0 * x,
            0.488603 * y,
            0.488603 * z,
            0.488603 * x,
            1.092548 * x * y,
            1.092548 * y * z,
            0.315392 * (3 * z * z - 1),
            1.092548 * x * z,
            0.546274 * (x * x - y * y),
        ],
        axis=1,
    )


def map_directions(height: int, width: int) -> tuple[Array, Array]:
    """Directions `[H * W, 3]` and solid angles `[H * W]` of a panorama whose column 0 is azimuth -pi."""
    azimuth = (np.arange(width) + 0.5) / width * 2 * np.pi - np.pi
    elevation = np.pi / 2 - (np.arange(height) + 0.5) / height * np.pi
    az, el = np.meshgrid(azimuth, elevation)
    direction = np.stack([np.sin(az) * np.cos(el), np.sin(el), -np.cos(az) * np.cos(el)], axis=-1)
    solid = np.cos(el) * (2 * np.pi / width) * (np.pi / height)
    return direction.reshape(-1, 3), solid.ravel()


def light_from_map(radiance: Array, *, yaw_rad: float, is_indoor: bool) -> Light:
    """Split a light map `[h, w, 3]` into one lamp and soft surroundings, turned by `yaw_rad`."""
    direction, solid = map_directions(*radiance.shape[:2])
    cosine, sine = np.cos(yaw_rad), np.sin(yaw_rad)
    direction = direction @ np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    flat = radiance.reshape(-1, 3).astype(np.float64)
    luminance = flat.mean(axis=1)
    # The lamp is the strongest light above the horizon, seen through a window of the lamp's size.
    near = np.cos(np.radians(20.0 if is_indoor else 8.0))
    upper = direction[:, 1] > 0.08
    power = np.where(upper, luminance * solid, 0.0)
    peak = direction[int(np.argmax(power))]
    around = (direction @ peak > near) & upper
    background = float(np.median(luminance[around])) if around.any() else 0.0
    excess = np.where(around[:, None], np.maximum(flat - background, 0.0), 0.0)
    weight = excess.mean(axis=1) * solid
    centre = (direction * weight[:, None]).sum(axis=0)
    sun = centre / max(float(np.linalg.norm(centre)), 1e-9) if weight.sum() > 0 else np.array([0.0, 1.0, 0.0])
    colour = (excess * solid[:, None]).sum(axis=0) / np.pi
    coefficients = basis(direction).T @ ((flat - excess) * solid[:, None])
    return Light(coefficients * (BAND / np.pi)[:, None], sun, colour, 0.2 if is_indoor else 0.02)


def uniform_light(sky: Array, ground: Array, sun: Array, sun_colour: Array, softness: float) -> Light:
    """A light whose upper half has radiance `sky` `[3]` and lower half `ground` `[3]`."""
    direction, solid = map_directions(16, 32)
    share = np.clip(direction[:, 1:2] * 4 + 0.5, 0, 1)
    radiance = share * sky + (1 - share) * ground
    coefficients = basis(direction).T @ (radiance * solid[:, None])
    return Light(coefficients * (BAND / np.pi)[:, None], sun / np.linalg.norm(sun), sun_colour, softness)


def cast_shadows(verts: Array, faces: Array, light: Light) -> ShadowMap:
    """Draw all faces from the sun's direction; everything outside the drawn square is lit."""
    sun = light.sun
    up = np.array([0.0, 1.0, 0.0]) if abs(sun[1]) < 0.95 else np.array([1.0, 0.0, 0.0])
    right = np.cross(up, sun)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(sun, right), sun])
    if len(verts) == 0 or light.ground_share() < FAINT:
        nothing = np.full((1, 1), -1e9, np.float32)
        return ShadowMap(nothing, nothing, axes, np.zeros(3), 1.0)
    seen = verts @ axes.T.astype(np.float32)
    low, high = seen.min(axis=0), seen.max(axis=0)
    texel = float(max(high[0] - low[0], high[1] - low[1])) / (SHADOW_PIXELS - 8) + 1e-6
    matrix = axes * np.array([1 / texel, 1 / texel, 1.0])[:, None]
    shift = np.array([4 - low[0] / texel, 4 - low[1] / texel, 0.0])
    nearness = np.full((SHADOW_PIXELS, SHADOW_PIXELS), -1e9, np.float32)
    screen = (verts @ matrix.T.astype(np.float32) + shift.astype(np.float32)).astype(np.float32)
    rasterise_depth(screen, faces, nearness, np.empty(nearness.shape, np.int32))
    blocks = SHADOW_PIXELS // COARSE
    # Penumbras reach at most 24 pixels (see `sun_visibility`), so two blocks around are enough.
    rows = nearness.reshape(blocks, COARSE, SHADOW_PIXELS).max(axis=1)
    coarse = rows.reshape(blocks, blocks, COARSE).max(axis=2)
    coarse = cv2.dilate(coarse, np.ones((5, 5), np.uint8))
    return ShadowMap(nearness, coarse, matrix, shift, texel)

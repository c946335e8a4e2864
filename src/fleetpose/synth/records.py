"""Named tuples that compiled functions take, so that their arguments stay few and told apart."""

from __future__ import annotations

from typing import NamedTuple

from fleetpose.synth.arrays import Array


class View(NamedTuple):
    """A camera: position `[3]`, rotation `[3, 3]` (rows right, down, forward), focal and centre in pixels."""

    position: Array
    rotation: Array
    focal: float
    cx: float
    cy: float


class Lamp(NamedTuple):
    """A light: soft part `[9, 3]`, sun direction and colour `[3]`, penumbra, and share on the ground."""

    harmonics: Array
    sun: Array
    sun_colour: Array
    softness: float
    ground_share: float


class ShadowMap(NamedTuple):
    """The sun's view: world point p lands on pixel `matrix @ p + shift`, whose third entry is its nearness.

    nearness: `[P, P]`. coarse: largest nearness of each block of pixels and its neighbours. texel: metres.
    """

    nearness: Array
    coarse: Array
    matrix: Array
    shift: Array
    texel: float


class Textures(NamedTuple):
    """Texels `[T, 4]` of all textures, the table of where each is, and the decoding of sRGB codes `[256]`."""

    texels: Array
    table: Array
    linear: Array


class Surfaces(NamedTuple):
    """Geometry on the screen `[N, 3]` and in the world `[N, 3]`, its faces `[F, 3]` and their looks."""

    screen: Array
    verts: Array
    normals: Array
    paint: Array
    faces: Array
    face_uv: Array
    material: Array
    materials: Array


class Panorama(NamedTuple):
    """Codes `[h, w, 3]` decoded by `radiance` `[256]`, turned by `yaw`, seen from `height` metres.

    dome: metres of flat ground, 0 for none. detail: texture laid over that ground, with its mean luminance
    and
    repeats per metre.
    """

    codes: Array
    radiance: Array
    yaw: float
    height: float
    dome: float
    detail: int
    detail_mean: float
    detail_repeat: float


class Contact(NamedTuple):
    """Openness of the ground around people: maps `[N, C, C]` and their corners `[N, 2]` (x, z)."""

    maps: Array
    corners: Array

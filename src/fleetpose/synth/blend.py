"""Compiled blending of see-through faces: hair, brows and lashes, laid over the picture back to front."""

# ruff: noqa: PLR0917 - compiled functions take positional arguments only

from __future__ import annotations

import numpy as np

from fleetpose.synth.arrays import Array, drawing_kernel
from fleetpose.synth.mesh import TEXTURE
from fleetpose.synth.records import Lamp, ShadowMap, Surfaces, Textures
from fleetpose.synth.shade import (
    albedo,
    corner_weights,
    double_area,
    interpolate,
    lit_colour,
    mip_level,
    noise_angle,
    sun_visibility,
    turn_to_viewer,
)
from fleetpose.synth.texture import sample


@drawing_kernel
def blend_faces(
    order: Array, nearness: Array, cover: Array, cover_face: Array, surfaces: Surfaces, textures: Textures,
    eye: Array, lamp: Lamp, shadow: ShadowMap, colour: Array, room: Array,
) -> None:  # fmt: skip
    """Lay see-through faces, in the back-to-front `order`, over `colour`.

    cover: `[H, W]` opacity laid so far. cover_face: `[H, W]` last face that took the pixel's opacity past a
    half.
    """
    height, width = nearness.shape
    screen = surfaces.screen
    for n in range(order.shape[0]):
        f = order[n]
        face = surfaces.faces[f]
        a, b, c = face[0], face[1], face[2]
        if screen[a, 2] == 0.0 or screen[b, 2] == 0.0 or screen[c, 2] == 0.0:
            continue
        x0 = max(int(np.ceil(min(screen[a, 0], screen[b, 0], screen[c, 0]))), 0)
        x1 = min(int(np.floor(max(screen[a, 0], screen[b, 0], screen[c, 0]))), width - 1)
        y0 = max(int(np.ceil(min(screen[a, 1], screen[b, 1], screen[c, 1]))), 0)
        y1 = min(int(np.floor(max(screen[a, 1], screen[b, 1], screen[c, 1]))), height - 1)
        if x0 <= x1 and y0 <= y1 and surfaces.materials[surfaces.material[f], TEXTURE] >= 0.0:
            blend_face(
                f,
                x0,
                x1,
                y0,
                y1,
                nearness,
                cover,
                cover_face,
                surfaces,
                textures,
                eye,
                lamp,
                shadow,
                colour,
                room,
            )


@drawing_kernel
def blend_face(
    f: int, x0: int, x1: int, y0: int, y1: int, nearness: Array, cover: Array, cover_face: Array,
    surfaces: Surfaces, textures: Textures, eye: Array, lamp: Lamp, shadow: ShadowMap, colour: Array,
    room: Array,
) -> None:  # fmt: skip
    """Lay one see-through face over the pixels of a box."""
    weights, point, normal, view, texel, base, out = (
        room[0],
        room[1],
        room[2],
        room[3],
        room[4],
        room[5],
        room[6],
    )
    face, uv, screen = surfaces.faces[f], surfaces.face_uv[f], surfaces.screen
    row = surfaces.materials[surfaces.material[f]]
    number = int(row[TEXTURE])
    area = corner_weights(screen, face, x0, y0, weights)
    if area < 1e-9:
        return
    level = max(mip_level(textures.table, number, 1.0, double_area(uv), area) - 1, 0)
    for y in range(y0, y1 + 1):
        for x in range(x0, x1 + 1):
            corner_weights(screen, face, x, y, weights)
            if min(weights[0], weights[1], weights[2]) < 0.0:
                continue
            depth = (
                weights[0] / screen[face[0], 2]
                + weights[1] / screen[face[1], 2]
                + weights[2] / screen[face[2], 2]
            )
            # Brows and lashes lie on the skin: let them win within 4 mm.
            is_hidden = (depth - 0.004) * nearness[y, x] > 1.0
            u = weights[0] * uv[0, 0] + weights[1] * uv[1, 0] + weights[2] * uv[2, 0]
            v = weights[0] * uv[0, 1] + weights[1] * uv[1, 1] + weights[2] * uv[2, 1]
            sample(textures, number, level, u, v, texel)
            alpha = texel[3] / 255.0
            if is_hidden or alpha < 0.03:
                continue
            interpolate(surfaces.verts, face, weights, point)
            interpolate(surfaces.normals, face, weights, normal)
            turn_to_viewer(point, eye, normal, view)
            albedo(row, texel, textures.linear, 0.0, base)
            visible = sun_visibility(shadow, lamp.softness, point, 0.03, noise_angle(x, y))
            lit_colour(row, base, normal, view, 0.85, visible, lamp, out)
            for k in range(3):
                colour[y, x, k] += (out[k] - colour[y, x, k]) * alpha
            cover[y, x] += (1.0 - cover[y, x]) * alpha
            if cover[y, x] > 0.5:
                cover_face[y, x] = f

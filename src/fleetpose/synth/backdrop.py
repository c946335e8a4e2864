"""Compiled shading of what lies behind the people: flat textured planes, a projected panorama, or a photograph."""

from __future__ import annotations

import numpy as np

from fleetpose.synth.arrays import Array, kernel
from fleetpose.synth.shade import irradiance, noise_angle, sun_visibility
from fleetpose.synth.texture import LEVELS, sample

# Columns of a plane row: axis 0..2 and place of the plane, its bounds along the two other axes in order, texture,
# texture repeats per metre, linear colour, how far the texture is dyed 0..1, its mean luminance, semantic class,
# and the surface's direction along the axis (+1 or -1).
(AXIS, PLACE, LOW_A, HIGH_A, LOW_B, HIGH_B, P_TEXTURE, REPEAT, P_RED, P_GREEN, P_BLUE, DYE, P_MEAN, P_SEMANTIC,
 FACING) = range(15)  # fmt: skip
PLANE_COLUMNS = 15
CONTACT_CELL = 0.04  # metres per cell of a contact map
CONTACT_CELLS = 64


@kernel
def panorama_colour(panorama: Array, radiance: Array, u: float, v: float, out: Array) -> None:
    """Bilinear look-up of codes `[h, w, 3]` at u, v in 0..1, decoded by `radiance` `[256]`."""
    height, width = panorama.shape[0], panorama.shape[1]
    x = (u - np.floor(u)) * width - 0.5
    y = min(max(v * height - 0.5, 0.0), height - 1.001)
    x0, y0 = int(np.floor(x)), int(y)
    fx, fy = x - x0, y - y0
    x1 = x0 + 1
    if x0 < 0:
        x0 += width
    if x1 >= width:
        x1 -= width
    for c in range(3):
        top = radiance[panorama[y0, x0, c]] * (1 - fx) + radiance[panorama[y0, x1, c]] * fx
        bottom = radiance[panorama[y0 + 1, x0, c]] * (1 - fx) + radiance[panorama[y0 + 1, x1, c]] * fx
        out[c] = top * (1 - fy) + bottom * fy


@kernel
def contact_openness(maps: Array, corners: Array, x: float, z: float) -> float:
    """Openness 0..1 of ground point (x, z) under all people: `maps` `[N, C, C]` with `corners` `[N, 2]` (x, z)."""
    value = 1.0
    for n in range(maps.shape[0]):
        u, v = (x - corners[n, 0]) / 0.04, (z - corners[n, 1]) / 0.04
        i, j = int(np.floor(u)), int(np.floor(v))
        if i < 0 or j < 0 or i >= maps.shape[2] - 1 or j >= maps.shape[1] - 1:
            continue
        fu, fv = u - i, v - j
        top = maps[n, j, i] * (1 - fu) + maps[n, j, i + 1] * fu
        bottom = maps[n, j + 1, i] * (1 - fu) + maps[n, j + 1, i + 1] * fu
        value *= top * (1 - fv) + bottom * fv
    return value


@kernel
def sphere_contact(spheres: Array, x0: float, z0: float) -> Array:
    """Openness of the ground `[C, C]` around (x0, z0) under `spheres` `[S, 4]` (x, y, z, radius)."""
    out = np.ones((CONTACT_CELLS, CONTACT_CELLS), np.float32)
    for j in range(CONTACT_CELLS):
        for i in range(CONTACT_CELLS):
            x, z = x0 + i * CONTACT_CELL, z0 + j * CONTACT_CELL
            open_share = 1.0
            for s in range(spheres.shape[0]):
                dx, dy, dz = spheres[s, 0] - x, max(spheres[s, 1], 0.01), spheres[s, 2] - z
                d2 = dx * dx + dy * dy + dz * dz
                r2 = spheres[s, 3] * spheres[s, 3]
                # A sphere's share of the sky over a flat ground (Quilez, "sphere ambient occlusion").
                open_share *= 1.0 - min(dy / np.sqrt(d2) * r2 / max(d2, r2), 0.85)
            out[j, i] = open_share
    return out


@kernel
def shade_backdrop(
    face_id: Array, eye: Array, rotation: Array, focal: float, cx: float, cy: float,
    planes: Array, box: Array, panorama: Array, radiance: Array, yaw: float, pano_height: float, dome: float,
    detail: int, detail_mean: float, detail_repeat: float, texels: Array, table: Array, linear: Array,
    harmonics: Array, sun: Array, sun_colour: Array, softness: float, ground_share: float,
    shadow: Array, shadow_matrix: Array, shadow_shift: Array, shadow_texel: float,
    contact: Array, contact_corner: Array, colour: Array, semantic: Array,
) -> None:  # fmt: skip
    """Fill `colour` `[H, W, 3]` and `semantic` `[H, W]` where `face_id` is -1.

    planes: `[P, PLANE_COLUMNS]`. box: `[6]` room bounds for corner darkening, x0 x1 y0 y1 z0 z1 (empty when x0 > x1).
    dome: radius in metres of the panorama's ground, 0 when it has none. detail: texture laid over projected ground.
    """
    height, width = face_id.shape
    texel, out = np.empty(4), np.empty(3)
    direction, point, normal = np.empty(3), np.empty(3), np.empty(3)
    for y in range(height):
        for x in range(width):
            if face_id[y, x] >= 0:
                continue
            a, b = (x - cx) / focal, (y - cy) / focal
            length = 1.0 / np.sqrt(a * a + b * b + 1.0)
            for k in range(3):
                direction[k] = (rotation[0, k] * a + rotation[1, k] * b + rotation[2, k]) * length
            best, hit = 1e9, -1
            for p in range(planes.shape[0]):
                axis = int(planes[p, AXIS])
                if direction[axis] * planes[p, FACING] >= 0.0:
                    continue
                t = (planes[p, PLACE] - eye[axis]) / direction[axis]
                if t <= 0.05 or t >= best:
                    continue
                other, third = (1, 2) if axis == 0 else ((0, 2) if axis == 1 else (0, 1))
                pa, pb = eye[other] + t * direction[other], eye[third] + t * direction[third]
                if planes[p, LOW_A] <= pa <= planes[p, HIGH_A] and planes[p, LOW_B] <= pb <= planes[p, HIGH_B]:
                    best, hit = t, p
            if hit < 0:
                look_x, look_y, look_z = direction[0], direction[1], direction[2]
                ground = dome > 0.0 and direction[1] < -1e-3
                if ground:
                    t = -eye[1] / direction[1]
                    px, pz = eye[0] + t * direction[0], eye[2] + t * direction[2]
                    flat = np.sqrt(px * px + pz * pz)
                    if flat < dome:
                        look_x, look_y, look_z = px, -pano_height, pz
                    else:
                        # Beyond the dome's foot the panorama is far away: blend to the plain direction.
                        share = min((flat - dome) / dome, 1.0)
                        scale = dome / flat
                        n1 = 1.0 / np.sqrt((px * scale) ** 2 + pano_height**2 + (pz * scale) ** 2)
                        look_x = px * scale * n1 * (1 - share) + direction[0] * share
                        look_y = -pano_height * n1 * (1 - share) + direction[1] * share
                        look_z = pz * scale * n1 * (1 - share) + direction[2] * share
                length = 1.0 / np.sqrt(look_x * look_x + look_y * look_y + look_z * look_z)
                azimuth = np.arctan2(look_x, -look_z) - yaw
                elevation = np.arcsin(min(max(look_y * length, -1.0), 1.0))
                panorama_colour(panorama, radiance, azimuth / 6.2831853 + 0.5, 0.5 - elevation / 3.14159265, out)
                semantic[y, x] = 0
                if ground:
                    visible = sun_visibility(shadow, shadow_matrix, shadow_shift, shadow_texel, softness,
                                             px, 0.0, pz, 0.02 + shadow_texel, noise_angle(x, y))  # fmt: skip
                    openness = contact_openness(contact, contact_corner, px, pz)
                    factor = ground_share * visible + (1.0 - ground_share) * openness
                    if detail >= 0:
                        footprint = t * t / (focal * eye[1] * length) * detail_repeat * table[detail, 0, 1]
                        level = min(max(int(np.log2(max(footprint, 1e-6)) + 0.5), 0), LEVELS - 1)
                        sample(texels, table, detail, level, px * detail_repeat, pz * detail_repeat, texel)
                        light = (0.2126 * linear[int(texel[0])] + 0.7152 * linear[int(texel[1])]
                                 + 0.0722 * linear[int(texel[2])])  # fmt: skip
                        fade = 0.8 * max(1.0 - flat / 14.0, 0.0)
                        factor *= 1.0 - fade + fade * min((light + 0.01) / (detail_mean + 0.01), 2.5)
                    for c in range(3):
                        out[c] *= factor
                    if flat < dome:
                        semantic[y, x] = 20
                for c in range(3):
                    colour[y, x, c] = out[c]
                continue
            row = planes[hit]
            axis = int(row[AXIS])
            for k in range(3):
                point[k] = eye[k] + best * direction[k]
                normal[k] = 0.0
            normal[axis] = row[FACING]
            other, third = (2, 1) if axis == 0 else ((0, 2) if axis == 1 else (0, 1))
            number = int(row[P_TEXTURE])
            if number >= 0:
                slope = max(abs(direction[axis]), 0.03)
                footprint = best / (focal * slope) * row[REPEAT] * table[number, 0, 1]
                level = min(max(int(np.log2(max(footprint, 1e-6)) + 0.3), 0), LEVELS - 1)
                sample(texels, table, number, level, point[other] * row[REPEAT], point[third] * row[REPEAT], texel)
                red, green, blue = linear[int(texel[0])], linear[int(texel[1])], linear[int(texel[2])]
                light = (0.2126 * red + 0.7152 * green + 0.0722 * blue + 1e-3) / (row[P_MEAN] + 1e-3)
                k = row[DYE]
                out[0] = red * (1 - k) + row[P_RED] * light * k
                out[1] = green * (1 - k) + row[P_GREEN] * light * k
                out[2] = blue * (1 - k) + row[P_BLUE] * light * k
            else:
                out[0], out[1], out[2] = row[P_RED], row[P_GREEN], row[P_BLUE]
            openness = 1.0
            if box[0] < box[1]:
                for k in range(3):
                    if k != axis:
                        edge = min(point[k] - box[2 * k], box[2 * k + 1] - point[k])
                        openness *= 1.0 - 0.4 * np.exp(-max(edge, 0.0) / 0.3)
            if axis == 1 and row[FACING] > 0.0:
                openness *= contact_openness(contact, contact_corner, point[0], point[2])
            facing = max(normal[0] * sun[0] + normal[1] * sun[1] + normal[2] * sun[2], 0.0)
            visible = 1.0
            if facing > 0.0:
                visible = sun_visibility(shadow, shadow_matrix, shadow_shift, shadow_texel, softness,
                                         point[0], point[1], point[2], 0.02 + shadow_texel, noise_angle(x, y))  # fmt: skip
            for c in range(3):
                soft = irradiance(harmonics, normal[0], normal[1], normal[2], c) * openness
                colour[y, x, c] = out[c] * (soft + sun_colour[c] * facing * visible)
            semantic[y, x] = int(row[P_SEMANTIC])


@kernel
def darken_photo(
    face_id: Array, eye: Array, rotation: Array, focal: float, cx: float, cy: float, ground_share: float,
    softness: float, shadow: Array, shadow_matrix: Array, shadow_shift: Array, shadow_texel: float,
    contact: Array, contact_corner: Array, colour: Array,
) -> None:  # fmt: skip
    """Lay shadow and contact on a photograph already in `colour`, as if its lower part were ground at y = 0."""
    height, width = face_id.shape
    for y in range(height):
        for x in range(width):
            if face_id[y, x] >= 0:
                continue
            a, b = (x - cx) / focal, (y - cy) / focal
            down = rotation[0, 1] * a + rotation[1, 1] * b + rotation[2, 1]
            if down > -1e-3:
                continue
            t = -eye[1] / down
            px = eye[0] + t * (rotation[0, 0] * a + rotation[1, 0] * b + rotation[2, 0])
            pz = eye[2] + t * (rotation[0, 2] * a + rotation[1, 2] * b + rotation[2, 2])
            visible = sun_visibility(shadow, shadow_matrix, shadow_shift, shadow_texel, softness,
                                     px, 0.0, pz, 0.02 + shadow_texel, noise_angle(x, y))  # fmt: skip
            openness = contact_openness(contact, contact_corner, px, pz)
            factor = ground_share * visible + (1.0 - ground_share) * openness
            for c in range(3):
                colour[y, x, c] *= factor

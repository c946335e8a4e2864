"""Compiled shading of what lies behind the people: flat planes, a projected panorama, or a photograph."""

# ruff: noqa: PLR0917 - compiled functions take positional arguments only

from __future__ import annotations

import numpy as np

from fleetpose.synth.arrays import Array, drawing_kernel, kernel
from fleetpose.synth.records import Contact, Lamp, Panorama, ShadowMap, Textures, View
from fleetpose.synth.shade import irradiance, noise_angle, sun_visibility
from fleetpose.synth.texture import LEVELS, sample

# Columns of a plane row: axis 0..2 and place of the plane, its bounds along the two other axes in order,
# texture,
# texture repeats per metre, linear colour, how far the texture is dyed 0..1, its mean luminance, semantic
# class,
# and the surface's direction along the axis (+1 or -1).
(
    AXIS,
    PLACE,
    LOW_A,
    HIGH_A,
    LOW_B,
    HIGH_B,
    P_TEXTURE,
    REPEAT,
    P_RED,
    P_GREEN,
    P_BLUE,
    DYE,
    P_MEAN,
    P_SEMANTIC,
    FACING,
) = range(15)
PLANE_COLUMNS = 15
CONTACT_CELL = 0.04  # metres per cell of a contact map
CONTACT_CELLS = 64
GROUND_CLASS = 20  # Semantic.GROUND, as a plain number for compiled code
DETAIL_STRENGTH = 0.5
DETAIL_REACH = 14.0  # metres: farther away, a texture on the ground is finer than a pixel


@drawing_kernel
def fast_atan2(y: float, x: float) -> float:
    """Angle of (x, y) in radians, right to about 1e-5 (Abramowitz and Stegun 4.4.49)."""
    ax, ay = abs(x), abs(y)
    z = min(ax, ay) / max(ax, ay, 1e-12)
    s = z * z
    angle = z * (0.9998660 + s * (-0.3302995 + s * (0.1801410 + s * (-0.0851330 + s * 0.0208351))))
    if ay > ax:
        angle = 1.5707963 - angle
    if x < 0.0:
        angle = 3.1415927 - angle
    return angle if y >= 0.0 else -angle


@drawing_kernel
def panorama_colour(panorama: Panorama, look: Array, out: Array) -> None:
    """Radiance `out` `[3]` of a panorama in direction `look` `[3]`, any length."""
    codes, radiance = panorama.codes, panorama.radiance
    azimuth = fast_atan2(look[0], -look[2]) - panorama.yaw
    elevation = fast_atan2(look[1], np.sqrt(look[0] * look[0] + look[2] * look[2]))
    u, v = azimuth / 6.2831853 + 0.5, 0.5 - elevation / 3.14159265
    height, width = codes.shape[0], codes.shape[1]
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
        top = radiance[codes[y0, x0, c]] * (1 - fx) + radiance[codes[y0, x1, c]] * fx
        bottom = radiance[codes[y0 + 1, x0, c]] * (1 - fx) + radiance[codes[y0 + 1, x1, c]] * fx
        out[c] = top * (1 - fy) + bottom * fy


@drawing_kernel
def contact_openness(contact: Contact, x: float, z: float) -> float:
    """Openness 0..1 of ground point (x, z) under all people."""
    maps, corners = contact.maps, contact.corners
    value = 1.0
    for n in range(maps.shape[0]):
        u, v = (x - corners[n, 0]) / CONTACT_CELL, (z - corners[n, 1]) / CONTACT_CELL
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


@drawing_kernel
def ray_direction(view: View, x: int, y: int, out: Array) -> None:
    """Unit direction `out` `[3]` through the centre of pixel (x, y)."""
    a, b = (x - view.cx) / view.focal, (y - view.cy) / view.focal
    length = 1.0 / np.sqrt(a * a + b * b + 1.0)
    for k in range(3):
        out[k] = (view.rotation[0, k] * a + view.rotation[1, k] * b + view.rotation[2, k]) * length


@drawing_kernel
def nearest_plane(planes: Array, eye: Array, direction: Array, out: Array) -> int:
    """First plane that a ray meets, -1 for none; `out` `[1]` gets the distance in metres."""
    best, hit = 1e9, -1
    for p in range(planes.shape[0]):
        axis = int(planes[p, AXIS])
        if direction[axis] * planes[p, FACING] >= 0.0:
            continue
        t = (planes[p, PLACE] - eye[axis]) / direction[axis]
        if t <= 0.05 or t >= best:
            continue
        first, second = (1, 2) if axis == 0 else ((0, 2) if axis == 1 else (0, 1))
        a, b = eye[first] + t * direction[first], eye[second] + t * direction[second]
        if planes[p, LOW_A] <= a <= planes[p, HIGH_A] and planes[p, LOW_B] <= b <= planes[p, HIGH_B]:
            best, hit = t, p
    out[0] = best
    return hit


@drawing_kernel
def ground_light(point: Array, lamp: Lamp, shadow: ShadowMap, contact: Contact, angle: float) -> float:
    """Share of its own light that a ground which is lit already keeps under people's shadows."""
    visible = sun_visibility(shadow, lamp.softness, point, 0.02 + shadow.texel, angle)
    openness = contact_openness(contact, point[0], point[2])
    # Feet darken what they stand on even in the sun, which is no point.
    direct = visible * (0.5 + 0.5 * openness)
    return lamp.ground_share * direct + (1.0 - lamp.ground_share) * openness


@drawing_kernel
def ground_detail(
    panorama: Panorama, textures: Textures, point: Array, footprint: float, texel: Array
) -> float:
    """Factor of the fine texture over the panorama's own ground; `footprint` in metres per pixel."""
    flat = np.sqrt(point[0] * point[0] + point[2] * point[2])
    fade = DETAIL_STRENGTH * max(1.0 - flat / DETAIL_REACH, 0.0)
    if panorama.detail < 0 or fade == 0.0:
        return 1.0
    repeat = panorama.detail_repeat
    texels = footprint * repeat * textures.table[panorama.detail, 0, 1]
    level = min(max(int(np.log2(max(texels, 1e-6)) + 0.5), 0), LEVELS - 1)
    sample(textures, panorama.detail, level, point[0] * repeat, point[2] * repeat, texel)
    linear = textures.linear
    light = 0.2126 * linear[int(texel[0])] + 0.7152 * linear[int(texel[1])] + 0.0722 * linear[int(texel[2])]
    return float(1.0 - fade + fade * min((light + 0.01) / (panorama.detail_mean + 0.01), 2.5))


@drawing_kernel
def panorama_look(panorama: Panorama, direction: Array, point: Array, look: Array) -> bool:
    """Direction `look` `[3]` of a ground `point` from the panorama's place → whether its ground is there."""
    flat = np.sqrt(point[0] * point[0] + point[2] * point[2])
    if flat < panorama.dome:
        look[0], look[1], look[2] = point[0], -panorama.height, point[2]
        return True
    # Beyond the dome's foot the panorama is far away: blend to the plain direction.
    share = min((flat - panorama.dome) / panorama.dome, 1.0)
    scale = panorama.dome / flat
    length = 1.0 / np.sqrt((point[0] * scale) ** 2 + panorama.height**2 + (point[2] * scale) ** 2)
    look[0] = point[0] * scale * length * (1 - share) + direction[0] * share
    look[1] = -panorama.height * length * (1 - share) + direction[1] * share
    look[2] = point[2] * scale * length * (1 - share) + direction[2] * share
    return False


@drawing_kernel
def plane_colour(
    row: Array, point: Array, box: Array, footprint: float, lamp: Lamp, shadow: ShadowMap, contact: Contact,
    textures: Textures, angle: float, texel: Array, out: Array,
) -> None:  # fmt: skip
    """Light `out` `[3]` leaving a plane at `point` `[3]`; `footprint` in metres per pixel."""
    axis = int(row[AXIS])
    first, second = (2, 1) if axis == 0 else ((0, 2) if axis == 1 else (0, 1))
    number = int(row[P_TEXTURE])
    for c in range(3):
        out[c] = row[P_RED + c]
    if number >= 0:
        texels = footprint * row[REPEAT] * textures.table[number, 0, 1]
        level = min(max(int(np.log2(max(texels, 1e-6)) + 0.3), 0), LEVELS - 1)
        sample(textures, number, level, point[first] * row[REPEAT], point[second] * row[REPEAT], texel)
        linear = textures.linear
        red, green, blue = linear[int(texel[0])], linear[int(texel[1])], linear[int(texel[2])]
        light = (0.2126 * red + 0.7152 * green + 0.0722 * blue + 1e-3) / (row[P_MEAN] + 1e-3)
        k = row[DYE]
        out[0] = red * (1 - k) + row[P_RED] * light * k
        out[1] = green * (1 - k) + row[P_GREEN] * light * k
        out[2] = blue * (1 - k) + row[P_BLUE] * light * k
    openness = corner_openness(point, box, axis)
    if axis == 1 and row[FACING] > 0.0:
        openness *= contact_openness(contact, point[0], point[2])
    facing = lamp.sun[axis] * row[FACING]
    visible = 0.0
    if facing > 0.0:
        visible = sun_visibility(shadow, lamp.softness, point, 0.02 + shadow.texel, angle)
    for c in range(3):
        nx, ny, nz = (axis == 0) * row[FACING], (axis == 1) * row[FACING], (axis == 2) * row[FACING]
        soft = irradiance(lamp.harmonics, nx, ny, nz, c) * openness
        out[c] *= soft + lamp.sun_colour[c] * max(facing, 0.0) * visible


@drawing_kernel
def corner_openness(point: Array, box: Array, axis: int) -> float:
    """How much a room's corners darken a wall at `point`; `box` `[6]` is x0 x1 y0 y1 z0 z1, or empty."""
    if box[0] >= box[1]:
        return 1.0
    openness = 1.0
    for k in range(3):
        if k != axis:
            edge = min(point[k] - box[2 * k], box[2 * k + 1] - point[k])
            openness *= 1.0 - 0.4 * np.exp(-max(edge, 0.0) / 0.3)
    return openness


@drawing_kernel
def panorama_pixel(
    view: View, panorama: Panorama, textures: Textures, lamp: Lamp, shadow: ShadowMap, contact: Contact,
    direction: Array, angle: float, point: Array, look: Array, texel: Array, out: Array,
) -> bool:  # fmt: skip
    """Light `out` `[3]` of a panorama along a ray → whether that is its ground, which people darken."""
    if panorama.dome <= 0.0 or direction[1] > -1e-3:
        panorama_colour(panorama, direction, out)
        return False
    t = -view.position[1] / direction[1]
    for k in range(3):
        point[k] = view.position[k] + t * direction[k]
    is_ground = panorama_look(panorama, direction, point, look)
    panorama_colour(panorama, look, out)
    factor = ground_light(point, lamp, shadow, contact, angle)
    factor *= ground_detail(panorama, textures, point, t / (view.focal * -direction[1]), texel)
    for c in range(3):
        out[c] *= factor
    return is_ground


@drawing_kernel
def shade_backdrop(
    face_id: Array, view: View, planes: Array, box: Array, panorama: Panorama, textures: Textures, lamp: Lamp,
    shadow: ShadowMap, contact: Contact, colour: Array, semantic: Array, room: Array,
) -> None:  # fmt: skip
    """Fill `colour` `[H, W, 3]` and `semantic` `[H, W]` where `face_id` is -1.

    planes: `[P, PLANE_COLUMNS]`; what they leave open is the panorama. box: `[6]` room bounds, empty
    outdoors.
    """
    height, width = face_id.shape
    texel, out, distance, direction, point, look = room[0], room[1], room[2], room[3], room[4], room[5]
    for y in range(height):
        for x in range(width):
            if face_id[y, x] >= 0:
                continue
            ray_direction(view, x, y, direction)
            angle = noise_angle(x, y)
            hit = nearest_plane(planes, view.position, direction, distance)
            if hit >= 0:
                for k in range(3):
                    point[k] = view.position[k] + distance[0] * direction[k]
                slope = max(abs(direction[int(planes[hit, AXIS])]), 0.03)
                plane_colour(
                    planes[hit],
                    point,
                    box,
                    distance[0] / (view.focal * slope),
                    lamp,
                    shadow,
                    contact,
                    textures,
                    angle,
                    texel,
                    out,
                )
                semantic[y, x] = int(planes[hit, P_SEMANTIC])
            else:
                is_ground = panorama_pixel(
                    view, panorama, textures, lamp, shadow, contact, direction, angle, point, look, texel, out
                )
                semantic[y, x] = GROUND_CLASS * is_ground
            for c in range(3):
                colour[y, x, c] = out[c]


@drawing_kernel
def darken_photo(
    face_id: Array, view: View, lamp: Lamp, shadow: ShadowMap, contact: Contact, colour: Array, room: Array
) -> None:
    """Lay shadow and contact on a photograph in `colour`, as if its lower part were flat ground."""
    height, width = face_id.shape
    direction, point = room[0], room[1]
    for y in range(height):
        for x in range(width):
            if face_id[y, x] >= 0:
                continue
            ray_direction(view, x, y, direction)
            if direction[1] > -1e-3:
                continue
            t = -view.position[1] / direction[1]
            for k in range(3):
                point[k] = view.position[k] + t * direction[k]
            factor = ground_light(point, lamp, shadow, contact, noise_angle(x, y))
            for c in range(3):
                colour[y, x, c] *= factor

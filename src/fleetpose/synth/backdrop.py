"""Compiled shading of what lies behind the people: flat planes, a projected panorama, or a photograph."""

# ruff: noqa: PLR0917 - compiled functions take positional arguments only

from __future__ import annotations

import cv2
import numpy as np

from fleetpose.synth.arrays import Array, drawing_kernel, kernel
from fleetpose.synth.records import Contact, Lamp, Panorama, ShadowMap, Textures, View
from fleetpose.synth.shade import noise_angle, sun_visibility
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
HORIZON = -1e-3  # rays that fall less than this meet no ground
PLAIN = 2  # columns of a panorama that is one colour
DETAIL_STRENGTH = 0.5
DETAIL_REACH = 14.0  # metres: farther away, a texture on the ground is finer than a pixel


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
def plane_colour(
    row: Array, soft: Array, point: Array, box: Array, footprint: float, lamp: Lamp, shadow: ShadowMap,
    contact: Contact, textures: Textures, angle: float, texel: Array, out: Array,
) -> None:  # fmt: skip
    """Light `out` `[3]` leaving a plane at `point` `[3]` under `soft` light `[3]` and the sun.

    footprint: metres per pixel.
    """
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
        out[c] *= soft[c] * openness + lamp.sun_colour[c] * max(facing, 0.0) * visible


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
def ground_point(view: View, direction: Array, out: Array) -> float:
    """Where a falling ray meets the ground, `out` `[3]` → its length in metres."""
    t = -view.position[1] / direction[1]
    for k in range(3):
        out[k] = view.position[k] + t * direction[k]
    return float(t)


@drawing_kernel
def is_falling(direction: Array) -> bool:
    """Tell whether a ray meets the ground before the horizon."""
    return bool(direction[1] <= HORIZON)


def empty_panorama(panorama: Panorama, view: View, size: tuple[int, int]) -> Array:
    """Light `[H, W, 3]` of a panorama with nobody in it.

    Only every second pixel is looked up: panoramas are two to five times coarser than pictures.
    """
    height, width = size
    if panorama.codes.shape[1] <= PLAIN:
        return np.full((height, width, 3), panorama.radiance[panorama.codes[0, 0]], np.float32)
    # Sample k lies between pixels 2 k and 2 k + 1, where enlarging expects it.
    a = ((np.arange(0, width, 2) + 0.5 - view.cx) / view.focal)[None].astype(np.float32)
    b = ((np.arange(0, height, 2) + 0.5 - view.cy) / view.focal)[:, None].astype(np.float32)
    turn = view.rotation.astype(np.float32)
    x, y, z = (turn[0, k] * a + turn[1, k] * b + turn[2, k] for k in range(3))
    if panorama.dome > 0:
        x, y, z = _towards_ground(panorama, view.position.astype(np.float32), x, y, z)
    rows, columns = panorama.codes.shape[:2]
    azimuth = (np.arctan2(x, -z) - np.float32(panorama.yaw)) / np.float32(2 * np.pi) + np.float32(0.5)
    elevation = np.float32(0.5) - np.arctan2(y, np.hypot(x, z)) / np.float32(np.pi)
    u = (azimuth - np.floor(azimuth)) * columns - np.float32(0.5)
    v = np.clip(elevation * rows - np.float32(0.5), 0, rows - 1)
    # One column more on either side: the panorama's ends meet.
    ring = np.concatenate([panorama.codes[:, -1:], panorama.codes, panorama.codes[:, :1]], axis=1)
    codes = cv2.remap(ring, u + 1, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    large = cv2.resize(cv2.LUT(codes, panorama.radiance), (2 * codes.shape[1], 2 * codes.shape[0]))
    return np.ascontiguousarray(large[:height, :width])


def _towards_ground(
    panorama: Panorama, eye: Array, x: Array, y: Array, z: Array
) -> tuple[Array, Array, Array]:
    """Turn rays from `eye` that meet the ground into the panorama's own directions to what they meet."""
    length = np.sqrt(x * x + y * y + z * z)
    falling = y <= HORIZON * length
    t = np.where(falling, -eye[1] / np.where(falling, y, -1), 0)
    gx, gz = eye[0] + t * x, eye[2] + t * z
    flat = np.hypot(gx, gz)
    # Beyond the dome's foot the panorama is far away: blend to the plain direction.
    share = np.clip(flat / panorama.dome - 1, 0, 1)
    scale = np.minimum(panorama.dome / np.maximum(flat, 1e-6), 1)
    foot = np.sqrt((flat * scale) ** 2 + panorama.height**2) * np.where(share > 0, 1, 0) + (share <= 0)
    near = (1 - share) / foot
    far = share / length
    return (
        np.where(falling, gx * scale * near + x * far, x).astype(np.float32),
        np.where(falling, -panorama.height * near + y * far, y).astype(np.float32),
        np.where(falling, gz * scale * near + z * far, z).astype(np.float32),
    )


@drawing_kernel
def panorama_pixel(
    view: View, panorama: Panorama, textures: Textures, lamp: Lamp, shadow: ShadowMap, contact: Contact,
    direction: Array, angle: float, point: Array, texel: Array, out: Array,
) -> bool:  # fmt: skip
    """Factor `out` `[3]` of detail and people's shadows on a panorama → whether there is its ground."""
    out[0], out[1], out[2] = 1.0, 1.0, 1.0
    if panorama.dome <= 0.0 or not is_falling(direction):
        return False
    t = ground_point(view, direction, point)
    factor = ground_light(point, lamp, shadow, contact, angle)
    factor *= ground_detail(panorama, textures, point, t / (view.focal * -direction[1]), texel)
    out[0], out[1], out[2] = factor, factor, factor
    return bool(point[0] * point[0] + point[2] * point[2] < panorama.dome * panorama.dome)


@drawing_kernel
def shade_backdrop(
    face_id: Array, view: View, planes: Array, soft: Array, box: Array, panorama: Panorama,
    textures: Textures, lamp: Lamp, shadow: ShadowMap, contact: Contact, colour: Array, semantic: Array,
    room: Array,
) -> None:  # fmt: skip
    """Fill `semantic` `[H, W]` and change `colour` `[H, W, 3]`, the panorama's, where `face_id` is -1.

    planes: `[P, PLANE_COLUMNS]`; what they leave open is the panorama. soft: `[P, 3]` soft light on each.
    box: `[6]` room bounds, empty outdoors.
    """
    height, width = face_id.shape
    texel, out, distance, direction, point = room[0], room[1], room[2], room[3], room[4]
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
                footprint = distance[0] / (view.focal * slope)
                plane_colour(
                    planes[hit],
                    soft[hit],
                    point,
                    box,
                    footprint,
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
                    view, panorama, textures, lamp, shadow, contact, direction, angle, point, texel, out
                )
                semantic[y, x] = GROUND_CLASS * is_ground
                for c in range(3):
                    out[c] *= colour[y, x, c]
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
            if not is_falling(direction):
                continue
            ground_point(view, direction, point)
            factor = ground_light(point, lamp, shadow, contact, noise_angle(x, y))
            for c in range(3):
                colour[y, x, c] *= factor

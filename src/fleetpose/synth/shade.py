"""Compiled shading of what the rasteriser found: albedo, bumps, soft light, sun with shadow, shine."""

# ruff: noqa: PLR0917 - compiled functions take positional arguments only

from __future__ import annotations

import numpy as np

from fleetpose.synth.arrays import Array, drawing_kernel, kernel
from fleetpose.synth.mesh import (
    BLUE,
    BUMP,
    BUMP_SCALE,
    CONTRAST,
    GLOSS,
    GREEN,
    MEAN,
    NORMAL,
    OCCLUSION,
    PAINT_BLUE,
    PAINT_GREEN,
    PAINT_RED,
    RECOLOUR,
    RED,
    SOFT,
    SPECULAR,
    TEXTURE,
    UV_SCALE,
)
from fleetpose.synth.records import Lamp, ShadowMap, Surfaces, Textures
from fleetpose.synth.texture import LEVELS, sample

AO_RADIUS = 0.22  # metres within which surfaces darken each other
AO_SAMPLES = 8


@drawing_kernel
def noise_angle(x: int, y: int) -> float:
    """A repeatable angle per pixel, to turn sampling patterns by."""
    h = (x * 374761393 + y * 668265263) & 0xFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFF
    return float((h ^ (h >> 7)) % 1024) * (6.2831853 / 1024.0)


@drawing_kernel
def irradiance(harmonics: Array, x: float, y: float, z: float, channel: int) -> float:
    """Soft light / pi on a surface with unit normal (x, y, z)."""
    value = (
        0.282095 * harmonics[0, channel]
        + 0.488603 * (y * harmonics[1, channel] + z * harmonics[2, channel] + x * harmonics[3, channel])
        + 1.092548
        * (x * y * harmonics[4, channel] + y * z * harmonics[5, channel] + x * z * harmonics[7, channel])
        + 0.315392 * (3.0 * z * z - 1.0) * harmonics[6, channel]
        + 0.546274 * (x * x - y * y) * harmonics[8, channel]
    )
    return float(max(value, 0.0))


@drawing_kernel
def sun_visibility(shadow: ShadowMap, softness: float, point: Array, bias: float, angle: float) -> float:
    """Share 0..1 of the sun that reaches world `point` `[3]`: nine turned taps of the shadow map."""
    height, width = shadow.nearness.shape
    matrix, shift = shadow.matrix, shadow.shift
    px, py, pz = point[0], point[1], point[2]
    u = matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] * pz + shift[0]
    v = matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] * pz + shift[1]
    if u < 0.0 or v < 0.0 or u >= width or v >= height:
        return 1.0
    near = matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] * pz + bias
    if shadow.coarse[min(int(v) // 16, shadow.coarse.shape[0] - 1), int(u) // 16] <= near:
        return 1.0
    radius = min(max(softness * 0.6 / shadow.texel, 0.8), 24.0)
    ca, sa = np.cos(angle) * radius, np.sin(angle) * radius
    lit = 0.0
    for k in range(9):
        # Vogel's disc: evenly spread points on a spiral.
        r = np.sqrt((k + 0.5) / 9.0)
        a = k * 2.399963
        dx, dy = r * np.cos(a), r * np.sin(a)
        x = int(u + dx * ca - dy * sa + 0.5)
        y = int(v + dx * sa + dy * ca + 0.5)
        if x < 0 or y < 0 or x >= width or y >= height or shadow.nearness[y, x] <= near:
            lit += 1.0
    return lit / 9.0


@kernel
def ambient_occlusion(nearness: Array, focal: float, cx: float, cy: float) -> Array:
    """Openness 0..1 `[h, w]` at half resolution, from the depth around each covered pixel."""
    height, width = nearness.shape
    out = np.ones(((height + 1) // 2, (width + 1) // 2), np.float32)
    for hy in range(out.shape[0]):
        for hx in range(out.shape[1]):
            x, y = 2 * hx, 2 * hy
            inverse = nearness[y, x]
            if inverse <= 0.0 or x < 1 or y < 1 or x >= width - 1 or y >= height - 1:
                continue
            z = 1.0 / inverse
            px, py = (x - cx) * z / focal, (y - cy) * z / focal
            # Tangents from the nearer neighbour on each axis, so that silhouettes do not bend the normal.
            left, right, above, below = (
                nearness[y, x - 1],
                nearness[y, x + 1],
                nearness[y - 1, x],
                nearness[y + 1, x],
            )
            sx = 1 if abs(right - inverse) < abs(left - inverse) else -1
            sy = 1 if abs(below - inverse) < abs(above - inverse) else -1
            zx = 1.0 / max(right if sx > 0 else left, 1e-6)
            zy = 1.0 / max(below if sy > 0 else above, 1e-6)
            ux, uy, uz = (
                ((x + sx - cx) * zx / focal - px) * sx,
                ((y - cy) * zx / focal - py) * sx,
                (zx - z) * sx,
            )
            vx, vy, vz = (
                ((x - cx) * zy / focal - px) * sy,
                ((y + sy - cy) * zy / focal - py) * sy,
                (zy - z) * sy,
            )
            nx, ny, nz = vy * uz - vz * uy, vz * ux - vx * uz, vx * uy - vy * ux
            length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
            nx, ny, nz = nx / length, ny / length, nz / length
            reach = min(focal * AO_RADIUS * inverse, 0.25 * width)
            if reach < 1.5:
                continue
            angle = noise_angle(x, y)
            blocked = 0.0
            for k in range(AO_SAMPLES):
                r = (k + 0.7) / AO_SAMPLES * reach
                a = angle + k * 2.399963
                qx, qy = int(x + r * np.cos(a) + 0.5), int(y + r * np.sin(a) + 0.5)
                if qx < 0 or qy < 0 or qx >= width or qy >= height or nearness[qy, qx] <= 0.0:
                    continue
                zq = 1.0 / nearness[qy, qx]
                dx, dy, dz = (qx - cx) * zq / focal - px, (qy - cy) * zq / focal - py, zq - z
                d2 = dx * dx + dy * dy + dz * dz + 1e-9
                up = (dx * nx + dy * ny + dz * nz) / np.sqrt(d2)
                if up > 0.1:
                    blocked += (up - 0.1) / (1.0 + d2 / (AO_RADIUS * AO_RADIUS) * 3.0)
            out[hy, hx] = max(1.0 - 1.9 * blocked / AO_SAMPLES, 0.15)
    return out


@drawing_kernel
def mip_level(table: Array, number: int, scale: float, uv_area: float, screen_area: float) -> int:
    """Level whose texels are about one pixel large."""
    texels = uv_area * scale * scale * table[number, 0, 1] * table[number, 0, 2]
    if texels <= screen_area:
        return 0
    return min(int(0.5 * np.log2(texels / max(screen_area, 1e-9)) + 0.35), LEVELS - 1)


@drawing_kernel
def albedo(row: Array, texel: Array, linear: Array, paint: float, out: Array) -> None:
    """Linear colour `out` `[3]` of a material `row` under texture codes `texel` `[4]`."""
    if row[TEXTURE] >= 0.0:
        red, green, blue = linear[int(texel[0])], linear[int(texel[1])], linear[int(texel[2])]
    else:
        red, green, blue = 1.0, 1.0, 1.0
    k = row[RECOLOUR]
    if k > 0.0:
        light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        ratio = min(((light + 1e-3) / (row[MEAN] + 1e-3)) ** row[CONTRAST], 2.2)
        out[0] = red * (1 - k) + row[RED] * ratio * k
        out[1] = green * (1 - k) + row[GREEN] * ratio * k
        out[2] = blue * (1 - k) + row[BLUE] * ratio * k
    else:
        out[0], out[1], out[2] = red * row[RED], green * row[GREEN], blue * row[BLUE]
    if paint > 0.0:
        out[0] = out[0] * (1 - paint) + row[PAINT_RED] * paint
        out[1] = out[1] * (1 - paint) + row[PAINT_GREEN] * paint
        out[2] = out[2] * (1 - paint) + row[PAINT_BLUE] * paint
    for c in range(3):
        out[c] = min(out[c], 0.9)


@drawing_kernel
def corner_weights(screen: Array, face: Array, x: float, y: float, out: Array) -> float:
    """Perspective-correct weights `out` `[3]` of a face's corners at a pixel → twice its area in pixels.

    A weight is negative where the pixel lies outside the face.
    """
    a, b, c = face[0], face[1], face[2]
    xa, ya, xb, yb, xc, yc = (
        screen[a, 0],
        screen[a, 1],
        screen[b, 0],
        screen[b, 1],
        screen[c, 0],
        screen[c, 1],
    )
    area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
    if abs(area) < 1e-12:
        out[0], out[1], out[2] = 1.0, 0.0, 0.0
        return 1e-12
    wa = ((xb - x) * (yc - y) - (xc - x) * (yb - y)) / area
    wb = ((xc - x) * (ya - y) - (xa - x) * (yc - y)) / area
    wa, wb, wc = wa * screen[a, 2], wb * screen[b, 2], (1.0 - wa - wb) * screen[c, 2]
    total = wa + wb + wc
    out[0], out[1], out[2] = wa / total, wb / total, wc / total
    return float(abs(area))


@drawing_kernel
def bump_normal(normal: Array, texel: Array, strength: float, corners: Array, uv: Array) -> None:
    """Tilt `normal` `[3]` in place by a normal map's code `texel` `[4]`, on a face of `corners` `[3, 3]`."""
    e1u, e1v = uv[1, 0] - uv[0, 0], uv[1, 1] - uv[0, 1]
    e2u, e2v = uv[2, 0] - uv[0, 0], uv[2, 1] - uv[0, 1]
    det = e1u * e2v - e2u * e1v
    if abs(det) < 1e-14:
        return
    tu, tv = (texel[0] / 127.5 - 1.0) * strength, (texel[1] / 127.5 - 1.0) * strength
    lt, lb = 1e-12, 1e-12
    for k in range(3):
        e1, e2 = corners[1, k] - corners[0, k], corners[2, k] - corners[0, k]
        lt += ((e1 * e2v - e2 * e1v) / det) ** 2
        lb += ((e2 * e1u - e1 * e2u) / det) ** 2
    lt, lb = tu / np.sqrt(lt) / det, tv / np.sqrt(lb) / det
    for k in range(3):
        e1, e2 = corners[1, k] - corners[0, k], corners[2, k] - corners[0, k]
        normal[k] += (e1 * e2v - e2 * e1v) * lt + (e2 * e1u - e1 * e2u) * lb
    normalise(normal)


@drawing_kernel
def normalise(vector: Array) -> None:
    """Bring `vector` `[3]` to length 1, in place."""
    length = 1.0 / np.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2 + 1e-18)
    for k in range(3):
        vector[k] *= length


@drawing_kernel
def interpolate(values: Array, face: Array, weights: Array, out: Array) -> None:
    """Mix the vectors `[N, 3]` of a face's corners by `weights` `[3]` into `out` `[3]`."""
    for k in range(3):
        out[k] = (
            weights[0] * values[face[0], k]
            + weights[1] * values[face[1], k]
            + weights[2] * values[face[2], k]
        )


@drawing_kernel
def turn_to_viewer(point: Array, eye: Array, normal: Array, view: Array) -> None:
    """Unit direction `view` `[3]` from `point` to `eye`; `normal` is turned to that side."""
    for k in range(3):
        view[k] = eye[k] - point[k]
    normalise(view)
    normalise(normal)
    if view[0] * normal[0] + view[1] * normal[1] + view[2] * normal[2] < 0.0:
        for k in range(3):
            normal[k] = -normal[k]


@drawing_kernel
def double_area(uv: Array) -> float:
    """Twice the area of a triangle `[3, 2]`."""
    first = (uv[1, 0] - uv[0, 0]) * (uv[2, 1] - uv[0, 1])
    return float(abs(first - (uv[2, 0] - uv[0, 0]) * (uv[1, 1] - uv[0, 1])))


@drawing_kernel
def lit_colour(
    row: Array,
    base: Array,
    normal: Array,
    view: Array,
    open_share: float,
    sun_share: float,
    lamp: Lamp,
    out: Array,
) -> None:
    """Light leaving a surface `out` `[3]`: `base` albedo, unit `normal` and `view`, open and sun shares."""
    soft, sun = row[SOFT], lamp.sun
    facing = normal[0] * sun[0] + normal[1] * sun[1] + normal[2] * sun[2]
    # Wrapped diffuse: light bleeds past the terminator of soft materials.
    diffuse = max((facing + soft) / (1.0 + soft), 0.0)
    hx, hy, hz = sun[0] + view[0], sun[1] + view[1], sun[2] + view[2]
    length = np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9
    highlight = max((hx * normal[0] + hy * normal[1] + hz * normal[2]) / length, 0.0)
    shine = row[SPECULAR] * (row[GLOSS] + 2.0) * 0.125 * highlight ** row[GLOSS] * (facing > 0.0)
    edge = 1.0 - min(max(normal[0] * view[0] + normal[1] * view[1] + normal[2] * view[2], 0.0), 1.0)
    rim = row[SPECULAR] * (0.4 + 2.5 * edge**4)
    for c in range(3):
        ambient = irradiance(lamp.harmonics, normal[0], normal[1], normal[2], c) * open_share
        direct = lamp.sun_colour[c] * sun_share
        out[c] = base[c] * (ambient + direct * diffuse) + direct * 3.14159 * shine + ambient * rim


@drawing_kernel
def surface_maps(
    row: Array,
    uv: Array,
    weights: Array,
    area: float,
    textures: Textures,
    corners: Array,
    normal: Array,
    texel: Array,
) -> float:
    """Look up a face's maps: colour into `texel` `[4]`, bumps into `normal` → openness."""
    u = weights[0] * uv[0, 0] + weights[1] * uv[1, 0] + weights[2] * uv[2, 0]
    v = weights[0] * uv[0, 1] + weights[1] * uv[1, 1] + weights[2] * uv[2, 1]
    uv_area = double_area(uv)
    number = int(row[OCCLUSION])
    openness = 1.0
    if number >= 0:
        sample(textures, number, mip_level(textures.table, number, 1.0, uv_area, area), u, v, texel)
        openness = 0.35 + 0.65 * texel[0] / 255.0
    number = int(row[NORMAL])
    if number >= 0 and row[BUMP] > 0.0:
        s = row[BUMP_SCALE]
        sample(textures, number, mip_level(textures.table, number, s, uv_area, area), u * s, v * s, texel)
        bump_normal(normal, texel, row[BUMP], corners, uv)
    number = int(row[TEXTURE])
    if number >= 0:
        s = row[UV_SCALE]
        sample(textures, number, mip_level(textures.table, number, s, uv_area, area), u * s, v * s, texel)
    return openness


@drawing_kernel
def shade_faces(
    face_id: Array, openness: Array, surfaces: Surfaces, textures: Textures, eye: Array, lamp: Lamp,
    shadow: ShadowMap, colour: Array, room: Array,
) -> None:  # fmt: skip
    """Fill `colour` `[H, W, 3]` where `face_id` `[H, W]` is a face."""
    height, width = face_id.shape
    weights, point, normal, view, texel, base, out = (
        room[0],
        room[1],
        room[2],
        room[3],
        room[4],
        room[5],
        room[6],
    )
    corners = room[7:10]
    sun = lamp.sun
    for y in range(height):
        for x in range(width):
            f = face_id[y, x]
            if f < 0:
                continue
            face = surfaces.faces[f]
            area = corner_weights(surfaces.screen, face, x, y, weights)
            row = surfaces.materials[surfaces.material[f]]
            for corner in range(3):
                for k in range(3):
                    corners[corner, k] = surfaces.verts[face[corner], k]
            interpolate(surfaces.verts, face, weights, point)
            interpolate(surfaces.normals, face, weights, normal)
            turn_to_viewer(point, eye, normal, view)
            own = surface_maps(row, surfaces.face_uv[f], weights, area, textures, corners, normal, texel)
            paint = surfaces.paint
            laid = weights[0] * paint[face[0]] + weights[1] * paint[face[1]] + weights[2] * paint[face[2]]
            albedo(row, texel, textures.linear, laid, base)
            visible = 0.0
            if normal[0] * sun[0] + normal[1] * sun[1] + normal[2] * sun[2] > -row[SOFT]:
                bias = 0.012 + 2.0 * shadow.texel
                visible = sun_visibility(shadow, lamp.softness, point, bias, noise_angle(x, y))
            lit_colour(row, base, normal, view, own * openness[y // 2, x // 2], visible, lamp, out)
            for k in range(3):
                colour[y, x, k] = out[k]

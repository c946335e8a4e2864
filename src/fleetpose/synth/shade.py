"""Compiled shading of what the rasteriser found: albedo, bumps, soft light, sun with shadow, shine."""

from __future__ import annotations

import numpy as np

from fleetpose.synth.arrays import Array, kernel
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
from fleetpose.synth.texture import LEVELS, sample

AO_RADIUS = 0.22  # metres within which surfaces darken each other
AO_SAMPLES = 10


@kernel
def noise_angle(x: int, y: int) -> float:
    """A repeatable angle per pixel, to turn sampling patterns by."""
    h = (x * 374761393 + y * 668265263) & 0xFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFF
    return (h ^ (h >> 7)) % 1024 * (6.2831853 / 1024.0)


@kernel
def irradiance(harmonics: Array, x: float, y: float, z: float, channel: int) -> float:
    """Soft light / pi on a surface with unit normal (x, y, z)."""
    value = (
        0.282095 * harmonics[0, channel]
        + 0.488603 * (y * harmonics[1, channel] + z * harmonics[2, channel] + x * harmonics[3, channel])
        + 1.092548 * (x * y * harmonics[4, channel] + y * z * harmonics[5, channel] + x * z * harmonics[7, channel])
        + 0.315392 * (3.0 * z * z - 1.0) * harmonics[6, channel]
        + 0.546274 * (x * x - y * y) * harmonics[8, channel]
    )
    return max(value, 0.0)


@kernel
def sun_visibility(
    nearness: Array, matrix: Array, shift: Array, texel: float, softness: float,
    px: float, py: float, pz: float, bias: float, angle: float,
) -> float:  # fmt: skip
    """Share 0..1 of the sun that reaches world point (px, py, pz): nine turned taps of the shadow map."""
    height, width = nearness.shape
    u = matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] * pz + shift[0]
    v = matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] * pz + shift[1]
    if u < 0.0 or v < 0.0 or u >= width or v >= height:
        return 1.0
    near = matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] * pz + bias
    radius = min(max(softness * 0.6 / texel, 0.8), 24.0)
    ca, sa = np.cos(angle) * radius, np.sin(angle) * radius
    lit = 0.0
    for k in range(9):
        # Vogel's disc: evenly spread points on a spiral.
        r = np.sqrt((k + 0.5) / 9.0)
        a = k * 2.399963
        dx, dy = r * np.cos(a), r * np.sin(a)
        x = int(u + dx * ca - dy * sa + 0.5)
        y = int(v + dx * sa + dy * ca + 0.5)
        if x < 0 or y < 0 or x >= width or y >= height or nearness[y, x] <= near:
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
            left, right, above, below = nearness[y, x - 1], nearness[y, x + 1], nearness[y - 1, x], nearness[y + 1, x]
            sx = 1 if abs(right - inverse) < abs(left - inverse) else -1
            sy = 1 if abs(below - inverse) < abs(above - inverse) else -1
            zx = 1.0 / max(right if sx > 0 else left, 1e-6)
            zy = 1.0 / max(below if sy > 0 else above, 1e-6)
            ux, uy, uz = ((x + sx - cx) * zx / focal - px) * sx, ((y - cy) * zx / focal - py) * sx, (zx - z) * sx
            vx, vy, vz = ((x - cx) * zy / focal - px) * sy, ((y + sy - cy) * zy / focal - py) * sy, (zy - z) * sy
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


@kernel
def mip_level(table: Array, number: int, scale: float, uv_area: float, screen_area: float) -> int:
    """Level whose texels are about one pixel large."""
    texels = uv_area * scale * scale * table[number, 0, 1] * table[number, 0, 2]
    if texels <= screen_area:
        return 0
    return min(int(0.5 * np.log2(texels / max(screen_area, 1e-9)) + 0.35), LEVELS - 1)


@kernel
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


@kernel
def corner_weights(screen: Array, a: int, b: int, c: int, x: float, y: float, out: Array) -> float:
    """Perspective-correct weights `out` `[3]` of a face's corners at pixel (x, y); returns twice its area in pixels."""
    xa, ya, xb, yb, xc, yc = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
    area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
    if abs(area) < 1e-12:
        out[0], out[1], out[2] = 1.0, 0.0, 0.0
        return 1e-12
    wa = ((xb - x) * (yc - y) - (xc - x) * (yb - y)) / area
    wb = ((xc - x) * (ya - y) - (xa - x) * (yc - y)) / area
    wa, wb, wc = wa * screen[a, 2], wb * screen[b, 2], (1.0 - wa - wb) * screen[c, 2]
    total = wa + wb + wc
    out[0], out[1], out[2] = wa / total, wb / total, wc / total
    return abs(area)


@kernel
def bump_normal(
    normal: Array, texel: Array, strength: float, verts: Array, uv: Array, a: int, b: int, c: int
) -> None:
    """Tilt `normal` `[3]` in place by a tangent-space normal map's code `texel` `[4]`."""
    e1u, e1v = uv[1, 0] - uv[0, 0], uv[1, 1] - uv[0, 1]
    e2u, e2v = uv[2, 0] - uv[0, 0], uv[2, 1] - uv[0, 1]
    det = e1u * e2v - e2u * e1v
    if abs(det) < 1e-14:
        return
    tu, tv = (texel[0] / 127.5 - 1.0) * strength, (texel[1] / 127.5 - 1.0) * strength
    lt, lb = 1e-12, 1e-12
    t = np.empty(3)
    s = np.empty(3)
    for k in range(3):
        e1, e2 = verts[b, k] - verts[a, k], verts[c, k] - verts[a, k]
        t[k] = (e1 * e2v - e2 * e1v) / det
        s[k] = (e2 * e1u - e1 * e2u) / det
        lt += t[k] * t[k]
        lb += s[k] * s[k]
    lt, lb = 1.0 / np.sqrt(lt), 1.0 / np.sqrt(lb)
    length = 0.0
    for k in range(3):
        normal[k] += tu * t[k] * lt + tv * s[k] * lb
        length += normal[k] * normal[k]
    length = 1.0 / np.sqrt(length + 1e-12)
    for k in range(3):
        normal[k] *= length


@kernel
def lit_colour(
    row: Array, base: Array, normal: Array, view: Array, open_share: float, sun_share: float,
    harmonics: Array, sun: Array, sun_colour: Array, out: Array,
) -> None:  # fmt: skip
    """Light leaving a surface `out` `[3]`: albedo `base`, unit `normal` and `view`, openness and sun share 0..1."""
    soft = row[SOFT]
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
        ambient = irradiance(harmonics, normal[0], normal[1], normal[2], c) * open_share
        direct = sun_colour[c] * sun_share
        out[c] = base[c] * (ambient + direct * diffuse) + direct * 3.14159 * shine + ambient * rim


@kernel
def shade_faces(
    face_id: Array, openness: Array, screen: Array, verts: Array, normals: Array, paint: Array, faces: Array,
    face_uv: Array, material: Array, materials: Array, texels: Array, table: Array, linear: Array,
    eye: Array, harmonics: Array, sun: Array, sun_colour: Array, softness: float,
    shadow: Array, shadow_matrix: Array, shadow_shift: Array, shadow_texel: float, colour: Array,
) -> None:  # fmt: skip
    """Fill `colour` `[H, W, 3]` where `face_id` `[H, W]` is a face."""
    height, width = face_id.shape
    weights, point, normal, view = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    texel, extra, base, out = np.empty(4), np.empty(4), np.empty(3), np.empty(3)
    for y in range(height):
        for x in range(width):
            f = face_id[y, x]
            if f < 0:
                continue
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            area = corner_weights(screen, a, b, c, x, y, weights)
            row = materials[material[f]]
            inverse = 0.0
            for k in range(3):
                point[k] = weights[0] * verts[a, k] + weights[1] * verts[b, k] + weights[2] * verts[c, k]
                normal[k] = weights[0] * normals[a, k] + weights[1] * normals[b, k] + weights[2] * normals[c, k]
                view[k] = eye[k] - point[k]
                inverse += view[k] * view[k]
            inverse = 1.0 / np.sqrt(inverse)
            length = 1.0 / (np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2) + 1e-9)
            facing = 0.0
            for k in range(3):
                view[k] *= inverse
                normal[k] *= length
                facing += view[k] * normal[k]
            if facing < 0.0:
                for k in range(3):
                    normal[k] = -normal[k]
            uv = face_uv[f]
            u = weights[0] * uv[0, 0] + weights[1] * uv[1, 0] + weights[2] * uv[2, 0]
            v = weights[0] * uv[0, 1] + weights[1] * uv[1, 1] + weights[2] * uv[2, 1]
            uv_area = abs((uv[1, 0] - uv[0, 0]) * (uv[2, 1] - uv[0, 1]) - (uv[2, 0] - uv[0, 0]) * (uv[1, 1] - uv[0, 1]))
            number = int(row[TEXTURE])
            if number >= 0:
                s = row[UV_SCALE]
                sample(texels, table, number, mip_level(table, number, s, uv_area, area), u * s, v * s, texel)
            albedo(row, texel, linear, weights[0] * paint[a] + weights[1] * paint[b] + weights[2] * paint[c], base)
            open_share = openness[y // 2, x // 2]
            number = int(row[OCCLUSION])
            if number >= 0:
                sample(texels, table, number, mip_level(table, number, 1.0, uv_area, area), u, v, extra)
                open_share *= 0.35 + 0.65 * extra[0] / 255.0
            number = int(row[NORMAL])
            if number >= 0 and row[BUMP] > 0.0:
                s = row[BUMP_SCALE]
                sample(texels, table, number, mip_level(table, number, s, uv_area, area), u * s, v * s, extra)
                bump_normal(normal, extra, row[BUMP], verts, uv, a, b, c)
            bias = 0.012 + 2.0 * shadow_texel
            visible = sun_visibility(shadow, shadow_matrix, shadow_shift, shadow_texel, softness,
                                     point[0], point[1], point[2], bias, noise_angle(x, y))  # fmt: skip
            lit_colour(row, base, normal, view, open_share, visible, harmonics, sun, sun_colour, out)
            for k in range(3):
                colour[y, x, k] = out[k]


@kernel
def blend_faces(
    order: Array, nearness: Array, cover: Array, cover_face: Array, screen: Array, verts: Array, normals: Array,
    faces: Array, face_uv: Array, material: Array, materials: Array, texels: Array, table: Array, linear: Array,
    eye: Array, harmonics: Array, sun: Array, sun_colour: Array, softness: float,
    shadow: Array, shadow_matrix: Array, shadow_shift: Array, shadow_texel: float, colour: Array,
) -> None:  # fmt: skip
    """Lay see-through faces, in the back-to-front `order`, over `colour`.

    cover: `[H, W]` opacity laid so far. cover_face: `[H, W]` last face that took the pixel's opacity past one half.
    """
    height, width = nearness.shape
    weights, point, normal, view = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    texel, base, out = np.empty(4), np.empty(3), np.empty(3)
    for n in range(order.shape[0]):
        f = order[n]
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        if screen[a, 2] == 0.0 or screen[b, 2] == 0.0 or screen[c, 2] == 0.0:
            continue
        x0 = max(int(np.ceil(min(screen[a, 0], screen[b, 0], screen[c, 0]))), 0)
        x1 = min(int(np.floor(max(screen[a, 0], screen[b, 0], screen[c, 0]))), width - 1)
        y0 = max(int(np.ceil(min(screen[a, 1], screen[b, 1], screen[c, 1]))), 0)
        y1 = min(int(np.floor(max(screen[a, 1], screen[b, 1], screen[c, 1]))), height - 1)
        if x0 > x1 or y0 > y1:
            continue
        row = materials[material[f]]
        uv = face_uv[f]
        uv_area = abs((uv[1, 0] - uv[0, 0]) * (uv[2, 1] - uv[0, 1]) - (uv[2, 0] - uv[0, 0]) * (uv[1, 1] - uv[0, 1]))
        number = int(row[TEXTURE])
        if number < 0:
            continue
        xa, ya, xb, yb, xc, yc = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        signed = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
        if abs(signed) < 1e-9:
            continue
        level = max(mip_level(table, number, 1.0, uv_area, abs(signed)) - 1, 0)
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                wa = ((xb - x) * (yc - y) - (xc - x) * (yb - y)) / signed
                wb = ((xc - x) * (ya - y) - (xa - x) * (yc - y)) / signed
                if wa < 0.0 or wb < 0.0 or wa + wb > 1.0:
                    continue
                near = wa * screen[a, 2] + wb * screen[b, 2] + (1.0 - wa - wb) * screen[c, 2]
                # Brows and lashes lie on the skin: let them win within 4 mm.
                if near * (1.0 + 0.004 * near) < nearness[y, x]:
                    continue
                corner_weights(screen, a, b, c, x, y, weights)
                u = weights[0] * uv[0, 0] + weights[1] * uv[1, 0] + weights[2] * uv[2, 0]
                v = weights[0] * uv[0, 1] + weights[1] * uv[1, 1] + weights[2] * uv[2, 1]
                sample(texels, table, number, level, u, v, texel)
                alpha = texel[3] / 255.0
                if alpha < 0.03:
                    continue
                inverse = 0.0
                for k in range(3):
                    point[k] = weights[0] * verts[a, k] + weights[1] * verts[b, k] + weights[2] * verts[c, k]
                    normal[k] = weights[0] * normals[a, k] + weights[1] * normals[b, k] + weights[2] * normals[c, k]
                    view[k] = eye[k] - point[k]
                    inverse += view[k] * view[k]
                inverse = 1.0 / np.sqrt(inverse)
                facing = 0.0
                for k in range(3):
                    view[k] *= inverse
                    facing += view[k] * normal[k]
                if facing < 0.0:
                    for k in range(3):
                        normal[k] = -normal[k]
                albedo(row, texel, linear, 0.0, base)
                visible = sun_visibility(shadow, shadow_matrix, shadow_shift, shadow_texel, softness,
                                         point[0], point[1], point[2], 0.03, noise_angle(x, y))  # fmt: skip
                lit_colour(row, base, normal, view, 0.85, visible, harmonics, sun, sun_colour, out)
                for k in range(3):
                    colour[y, x, k] += (out[k] - colour[y, x, k]) * alpha
                cover[y, x] += (1.0 - cover[y, x]) * alpha
                if cover[y, x] > 0.5:
                    cover_face[y, x] = f

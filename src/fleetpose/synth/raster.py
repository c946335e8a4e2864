"""Compiled rasterisers: visibility with a depth buffer, seen from the camera or from the sun."""

from __future__ import annotations

import numpy as np

from fleetpose.synth.arrays import Array, drawing_kernel, kernel
from fleetpose.synth.records import View

NEAR = 0.15  # metres; faces that reach nearer than this are dropped


@kernel
def project(verts: Array, view: View) -> Array:
    """World vertices `[N, 3]` → `[N, 3]` (x, y in pixels, 1 / depth); 1 / depth is 0 nearer than `NEAR`."""
    out = np.empty((verts.shape[0], 3), np.float32)
    position, rotation = view.position, view.rotation
    for i in range(verts.shape[0]):
        x, y, z = verts[i, 0] - position[0], verts[i, 1] - position[1], verts[i, 2] - position[2]
        depth = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z
        if depth < NEAR:
            out[i, 0], out[i, 1], out[i, 2] = 0.0, 0.0, 0.0
            continue
        scale = view.focal / depth
        out[i, 0] = (rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z) * scale + view.cx
        out[i, 1] = (rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z) * scale + view.cy
        out[i, 2] = 1.0 / depth
    return out


@drawing_kernel
def rasterise(screen: Array, faces: Array, count: int, nearness: Array, face_id: Array) -> None:
    """Draw the first `count` faces `[F, 3]` of `screen` `[N, 3]` (x, y, nearness) where they are the nearest.

    nearness `[H, W]` grows towards the viewer and must be linear on the screen: 1 / depth for a camera.
    face_id `[H, W]` gets the number of the nearest face.
    """
    for f in range(count):
        face = faces[f]
        if screen[face[0], 2] != 0.0 and screen[face[1], 2] != 0.0 and screen[face[2], 2] != 0.0:
            draw_face(screen, face, f, nearness, face_id)


@drawing_kernel
def draw_face(screen: Array, face: Array, number: int, nearness: Array, face_id: Array) -> None:
    """Draw one face."""
    height, width = nearness.shape
    a, b, c = face[0], face[1], face[2]
    xa, ya, xb, yb, xc, yc = (
        screen[a, 0],
        screen[a, 1],
        screen[b, 0],
        screen[b, 1],
        screen[c, 0],
        screen[c, 1],
    )
    za, zb, zc = screen[a, 2], screen[b, 2], screen[c, 2]
    x0 = max(int(np.ceil(min(xa, xb, xc))), 0)
    x1 = min(int(np.floor(max(xa, xb, xc))), width - 1)
    y0 = max(int(np.ceil(min(ya, yb, yc))), 0)
    y1 = min(int(np.floor(max(ya, yb, yc))), height - 1)
    area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
    if x0 > x1 or y0 > y1 or abs(area) < 1e-12:
        return
    # Weights of a and b at a pixel are linear: their steps along x and y.
    wa_x, wa_y = (yb - yc) / area, (xc - xb) / area
    wb_x, wb_y = (yc - ya) / area, (xa - xc) / area
    for y in range(y0, y1 + 1):
        for x in range(x0, x1 + 1):
            wa = (x - xc) * wa_x + (y - yc) * wa_y
            wb = (x - xc) * wb_x + (y - yc) * wb_y
            wc = 1.0 - wa - wb
            if wa >= 0.0 and wb >= 0.0 and wc >= 0.0:
                z = wa * za + wb * zb + wc * zc
                if z > nearness[y, x]:
                    nearness[y, x] = z
                    face_id[y, x] = number


@drawing_kernel
def rasterise_depth(screen: Array, faces: Array, nearness: Array, unused: Array) -> None:
    """As `rasterise` for all faces, with numbers that nobody needs: the sun's view."""
    for f in range(faces.shape[0]):
        draw_face(screen, faces[f], 0, nearness, unused)


def no_depth(size: tuple[int, int]) -> tuple[Array, Array]:
    """Empty buffers for `rasterise`: nearness 0 (infinitely far) and face -1, both `[H, W]`."""
    return np.zeros(size, np.float32), np.full(size, -1, np.int32)

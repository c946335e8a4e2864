"""Furniture and clutter made of boxes and cylinders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fleetpose.synth.arrays import Array
from fleetpose.synth.mesh import Material


@dataclass(frozen=True, slots=True, eq=False)
class Prop:
    """A rigid thing: verts, normals `[N, 3]`, faces `[F, 3]`, face_uv `[F, 3, 2]` in metres, one material."""

    verts: Array
    normals: Array
    faces: Array
    face_uv: Array
    material: Material

    def placed(self, position: Array, yaw_rad: float = 0.0) -> Prop:
        """The prop turned about the vertical and moved."""
        cosine, sine = np.cos(yaw_rad), np.sin(yaw_rad)
        return self.turned(np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]), position)

    def turned(self, turn: Array, position: Array) -> Prop:
        """The prop rotated by `turn` `[3, 3]` and moved."""
        verts = (self.verts @ turn.T + position).astype(np.float32)
        return Prop(
            verts, (self.normals @ turn.T).astype(np.float32), self.faces, self.face_uv, self.material
        )


def box(low: Sequence[float], high: Sequence[float], material: Material) -> Prop:
    """A box between two corners."""
    low_, high_ = np.asarray(low, float), np.asarray(high, float)
    verts, normals, uv = [], [], []
    for axis in range(3):
        other, third = [(1, 2), (2, 0), (0, 1)][axis]
        for sign in (0, 1):
            for a, b in ((0, 0), (1, 0), (1, 1), (0, 1)):
                corner = np.zeros(3)
                corner[axis] = (low_, high_)[sign][axis]
                corner[other], corner[third] = (low_, high_)[a][other], (low_, high_)[b][third]
                verts.append(corner)
                normals.append(np.eye(3)[axis] * (2 * sign - 1))
                flat = {0: (corner[2], corner[1]), 1: (corner[0], corner[2]), 2: (corner[0], corner[1])}[axis]
                uv.append(flat)
    faces = np.concatenate([[[4 * k, 4 * k + 1, 4 * k + 2], [4 * k, 4 * k + 2, 4 * k + 3]] for k in range(6)])
    return Prop(
        np.array(verts, np.float32),
        np.array(normals, np.float32),
        faces.astype(np.int32),
        np.array(uv, np.float32)[faces],
        material,
    )


def cylinder(
    radius: float, low: float, high: float, material: Material, *, top_radius: float | None = None
) -> Prop:
    """An upright cylinder or cone frustum with a lid."""
    count = 20
    around = np.arange(count + 1) * 2 * np.pi / count
    ring = np.stack([np.cos(around), np.zeros(count + 1), np.sin(around)], axis=1)
    upper = radius if top_radius is None else top_radius
    bottom, top = ring * radius, ring * upper
    bottom[:, 1], top[:, 1] = low, high
    lid = top.copy()
    verts = np.concatenate([bottom, top, lid, [[0, high, 0]]])
    normals = np.concatenate([ring, ring, np.tile([0.0, 1.0, 0.0], (count + 2, 1))])
    k = np.arange(count)
    n = count + 1
    faces = np.concatenate(
        [
            np.stack([k, k + n, k + 1], 1),
            np.stack([k + 1, k + n, k + n + 1], 1),
            np.stack([k + 2 * n, np.full(count, 3 * n), k + 2 * n + 1], 1),
        ]
    )
    uv = np.stack(
        [np.append(np.tile(around * radius, 3), 0.0), verts[:, 1] + verts[:, 2] * (normals[:, 1] > 0.5)], 1
    )
    return Prop(
        verts.astype(np.float32),
        normals.astype(np.float32),
        faces.astype(np.int32),
        uv[faces].astype(np.float32),
        material,
    )


def ball(radius: float, centre: Sequence[float], material: Material) -> Prop:
    """A ball around `centre`."""
    rings, around = np.linspace(-np.pi / 2, np.pi / 2, 13), np.linspace(0, 2 * np.pi, 21)
    up, turn = np.meshgrid(rings, around, indexing="ij")
    normals = np.stack([np.cos(up) * np.cos(turn), np.sin(up), np.cos(up) * np.sin(turn)], axis=-1)
    i, j = np.meshgrid(np.arange(12), np.arange(20), indexing="ij")
    a = (i * 21 + j).ravel()
    faces = np.concatenate([np.stack([a, a + 21, a + 1], 1), np.stack([a + 1, a + 21, a + 22], 1)])
    uv = np.stack([turn * radius, up * radius], axis=-1).reshape(-1, 2)
    return Prop(
        (normals * radius + np.asarray(centre)).reshape(-1, 3).astype(np.float32),
        normals.reshape(-1, 3).astype(np.float32),
        faces.astype(np.int32),
        uv[faces].astype(np.float32),
        material,
    )


def seat(rng: np.random.Generator, height: float, main: Material, frame: Material) -> list[Prop]:
    """Something to sit on, its top at `height`, for a sitter who faces +z."""
    kind = rng.choice(("chair", "stool", "bench", "block"), p=(0.45, 0.15, 0.2, 0.2))
    half = 0.22
    if kind == "stool":
        return [
            cylinder(0.17, height - 0.05, height, main),
            cylinder(0.035, 0.0, height - 0.05, frame),
            cylinder(0.17, 0.0, 0.03, frame),
        ]
    if kind == "block":
        wide = rng.uniform(0.3, 0.9)
        return [box((-wide, 0, -0.4), (wide, height, 0.12), main)]
    if kind == "bench":
        half = rng.uniform(0.55, 0.95)
    parts = [box((-half, height - 0.05, -0.27), (half, height, 0.17), main)]
    for x in (-half + 0.03, half - 0.03):
        parts += [
            box((x - 0.02, 0, z - 0.02), (x + 0.02, height - 0.05, z + 0.02), frame) for z in (-0.24, 0.14)
        ]
    if kind == "chair" or rng.random() < 0.5:
        parts.append(box((-half, height + 0.12, -0.32), (half, height + rng.uniform(0.35, 0.5), -0.28), main))
        parts += [
            box((x - 0.02, height - 0.05, -0.31), (x + 0.02, height + 0.3, -0.28), frame)
            for x in (-half + 0.03, half - 0.03)
        ]
    return parts

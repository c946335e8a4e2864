"""Skinned mesh parts, materials and semantic classes, and how parts join into one mesh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from fleetpose.synth.arrays import Array
from fleetpose.synth.texture import NO_TEXTURE


class Semantic(IntEnum):
    """Classes of the semantic masks."""

    UNKNOWN = 0
    HEAD = 1
    HAIR = 2
    UPPER_CLOTHES = 3
    LOWER_CLOTHES = 4
    SHOES = 5
    HEADWEAR = 6
    ARMS = 7
    LEGS = 8
    TORSO = 9
    GROUND = 20
    WALL = 21
    CEILING = 22
    SKY = 23
    VEGETATION = 24
    ROAD = 25
    BUILDING = 26
    OBJECT = 27


# Columns of a material row.
(
    TEXTURE,
    NORMAL,
    RED,
    GREEN,
    BLUE,
    RECOLOUR,
    MEAN,
    CONTRAST,
    SPECULAR,
    GLOSS,
    PAINT_RED,
    PAINT_GREEN,
    PAINT_BLUE,
    UV_SCALE,
    SEMANTIC,
    BUMP,
    BUMP_SCALE,
    SOFT,
    OCCLUSION,
) = range(19)
COLUMNS = 19


@dataclass(frozen=True, slots=True)
class Material:
    """How a surface looks.

    colour: linear RGB. Its meaning depends on `recolour`: at 0 it tints the texture, at 1 it replaces the
    texture's
    colour and keeps only its light and dark, relative to `mean` luminance and raised to `contrast`.
    paint: linear RGB laid over where the mesh's paint value is above 0. soft: share of light that bleeds
    round (skin).
    """

    semantic: Semantic
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    texture: int = NO_TEXTURE
    normal: int = NO_TEXTURE
    occlusion: int = NO_TEXTURE
    recolour: float = 0.0
    mean: float = 1.0
    contrast: float = 1.0
    specular: float = 0.03
    gloss: float = 12.0
    paint: tuple[float, float, float] = (0.0, 0.0, 0.0)
    uv_scale: float = 1.0
    bump: float = 0.0
    bump_scale: float = 1.0
    soft: float = 0.0

    def row(self) -> Array:
        """The material as a row of the table compiled code reads."""
        return np.array(
            [
                self.texture,
                self.normal,
                *self.colour,
                self.recolour,
                self.mean,
                self.contrast,
                self.specular,
                self.gloss,
                *self.paint,
                self.uv_scale,
                self.semantic,
                self.bump,
                self.bump_scale,
                self.soft,
                self.occlusion,
            ],
            np.float32,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A piece of skinned mesh.

    verts: `[N, 3]`. bind: `[N, 4]`. faces: `[F, 3]`. face_uv: `[F, 3, 2]`. paint: `[N]` 0..1.

    material: `[F]` index into `materials`. is_alpha: blended by its texture's alpha instead of drawn solid.
    """

    verts: Array
    bind_bone: Array
    bind_weight: Array
    faces: Array
    face_uv: Array
    material: Array
    materials: tuple[Material, ...]
    paint: Array | None = None
    is_alpha: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class SkinnedMesh:
    """Joined parts; the blended faces come last, from `solid_faces` on."""

    verts: Array
    bind_bone: Array
    bind_weight: Array
    paint: Array
    faces: Array
    face_uv: Array
    material: Array
    materials: Array  # [M, COLUMNS]
    solid_faces: int


def join_parts(parts: Sequence[Part]) -> SkinnedMesh:
    """Join parts into one mesh, blended parts last, vertices in the order given."""
    ordered = sorted(parts, key=lambda part: part.is_alpha)
    vertex_start = np.cumsum([0] + [len(part.verts) for part in ordered])
    material_start = np.cumsum([0] + [len(part.materials) for part in ordered])
    paints = [np.zeros(len(p.verts), np.float32) if p.paint is None else p.paint for p in ordered]
    return SkinnedMesh(
        verts=np.concatenate([part.verts for part in ordered]).astype(np.float32, copy=False),
        bind_bone=np.concatenate([part.bind_bone for part in ordered]),
        bind_weight=np.concatenate([part.bind_weight for part in ordered]).astype(np.float32, copy=False),
        paint=np.concatenate(paints).astype(np.float32, copy=False),
        faces=np.concatenate([p.faces + s for p, s in zip(ordered, vertex_start, strict=False)]).astype(
            np.int32
        ),
        face_uv=np.concatenate([part.face_uv for part in ordered]).astype(np.float32, copy=False),
        material=np.concatenate(
            [p.material + s for p, s in zip(ordered, material_start, strict=False)]
        ).astype(np.int32),
        materials=np.stack([material.row() for part in ordered for material in part.materials]),
        solid_faces=sum(len(part.faces) for part in ordered if not part.is_alpha),
    )

"""Draw a shot: assemble its mesh, rasterise, shade, and lay hair on top."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fleetpose.synth.actor import Actor
from fleetpose.synth.arrays import Array, drawing_kernel, scratch
from fleetpose.synth.backdrop import (
    AXIS,
    CONTACT_CELL,
    CONTACT_CELLS,
    FACING,
    darken_photo,
    empty_panorama,
    shade_backdrop,
    sphere_contact,
)
from fleetpose.synth.blend import blend_faces
from fleetpose.synth.camera import Camera
from fleetpose.synth.library import Library
from fleetpose.synth.light import Light, basis, cast_shadows
from fleetpose.synth.mesh import COLUMNS, SEMANTIC
from fleetpose.synth.props import Prop
from fleetpose.synth.raster import no_depth, project, rasterise
from fleetpose.synth.records import Contact, ShadowMap, Surfaces, Textures
from fleetpose.synth.shade import ambient_occlusion, shade_faces
from fleetpose.synth.stage import Shot

NOBODY = -1


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """All geometry of a shot; solid faces first, from `solid_faces` on faces blended by alpha.

    owner: `[F]` index of the actor, -1 for things.
    """

    verts: Array
    normals: Array
    paint: Array
    faces: Array
    face_uv: Array
    material: Array
    materials: Array
    owner: Array
    solid_faces: int

    def surfaces(self, screen: Array) -> Surfaces:
        """The geometry as compiled functions take it, with its projection `screen` `[N, 3]`."""
        return Surfaces(
            screen,
            self.verts,
            self.normals,
            self.paint,
            self.faces,
            self.face_uv,
            self.material,
            self.materials,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A drawn shot at render resolution, all `[H, W]`.

    colour: `[H, W, 3]` linear light. nearness: 1 / depth of solid surfaces, 0 for the backdrop.
    owner: index of the actor seen, hair included, -1 for none. bare_owner: the same without hair, as
    `nearness` sees.
    semantic: class of the surface.
    """

    colour: Array
    nearness: Array
    owner: Array
    bare_owner: Array
    semantic: Array


def assemble(actors: tuple[Actor, ...], props: tuple[Prop, ...]) -> World:
    """Join actors and props into one world."""
    meshes = [actor.person.mesh for actor in actors]
    sizes = [len(mesh.verts) for mesh in meshes] + [len(prop.verts) for prop in props]
    tables = [len(mesh.materials) for mesh in meshes]
    first_vertex = np.cumsum([0, *sizes])
    first_material = np.cumsum([0, *tables])
    solid: list[tuple[Array, Array, Array, Array]] = []
    blended: list[tuple[Array, Array, Array, Array]] = []
    for k, mesh in enumerate(meshes):
        n = mesh.solid_faces
        rows = (
            mesh.faces + np.int32(first_vertex[k]),
            mesh.face_uv,
            mesh.material + np.int32(first_material[k]),
            np.full(len(mesh.faces), k, np.int32),
        )
        solid.append((rows[0][:n], rows[1][:n], rows[2][:n], rows[3][:n]))
        blended.append((rows[0][n:], rows[1][n:], rows[2][n:], rows[3][n:]))
    for k, prop in enumerate(props):
        count = len(prop.faces)
        solid.append(
            (
                prop.faces + np.int32(first_vertex[len(meshes) + k]),
                prop.face_uv,
                np.full(count, first_material[-1] + k, np.int32),
                np.full(count, NOBODY, np.int32),
            )
        )
    empty = (
        np.zeros((0, 3), np.int32),
        np.zeros((0, 3, 2), np.float32),
        np.zeros(0, np.int32),
        np.zeros(0, np.int32),
    )
    faces, face_uv, material, owner = (np.concatenate(c) for c in zip(*solid, *blended, empty, strict=True))
    none = np.zeros((0, 3), np.float32)
    return World(
        verts=np.concatenate([*(a.verts for a in actors), *(p.verts for p in props), none]),
        normals=np.concatenate([*(a.normals for a in actors), *(p.normals for p in props), none]),
        paint=np.concatenate([*(m.paint for m in meshes), np.zeros(sum(sizes[len(meshes) :]), np.float32)]),
        faces=faces,
        face_uv=face_uv,
        material=material,
        materials=np.concatenate(
            [
                *(m.materials for m in meshes),
                *(p.material.row()[None] for p in props),
                np.zeros((1, COLUMNS), np.float32),
            ]
        ),
        owner=owner,
        solid_faces=sum(len(rows[0]) for rows in solid),
    )


def contact_maps(actors: tuple[Actor, ...]) -> Contact:
    """Openness of the ground around each actor."""
    half = CONTACT_CELL * CONTACT_CELLS / 2
    corners = np.array([[a.hips[0] - half, a.hips[2] - half] for a in actors]).reshape(-1, 2)
    maps = [sphere_contact(a.spheres, c[0], c[1]) for a, c in zip(actors, corners, strict=True)]
    return Contact(
        np.stack(maps) if maps else np.ones((0, CONTACT_CELLS, CONTACT_CELLS), np.float32), corners
    )


def render(library: Library, shot: Shot, *, supersample: float) -> Frame:
    """Draw a shot at `supersample` times its camera's resolution."""
    camera = shot.camera.scaled(supersample)
    world = assemble(shot.actors, shot.props)
    surfaces = world.surfaces(project(world.verts, camera.view()))
    nearness, face_id = no_depth(camera.size)
    rasterise(surfaces.screen, world.faces, world.solid_faces, nearness, face_id)
    shadow = cast_shadows(world.verts, world.faces, shot.backdrop.light)
    colour = np.zeros((*camera.size, 3), np.float32)
    semantic = np.zeros(camera.size, np.uint8)
    textures, lamp = library.atlas.textures(), shot.backdrop.light.lamp()
    if shot.backdrop.photo is not None:
        draw_photo(shot, camera, face_id, shadow, colour)
    else:
        draw_backdrop(shot, face_id, textures, shadow, colour=colour, semantic=semantic)
    openness = cv2.blur(ambient_occlusion(nearness, camera.focal, *camera.centre), (3, 3))
    shade_faces(face_id, openness, surfaces, textures, camera.position, lamp, shadow, colour, scratch())
    cover_face = np.full(camera.size, -1, np.int32)
    blend_faces(
        blending_order(world, surfaces.screen),
        nearness,
        np.zeros(camera.size, np.float32),
        cover_face,
        surfaces,
        textures,
        camera.position,
        lamp,
        shadow,
        colour,
        scratch(),
    )
    owner, bare_owner = np.empty(camera.size, np.int32), np.empty(camera.size, np.int32)
    classes = world.materials[world.material, SEMANTIC].astype(np.uint8)
    name_pixels(face_id, cover_face, world.owner, classes, owner, bare_owner, semantic)
    return Frame(colour, nearness, owner, bare_owner, semantic)


@drawing_kernel
def name_pixels(  # noqa: PLR0917 - compiled functions take positional arguments only
    face_id: Array, cover_face: Array, owner_of: Array, class_of: Array, owner: Array, bare_owner: Array,
    semantic: Array,
) -> None:  # fmt: skip
    """Turn face numbers `[H, W]`, without and with see-through faces, into owners and classes."""
    height, width = face_id.shape
    for y in range(height):
        for x in range(width):
            solid = face_id[y, x]
            top = cover_face[y, x] if cover_face[y, x] >= 0 else solid
            bare_owner[y, x] = owner_of[solid] if solid >= 0 else -1
            owner[y, x] = owner_of[top] if top >= 0 else -1
            if top >= 0:
                semantic[y, x] = class_of[top]


def draw_backdrop(
    shot: Shot, face_id: Array, textures: Textures, shadow: ShadowMap, *, colour: Array, semantic: Array
) -> None:
    """Fill the pixels that no face covers.

    The backdrop is shaded at the picture's own resolution: it has no detail that supersampling would save.
    """
    camera, backdrop = shot.camera, shot.backdrop
    height, width = camera.size
    covered = cv2.resize((face_id >= 0).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    # Edge pixels need their neighbours too, because the result is interpolated.
    skipped = cv2.erode((covered > 0.999).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.int32) - 1
    small = empty_panorama(backdrop.panorama, camera.view(), camera.size)
    classes = np.zeros((height, width), np.uint8)
    shade_backdrop(
        skipped,
        camera.view(),
        backdrop.planes,
        plane_light(backdrop.planes, backdrop.light),
        np.array(backdrop.box),
        backdrop.panorama,
        textures,
        backdrop.light.lamp(),
        shadow,
        contact_maps(shot.actors),
        small,
        classes,
        scratch(),
    )
    size = (face_id.shape[1], face_id.shape[0])
    colour[:] = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
    semantic[:] = cv2.resize(classes, size, interpolation=cv2.INTER_NEAREST)


def plane_light(planes: Array, light: Light) -> Array:
    """Soft light `[P, 3]` on each of the `planes`."""
    normals = np.eye(3)[planes[:, AXIS].astype(int)] * planes[:, FACING, None]
    soft: Array = np.maximum(basis(normals) @ light.harmonics, 0)
    return soft


def draw_photo(shot: Shot, camera: Camera, face_id: Array, shadow: ShadowMap, colour: Array) -> None:
    """Fill `colour` with the backdrop's photograph, darkened where people keep light from its ground."""
    size = (camera.size[1], camera.size[0])
    colour[:] = cv2.resize(shot.backdrop.photo, size, interpolation=cv2.INTER_LINEAR)
    lamp = shot.backdrop.light.lamp()
    darken_photo(face_id, camera.view(), lamp, shadow, contact_maps(shot.actors), colour, scratch())


def blending_order(world: World, screen: Array) -> Array:
    """Numbers of the see-through faces, farthest first."""
    near = screen[world.faces[world.solid_faces :], 2].mean(axis=1)
    order: Array = np.argsort(near, kind="stable") + world.solid_faces
    return order

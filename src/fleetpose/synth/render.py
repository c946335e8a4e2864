"""Draw a shot: assemble its mesh, rasterise, shade, and lay hair on top."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fleetpose.synth.actor import Actor
from fleetpose.synth.arrays import Array
from fleetpose.synth.backdrop import CONTACT_CELL, CONTACT_CELLS, darken_photo, shade_backdrop, sphere_contact
from fleetpose.synth.camera import Camera
from fleetpose.synth.library import Library
from fleetpose.synth.light import ShadowMap, cast_shadows
from fleetpose.synth.mesh import COLUMNS, SEMANTIC
from fleetpose.synth.props import Prop
from fleetpose.synth.raster import no_depth, project, rasterise
from fleetpose.synth.scene import Backdrop
from fleetpose.synth.shade import ambient_occlusion, blend_faces, shade_faces
from fleetpose.synth.stage import Shot
from fleetpose.synth.texture import SRGB_TO_LINEAR

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


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A drawn shot at render resolution, all `[H, W]`.

    colour: `[H, W, 3]` linear light. nearness: 1 / depth of solid surfaces, 0 for the backdrop.
    owner: index of the actor seen, hair included, -1 for none. bare_owner: the same without hair, as `nearness` sees.
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
        rows = (mesh.faces + np.int32(first_vertex[k]), mesh.face_uv, mesh.material + np.int32(first_material[k]),
                np.full(len(mesh.faces), k, np.int32))  # fmt: skip
        solid.append((rows[0][:n], rows[1][:n], rows[2][:n], rows[3][:n]))
        blended.append((rows[0][n:], rows[1][n:], rows[2][n:], rows[3][n:]))
    for k, prop in enumerate(props):
        count = len(prop.faces)
        solid.append((prop.faces + np.int32(first_vertex[len(meshes) + k]), prop.face_uv,
                      np.full(count, first_material[-1] + k, np.int32), np.full(count, NOBODY, np.int32)))  # fmt: skip
    empty = (np.zeros((0, 3), np.int32), np.zeros((0, 3, 2), np.float32), np.zeros(0, np.int32), np.zeros(0, np.int32))
    faces, face_uv, material, owner = (np.concatenate(c) for c in zip(*solid, *blended, empty, strict=True))
    none = np.zeros((0, 3), np.float32)
    return World(
        verts=np.concatenate([*(a.verts for a in actors), *(p.verts for p in props), none]),
        normals=np.concatenate([*(a.normals for a in actors), *(p.normals for p in props), none]),
        paint=np.concatenate([*(m.paint for m in meshes), np.zeros(sum(sizes[len(meshes) :]), np.float32)]),
        faces=faces, face_uv=face_uv, material=material,
        materials=np.concatenate([*(m.materials for m in meshes), *(p.material.row()[None] for p in props),
                                  np.zeros((1, COLUMNS), np.float32)]),
        owner=owner, solid_faces=sum(len(rows[0]) for rows in solid),
    )  # fmt: skip


def contact_maps(actors: tuple[Actor, ...]) -> tuple[Array, Array]:
    """Openness of the ground around each actor `[N, C, C]`, and the maps' corners `[N, 2]` (x, z)."""
    half = CONTACT_CELL * CONTACT_CELLS / 2
    corners = np.array([[a.hips[0] - half, a.hips[2] - half] for a in actors]).reshape(-1, 2)
    maps = [sphere_contact(a.spheres, c[0], c[1]) for a, c in zip(actors, corners, strict=True)]
    stacked = np.stack(maps) if maps else np.ones((0, CONTACT_CELLS, CONTACT_CELLS), np.float32)
    return stacked, corners


def render(library: Library, shot: Shot, *, supersample: float) -> Frame:
    """Draw a shot at `supersample` times its camera's resolution."""
    camera = shot.camera.scaled(supersample)
    world = assemble(shot.actors, shot.props)
    screen = project(camera, world.verts)
    nearness, face_id = no_depth(camera.size)
    rasterise(screen, world.faces, world.solid_faces, nearness, face_id)
    shadows = cast_shadows(world.verts, world.faces, shot.backdrop.light.sun)
    colour = np.zeros((*camera.size, 3), np.float32)
    semantic = np.zeros(camera.size, np.uint8)
    draw_backdrop(library, shot, camera, face_id, shadows, colour, semantic)
    draw_faces(library, shot.backdrop, camera, world, screen, nearness, face_id, shadows, colour)
    hit = face_id >= 0
    bare_owner = np.full(camera.size, NOBODY, np.int32)
    bare_owner[hit] = world.owner[face_id[hit]]
    cover_face = draw_blended(library, shot.backdrop, camera, world, screen, nearness, shadows, colour)
    top = np.where(cover_face >= 0, cover_face, face_id)
    owner = np.full(camera.size, NOBODY, np.int32)
    seen = top >= 0
    owner[seen] = world.owner[top[seen]]
    semantic[seen] = world.materials[world.material[top[seen]], SEMANTIC].astype(np.uint8)
    return Frame(colour, nearness, owner, bare_owner, semantic)


def draw_backdrop(
    library: Library, shot: Shot, camera: Camera, face_id: Array, shadows: ShadowMap, colour: Array, semantic: Array
) -> None:
    """Fill the pixels that no face covers."""
    backdrop, light = shot.backdrop, shot.backdrop.light
    contact, corners = contact_maps(shot.actors)
    softness = light.softness
    if backdrop.photo is not None:
        size = (camera.size[1], camera.size[0])
        colour[:] = cv2.resize(backdrop.photo, size, interpolation=cv2.INTER_LINEAR)
        darken_photo(
            face_id, camera.position, camera.rotation, camera.focal, *camera.centre, light.ground_share(), softness,
            shadows.nearness, shadows.matrix, shadows.shift, shadows.texel, contact, corners, colour,
        )  # fmt: skip
        return
    shade_backdrop(
        face_id, camera.position, camera.rotation, camera.focal, *camera.centre, backdrop.planes,
        np.array(backdrop.box), backdrop.panorama, backdrop.radiance, backdrop.yaw_rad, backdrop.pano_height,
        backdrop.dome, backdrop.detail, backdrop.detail_mean, backdrop.detail_repeat, library.atlas.texels,
        library.atlas.table, SRGB_TO_LINEAR, light.harmonics, light.sun, light.sun_colour, softness,
        light.ground_share(), shadows.nearness, shadows.matrix, shadows.shift, shadows.texel, contact, corners,
        colour, semantic,
    )  # fmt: skip


def draw_faces(
    library: Library, backdrop: Backdrop, camera: Camera, world: World, screen: Array, nearness: Array, face_id: Array,
    shadows: ShadowMap, colour: Array,
) -> None:  # fmt: skip
    """Shade the solid faces."""
    light = backdrop.light
    openness = cv2.blur(ambient_occlusion(nearness, camera.focal, *camera.centre), (3, 3))
    shade_faces(
        face_id, openness, screen, world.verts, world.normals, world.paint, world.faces, world.face_uv,
        world.material, world.materials, library.atlas.texels, library.atlas.table, SRGB_TO_LINEAR, camera.position,
        light.harmonics, light.sun, light.sun_colour, light.softness, shadows.nearness, shadows.matrix, shadows.shift,
        shadows.texel, colour,
    )  # fmt: skip


def draw_blended(
    library: Library, backdrop: Backdrop, camera: Camera, world: World, screen: Array, nearness: Array,
    shadows: ShadowMap, colour: Array,
) -> Array:  # fmt: skip
    """Lay hair, brows and lashes over the picture; returns the face `[H, W]` seen there, -1 where none covers."""
    light = backdrop.light
    faces = world.faces[world.solid_faces :]
    near = screen[faces, 2].mean(axis=1)
    order = np.argsort(near, kind="stable") + world.solid_faces
    cover = np.zeros(camera.size, np.float32)
    cover_face = np.full(camera.size, -1, np.int32)
    blend_faces(
        order, nearness, cover, cover_face, screen, world.verts, world.normals, world.faces, world.face_uv,
        world.material, world.materials, library.atlas.texels, library.atlas.table, SRGB_TO_LINEAR, camera.position,
        light.harmonics, light.sun, light.sun_colour, light.softness, shadows.nearness, shadows.matrix, shadows.shift,
        shadows.texel, colour,
    )  # fmt: skip
    return cover_face

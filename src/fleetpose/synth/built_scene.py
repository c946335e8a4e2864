"""Scenes built from flat planes: rooms, streets and squares, with furniture and clutter."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from fleetpose.synth.arrays import Array
from fleetpose.synth.backdrop import PLANE_COLUMNS
from fleetpose.synth.library import Library
from fleetpose.synth.light import Light, light_from_map, uniform_light
from fleetpose.synth.mesh import Material, Semantic
from fleetpose.synth.palette import BOTTOMS, TOPS, fractal_noise, pick
from fleetpose.synth.props import Prop, box, cylinder
from fleetpose.synth.scene import Backdrop, plain_panorama
from fleetpose.synth.texture import NO_TEXTURE

FAR = 60.0  # metres
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
# Wall paints, linear: off-whites and muted tones, because loud rooms were one of the prototype's flaws.
PAINTS = (
    (0.72, 0.70, 0.65),
    (0.66, 0.66, 0.66),
    (0.60, 0.58, 0.52),
    (0.52, 0.56, 0.58),
    (0.50, 0.54, 0.46),
    (0.58, 0.48, 0.40),
    (0.36, 0.42, 0.48),
    (0.76, 0.75, 0.73),
)
FLOORS = ("WoodFloor", "Tiles", "Carpet", "Marble", "Terrazzo")
PAVING = ("PavingStones", "Asphalt", "Concrete", "Gravel", "Ground")
WALLS = ("Bricks", "Concrete", "Plaster", "Planks")


def plane(
    axis: int, place: float, bounds: tuple[float, float, float, float], semantic: Semantic, *, facing: int =
    1,
    texture: int = NO_TEXTURE, repeat: float = 1.0, colour: tuple[float, float, float] = (0.5, 0.5, 0.5),
    dye: float = 0.0, mean: float = 1.0,
) -> Array:  # fmt: skip
    """One row of a backdrop's plane table."""
    row = np.array([axis, place, *bounds, texture, repeat, *colour, dye, mean, semantic, facing], np.float64)
    assert len(row) == PLANE_COLUMNS  # noqa: S101 - our own table
    return row


def surface(rng: np.random.Generator, library: Library, kinds: tuple[str, ...]) -> tuple[int, float]:
    """Draw a material tile among `kinds` (its name without the number): its texture and mean luminance."""
    found = library.tiles(kinds)
    if found:
        sheet, number = found[rng.integers(len(found))]
        image = library.swatch(sheet, number)
    else:
        grey = 150 + 14 * fractal_noise(rng, 128, octaves=(4, 16, 64))
        image = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    texture = library.atlas.add(image, mirrored=True)
    return texture, float(library.atlas.mean_linear(texture) @ LUMINANCE)


def scene_light(
    rng: np.random.Generator, library: Library, *, is_indoor: bool
) -> tuple[Light, Array | None, float]:
    """Draw a light, with the panorama it came from (for the sky) and its turn, if there is one."""
    yaw = float(rng.uniform(-np.pi, np.pi))
    fitting = [p for p in library.panoramas if p.is_indoor == is_indoor]
    if fitting:
        chosen = fitting[rng.integers(len(fitting))]
        light = whitened(
            light_from_map(library.light_maps[chosen.light_row], yaw_rad=yaw, is_indoor=is_indoor)
        )
        return light, None if is_indoor else library.picture(chosen.file), yaw
    warm = np.array([1.0, rng.uniform(0.85, 1.0), rng.uniform(0.7, 1.0)])
    lamp = np.array([rng.normal(0, 0.7), rng.uniform(0.5, 1.5), rng.normal(0.3, 0.7)])
    sky = np.array([0.5, 0.6, 0.8]) if not is_indoor else warm * 0.5
    strength = warm * float(rng.choice((0.1, 0.6, 1.6)))
    return uniform_light(sky, np.full(3, 0.15), lamp, strength, 0.15 if is_indoor else 0.02), None, yaw


def whitened(light: Light) -> Light:
    """Take most of the colour out of a light: its own room's walls tint it, but not these walls."""
    grey = np.repeat(light.harmonics.mean(axis=1, keepdims=True), 3, axis=1)
    return replace(
        light,
        harmonics=0.25 * light.harmonics + 0.75 * grey,
        sun_colour=0.5 * light.sun_colour + 0.5 * light.sun_colour.mean(),
    )


def diffused(light: Light) -> Light:
    """Make a light more even: pale walls and a ceiling throw it back from all sides."""
    share = np.array([1.0, *[0.55] * 8])[:, None]
    return replace(light, harmonics=light.harmonics * share)


def sky_panorama(rng: np.random.Generator) -> Array:
    """A plain sky over a plain horizon, as panorama codes `[64, 128, 3]`."""
    up = np.linspace(1, -1, 64)[:, None, None]
    blue, pale, ground = np.array([90, 125, 175.0]), np.array([190, 200, 210.0]), np.array([95, 90, 80.0])
    share = np.clip(up, 0, 1) ** 0.5
    image = np.where(up >= 0, blue * share + pale * (1 - share), ground)
    clouds = fractal_noise(rng, 128, octaves=(4, 8, 16))[:64, :, None] * 10
    codes: Array = np.clip(image + clouds * (up > 0), 0, 255).astype(np.uint8)
    return codes


def room_backdrop(rng: np.random.Generator, library: Library) -> Backdrop:
    """A furnished room in quiet colours, seen from inside."""
    wide, deep, high = rng.uniform(2.0, 4.5), rng.uniform(3.5, 7.5), rng.uniform(2.4, 3.4)
    light, _, _ = scene_light(rng, library, is_indoor=True)
    light = diffused(light)
    floor, floor_mean = surface(rng, library, FLOORS)
    wall, wall_mean = surface(rng, library, ("Plaster", "Paint", "Wallpaper", "Concrete"))
    paint = PAINTS[rng.integers(len(PAINTS))]
    front = 2.5
    coat = partial(
        plane, semantic=Semantic.WALL, texture=wall, mean=wall_mean, repeat=0.5, dye=1.0, colour=paint
    )
    rows = [
        plane(
            1,
            0.0,
            (-wide, wide, -deep, front),
            Semantic.GROUND,
            texture=floor,
            mean=floor_mean,
            repeat=float(rng.uniform(0.4, 0.8)),
            dye=0.0,
        ),
        plane(1, high, (-wide, wide, -deep, front), Semantic.CEILING, facing=-1, colour=(0.72, 0.72, 0.70)),
        coat(2, -deep, (-wide, wide, 0, high)),
        coat(0, -wide, (0, high, -deep, front)),
        coat(0, wide, (0, high, -deep, front), facing=-1),
        coat(2, front, (-wide, wide, 0, high), facing=-1),
    ]
    rows += wall_pieces(rng, library, wide, deep, high)
    props = furniture(rng, library, wide, deep)
    return Backdrop(
        name="room",
        light=light,
        standing=(-wide + 0.5, wide - 0.5, -deep + 0.9, 0.5),
        planes=np.stack(rows),
        box=(-wide, wide, 0.0, high, -deep, front),
        props=tuple(props),
        eye_height=(1.0, 2.0),
        is_indoor=True,
    )


def wall_pieces(
    rng: np.random.Generator, library: Library, wide: float, deep: float, high: float
) -> list[Array]:
    """Skirting boards, a door, a window and pictures on the walls."""
    trim = (0.62, 0.60, 0.56)
    rows = [plane(2, -deep + 0.02, (-wide, wide, 0, 0.1), Semantic.WALL, colour=trim)]
    rows += [
        plane(0, s * (wide - 0.02), (0, 0.1, -deep, 2.5), Semantic.WALL, colour=trim, facing=-int(s))
        for s in (-1, 1)
    ]
    x = -wide + rng.uniform(0.1, 0.6)
    if rng.random() < 0.6:
        rows.append(plane(2, -deep + 0.025, (x, x + 0.95, 0, 2.1), Semantic.WALL, colour=trim))
        rows.append(
            plane(
                2,
                -deep + 0.03,
                (x + 0.06, x + 0.89, 0, 2.04),
                Semantic.WALL,
                colour=pick(rng, BOTTOMS) if rng.random() < 0.3 else (0.5, 0.47, 0.42),
            )
        )
    x += 1.3
    while x < wide - 0.6:
        w, h, y = rng.uniform(0.4, 1.0), rng.uniform(0.4, 0.9), rng.uniform(1.1, 1.5)
        if rng.random() < 0.6 and x + w < wide:
            rows.append(
                plane(
                    2,
                    -deep + 0.02,
                    (x, x + w, y, min(y + h, high - 0.2)),
                    Semantic.OBJECT,
                    colour=(0.12, 0.11, 0.1),
                )
            )
            texture, mean = surface(rng, library, ("Marble", "Planks", "Onyx", "Paper", "Ground", "Rock"))
            rows.append(
                plane(
                    2,
                    -deep + 0.03,
                    (x + 0.04, x + w - 0.04, y + 0.04, min(y + h, high - 0.2) - 0.04),
                    Semantic.OBJECT,
                    texture=texture,
                    mean=mean,
                    repeat=1.0,
                )
            )
        x += w + rng.uniform(0.3, 1.5)
    side = int(rng.choice((-1, 1)))
    if rng.random() < 0.7:
        z = rng.uniform(-deep + 0.5, -1.5)
        for grow, colour in ((0.08, trim), (0.0, (2.4, 2.6, 2.8))):
            rows.append(
                plane(
                    0,
                    side * (wide - 0.03 - 0.01 * (grow == 0)),
                    (0.9 - grow, 2.1 + grow, z - grow, z + 1.3 + grow),
                    Semantic.WALL,
                    colour=colour,
                    facing=-side,
                )
            )
    return rows


def cloth_material(rng: np.random.Generator, library: Library) -> Material:
    """Upholstery or painted wood."""
    texture, mean = surface(rng, library, ("Fabric", "Wood", "Planks"))
    return Material(
        Semantic.OBJECT,
        texture=texture,
        colour=pick(rng, BOTTOMS if rng.random() < 0.6 else TOPS),
        recolour=float(rng.uniform(0.3, 1.0)),
        mean=mean,
        contrast=0.8,
    )


def furniture(rng: np.random.Generator, library: Library, wide: float, deep: float) -> list[Prop]:
    """Cupboards, shelves and a sofa along the far walls, clear of the middle."""
    props: list[Prop] = []
    x = -wide + rng.uniform(0.1, 1.0)
    while x < wide - 0.8:
        w = rng.uniform(0.6, 1.7)
        kind = rng.integers(4)
        main = cloth_material(rng, library)
        if kind == 0 and x + w < wide:
            props.append(box((x, 0, -deep), (x + w, rng.uniform(0.7, 2.0), -deep + 0.42), main))
        elif kind == 1 and x + 1.5 < wide:
            props += [
                box((x, 0.12, -deep), (x + 1.5, 0.45, -deep + 0.8), main),
                box((x, 0.45, -deep), (x + 1.5, 0.9, -deep + 0.2), main),
                box((x - 0.15, 0.12, -deep), (x, 0.62, -deep + 0.8), main),
                box((x + 1.5, 0.12, -deep), (x + 1.65, 0.62, -deep + 0.8), main),
            ]
        elif kind == 2 and x + 0.4 < wide:
            green = Material(Semantic.VEGETATION, colour=(0.06, 0.12, 0.04))
            props += [
                cylinder(0.16, 0, 0.35, main).placed(np.array([x + 0.2, 0, -deep + 0.3])),
                cylinder(0.26, 0.35, 1.3, green, top_radius=0.05).placed(np.array([x + 0.2, 0, -deep + 0.3])),
            ]
        x += w + rng.uniform(0.2, 1.6)
    return props


def street_backdrop(rng: np.random.Generator, library: Library) -> Backdrop:
    """A street between house fronts, or a square before a wall, under an open sky."""
    light, sky, yaw = scene_light(rng, library, is_indoor=False)
    ground, ground_mean = surface(rng, library, PAVING)
    rows = [
        plane(
            1,
            0.0,
            (-FAR, FAR, -FAR, FAR),
            Semantic.GROUND,
            texture=ground,
            mean=ground_mean,
            repeat=float(rng.uniform(0.35, 0.7)),
        )
    ]
    is_street = bool(rng.random() < 0.6)
    wide = float(rng.uniform(4.0, 9.0))
    if is_street:
        rows += house_fronts(rng, library, wide)
        road, road_mean = surface(rng, library, ("Asphalt", "Road"))
        low = rng.uniform(-wide + 1.5, wide - 4.5)
        rows.append(
            plane(
                1, 0.004, (low, low + 3.5, -FAR, FAR), Semantic.ROAD, texture=road, mean=road_mean, repeat=0.4
            )
        )
        white = (0.5, 0.5, 0.48)
        rows.append(plane(1, 0.006, (low + 0.1, low + 0.22, -FAR, FAR), Semantic.ROAD, colour=white))
    else:
        wall, wall_mean = surface(rng, library, WALLS)
        z, high = -rng.uniform(5.0, 14.0), rng.uniform(2.0, 7.0)
        dye = float(rng.random() < 0.4)
        rows.append(
            plane(
                2,
                z,
                (-FAR, FAR, 0, high),
                Semantic.BUILDING,
                texture=wall,
                mean=wall_mean,
                repeat=0.45,
                colour=PAINTS[rng.integers(len(PAINTS))],
                dye=dye,
            )
        )
    props = clutter(rng, library, wide) if rng.random() < 0.6 else []
    far = 12.0 if is_street else float(-rows[-1][1] if not is_street else 12.0) - 1.0
    return Backdrop(
        name="street" if is_street else "square",
        light=light,
        planes=np.stack(rows),
        props=tuple(props),
        standing=(-min(wide, 8.0) + 0.6, min(wide, 8.0) - 0.6, -max(far, 3.0), 10.0),
        panorama=plain_panorama(sky if sky is not None else sky_panorama(rng), yaw_rad=yaw),
    )


def house_fronts(rng: np.random.Generator, library: Library, wide: float) -> list[Array]:
    """Fronts along both sides and one across the far end."""
    rows = []
    for side in (-1, 1):
        texture = library.atlas.add(front_texture(rng, library))
        z = 12.0
        while z > -45:
            long = rng.uniform(9, 20)
            rows.append(
                plane(
                    0,
                    side * wide,
                    (0, rng.uniform(7, 18), z - long, z),
                    Semantic.BUILDING,
                    facing=-side,
                    texture=texture,
                    repeat=1 / 12,
                    colour=PAINTS[rng.integers(len(PAINTS))],
                    dye=float(rng.uniform(0.3, 0.9)),
                    mean=0.35,
                )
            )
            z -= long
    if rng.random() < 0.6:
        texture = library.atlas.add(front_texture(rng, library))
        rows.append(
            plane(
                2,
                -rng.uniform(25, 45),
                (-wide, wide, 0, rng.uniform(7, 16)),
                Semantic.BUILDING,
                texture=texture,
                repeat=1 / 12,
            )
        )
    return rows


def front_texture(rng: np.random.Generator, library: Library, size: int = 512) -> Array:
    """A house front 12 m square, `[size, size, 3]` uint8: wall, rows of windows, ground-floor openings."""
    base, _ = surface(rng, library, ("Bricks", "Concrete", "Plaster"))
    offset, width, height, _ = library.atlas.table[base, 0]
    tile = library.atlas.texels[offset : offset + width * height, :3].reshape(height, width, 3)
    image = np.tile(
        np.concatenate(
            [np.concatenate([tile, tile[:, ::-1]], 1), np.concatenate([tile[::-1], tile[::-1, ::-1]], 1)], 0
        ),
        (size // (2 * height) + 1, size // (2 * width) + 1, 1),
    )[:size, :size].copy()
    columns, floors = int(rng.integers(3, 6)), 4
    cell, storey = size // columns, size // floors
    w, h = int(cell * rng.uniform(0.35, 0.6)), int(storey * rng.uniform(0.45, 0.62))
    frame = rng.integers(60, 235)
    for row in range(floors):
        for column in range(columns):
            x, y = column * cell + (cell - w) // 2, row * storey + (storey - h) // 2
            image[y - 3 : y + h + 3, x - 3 : x + w + 3] = frame
            glass = rng.integers(30, 95) + np.linspace(30, 0, h)[:, None, None] + np.array([-4, 2, 10])
            image[y : y + h, x : x + w] = np.clip(glass, 0, 255).astype(np.uint8)
            image[y : y + h, x + w // 2 - 1 : x + w // 2 + 2] = frame
    return image


def clutter(rng: np.random.Generator, library: Library, wide: float) -> list[Prop]:
    """Bollards, boxes, bins and low walls beside the way."""
    props: list[Prop] = []
    for _ in range(int(rng.integers(1, 7))):
        material = cloth_material(rng, library)
        place = np.array(
            [rng.choice((-1, 1)) * rng.uniform(0.5 * wide, wide - 0.5), 0.0, -rng.uniform(2, 14)]
        )
        kind = rng.integers(3)
        if kind == 0:
            props.append(cylinder(rng.uniform(0.06, 0.3), 0, rng.uniform(0.6, 1.1), material).placed(place))
        elif kind == 1:
            half = rng.uniform(0.2, 0.6)
            props.append(
                box((-half, 0, -half), (half, rng.uniform(0.3, 1.2), half), material).placed(
                    place, rng.uniform(0, np.pi)
                )
            )
        else:
            props.append(cylinder(0.05, 0, rng.uniform(2.5, 4.5), material).placed(place))
    return props

"""Choosing and putting on an outfit: authored suits, garments cut from shells, or painted clothes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fleetpose.synth.arrays import Array
from fleetpose.synth.garment import (
    SKIN_CLASSES,
    LegCut,
    TopCut,
    body_classes,
    cut_shell,
    cut_weights,
    leg_field,
    leg_offset,
    planar_uv,
    push_out,
    top_field,
    top_offset,
)
from fleetpose.synth.library import Library, Wearable
from fleetpose.synth.mesh import Material, Part, Semantic
from fleetpose.synth.palette import BOTTOMS, SHOES, TOPS, pick
from fleetpose.synth.texture import NO_TEXTURE

HIDE_MARGIN = 0.025  # metres inside a garment's edge from which the body below is left out
SUIT_SHARE = 0.5  # outfits that are authored suits; the rest are cut from shells


@dataclass(frozen=True, slots=True, eq=False)
class Outfit:
    """What a person wears.

    body_faces: `[F]` bool, body faces still drawn. body_material: `[F]`, skin classes, then `painted`.
    """

    name: str
    parts: list[Part]
    body_faces: Array
    body_material: Array
    painted: tuple[Material, ...]
    has_hat: bool = False


def dress(rng: np.random.Generator, library: Library, rest: Array, *, is_female: bool) -> Outfit:
    """Draw an outfit for the shaped body `rest`; whatever it leaves open, chest and hips stay covered."""
    painted: tuple[Material, ...] = (
        Material(Semantic.UPPER_CLOTHES, colour=pick(rng, TOPS)),
        Material(Semantic.LOWER_CLOTHES, colour=pick(rng, BOTTOMS)),
        Material(Semantic.SHOES, colour=pick(rng, SHOES)),
    )
    if library.model.is_procedural:
        return painted_outfit(library, painted)
    sex = "female_" if is_female else "male_"
    suits = [w for w in library.wardrobe.get("suits", []) if w.item.name.startswith(sex)]
    parts: list[Part] = []
    hidden = np.zeros(len(rest), bool)
    if suits and rng.random() < SUIT_SHARE:
        suit = suits[rng.integers(len(suits))]
        name = suit.item.name
        parts.append(suit_part(rng, suit, rest))
        hidden[suit.item.hides] = True
    else:
        name, parts, hidden = cut_outfit(rng, library, rest, is_female=is_female)
    painted = matching(painted, parts)
    shoes, hides_feet = draw_shoes(rng, library, rest, painted[2])
    hidden |= hides_feet
    hat = draw_hat(rng, library, rest)
    keep = np.logical_not(hidden[library.model.faces].all(axis=1))
    return Outfit(name, [*parts, *shoes, *hat], keep, library.body_classes, painted, bool(hat))


def matching(painted: tuple[Material, ...], parts: list[Part]) -> tuple[Material, ...]:
    """Give painted cloth the colours of the garments over it, so that a gap looks like a layer below."""
    worn = {material.semantic: material for part in parts for material in part.materials}
    return tuple(
        replace(cloth, colour=worn[cloth.semantic].colour) if cloth.semantic in worn else cloth
        for cloth in painted
    )


def painted_outfit(library: Library, painted: tuple[Material, ...]) -> Outfit:
    """Clothes as colours on the body itself, for bodies without shells."""
    regions, faces = library.regions, library.model.faces
    classes = body_classes(library.model, regions, modest=False)
    top = (top_field(regions, TopCut(sleeve=0.9, hem=0.05, neck=0.0))[faces] > 0).all(axis=1)
    bottom = (leg_field(regions, LegCut(length=1.97, waist=0.1))[faces] > 0).all(axis=1)
    shoes = (regions.leg[faces] > 1.97).all(axis=1)
    for number, chosen in enumerate((top, bottom, shoes)):
        classes = np.where(chosen, SKIN_CLASSES + number, classes)
    return Outfit("painted", [], np.ones(len(faces), bool), classes, painted)


def suit_part(rng: np.random.Generator, suit: Wearable, rest: Array) -> Part:
    """An authored suit in quiet colours: denim may stay denim, everything else is dyed."""
    texture = suit.diffuse if suit.diffuse != NO_TEXTURE else suit.occlusion
    occlusion = suit.occlusion if suit.diffuse != NO_TEXTURE else NO_TEXTURE
    is_formal = "elegant" in suit.item.name
    contrast = float(rng.uniform(0.35, 0.6)) if is_formal else float(rng.uniform(0.5, 0.9))
    base = Material(
        Semantic.UPPER_CLOTHES,
        texture=texture,
        normal=suit.normal,
        occlusion=occlusion,
        recolour=1.0,
        contrast=contrast,
        bump=1.0 if suit.normal != NO_TEXTURE else 0.0,
    )
    upper = replace(base, colour=pick(rng, TOPS if not is_formal else BOTTOMS), mean=suit.mean_upper)
    lower = replace(base, semantic=Semantic.LOWER_CLOTHES, colour=pick(rng, BOTTOMS), mean=suit.mean_lower)
    if suit.diffuse != NO_TEXTURE and "casual" in suit.item.name and rng.random() < 0.5:
        shade = float(rng.uniform(0.45, 1.0))
        lower = replace(lower, recolour=0.0, colour=(shade, shade * 0.98, shade * 0.96), contrast=1.0)
    if is_formal:
        lower = replace(lower, colour=upper.colour)
    material = np.where(suit.is_upper, 0, 1).astype(np.int32)
    return Part(
        verts=suit.item.fit(rest),
        bind_bone=suit.bind_bone,
        bind_weight=suit.bind_weight,
        faces=suit.item.faces,
        face_uv=suit.item.face_uv,
        material=material,
        materials=(upper, lower),
    )


def cut_outfit(
    rng: np.random.Generator, library: Library, rest: Array, *, is_female: bool
) -> tuple[str, list[Part], Array]:
    """Draw a shirt with trousers, shorts, leggings or a skirt, cut from the shells."""
    kind = rng.choice(
        ("trousers", "shorts", "leggings", "skirt"),
        p=(0.5, 0.2, 0.15, 0.15) if is_female else (0.72, 0.28, 0.0, 0.0),
    )
    loose = float(rng.uniform(0.006, 0.03))
    sleeve = float(
        rng.choice((0.12, rng.uniform(0.5, 0.8), rng.uniform(1.0, 1.4), 1.93), p=(0.08, 0.5, 0.07, 0.35))
    )
    top = TopCut(
        sleeve=sleeve, hem=float(rng.uniform(-0.1, 0.06)), neck=float(rng.uniform(0.0, 0.05)), looseness=loose
    )
    legs = {
        "trousers": LegCut(
            length=float(rng.uniform(1.86, 1.97)), looseness=0.012, flare=float(rng.uniform(0, 0.035))
        ),
        "shorts": LegCut(
            length=float(rng.uniform(0.5, 1.15)), looseness=0.016, flare=float(rng.uniform(0.02, 0.06))
        ),
        "leggings": LegCut(length=float(rng.uniform(1.4, 1.95)), looseness=0.0, flare=0.0),
        "skirt": LegCut(length=0.25, looseness=0.0, flare=0.0),
    }[str(kind)]
    regions = library.regions
    cloth, dye = draw_cloth(rng, library), pick(rng, TOPS)
    parts = [
        shell_part(
            library,
            rest,
            "tights",
            leg_field(regions, legs),
            leg_offset(regions, legs),
            material=replace(
                draw_cloth(rng, library, plain=True),
                semantic=Semantic.LOWER_CLOTHES,
                colour=pick(rng, BOTTOMS),
            ),
        ),
        shell_part(
            library,
            rest,
            "tights",
            top_field(regions, top),
            top_offset(regions, top),
            material=replace(cloth, colour=dye),
        ),
    ]
    if kind == "skirt":
        parts.append(draw_skirt(rng, library, rest, replace(cloth, colour=dye)))
    hidden = np.maximum(top_field(regions, top), leg_field(regions, legs)) > HIDE_MARGIN
    return f"cut_{kind}", parts, hidden


def draw_cloth(rng: np.random.Generator, library: Library, *, plain: bool = False) -> Material:
    """Draw a fabric: weave or pattern, folds, little shine."""
    count = 2 if plain or rng.random() < 0.72 else len(library.patterns)
    texture = library.patterns[rng.integers(count)]
    mean = float(library.atlas.mean_linear(texture) @ np.array([0.2126, 0.7152, 0.0722]))
    return Material(
        Semantic.UPPER_CLOTHES,
        texture=texture,
        recolour=1.0,
        mean=mean,
        contrast=float(rng.uniform(0.4, 0.8)),
        uv_scale=float(rng.uniform(4.0, 8.0)),
        normal=library.wrinkles,
        bump=float(rng.uniform(0.12, 0.4)),
        bump_scale=float(rng.uniform(0.8, 1.5)),
        specular=0.012,
        gloss=6.0,
    )


def shell_part(
    library: Library, rest: Array, shell: str, field: Array, offset: Array | float, *, material: Material
) -> Part:
    """Cut one of the body's shells along `field` and push it out by `offset`."""
    model = library.model
    faces = model.shells[shell]
    cut = cut_shell(faces, field)
    verts = cut.blend(push_out(rest, faces, offset))
    bones, weights = cut_weights(cut, model)
    face_uv = planar_uv(cut.blend(model.verts), cut.faces)
    return Part(verts, bones, weights, cut.faces, face_uv, np.zeros(len(cut.faces), np.int32), (material,))


def draw_skirt(rng: np.random.Generator, library: Library, rest: Array, cloth: Material) -> Part:
    """A skirt of drawn length from the skirt shell."""
    model = library.model
    shell = np.unique(model.shells["skirt"])
    top, bottom = model.verts[shell, 1].max(), model.verts[shell, 1].min()
    hem = rng.uniform(bottom + 0.1, bottom + 0.62 * (top - bottom))
    colour = pick(rng, BOTTOMS) if rng.random() < 0.65 else cloth.colour
    material = replace(cloth, semantic=Semantic.LOWER_CLOTHES, colour=colour)
    return shell_part(library, rest, "skirt", model.verts[:, 1] - hem, 0.006, material=material)


def draw_shoes(
    rng: np.random.Generator, library: Library, rest: Array, painted: Material
) -> tuple[list[Part], Array]:
    """Shoes of the wardrobe, or the feet pushed out and coloured; and the base vertices they hide."""
    hidden = np.zeros(len(rest), bool)
    choices = library.wardrobe.get("shoes", [])
    if not choices:
        feet = (library.regions.leg - 1.93) * 0.42
        material = replace(painted, specular=0.05)
        faces = library.model.faces
        cut = cut_shell(faces, feet)
        bones, weights = cut_weights(cut, library.model)
        verts = cut.blend(push_out(rest, faces, 0.006))
        uv = np.zeros((len(cut.faces), 3, 2), np.float32)
        return [
            Part(verts, bones, weights, cut.faces, uv, np.zeros(len(cut.faces), np.int32), (material,))
        ], hidden
    shoe = choices[rng.integers(len(choices))]
    hidden[shoe.item.hides] = True
    material = Material(
        Semantic.SHOES,
        texture=shoe.diffuse,
        normal=shoe.normal,
        specular=0.08,
        gloss=20.0,
        bump=1.0 if shoe.normal != NO_TEXTURE else 0.0,
    )
    if rng.random() < 0.5:
        mean = float(library.atlas.mean_linear(shoe.diffuse) @ np.array([0.2126, 0.7152, 0.0722]))
        material = replace(
            material, colour=pick(rng, SHOES), recolour=0.9, mean=max(mean, 0.01), contrast=0.6
        )
    faces = shoe.item.faces
    return [
        Part(
            shoe.item.fit(rest),
            shoe.bind_bone,
            shoe.bind_weight,
            faces,
            shoe.item.face_uv,
            np.zeros(len(faces), np.int32),
            (material,),
        )
    ], hidden


def draw_hat(rng: np.random.Generator, library: Library, rest: Array) -> list[Part]:
    """Now and then, a hat."""
    choices = library.wardrobe.get("hats", [])
    if not choices or rng.random() > 0.03:
        return []
    hat = choices[rng.integers(len(choices))]
    material = Material(Semantic.HEADWEAR, colour=pick(rng, BOTTOMS), normal=hat.normal, bump=1.0)
    faces = hat.item.faces
    return [
        Part(
            hat.item.fit(rest),
            hat.bind_bone,
            hat.bind_weight,
            faces,
            hat.item.face_uv,
            np.zeros(len(faces), np.int32),
            (material,),
        )
    ]

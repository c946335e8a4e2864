"""One dressed person in the rest pose: shape, skin, hair, clothes and shoes, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from fleetpose.synth.arrays import Array
from fleetpose.synth.body import BodyModel, Phenotype
from fleetpose.synth.library import Library
from fleetpose.synth.mesh import Material, Part, Semantic, SkinnedMesh, join_parts
from fleetpose.synth.outfit import Outfit, dress
from fleetpose.synth.palette import GREY_HAIR, HAIR, SKINS, pick
from fleetpose.synth.texture import srgb_to_linear

MALE_HAIR = ("short01", "short02", "short04")
# `short03` is left out: it covers the eyes of most heads.
FEMALE_HAIR = ("bob02", "long01", "ponytail01", "braid01", "long01", "ponytail01")
FACE_FOLDERS = ("chin", "nose", "mouth", "eyes", "head", "cheek", "ears", "forehead", "eyebrows")
ODD_DETAILS = ("age", "pointed", "trans-in", "trans-out", "pregnant", "measure", "navel", "double")
EXPRESSIONS: tuple[tuple[tuple[str, float], ...], ...] = (
    (),
    (("mouth-corner-puller", 0.7), ("eye-slit", 0.2)),
    (("mouth-corner-puller", 0.9), ("mouth-open", 0.25), ("eye-slit", 0.3)),
    (("mouth-open", 0.35),),
    (("eyebrows-up", 0.6), ("eye-opened-up", 0.4)),
    (("eyebrows-down", 0.6), ("mouth-compression", 0.4)),
    (("mouth-depression", 0.4), ("eyebrows-inner-up", 0.4)),
    (("mouth-parling", 0.5),),
)


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """A dressed person at rest; `mesh` begins with the body model's vertices."""

    phenotype: Phenotype
    mesh: SkinnedMesh
    rest: Array  # the body's own shaped vertices
    heads: Array
    tails: Array
    outfit: str


def draw_phenotype(rng: np.random.Generator, model: BodyModel, *, adults_only: bool = False) -> Phenotype:
    """Draw a body shape: mostly adults, some old people and children."""
    kind = rng.random()
    age = rng.uniform(0.42, 0.72)
    if kind > 0.88:
        age = rng.uniform(0.72, 0.95)
    elif kind < 0.1 and not adults_only:
        age = rng.uniform(0.1875, 0.42)
    ethnicity = rng.dirichlet((0.45, 0.45, 0.45))
    return Phenotype(
        female=bool(rng.random() < 0.5),
        age=float(age),
        muscle=float(np.clip(rng.normal(0.5, 0.15), 0.15, 0.95)),
        weight=float(np.clip(rng.normal(0.52, 0.17), 0.12, 0.95)),
        height=float(np.clip(rng.normal(0.5, 0.13), 0.15, 0.9)),
        proportions=float(rng.uniform(0.45, 0.95)),
        ethnicity=(float(ethnicity[0]), float(ethnicity[1]), float(ethnicity[2])),
        cup=float(np.clip(rng.normal(0.5, 0.15), 0.1, 0.9)),
        details=draw_details(rng, model),
    )


@cache
def detail_names(target_names: tuple[str, ...]) -> tuple[str, ...]:
    """Targets that change a face or a trunk without making it odd."""
    folders = (*FACE_FOLDERS, "torso", "stomach", "hip")
    return tuple(
        name
        for name in target_names
        if name.partition("/")[0] in folders and not any(word in name for word in ODD_DETAILS)
    )


def draw_details(rng: np.random.Generator, model: BodyModel) -> dict[str, float]:
    """Draw small changes of face and trunk, and an expression."""
    names = detail_names(model.target_names)
    details = {}
    if names:
        chosen = rng.choice(len(names), size=16, replace=False)
        details = {names[k]: float(rng.uniform(0.05, 0.5)) for k in chosen}
    expression = EXPRESSIONS[rng.choice(len(EXPRESSIONS), p=[0.3, 0.22, 0.14, 0.08, 0.06, 0.06, 0.06, 0.08])]
    return details | {f"expression/units/caucasian/{unit}": weight for unit, weight in expression}


def draw_person(rng: np.random.Generator, library: Library, *, adults_only: bool = False) -> Person:
    """Draw a whole dressed person."""
    model = library.model
    phenotype = draw_phenotype(rng, model, adults_only=adults_only)
    rest = model.shape(phenotype)
    skin, tone = draw_skin(rng, library, phenotype)
    hair_colour = pick(rng, GREY_HAIR if phenotype.age > 0.72 and rng.random() < 0.7 else HAIR)
    outfit = dress(rng, library, rest, is_female=phenotype.female)
    hair, scalp = draw_hair(
        rng, library, rest, hair_colour, is_female=phenotype.female, has_hat=outfit.has_hat
    )
    parts = [
        body_part(library, rest, skin, outfit, hair=hair_colour, scalp=scalp),
        *outfit.parts,
        *hair,
        *face_parts(rng, library, rest, hair_colour, tone),
    ]
    heads, tails = model.joints(rest)
    return Person(phenotype, join_parts(parts), rest, heads, tails, outfit.name)


def draw_skin(rng: np.random.Generator, library: Library, phenotype: Phenotype) -> tuple[Material, int]:
    """Draw a skin whose tone suits the ethnicity; returns it with its tone, 0 light to 10 dark."""
    african, asian, caucasian = phenotype.ethnicity
    tone = float(np.clip(african * 8.5 + asian * 3.5 + caucasian * 1.8 + rng.normal(0, 1.0), 0, 10))
    if library.skins:
        near = [number for t, number in library.skins if abs(t - tone) <= 0.8] or [library.skins[-1][1]]
        texture = near[rng.integers(len(near))]
        # The palest tones of the pack are brighter than any real skin (albedo about 0.6).
        tint = float(np.interp(tone, [0, 2, 5, 10], [0.66, 0.74, 0.9, 1.25])) * rng.uniform(0.93, 1.05)
        return Material(
            Semantic.HEAD,
            texture=texture,
            colour=(tint, tint * 0.98, tint * 0.97),
            soft=0.35,
            specular=0.035,
            gloss=14.0,
        ), int(tone)
    base = SKINS[min(int(tone * len(SKINS) / 11), len(SKINS) - 1)]
    red, green, blue = srgb_to_linear(np.array(base) * rng.uniform(0.92, 1.04))
    return Material(Semantic.HEAD, colour=(float(red), float(green), float(blue)), soft=0.35), int(tone)


def body_part(
    library: Library,
    rest: Array,
    skin: Material,
    outfit: Outfit,
    *,
    hair: tuple[float, float, float],
    scalp: float,
) -> Part:
    """The body's visible skin, with hair painted on the scalp and clothes where there is no mesh."""
    model, keep = library.model, outfit.body_faces
    paint = np.clip(library.scalp / 0.012 + 0.5, 0, 1) * scalp
    classes = (Semantic.HEAD, Semantic.ARMS, Semantic.LEGS, Semantic.TORSO)
    skins = tuple(
        Material(
            kind,
            texture=skin.texture,
            colour=skin.colour,
            soft=skin.soft,
            specular=skin.specular,
            gloss=skin.gloss,
            paint=hair,
        )
        for kind in classes
    )
    return Part(
        verts=rest,
        bind_bone=model.bind_bone,
        bind_weight=model.bind_weight,
        faces=model.faces[keep],
        face_uv=model.face_uv[keep],
        material=outfit.body_material[keep],
        materials=(*skins, *outfit.painted),
        paint=paint.astype(np.float32),
    )


def draw_hair(
    rng: np.random.Generator, library: Library, rest: Array, colour: tuple[float, float, float], *,
    is_female: bool, has_hat: bool,
) -> tuple[list[Part], float]:  # fmt: skip
    """Draw a hair style, and how strongly the scalp below is painted with the hair's colour."""
    styles = library.wardrobe.get("hair", [])
    bald = not is_female and rng.random() < 0.1
    cropped = not is_female and rng.random() < 0.18
    if not styles or has_hat or bald or cropped:
        return [], float(rng.uniform(0.25, 0.5)) if bald else 0.92
    names = FEMALE_HAIR if is_female and rng.random() < 0.9 else MALE_HAIR
    known = {wearable.item.name: wearable for wearable in styles}
    present = [name for name in names if name in known]
    chosen = known[present[rng.integers(len(present))]] if present else styles[rng.integers(len(styles))]
    mean = float(library.atlas.mean_linear(chosen.diffuse) @ np.array([0.2126, 0.7152, 0.0722]))
    material = Material(
        Semantic.HAIR,
        texture=chosen.diffuse,
        colour=colour,
        recolour=1.0,
        mean=max(mean, 0.004),
        contrast=0.8,
        specular=0.025,
        gloss=10.0,
        soft=0.25,
    )
    item = chosen.item
    part = Part(
        verts=item.fit(rest),
        bind_bone=chosen.bind_bone,
        bind_weight=chosen.bind_weight,
        faces=item.faces,
        face_uv=item.face_uv,
        material=np.zeros(len(item.faces), np.int32),
        materials=(material,),
        is_alpha=True,
    )
    return [part], 0.9


def face_parts(
    rng: np.random.Generator, library: Library, rest: Array, hair: tuple[float, float, float], tone: int
) -> list[Part]:
    """Eyes, brows and lashes."""
    model = library.model
    parts: list[Part] = []
    for kind, colour in (("brows", tuple(0.6 * c for c in hair)), ("lashes", (0.01, 0.01, 0.01))):
        choices = library.wardrobe.get(kind, [])
        if choices:
            chosen = choices[rng.integers(len(choices))]
            material = Material(
                Semantic.HEAD,
                texture=chosen.diffuse,
                colour=(colour[0], colour[1], colour[2]),
                recolour=1.0,
                mean=1.0,
                contrast=0.0,
            )
            parts.append(
                _worn(
                    chosen.item.fit(rest),
                    (chosen.bind_bone, chosen.bind_weight),
                    chosen.item.faces,
                    chosen.item.face_uv,
                    material,
                    is_alpha=True,
                )
            )
    if library.irises and library.wardrobe.get("eyes"):
        eye = library.wardrobe["eyes"][0]
        number = library.irises[rng.integers(len(library.irises))] if tone < 5 else library.irises[2]
        material = Material(Semantic.HEAD, texture=number, specular=0.25, gloss=60.0, colour=(0.8, 0.8, 0.8))
        parts.append(
            _worn(
                eye.item.fit(rest),
                (eye.bind_bone, eye.bind_weight),
                eye.item.faces,
                eye.item.face_uv,
                material,
            )
        )
    elif len(model.eyes[0]):
        material = Material(Semantic.HEAD, colour=(0.25, 0.22, 0.2), specular=0.2, gloss=50.0)
        parts.append(
            _worn(rest, (model.bind_bone, model.bind_weight), model.eyes[0], model.eyes[1], material)
        )
    return parts


def _worn(
    verts: Array, bind: tuple[Array, Array], faces: Array, face_uv: Array, material: Material,
    *, is_alpha: bool = False,
) -> Part:  # fmt: skip
    """One part of a single material."""
    return Part(
        verts,
        *bind,
        faces,
        face_uv,
        np.zeros(len(faces), np.int32),
        (material,),
        is_alpha=is_alpha,
    )

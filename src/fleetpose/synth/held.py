"""Things that people hold: a phone, a cup, a bag, an umbrella, a stick or a ball in one hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fleetpose.synth.actor import ALONG, GRIP, PALM, THUMB, Actor
from fleetpose.synth.built_scene import cloth_material
from fleetpose.synth.library import Library
from fleetpose.synth.mesh import Material, Semantic
from fleetpose.synth.props import Prop, ball, box, cylinder

KINDS = ("phone", "cup", "bag", "umbrella", "stick", "ball")
SHARES = (0.3, 0.2, 0.22, 0.06, 0.12, 0.1)
# Hands of these are on the ground, in the water or round a hold.
EMPTY_HANDED = ("lie", "crawl", "climb", "swim", "roll", "fight")
CLENCHED_DEG = (25.0, 60.0, 62.0, 64.0, 64.0)  # bend of the finger joints round a handle
UPRIGHT = ("bag", "umbrella")  # weight keeps these upright, the others turn with the hand
BAG_ROOM = 0.55  # metres below the hand that a bag needs


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A thing in hand `side`, 0 the left; `parts` around the grip: y towards the thumb, z out of the palm."""

    kind: str
    side: int
    parts: tuple[Prop, ...]

    def props(self, actor: Actor) -> list[Prop]:
        """The thing where the person's hand is."""
        hand = actor.hands[self.side]
        if self.kind == "bag" and hand[GRIP, 1] < BAG_ROOM:
            return []
        axes = np.stack([hand[ALONG], hand[THUMB], hand[PALM]], axis=1)
        if self.kind in UPRIGHT:
            cosine, sine = np.cos(actor.heading_rad), np.sin(actor.heading_rad)
            axes = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
        return [part.turned(axes, hand[GRIP]) for part in self.parts]


def draw_held(rng: np.random.Generator, library: Library, action: str) -> Held | None:
    """Draw what somebody holds; None for hands that are busy."""
    if action in EMPTY_HANDED:
        return None
    kind = str(rng.choice(KINDS, p=SHARES))
    side = int(rng.random() < 0.6)
    return Held(kind, side, tuple(make_parts(rng, kind, cloth_material(rng, library))))


def make_parts(rng: np.random.Generator, kind: str, cloth: Material) -> list[Prop]:
    """Build a thing around the grip."""
    plain = float(rng.uniform(0.01, 0.5))
    hard = Material(
        Semantic.OBJECT, colour=(plain, plain, plain * rng.uniform(0.8, 1.1)), specular=0.08, gloss=40.0
    )
    if kind == "phone":
        return [box((-0.05, -0.037, -0.002), (0.1, 0.037, 0.007), hard)]
    if kind == "cup":
        radius, high = rng.uniform(0.034, 0.045), rng.uniform(0.05, 0.09)
        return [cylinder(radius * 0.85, -0.05, high, hard, top_radius=radius)]
    if kind == "bag":
        wide, high, deep = rng.uniform(0.1, 0.2), rng.uniform(0.22, 0.36), rng.uniform(0.04, 0.08)
        straps = [box((-0.006, -0.14, s * deep), (0.006, 0.0, s * deep + 0.006), cloth) for s in (-0.4, 0.4)]
        return [box((-deep, -0.12 - high, -wide), (deep, -0.12, wide), cloth), *straps]
    if kind == "umbrella":
        reach, high = rng.uniform(0.42, 0.55), rng.uniform(0.75, 0.95)
        canopy = cylinder(reach, high, high + 0.5 * reach, cloth, top_radius=0.02)
        return [cylinder(0.008, -0.1, high + 0.5 * reach, hard), canopy]
    if kind == "stick":
        thick, low, high = rng.uniform(0.01, 0.03), rng.uniform(-0.5, -0.1), rng.uniform(0.3, 0.9)
        return [cylinder(thick * 0.7, low, high, hard, top_radius=thick)]
    radius = float(rng.uniform(0.03, 0.12))
    return [ball(radius, (0.0, 0.0, 0.8 * radius), cloth)]


def held_props(actors: Sequence[Actor], held: Sequence[Held | None]) -> list[Prop]:
    """Everything that people hold, where their hands are."""
    return [
        part
        for actor, thing in zip(actors, held, strict=True)
        if thing is not None
        for part in thing.props(actor)
    ]

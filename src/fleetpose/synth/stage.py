"""Setting a picture up: backdrop, camera, and people who stand on the ground and keep clear of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fleetpose.synth.actor import KEYPOINTS, Actor, overlap, pose_actor
from fleetpose.synth.arrays import Array
from fleetpose.synth.built_scene import cloth_material, room_backdrop, street_backdrop
from fleetpose.synth.camera import Camera
from fleetpose.synth.config import SynthConfig
from fleetpose.synth.held import CLENCHED_DEG, Held, draw_held, held_props
from fleetpose.synth.library import Library
from fleetpose.synth.person import draw_person
from fleetpose.synth.pose import Pose
from fleetpose.synth.props import Prop, ball, box, cylinder, seat
from fleetpose.synth.scene import Backdrop, panorama_backdrop, photo_backdrop

SCENE_WEIGHTS = {"panorama": 0.5, "room": 0.15, "street": 0.2, "photo": 0.15}
PLACE_TRIES = 24
MAX_OVERLAP = 0.02  # metres that two people's spheres may share: touching is fine, sinking in is not
SEAT_FROM = 0.24  # metres: lower than this, people sit on the ground
CLOSE_UP = (1.1, 3.2)  # a standing person's height over the picture's in close-ups
NEAREST = 0.75  # metres
STATURE = 1.65  # metres of a usual person
MIN_SCREEN = 22.0  # pixels of a 512-pixel-high picture below which a person is not placed


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """Everything that one picture shows."""

    camera: Camera
    backdrop: Backdrop
    actors: tuple[Actor, ...]
    props: tuple[Prop, ...]


def draw_backdrop(
    rng: np.random.Generator, library: Library, config: SynthConfig, photos: Sequence[Path]
) -> Backdrop:
    """Draw a backdrop of one of the kinds that the library and the settings allow."""
    possible = [
        kind
        for kind in config.scenes
        if not (kind == "photo" and not photos) and not (kind == "panorama" and not library.panoramas)
    ] or ["street"]
    weights = np.array([SCENE_WEIGHTS[kind] for kind in possible])
    kind = possible[rng.choice(len(possible), p=weights / weights.sum())]
    if kind == "panorama":
        wanted = [p for p in library.panoramas if p.name in config.panoramas] or [
            p for p in library.panoramas if p.has_ground
        ]
        return panorama_backdrop(rng, library, wanted[rng.integers(len(wanted))])
    if kind == "photo":
        return photo_backdrop(rng, photos[int(rng.integers(len(photos)))], config.size)
    return room_backdrop(rng, library) if kind == "room" else street_backdrop(rng, library)


def draw_camera(rng: np.random.Generator, backdrop: Backdrop, size: tuple[int, int]) -> Camera:
    """Draw where the camera stands, how wide it sees and how it is held."""
    fov = np.radians(rng.uniform(38, 72))
    low, high = backdrop.eye_height
    height = rng.uniform(low, high)
    unusual = rng.random()
    if unusual < 0.08 and not backdrop.is_indoor:
        height = rng.uniform(2.2, 3.6)
    elif unusual < 0.16:
        height = rng.uniform(0.35, 0.9)
    position = np.array([rng.normal(0, 0.4), height, rng.uniform(0.5, 2.0)])
    if backdrop.panorama.dome > 0:
        # A panorama is true only where it was taken: walls bend when seen from elsewhere.
        position[[0, 2]] *= 0.25
    elif backdrop.is_indoor:
        position[2] = rng.uniform(1.4, 2.2)
    roll = rng.normal(0, 0.03) if rng.random() < 0.85 else rng.normal(0, 0.15)
    # Look a little down from high up and up from low down, roughly at people's chests.
    pitch = -0.22 * (height - 1.25) + rng.normal(0, 0.07)
    return Camera.looking(
        position=position,
        yaw_rad=float(rng.normal(0, 0.12)),
        pitch_rad=float(pitch),
        roll_rad=float(roll),
        focal=float(size[1] / 2 / np.tan(fov / 2)),
        size=size,
    )


def draw_count(rng: np.random.Generator, config: SynthConfig) -> int:
    """Draw how many people a picture gets: a geometric-like fall-off with the mean asked for."""
    low, high = config.people
    spread = config.mean_people - low
    if high == low or spread <= 0:
        return low
    return int(min(low + rng.geometric(1 / (1 + spread)) - 1, high))


def draw_heading(rng: np.random.Generator) -> float:
    """Draw which way a person faces, 0 towards the camera: mostly frontal, as in photographs."""
    if rng.random() < 0.7:
        return float(rng.normal(0, np.radians(48)))
    return float(rng.uniform(-np.pi, np.pi))


def draw_shot(
    rng: np.random.Generator, library: Library, config: SynthConfig, photos: Sequence[Path] = ()
) -> Shot:
    """Draw the whole content of a picture."""
    backdrop = draw_backdrop(rng, library, config, photos)
    cast = []
    for number in range(draw_count(rng, config)):
        person = draw_person(rng, library, adults_only=config.adults_only)
        pose = library.poses.draw(rng, actions=config.actions)
        thing = draw_held(rng, library, pose.action) if rng.random() < config.held else None
        pose, yaw = gripping(pose, thing), draw_heading(rng)
        cast.append((pose_actor(library.model, person, pose, person_id=number, yaw_rad=yaw), thing))
    camera, depth = draw_view(rng, backdrop, config, top=head_height(cast[0][0]))
    backdrop = fit_panorama(rng, backdrop, camera)
    actors: list[Actor] = []
    held: list[Held | None] = []
    props: list[Prop] = []
    for actor, thing in cast:
        placed = place(rng, camera, backdrop, actors, depth=depth, actor=actor)
        if placed is None:
            continue
        actors.append(placed)
        held.append(thing)
        if rng.random() < 0.35:
            depth = draw_depth(rng, camera, config)
        props += seat_below(rng, library, placed)
    # A thing that stands on the floor of a photograph would float: its floor is a guess.
    if rng.random() < config.occluders and actors and backdrop.photo is None:
        props += occluder(rng, library, camera, actors)
    if rng.random() < config.clutter and backdrop.panorama.dome > 0:
        props += scattered(rng, library, camera, backdrop, actors)
    props += held_props(actors, held)
    return Shot(camera, backdrop, tuple(actors), (*backdrop.props, *props))


def head_height(actor: Actor) -> float:
    """Metres of the top of the head above the ground."""
    return float(actor.keypoints[KEYPOINTS.index("head_top"), 1])


def draw_view(
    rng: np.random.Generator, backdrop: Backdrop, config: SynthConfig, *, top: float
) -> tuple[Camera, float]:
    """Draw a camera, and how many metres away the first person is, whose head reaches `top` metres."""
    camera = draw_camera(rng, backdrop, config.size)
    if rng.random() >= config.close_ups:
        return camera, draw_depth(rng, camera, config)
    low, high = CLOSE_UP
    tall = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    distance = max(STATURE * camera.focal / (tall * camera.size[0]), NEAREST)
    # Photographers keep heads in the picture, mostly in its upper third, and cut off legs.
    seen = camera.size[0] / camera.focal * distance
    aim = max(top - (0.5 - rng.uniform(-0.04, 0.24)) * seen, 0.25)
    height = float(np.clip(aim + rng.normal(0.15, 0.25), 0.4, 1.9))
    return camera.aimed(height=height, distance=distance, drop=height - aim), distance


def gripping(pose: Pose, thing: Held | None) -> Pose:
    """Close the fingers of the hand that holds something; a ball and a phone lie in a relaxed hand."""
    if thing is None or thing.kind in {"ball", "phone"}:
        return pose
    curl = pose.curl_deg.copy()
    curl[thing.side] = CLENCHED_DEG
    return replace(pose, curl_deg=curl)


def scattered(
    rng: np.random.Generator, library: Library, camera: Camera, backdrop: Backdrop, actors: Sequence[Actor]
) -> list[Prop]:
    """Things that stand about on a panorama's ground, clear of people: bins, crates, balls, bags, chairs."""
    props: list[Prop] = []
    for _ in range(int(rng.integers(1, 5))):
        material = cloth_material(rng, library)
        kind = rng.integers(5)
        if kind == 0:
            parts = [cylinder(rng.uniform(0.1, 0.3), 0, rng.uniform(0.4, 1.1), material)]
        elif kind == 1:
            half = rng.uniform(0.12, 0.45)
            parts = [box((-half, 0, -half), (half, rng.uniform(0.2, 0.9), half), material)]
        elif kind == 2:
            radius = float(rng.uniform(0.08, 0.4))
            parts = [ball(radius, (0.0, radius, 0.0), material)]
        elif kind == 3:
            parts = [box((-0.22, 0, -0.1), (0.22, rng.uniform(0.25, 0.5), 0.1), material)]
        else:
            parts = seat(rng, rng.uniform(0.4, 0.5), material, cloth_material(rng, library))
        spot = random_spot(rng, camera, backdrop, float(rng.uniform(1.5, 12.0)), attempt=4)
        placed = [part.placed(spot, float(rng.uniform(-np.pi, np.pi))) for part in parts]
        if all(is_clear(placed, actor) for actor in actors):
            props += placed
    return props


def fit_panorama(rng: np.random.Generator, backdrop: Backdrop, camera: Camera) -> Backdrop:
    """Scale a panorama to the camera's height, from where its ground shows without stretching."""
    height = float(camera.position[1] * rng.uniform(0.85, 1.15))
    return replace(backdrop, panorama=backdrop.panorama._replace(height=height))


def draw_depth(rng: np.random.Generator, camera: Camera, config: SynthConfig) -> float:
    """Draw a distance in metres from a target height on the picture, even on a logarithmic scale."""
    low, high = (px * camera.size[0] / 512 for px in config.person_px)
    target = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return STATURE * camera.focal / target


def place(
    rng: np.random.Generator,
    camera: Camera,
    backdrop: Backdrop,
    others: Sequence[Actor],
    *,
    depth: float,
    actor: Actor,
) -> Actor | None:
    """Find a spot in view, inside the scene and clear of the others; None when there is none."""
    for attempt in range(PLACE_TRIES):
        spot = random_spot(rng, camera, backdrop, depth, attempt)
        moved = actor.moved(spot[0], spot[2])
        if is_in_view(camera, moved) and all(overlap(moved.spheres, o.spheres) < MAX_OVERLAP for o in others):
            return moved
    return None


def random_spot(
    rng: np.random.Generator, camera: Camera, backdrop: Backdrop, depth: float, attempt: int
) -> Array:
    """A point `[3]` on the ground about `depth` metres away, spread wider with every `attempt`."""
    x0, x1, z0, z1 = backdrop.standing
    forward = camera.rotation[2] * np.array([1, 0, 1])
    forward /= np.linalg.norm(forward)
    right = np.array([-forward[2], 0, forward[0]])
    far = max(depth * rng.lognormal(0, 0.16 + 0.03 * attempt), NEAREST)
    spot = camera.position + forward * far + right * rng.uniform(-0.95, 0.95) * far * camera.ground_distance
    return np.array([np.clip(spot[0], x0, x1), 0.0, np.clip(spot[2], z0, z1)])


def is_in_view(camera: Camera, actor: Actor) -> bool:
    """Tell whether enough of a person shows: not too near, not too small, enough joints inside."""
    seen = camera.project(actor.keypoints[:17])
    if seen[:, 2].min() < 0.45:
        return False
    height, width = camera.size
    inside = (seen[:, 0] >= 0) & (seen[:, 0] < width) & (seen[:, 1] >= 0) & (seen[:, 1] < height)
    tall = float(np.ptp(seen[:, :2], axis=0).max())
    return bool(inside.sum() >= 5 and tall >= MIN_SCREEN * height / 512)


def seat_below(rng: np.random.Generator, library: Library, actor: Actor) -> list[Prop]:
    """A seat under a sitting person, facing as they do; none when they sit on the ground."""
    if actor.action != "sit" or actor.seat_height < SEAT_FROM or not is_sitting(actor):
        return []
    main, frame = cloth_material(rng, library), cloth_material(rng, library)
    position = np.array([actor.hips[0], 0.0, actor.hips[2]])
    return [part.placed(position, actor.heading_rad) for part in seat(rng, actor.seat_height, main, frame)]


def is_sitting(actor: Actor) -> bool:
    """Tell whether the thighs are nearer to level than to upright, below an upright trunk."""
    hips, knees = actor.keypoints[[11, 12]], actor.keypoints[[13, 14]]
    thigh = knees - hips
    level = np.abs(thigh[:, 1]) / np.maximum(np.linalg.norm(thigh, axis=1), 1e-6)
    trunk = actor.keypoints[[5, 6]].mean(axis=0) - hips.mean(axis=0)
    is_upright = trunk[1] > 0.6 * float(np.linalg.norm(trunk))
    return bool(level.max() < 0.75 and is_upright)


def occluder(
    rng: np.random.Generator, library: Library, camera: Camera, actors: Sequence[Actor]
) -> list[Prop]:
    """Something between the camera and one of the people: a pole, a crate, a table or a low wall."""
    target = actors[int(rng.integers(len(actors)))]
    gap = target.hips - camera.position
    distance = float(np.hypot(gap[0], gap[2]))
    share = max(1 - 0.7 / distance, 0.4) * rng.uniform(0.7, 1.0)
    spot = camera.position + gap * share
    spot[1] = 0.0
    spot += np.array([rng.normal(0, 0.35), 0.0, 0.0])
    material = cloth_material(rng, library)
    kind = rng.integers(4)
    if kind == 0:
        parts = [cylinder(rng.uniform(0.04, 0.12), 0, 3.5, material)]
    elif kind == 1:
        half, high = rng.uniform(0.2, 0.5), rng.uniform(0.3, 0.9)
        parts = [box((-half, 0, -half), (half, high, half), material)]
    elif kind == 2:
        half, high = rng.uniform(0.5, 1.0), rng.uniform(0.6, 0.8)
        legs = [(x, z) for x in (-half + 0.05, half - 0.05) for z in (-0.3, 0.3)]
        parts = [box((-half, high - 0.05, -0.35), (half, high, 0.35), material)]
        parts += [box((x - 0.03, 0, z - 0.03), (x + 0.03, high - 0.05, z + 0.03), material) for x, z in legs]
    else:
        parts = [box((-1.5, 0, -0.08), (1.5, rng.uniform(0.4, 1.0), 0.08), material)]
    yaw = float(rng.uniform(-0.4, 0.4))
    placed = [part.placed(spot, yaw) for part in parts]
    return placed if all(is_clear(placed, actor) for actor in actors) else []


def is_clear(parts: Sequence[Prop], actor: Actor) -> bool:
    """Tell whether no sphere of a person reaches into the parts' bounding boxes."""
    for part in parts:
        low, high = part.verts.min(axis=0), part.verts.max(axis=0)
        nearest = np.clip(actor.spheres[:, :3], low, high)
        if (np.linalg.norm(nearest - actor.spheres[:, :3], axis=1) < actor.spheres[:, 3]).any():
            return False
    return True

"""One integer in, one labelled picture out; and clips of moving people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fleetpose.synth.actor import Actor, overlap, pose_actor
from fleetpose.synth.arrays import Array, axis_rotation
from fleetpose.synth.camera import Camera
from fleetpose.synth.config import SynthConfig
from fleetpose.synth.held import Held, draw_held, held_props
from fleetpose.synth.label import PersonLabel, depth_picture, label_people, semantic_picture
from fleetpose.synth.library import Library
from fleetpose.synth.person import draw_person
from fleetpose.synth.pose import Pose
from fleetpose.synth.render import Frame, render
from fleetpose.synth.sensor import Sensor, draw_sensor, take_picture
from fleetpose.synth.stage import (
    MAX_OVERLAP,
    PLACE_TRIES,
    Shot,
    draw_backdrop,
    draw_count,
    draw_heading,
    draw_shot,
    draw_view,
    fit_panorama,
    gripping,
    head_height,
    is_in_view,
    random_spot,
)

# Actions that leave the ground; in all others the lowest point of the body touches it in every frame.
AERIAL = ("jump", "run", "dance", "sport", "fight")
MAX_LIFT = 1.2  # metres
EXPOSURE_S = 1 / 50  # of the frames of clips


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A labelled picture: image `[H, W, 3]` RGB uint8, its people, and what it was developed from."""

    seed: int
    image: Array
    people: list[PersonLabel]
    drawn: Frame
    scene: str
    quality: int
    frame: int = 0

    @property
    def semantic(self) -> Array:
        """Classes `[H, W]` uint8 (see `fleetpose.synth.mesh.Semantic`)."""
        return semantic_picture(self.drawn, self.image.shape[:2])

    @property
    def depth(self) -> Array:
        """Depth `[H, W]` uint16 of people and things in millimetres, 0 for the backdrop."""
        return depth_picture(self.drawn, self.image.shape[:2])


def make_picture(library: Library, config: SynthConfig, seed: int, photos: Sequence[Path] = ()) -> Picture:
    """Draw picture `seed`: the same settings, assets and seed give the same bytes."""
    rng = np.random.default_rng(seed)
    library.atlas.reset()
    shot = draw_shot(rng, library, config, photos)
    return develop_shot(rng, library, config, shot, draw_settings(rng, config, shot), seed=seed)


def draw_settings(rng: np.random.Generator, config: SynthConfig, shot: Shot) -> Sensor:
    """Draw the camera's settings, focused on somebody."""
    if config.plain_sensor:
        return Sensor(noise=0.003, vignette=0.05)
    distance = [float(shot.camera.to_camera(actor.hips[None])[0, 2]) for actor in shot.actors] or [4.0]
    sensor = draw_sensor(rng, focus=distance[rng.integers(len(distance))], size=max(config.size))
    return replace(sensor, motion=tuple(draw_motion(rng, config, actor.action) for actor in shot.actors))


def draw_motion(rng: np.random.Generator, config: SynthConfig, action: str) -> tuple[float, float]:
    """Draw how far (x, y) in pixels somebody moves while the picture is taken: mostly not at all."""
    share = min(config.motion_blur * (4 if action in AERIAL else 1), 1.0)
    moves = rng.random() < share
    length, angle = rng.uniform(0.006, 0.022) * max(config.size), rng.normal(0, 0.5)
    return (float(length * np.cos(angle)), float(length * np.sin(angle))) if moves else (0.0, 0.0)


def develop_shot(
    rng: np.random.Generator, library: Library, config: SynthConfig, shot: Shot, sensor: Sensor, *, seed: int,
    frame: int = 0,
) -> Picture:  # fmt: skip
    """Render, photograph and label a shot."""
    drawn = render(library, shot, supersample=config.supersample)
    return Picture(
        seed=seed,
        image=take_picture(rng, drawn.colour, drawn.nearness, drawn.owner, sensor, config.size),
        people=label_people(drawn, shot.actors, shot.camera),
        drawn=drawn,
        scene=shot.backdrop.name,
        quality=sensor.quality,
        frame=frame,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Performer:
    """A person with a motion, a place to start from and perhaps something in a hand."""

    frames: list[Actor]
    held: Held | None

    def stays_in_view(self, camera: Camera) -> bool:
        """Tell whether the person shows at the start and half-way."""
        return all(is_in_view(camera, self.frames[k]) for k in (0, len(self.frames) // 2))

    def clear_of(self, other: Performer) -> bool:
        """Tell whether the two never sink into each other; every fourth frame is looked at."""
        pairs = list(zip(self.frames, other.frames, strict=True))
        return all(overlap(a.spheres, b.spheres) < MAX_OVERLAP for a, b in pairs[::4] + pairs[-1:])


def make_clip(
    library: Library, config: SynthConfig, seed: int, photos: Sequence[Path] = (), *, frames: int, fps: float
) -> Iterator[Picture]:
    """Draw a clip: the same people, clothes, place and camera settings in every frame, in motion."""
    rng = np.random.default_rng(seed)
    library.atlas.reset()
    backdrop = draw_backdrop(rng, library, config, photos)
    cast = []
    for number in range(draw_count(rng, config)):
        person = draw_person(rng, library, adults_only=config.adults_only)
        motion = library.poses.clip(rng, frames, fps=fps, actions=config.actions)
        thing = draw_held(rng, library, motion[0].action) if rng.random() < config.held else None
        yaw = draw_heading(rng)
        moving = [
            pose_actor(
                library.model, person, gripping(pose, thing), person_id=seed * 100 + number, yaw_rad=yaw
            )
            for pose in motion
        ]
        cast.append((moving, root_track(moving, motion, yaw), thing))
    camera, depth = draw_view(rng, backdrop, config, top=head_height(cast[0][0][0]))
    backdrop = fit_panorama(rng, backdrop, camera)
    performers: list[Performer] = []
    for moving, track, thing in cast:
        for attempt in range(PLACE_TRIES):
            spot = random_spot(rng, camera, backdrop, depth, attempt)
            placed = Performer(
                [a.moved(spot[0] + t[0], spot[2] + t[2], y=t[1]) for a, t in zip(moving, track, strict=True)],
                thing,
            )
            if placed.stays_in_view(camera) and all(placed.clear_of(other) for other in performers):
                performers.append(placed)
                break
    drift = rng.normal(0, 0.004 if rng.random() < 0.4 else 0.0, 2)
    sensor = None
    for k in range(frames):
        # A hand-held camera turns a little from frame to frame.
        turned = replace(
            camera, rotation=camera.rotation @ axis_rotation(np.array([0.0, 1.0, 0.0]), k * drift[0])
        )
        actors = tuple(p.frames[k] for p in performers)
        things = held_props(actors, [p.held for p in performers])
        shot = Shot(turned, backdrop, actors, (*backdrop.props, *things))
        sensor = sensor or draw_settings(rng, config, shot)
        motion_px = clip_motion(turned, performers, k, seconds=EXPOSURE_S * fps) if config.motion_blur else ()
        yield develop_shot(rng, library, config, shot, replace(sensor, motion=motion_px), seed=seed, frame=k)


def clip_motion(
    camera: Camera, performers: Sequence[Performer], frame: int, *, seconds: float
) -> tuple[tuple[float, float], ...]:
    """How far (x, y) in pixels each person moves in `seconds`, in frames, from the frame before or after."""
    first, second = (frame - 1, frame) if frame else (0, 1)
    moves = []
    for performer in performers:
        trunk = [camera.project(performer.frames[k].keypoints[5:13])[:, :2] for k in (first, second)]
        x, y = (trunk[1] - trunk[0]).mean(axis=0) * seconds
        moves.append((float(x), float(y)))
    return tuple(moves)


def root_track(moving: list[Actor], motion: list[Pose], yaw_rad: float) -> Array:
    """Shift `[T, 3]` in metres of each frame: the motion's path over the ground and its flight."""
    scale = leg_length(moving[0])
    path = np.stack([pose.root for pose in motion]) * scale
    path = path @ axis_rotation(np.array([0.0, 1.0, 0.0]), yaw_rad).T
    if motion[0].action in AERIAL:
        feet = path[:, 1] - np.array([actor.hips[1] for actor in moving])
        path[:, 1] = np.clip(feet - feet.min(), 0, MAX_LIFT)
    else:
        path[:, 1] = 0
    return path


def leg_length(actor: Actor) -> float:
    """Thigh and shin of a posed person in metres, mean of both sides."""
    hip, knee, ankle = actor.keypoints[[11, 12]], actor.keypoints[[13, 14]], actor.keypoints[[15, 16]]
    return float((np.linalg.norm(hip - knee, axis=1) + np.linalg.norm(knee - ankle, axis=1)).mean())

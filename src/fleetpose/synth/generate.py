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
    draw_camera,
    draw_count,
    draw_depth,
    draw_heading,
    draw_shot,
    fit_panorama,
    is_in_view,
    random_spot,
)

# Actions that leave the ground; in all others the lowest point of the body touches it in every frame.
AERIAL = ("jump", "run", "dance", "sport", "fight")
MAX_LIFT = 1.2  # metres


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
    return draw_sensor(rng, focus=distance[rng.integers(len(distance))], size=max(config.size))


def develop_shot(
    rng: np.random.Generator, library: Library, config: SynthConfig, shot: Shot, sensor: Sensor, *, seed: int,
    frame: int = 0,
) -> Picture:  # fmt: skip
    """Render, photograph and label a shot."""
    drawn = render(library, shot, supersample=config.supersample)
    return Picture(
        seed=seed,
        image=take_picture(rng, drawn.colour, drawn.nearness, sensor, config.size),
        people=label_people(drawn, shot.actors, shot.camera),
        drawn=drawn,
        scene=shot.backdrop.name,
        quality=sensor.quality,
        frame=frame,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Performer:
    """A person with a motion and a place to start from."""

    frames: list[Actor]

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
    camera = draw_camera(rng, backdrop, config.size)
    backdrop = fit_panorama(rng, backdrop, camera)
    performers: list[Performer] = []
    depth = draw_depth(rng, camera, config)
    for number in range(draw_count(rng, config)):
        person = draw_person(rng, library, adults_only=config.adults_only)
        motion = library.poses.clip(rng, frames, fps=fps, actions=config.actions)
        yaw = draw_heading(rng)
        moving = [
            pose_actor(library.model, person, pose, person_id=seed * 100 + number, yaw_rad=yaw)
            for pose in motion
        ]
        track = root_track(moving, motion, yaw)
        for attempt in range(PLACE_TRIES):
            spot = random_spot(rng, camera, backdrop, depth, attempt)
            placed = Performer(
                [a.moved(spot[0] + t[0], spot[2] + t[2], y=t[1]) for a, t in zip(moving, track, strict=True)]
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
        shot = Shot(turned, backdrop, tuple(p.frames[k] for p in performers), backdrop.props)
        sensor = sensor or draw_settings(rng, config, shot)
        yield develop_shot(rng, library, config, shot, sensor, seed=seed, frame=k)


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

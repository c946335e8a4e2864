"""A pinhole camera over flat ground at y = 0."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fleetpose.synth.arrays import Array, axis_rotation
from fleetpose.synth.records import View


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A camera at `position` (metres); size is (H, W), focal in pixels, centre (x, y) in pixels.

    rotation: `[3, 3]` rows are the image's right, down and forward directions in the world.
    """

    position: Array
    rotation: Array
    focal: float
    size: tuple[int, int]
    centre: tuple[float, float]

    @classmethod
    def looking(
        cls,
        *,
        position: Array,
        yaw_rad: float,
        pitch_rad: float,
        roll_rad: float,
        focal: float,
        size: tuple[int, int],
    ) -> Camera:
        """Place a camera: yaw 0 looks along -z and turns towards +x, pitch looks up, roll turns clockwise."""
        yaw = axis_rotation(np.array([0.0, 1.0, 0.0]), -yaw_rad)
        pitch = axis_rotation(np.array([1.0, 0.0, 0.0]), pitch_rad)
        roll = axis_rotation(np.array([0.0, 0.0, 1.0]), -roll_rad)
        axes = yaw @ pitch @ roll
        rows = np.stack([axes[:, 0], -axes[:, 1], -axes[:, 2]])
        return cls(
            np.asarray(position, np.float64), rows, focal, size, ((size[1] - 1) / 2, (size[0] - 1) / 2)
        )

    def scaled(self, factor: float) -> Camera:
        """The same view at `factor` times the resolution, rounded to whole pixels."""
        size = (round(self.size[0] * factor), round(self.size[1] * factor))
        return replace(
            self, focal=self.focal * factor, size=size, centre=((size[1] - 1) / 2, (size[0] - 1) / 2)
        )

    def aimed(self, *, height: float, distance: float, drop: float) -> Camera:
        """The same camera at `height`, its middle on a point `drop` metres lower and `distance` away."""
        level = self.rotation[2] * np.array([1.0, 0.0, 1.0])
        yaw = float(np.arctan2(level[0], -level[2]))
        right = self.rotation[0]
        position = np.array([self.position[0], height, self.position[2]])
        return Camera.looking(
            position=position,
            yaw_rad=yaw,
            pitch_rad=-float(np.arctan2(drop, distance)),
            roll_rad=float(-np.arcsin(np.clip(right[1], -1, 1))),
            focal=self.focal,
            size=self.size,
        )

    def view(self) -> View:
        """The camera as compiled functions take it."""
        return View(self.position, self.rotation, float(self.focal), *self.centre)

    def to_camera(self, points: Array) -> Array:
        """World points `[N, 3]` → camera points `[N, 3]` (right, down, forward), metres."""
        return (points - self.position) @ self.rotation.T

    def project(self, points: Array) -> Array:
        """World points `[N, 3]` → (x, y, depth) `[N, 3]`, pixels and metres."""
        seen = self.to_camera(points)
        depth = np.where(np.abs(seen[:, 2]) < 1e-6, 1e-6, seen[:, 2])
        return np.stack(
            [
                seen[:, 0] / depth * self.focal + self.centre[0],
                seen[:, 1] / depth * self.focal + self.centre[1],
                seen[:, 2],
            ],
            axis=1,
        )

    @property
    def ground_distance(self) -> float:
        """Horizontal field of view's half tangent: half the width seen at a distance of 1 m."""
        return self.size[1] / 2 / self.focal

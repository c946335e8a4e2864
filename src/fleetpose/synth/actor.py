"""A person posed and standing somewhere: world vertices, keypoints, and spheres for contact and collision."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fleetpose.synth.arrays import Array, axis_rotation
from fleetpose.synth.body import BodyModel, skin, vertex_normals
from fleetpose.synth.person import Person
from fleetpose.synth.pose import Pose, retarget

KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee",
    "left_ankle",
    "right_ankle", "head_top", "upper_neck", "neck", "pelvis",
)  # fmt: skip
EYE_FORWARD = 0.012  # metres from the eyeball's centre to its front
# Spheres along bones for a body 1.7 m tall: bone, bone it leads to, shares along it, radius in metres.
SPHERES = (
    ("Hips", "LowerBack", (0.0, 0.7), 0.14), ("LowerBack", "Spine1", (0.5,), 0.14),
    ("Spine1", "Neck", (0.2, 0.7), 0.14),
    ("Head", "Head", (0.0,), 0.11), ("Arm", "ForeArm", (0.2, 0.8), 0.05),
    ("ForeArm", "Hand", (0.3, 0.9), 0.045),
    ("UpLeg", "Leg", (0.15, 0.55, 0.95), 0.08), ("Leg", "Foot", (0.3, 0.65, 0.95), 0.06),
    ("Foot", "ToeBase", (0.3, 0.7, 1.2), 0.05),
)  # fmt: skip


# Rows of a hand: the place in its grip, and where the fingers, the thumb and the palm point.
GRIP, ALONG, THUMB, PALM = range(4)
GRIP_DEPTH = 0.035  # metres from the bones of the palm to what it holds


@dataclass(frozen=True, slots=True, eq=False)
class Actor:
    """verts, normals: `[N, 3]` world. keypoints: `[21, 3]` world, in `KEYPOINTS` order. spheres: `[S, 4]`.

    hands: `[2, 4, 3]` left and right; rows are `GRIP`, a world point, and the unit directions `ALONG`,
    `THUMB` and `PALM`.

    seat_height: metres of the buttocks above the ground. heading_rad: where the hips face, 0 is +z.
    """

    person: Person
    person_id: int
    action: str
    verts: Array
    normals: Array
    keypoints: Array
    spheres: Array
    seat_height: float
    hips: Array
    heading_rad: float
    hands: Array

    def moved(self, x: float, z: float, *, y: float = 0.0) -> Actor:
        """The actor shifted by (x, y, z) metres."""
        shift = np.array([x, y, z])
        return replace(
            self,
            verts=self.verts + shift.astype(np.float32),
            keypoints=self.keypoints + shift,
            spheres=self.spheres + np.append(shift, 0.0),
            hips=self.hips + shift,
            hands=self.hands + np.stack([shift, *np.zeros((3, 3))]),
        )


def pose_actor(model: BodyModel, person: Person, pose: Pose, *, person_id: int, yaw_rad: float) -> Actor:
    """Pose a person above the origin, turned by `yaw_rad`, with the lowest point on the ground."""
    rotation, shift = retarget(pose, model, person.heads, person.tails)
    turn = axis_rotation(np.array([0.0, 1.0, 0.0]), yaw_rad)
    rotation, shift = turn @ rotation, shift @ turn.T
    mesh = person.mesh
    verts = skin(
        mesh.verts, mesh.bind_bone, mesh.bind_weight, rotation.astype(np.float32), shift.astype(np.float32)
    )
    used = mesh.faces[: mesh.solid_faces]
    drop = float(verts[used.ravel(), 1].min())
    verts[:, 1] -= drop
    place = np.einsum("jab,jb->ja", rotation, person.heads) + shift - np.array([0.0, drop, 0.0])
    tall = float(np.ptp(person.rest[model.faces.ravel(), 1])) / 1.7
    spheres = body_spheres(model, place, tall)
    return Actor(
        person=person,
        person_id=person_id,
        action=pose.action,
        verts=verts,
        normals=vertex_normals(verts, mesh.faces),
        keypoints=posed_keypoints(model, verts, rotation[model.bone("Head")]),
        spheres=spheres,
        seat_height=float(place[model.bone("Hips"), 1]) - 0.13 * tall,
        hips=place[model.bone("Hips")].copy(),
        heading_rad=pose.heading() + yaw_rad,
        hands=posed_hands(model, place, tall),
    )


def posed_hands(model: BodyModel, place: Array, scale: float) -> Array:
    """Hands `[2, 4, 3]` of posed joints `place` `[J, 3]`; see `Actor`."""
    hands = []
    for side, sign in (("Left", 1.0), ("Right", -1.0)):
        wrist = place[model.bone(f"{side}Hand")]
        index, middle, little = (place[model.bone(f"{side}Finger{k}1")] for k in (2, 3, 5))
        along = (middle - wrist) / np.linalg.norm(middle - wrist)
        thumb = index - little
        thumb -= along * (thumb @ along)
        thumb /= np.linalg.norm(thumb)
        palm = sign * np.cross(along, thumb)
        grip = wrist + 0.85 * (middle - wrist) + GRIP_DEPTH * scale * palm
        hands.append(np.stack([grip, along, thumb, palm]))
    return np.stack(hands)


def posed_keypoints(model: BodyModel, verts: Array, head: Array) -> Array:
    """Keypoints `[21, 3]` of posed vertices; `head` `[3, 3]` is the head's rotation."""
    points = np.stack([verts[model.landmarks[name]].mean(axis=0, dtype=np.float64) for name in KEYPOINTS])
    if not model.is_procedural:
        points[1:3] += head @ np.array([0.0, 0.0, EYE_FORWARD])
    return points


def body_spheres(model: BodyModel, place: Array, scale: float) -> Array:
    """Spheres `[S, 4]` (x, y, z, radius) around posed joints `place` `[J, 3]`."""
    rows = []
    for bone, end, shares, radius in SPHERES:
        for side in ("Left", "Right") if f"Left{bone}" in model.bone_names else ("",):
            first = place[model.bone(side + bone)]
            last = place[model.bone((side or "") + end)]
            rows += [[*(first * (1 - s) + last * s), radius * scale] for s in shares]
    return np.array(rows)


def overlap(first: Array, second: Array) -> float:
    """Deepest overlap in metres between two sets of spheres `[S, 4]`; negative when apart."""
    gap = np.linalg.norm(first[:, None, :3] - second[None, :, :3], axis=2)
    return float((first[:, None, 3] + second[None, :, 3] - gap).max())

"""Poses: mocap frames, mixed, mirrored and varied within joint limits, and moved to our rig."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from fleetpose.errors import UnknownNameError
from fleetpose.synth.arrays import (
    Array,
    aligning_rotation,
    axis_rotation,
    quaternions_to_matrices,
    twist_angle,
)
from fleetpose.synth.assets import AssetFolder
from fleetpose.synth.body import SIDES, BodyModel

BONES = (
    "Hips", "LowerBack", "Spine", "Spine1", "Neck", "Neck1", "Head",
    "LeftShoulder", "LeftArm", "LeftForeArm", "LeftHand",
    "RightShoulder", "RightArm", "RightForeArm", "RightHand",
    "LeftUpLeg", "LeftLeg", "LeftFoot", "LeftToeBase",
    "RightUpLeg", "RightLeg", "RightFoot", "RightToeBase",
)  # fmt: skip
PARENTS = (-1, 0, 1, 2, 3, 4, 5, 3, 7, 8, 9, 3, 11, 12, 13, 0, 15, 16, 17, 0, 19, 20, 21)
MIRROR = tuple(
    BONES.index(name.replace("Left", "#").replace("Right", "Left").replace("#", "Right")) for name in BONES
)
ARM_BONES = tuple(range(7, 15))
# How often each tag is drawn: people in photographs mostly stand, walk and sit (a judgement, not a
# measurement).
TAG_WEIGHTS = {
    "stand": 28.0, "walk": 17.0, "sit": 15.0, "gesture": 19.0, "run": 5.0, "sport": 4.0, "work": 5.0,
    "crouch": 2.0,
    "dance": 3.0, "jump": 2.0, "lie": 3.0, "fight": 2.0, "climb": 0.7, "crawl": 0.7, "other": 0.5,
    "swim": 0.4, "roll": 0.4,
}  # fmt: skip
# Takes that no photograph would show.
IMPLAUSIBLE = (
    "levitate",
    "flying",
    "Skeletons",
    "Spell",
    "Magic",
    "Death",
    "Pistol",
    "Ranged",
    "anime",
    "blast",
    "Inactive",
    "mh_fly",
    "Dodge",
    "power-up",
    "consume",
    "Torch",
)
# Largest turn of a bone against its parent, degrees (generous anatomical limits).
LIMITS = {
    "LowerBack": 40,
    "Spine": 40,
    "Spine1": 40,
    "Neck": 35,
    "Neck1": 35,
    "Head": 40,
    "Shoulder": 35,
    "ForeArm": 155,
    "Hand": 75,
    "Leg": 155,
    "Foot": 60,
    "ToeBase": 45,
}
NOISE_DEG = {
    "LowerBack": 3.0,
    "Spine1": 3.0,
    "Neck": 5.0,
    "Head": 6.0,
    "Arm": 6.0,
    "ForeArm": 5.0,
    "Hand": 6.0,
    "UpLeg": 3.0,
}


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """One pose of the 23 bones.

    local: `[23, 3, 3]` rotation of each bone in its parent's frame. rest_dir: `[23, 3]`, NaN for "as it is".
    root: `[3]` hip position in metres for a leg of 1 m, or zeros. curl_deg: `[2, 5]` bend of finger joints.
    """

    local: Array
    rest_dir: Array
    action: str = "stand"
    root: Array = field(default_factory=lambda: np.zeros(3))
    curl_deg: Array = field(default_factory=lambda: np.full((2, 5), 22.0))
    source: str = ""

    def globals(self) -> Array:
        """Rotation `[23, 3, 3]` of each bone in the world."""
        world = np.empty_like(self.local)
        for bone, parent in enumerate(PARENTS):
            world[bone] = self.local[bone] if parent < 0 else world[parent] @ self.local[bone]
        return world

    def mirrored(self) -> Pose:
        """The pose seen in a mirror: left and right swapped."""
        flip = np.array([-1.0, 1.0, 1.0])
        order = list(MIRROR)
        return replace(
            self,
            local=flip[:, None] * self.local[order] * flip,
            rest_dir=self.rest_dir[order] * flip,
            root=self.root * flip,
            curl_deg=self.curl_deg[::-1],
        )

    def turned(self, yaw_rad: float) -> Pose:
        """The pose turned about the vertical; positive turns the face (+z) towards +x."""
        local = self.local.copy()
        local[0] = axis_rotation(np.array([0.0, 1.0, 0.0]), yaw_rad) @ local[0]
        return replace(self, local=local)

    def heading(self) -> float:
        """Yaw of the hips in radians: 0 faces +z."""
        forward = self.local[0] @ np.array([0.0, 0.0, 1.0])
        if abs(forward[1]) > 0.9:  # lying or upside down: the head's direction is a better guide
            forward = self.local[0] @ np.array([0.0, 1.0, 0.0])
        return float(np.arctan2(forward[0], forward[2]))


class PoseLibrary:
    """All mocap frames of an asset folder, or a few procedural poses without one."""

    def __init__(self, assets: AssetFolder | None, *, without_cmu: bool = False) -> None:
        """Read every `poses/*.npz`; `without_cmu` leaves out the files that need the CMU acknowledgement."""
        self._files: list[dict[str, Array]] = []
        self.takes: dict[str, list[tuple[int, int]]] = {}
        names = assets.names("poses", ".npz") if assets is not None else []
        for name in names:
            if without_cmu and name.startswith("cmu_"):
                continue
            assert assets is not None  # noqa: S101 - there are names
            data = assets.arrays(f"poses/{name}")
            for take, (label, tag) in enumerate(zip(data["take_name"], data["take_tag"], strict=True)):
                if not any(word in str(label) for word in IMPLAUSIBLE) and str(tag) in TAG_WEIGHTS:
                    self.takes.setdefault(str(tag), []).append((len(self._files), take))
            self._files.append(data)
        self.tags = sorted(self.takes)
        weights = np.array([TAG_WEIGHTS[tag] for tag in self.tags])
        self._tag_weights = weights / weights.sum() if len(weights) else weights

    @property
    def uses_cmu(self) -> bool:
        """Tell whether CMU motion is among the poses, which asks for an acknowledgement."""
        return any(str(data["source"]).find("CMU") >= 0 for data in self._files)

    def draw(self, rng: np.random.Generator, *, actions: tuple[str, ...] = ()) -> Pose:
        """Draw one varied pose facing +z; `actions` restricts the tags."""
        if not self.tags:
            pose = procedural_pose(rng, actions)
        else:
            file, take = self._draw_take(rng, actions)
            data = self._files[file]
            frame = int(data["take_start"][take] + rng.integers(data["take_len"][take]))
            pose = self._frame(data, take, frame)
            if pose.action in ("walk", "stand", "run") and rng.random() < 0.15:
                pose = self._with_other_arms(rng, pose)
        if rng.random() < 0.5:
            pose = pose.mirrored()
        return vary(rng, pose.turned(-pose.heading()))

    def clip(
        self, rng: np.random.Generator, frames: int, *, fps: float, actions: tuple[str, ...] = ()
    ) -> list[Pose]:
        """Draw `frames` poses of one motion at `fps`, starting towards +z; short takes swing back."""
        if not self.tags:
            action = procedural_pose(rng, actions).action
            return [walk_pose(0.2 + 2 * np.pi * k / fps, action) for k in range(frames)]
        file, take = self._draw_take(rng, actions)
        data = self._files[file]
        start, length = int(data["take_start"][take]), int(data["take_len"][take])
        step = float(data["take_fps"][take]) / fps
        first = rng.uniform(0, max(0.0, length - 1 - step * frames))
        poses = []
        for k in range(frames):
            where = first + k * step
            period = max(2 * (length - 1), 1)
            where = where % period
            where = where if where <= length - 1 else period - where
            low = min(int(where), length - 1)
            high = min(low + 1, length - 1)
            poses.append(
                _between(
                    self._frame(data, take, start + low), self._frame(data, take, start + high), where - low
                )
            )
        yaw = -poses[0].heading()
        turn = axis_rotation(np.array([0.0, 1.0, 0.0]), yaw)
        origin = poses[0].root * np.array([1.0, 0.0, 1.0])
        return [replace(pose.turned(yaw), root=turn @ (pose.root - origin)) for pose in poses]

    def _draw_take(self, rng: np.random.Generator, actions: tuple[str, ...]) -> tuple[int, int]:
        choices = [self._find(name) for name in actions]
        if choices:
            takes = choices[rng.integers(len(choices))]
        else:
            takes = self.takes[self.tags[rng.choice(len(self.tags), p=self._tag_weights)]]
        return takes[rng.integers(len(takes))]

    def _find(self, name: str) -> list[tuple[int, int]]:
        """Takes of a tag, or the take of that name."""
        if name in self.takes:
            return self.takes[name]
        named = [
            (file, take)
            for file, data in enumerate(self._files)
            for take, label in enumerate(data["take_name"])
            if str(label) == name
        ]
        if not named:
            raise UnknownNameError("action or take", name, self.tags)
        return named

    def _frame(self, data: dict[str, Array], take: int, frame: int) -> Pose:
        skeleton = int(data["take_skel"][take])
        leg = float(data["skel_leg_m"][skeleton])
        return Pose(
            local=quaternions_to_matrices(data["quat"][frame].astype(np.float64)),
            rest_dir=data["rest_dir"][skeleton].astype(np.float64),
            action=str(data["take_tag"][take]),
            root=data["root"][frame].astype(np.float64) / max(leg, 1e-3),
            source=str(data["take_name"][take]),
        )

    def _with_other_arms(self, rng: np.random.Generator, pose: Pose) -> Pose:
        """Keep legs and trunk, take both arms from another upright frame."""
        file, take = self._draw_take(rng, ("walk", "stand", "gesture"))
        data = self._files[file]
        other = self._frame(data, take, int(data["take_start"][take] + rng.integers(data["take_len"][take])))
        local, rest = pose.local.copy(), pose.rest_dir.copy()
        arms = list(ARM_BONES)
        local[arms], rest[arms] = other.local[arms], other.rest_dir[arms]
        return replace(pose, local=local, rest_dir=rest)


def _between(first: Pose, second: Pose, share: float) -> Pose:
    """Interpolate two poses of one skeleton; each bone turns along the shortest arc."""
    if share < 1e-6:
        return first
    vector = rotation_vectors(np.swapaxes(first.local, 1, 2) @ second.local)
    return replace(
        first,
        local=first.local @ vectors_to_rotations(vector * share),
        root=first.root * (1 - share) + second.root * share,
    )


def rotation_vectors(rotation: Array) -> Array:
    """Rotation matrices `[N, 3, 3]` → axis times angle in radians `[N, 3]`."""
    cosine = np.clip((np.trace(rotation, axis1=1, axis2=2) - 1) / 2, -1, 1)
    angle = np.arccos(cosine)
    axis = np.stack(
        [
            rotation[:, 2, 1] - rotation[:, 1, 2],
            rotation[:, 0, 2] - rotation[:, 2, 0],
            rotation[:, 1, 0] - rotation[:, 0, 1],
        ],
        axis=1,
    )
    vector: Array = axis * (angle / np.maximum(2 * np.sin(angle), 1e-6))[:, None]
    return vector


def vectors_to_rotations(vector: Array) -> Array:
    """Axis times angle in radians `[N, 3]` → rotation matrices `[N, 3, 3]`."""
    angle = np.linalg.norm(vector, axis=1)
    return axis_rotation(vector / np.maximum(angle, 1e-9)[:, None], angle)


def vary(rng: np.random.Generator, pose: Pose) -> Pose:
    """Add small turns, keep joints within their limits, and give the hands a relaxed or a clenched look."""
    noise = np.array([_of_bone(NOISE_DEG, name) for name in BONES])
    shake = vectors_to_rotations(rng.normal(size=(len(BONES), 3)) * np.radians(noise)[:, None])
    limit = np.radians([_of_bone(LIMITS, name) or 180.0 for name in BONES])
    vector = rotation_vectors(pose.local @ shake)
    angle = np.linalg.norm(vector, axis=1)
    local = vectors_to_rotations(vector * np.minimum(1.0, limit / np.maximum(angle, 1e-9))[:, None])
    local[0] = pose.local[0] @ shake[0]
    fist = rng.random((2, 1)) < 0.12
    relaxed = np.array([10.0, 20.0, 25.0, 29.0, 33.0]) * rng.uniform(0.4, 1.3, (2, 1)) + rng.normal(
        0, 4, (2, 5)
    )
    clenched = np.array([28.0, 72.0, 76.0, 78.0, 78.0])
    return replace(pose, local=local, curl_deg=np.where(fist, clenched, relaxed))


def _of_bone(table: dict[str, float] | dict[str, int], name: str) -> float:
    return float(table.get(name, table.get(name.removeprefix("Left").removeprefix("Right"), 0.0)))


def retarget(pose: Pose, model: BodyModel, heads: Array, tails: Array) -> tuple[Array, Array]:
    """Rotations `[J, 3, 3]` and shifts `[J, 3]` that put a body with joints `heads`, `tails` into `pose`.

    The hips' joint ends at the origin.
    """
    world = pose.globals()
    index = [model.bone(name) for name in BONES]
    directions = tails[index] - heads[index]
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    finite = np.isfinite(pose.rest_dir).all(axis=1)
    rotation = np.repeat(np.eye(3)[None], len(model.bone_names), axis=0)
    aligned = world[finite] @ aligning_rotation(directions[finite], pose.rest_dir[finite])
    posed = world.copy()
    posed[finite] = aligned
    rotation[index] = posed
    _turn_twist_bones(rotation, model, heads)
    _curl_fingers(rotation, pose.curl_deg, model, heads, tails)
    place = np.zeros_like(heads)
    for bone, parent in enumerate(model.parents):
        if parent >= 0:
            place[bone] = place[parent] + rotation[parent] @ (heads[bone] - heads[parent])
    return rotation, place - np.einsum("jab,jb->ja", rotation, heads)


def _turn_twist_bones(rotation: Array, model: BodyModel, heads: Array) -> None:
    """Spread the twist of upper arm, forearm and thigh along the limb, so that skin does not wring."""
    for side in SIDES:
        for name, start, parent, end, share in (
            ("ArmTwist", "Arm", "Shoulder", "ForeArm", 0.4),
            ("UpLegTwist", "UpLeg", None, "Leg", 0.4),
        ):
            base = model.bone(side + parent) if parent else model.bone("Hips")
            bone = model.bone(side + start)
            axis = heads[model.bone(side + end)] - heads[bone]
            axis = axis / np.linalg.norm(axis)
            relative = rotation[base].T @ rotation[bone]
            back = axis_rotation(axis, -(1 - share) * twist_angle(relative, axis))
            rotation[model.bone(side + name)] = rotation[base] @ relative @ back
        forearm, hand = model.bone(f"{side}ForeArm"), model.bone(f"{side}Hand")
        axis = heads[hand] - heads[forearm]
        axis = axis / np.linalg.norm(axis)
        twist = twist_angle(rotation[forearm].T @ rotation[hand], axis)
        rotation[model.bone(f"{side}ForeArmTwist")] = rotation[forearm] @ axis_rotation(axis, 0.6 * twist)


def _curl_fingers(rotation: Array, curl_deg: Array, model: BodyModel, heads: Array, tails: Array) -> None:
    """Bend every finger towards the palm, joint by joint; all fingers of both hands at once."""
    hands = np.array([model.bone(f"{side}Hand") for side in SIDES])
    bones = finger_bones(model.bone_names)  # [2, 5, 3]
    knuckles = heads[bones[:, :, 0]]
    across = knuckles[:, 1] - knuckles[:, 4]
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    palm = np.cross(across, knuckles[:, 2] - heads[hands]) * np.array([[-1.0], [1.0]])
    palm /= np.linalg.norm(palm, axis=1, keepdims=True)
    # The thumb closes across the palm, the other fingers into it.
    towards = np.stack([palm - across, palm, palm, palm, palm], axis=1)
    axis = np.cross(tails[bones] - heads[bones], towards[:, :, None])
    axis /= np.maximum(np.linalg.norm(axis, axis=-1, keepdims=True), 1e-9)
    bends = axis_rotation(axis, np.repeat(np.radians(curl_deg)[..., None], 3, axis=2))
    turn = rotation[hands][:, None]
    for k in range(3):
        turn = turn @ bends[:, :, k]
        rotation[bones[:, :, k]] = turn


@cache
def finger_bones(names: tuple[str, ...]) -> Array:
    """Bones `[2, 5, 3]` of the fingers: side, finger, joint from the palm outwards."""
    numbers = {name: number for number, name in enumerate(names)}
    return np.array(
        [[[numbers[f"{side}Finger{i}{j}"] for j in (1, 2, 3)] for i in range(1, 6)] for side in SIDES]
    )


def procedural_pose(rng: np.random.Generator, actions: tuple[str, ...] = ()) -> Pose:
    """Make a walking, standing, waving or sitting pose without any mocap."""
    names = [name for name in ("stand", "walk", "gesture", "sit") if not actions or name in actions]
    return walk_pose(rng.uniform(0, 2 * np.pi), names[rng.integers(len(names))] if names else "stand")


def walk_pose(phase: float, action: str) -> Pose:
    """One moment of a simple gait, or a body standing, waving or sitting."""
    swing = 0.45 * np.sin(phase) if action == "walk" else 0.03 * np.sin(phase)
    angles = dict.fromkeys(BONES, (0.0, 0.0, 0.0))
    for side, sign in (("Left", 1.0), ("Right", -1.0)):
        angles[f"{side}Arm"] = (0.0, -sign * -0.6 * swing * sign, -sign * 1.25)
        angles[f"{side}ForeArm"] = (0.0, -sign * 0.3, 0.0)
        angles[f"{side}UpLeg"] = (-sign * swing, 0.0, sign * 0.04)
        angles[f"{side}Leg"] = (0.15 + 0.5 * max(0.0, -sign * np.cos(phase)) * (action == "walk"), 0.0, 0.0)
    if action == "gesture":
        angles["RightArm"], angles["RightForeArm"] = (
            (0.0, 0.0, -0.3),
            (0.0, 0.0, -1.6 + 0.3 * np.sin(3 * phase)),
        )
    if action == "sit":
        for side in SIDES:
            angles[f"{side}UpLeg"], angles[f"{side}Leg"] = (-1.5, 0.0, 0.0), (1.5, 0.0, 0.0)
    vectors = np.array([angles[name] for name in BONES])
    rest = np.full((len(BONES), 3), np.nan)
    for bone, name in enumerate(BONES):
        if "Arm" in name or "Hand" in name:
            rest[bone] = (1.0 if name.startswith("Left") else -1.0, 0.0, 0.0)
        elif name.endswith("Leg"):
            rest[bone] = (0.0, -1.0, 0.0)
    return Pose(local=vectors_to_rotations(vectors), rest_dir=rest, action=action, source="procedural")

"""A body made of capsules, for machines without the MakeHuman data."""

from __future__ import annotations

import numpy as np

from fleetpose.synth.arrays import Array
from fleetpose.synth.body import SIDES, BodyModel, bone_parents

SPINE_JOINTS = {
    "Hips": (0.0, 0.0, 0.0), "LowerBack": (0.0, 0.1, 0.0), "Spine": (0.0, 0.2, 0.0),
    "Spine1": (0.0, 0.3, 0.0),
    "Neck": (0.0, 0.49, 0.0), "Neck1": (0.0, 0.54, 0.01), "Head": (0.0, 0.6, 0.02),
}  # fmt: skip
LEFT_JOINTS = {
    "Shoulder": (0.03, 0.45, 0.0), "Arm": (0.17, 0.45, 0.0), "ForeArm": (0.45, 0.45, 0.0),
    "Hand": (0.7, 0.45, 0.0),
    "UpLeg": (0.1, -0.06, 0.0), "Leg": (0.1, -0.48, 0.0), "Foot": (0.1, -0.9, 0.0),
    "ToeBase": (0.1, -0.94, 0.14),
}  # fmt: skip
# Bone, end it reaches to, radius at start and end in metres.
CAPSULES = (
    ("Hips", "LowerBack", 0.125, 0.12), ("LowerBack", "Spine1", 0.12, 0.135), ("Spine1", "Neck", 0.14, 0.07),
    ("Neck", "Head", 0.05, 0.05), ("Head", "HeadTop", 0.09, 0.085),
    ("Arm", "ForeArm", 0.05, 0.042), ("ForeArm", "Hand", 0.042, 0.03), ("Hand", "Finger31", 0.035, 0.03),
    ("Shoulder", "Arm", 0.055, 0.055), ("UpLeg", "Leg", 0.085, 0.055), ("Leg", "Foot", 0.055, 0.04),
    ("Foot", "ToeBase", 0.045, 0.04),
)  # fmt: skip
RINGS, SEGMENTS = 12, 16


def builtin_body() -> BodyModel:
    """Build the capsule body."""
    joints = _joints()
    names = tuple(name for name in joints if name not in ("HeadTop", "Nose"))
    pieces = []
    for bone, end, start_radius, end_radius in CAPSULES:
        for side in SIDES if f"Left{bone}" in joints else ("",):
            first = joints[side + bone]
            last = joints.get(side + end, joints.get(end, first))
            pieces.append((side + bone, *_capsule(first, last, start_radius, end_radius)))
    nose = joints["Nose"]
    pieces.append(("Head", *_capsule(nose, nose + 0.001, 0.018, 0.018)))
    count = sum(len(verts) for _, verts, _ in pieces)
    marks = {name: count + k for k, name in enumerate(joints)}
    verts = np.concatenate([verts for _, verts, _ in pieces] + [np.array(list(joints.values()))])
    starts = np.cumsum([0] + [len(v) for _, v, _ in pieces])
    faces = np.concatenate([f + s for (_, _, f), s in zip(pieces, starts, strict=False)])
    owner = [names.index(bone) for bone, v, _ in pieces for _ in range(len(v))]
    owner += [names.index("Head" if name in ("HeadTop", "Nose") else name) for name in joints]
    bind_bone = np.zeros((len(verts), 4), np.uint8)
    bind_bone[:, 0] = owner
    bind_weight = np.zeros((len(verts), 4), np.float32)
    bind_weight[:, 0] = 1
    return BodyModel(
        verts=verts.astype(np.float32),
        faces=faces.astype(np.int32),
        face_uv=np.zeros((len(faces), 3, 2), np.float32),
        bone_names=names,
        parents=bone_parents(names),
        head_verts=np.array([[marks[name]] for name in names]),
        tail_verts=np.array([[marks[_tail(name, joints)]] for name in names]),
        bind_bone=bind_bone,
        bind_weight=bind_weight,
        landmarks=_landmarks(marks, verts, starts, pieces),
        shells={},
        eyes=(np.zeros((0, 3), np.int32), np.zeros((0, 3, 2), np.float32)),
        is_procedural=True,
    )


def _joints() -> dict[str, Array]:
    """Rest position of every bone's head, plus the top of the head and the nose."""
    joints = {name: np.array(place) for name, place in SPINE_JOINTS.items()}
    for side, sign in zip(SIDES, (1.0, -1.0), strict=True):
        mirror = np.array([sign, 1.0, 1.0])
        joints |= {side + name: np.array(place) * mirror for name, place in LEFT_JOINTS.items()}
        for bone, base in (("ArmTwist", "Arm"), ("ForeArmTwist", "ForeArm"), ("UpLegTwist", "UpLeg")):
            joints[side + bone] = joints[side + base]
        for i in range(1, 6):
            for j in range(1, 4):
                offset = np.array([sign * (0.09 + 0.03 * (j - 1)), 0.0, 0.03 - 0.015 * (i - 1)])
                joints[f"{side}Finger{i}{j}"] = joints[f"{side}Hand"] + offset
    joints["HeadTop"] = np.array([0.0, 0.74, 0.02])
    joints["Nose"] = np.array([0.0, 0.65, 0.115])
    return joints


def _tail(name: str, joints: dict[str, Array]) -> str:
    chain = {
        "Hips": "LowerBack",
        "LowerBack": "Spine",
        "Spine": "Spine1",
        "Spine1": "Neck",
        "Neck": "Neck1",
        "Neck1": "Head",
        "Head": "HeadTop",
        "Shoulder": "Arm",
        "Arm": "ForeArm",
        "ForeArm": "Hand",
        "Hand": "Finger21",
        "UpLeg": "Leg",
        "Leg": "Foot",
        "Foot": "ToeBase",
    }
    side = "Left" if name.startswith("Left") else "Right" if name.startswith("Right") else ""
    stem = name.removeprefix(side)
    if stem.startswith("Finger") and stem[-1] != "3":
        return f"{side}{stem[:-1]}{int(stem[-1]) + 1}"
    end = chain.get(stem, stem)
    return side + end if side + end in joints else name


def _capsule(start: Array, end: Array, start_radius: float, end_radius: float) -> tuple[Array, Array]:
    """Vertices and triangles of a round-ended cone from `start` to `end`."""
    axis = end - start
    length = float(np.linalg.norm(axis))
    axis = axis / max(length, 1e-9)
    side = np.cross(axis, np.array([0.0, 0.0, 1.0]) if abs(axis[2]) < 0.9 else np.array([1.0, 0.0, 0.0]))
    side /= np.linalg.norm(side)
    other = np.cross(axis, side)
    latitude = np.linspace(-np.pi / 2, np.pi / 2, RINGS)
    radius = np.where(latitude < 0, start_radius, end_radius)
    along = np.sin(latitude) * radius + np.where(latitude < 0, 0.0, length)
    around = np.arange(SEGMENTS) * 2 * np.pi / SEGMENTS
    circle = np.cos(around)[:, None] * side + np.sin(around)[:, None] * other
    rings = start + along[:, None, None] * axis + (np.cos(latitude) * radius)[:, None, None] * circle
    ring, step = np.meshgrid(np.arange(RINGS - 1), np.arange(SEGMENTS), indexing="ij")
    a, b = ring * SEGMENTS + step, ring * SEGMENTS + (step + 1) % SEGMENTS
    quads = np.stack([a, b, b + SEGMENTS, a + SEGMENTS], axis=-1).reshape(-1, 4)
    return rings.reshape(-1, 3), np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def _landmarks(
    marks: dict[str, int], verts: Array, starts: Array, pieces: list[tuple[str, Array, Array]]
) -> dict[str, Array]:
    """Keypoints: joints, and the skull's surface nearest to where eyes and ears would be."""
    skull = next(k for k, (bone, _, _) in enumerate(pieces) if bone == "Head")
    surface = np.arange(starts[skull], starts[skull + 1])
    landmarks = {"nose": np.array([marks["Nose"]]), "head_top": np.array([marks["HeadTop"]])}
    for side, sign in (("left", 1), ("right", -1)):
        for name, place in (("eye", (sign * 0.035, 0.67, 0.1)), ("ear", (sign * 0.09, 0.65, 0.02))):
            distance = np.linalg.norm(verts[surface] - np.array(place), axis=1)
            landmarks[f"{side}_{name}"] = surface[[distance.argmin()]]
        for keypoint, bone in (
            ("shoulder", "Arm"),
            ("elbow", "ForeArm"),
            ("wrist", "Hand"),
            ("hip", "UpLeg"),
            ("knee", "Leg"),
            ("ankle", "Foot"),
        ):
            landmarks[f"{side}_{keypoint}"] = np.array([marks[side.capitalize() + bone]])
    landmarks["neck"], landmarks["upper_neck"] = np.array([marks["Neck"]]), np.array([marks["Head"]])
    landmarks["pelvis"] = np.array([marks["Hips"]])
    return landmarks

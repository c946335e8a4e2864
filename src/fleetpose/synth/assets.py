"""The asset folder: clothes, textures, panoramas and poses, read in place and checked."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fleetpose.errors import ConfigError, DatasetError
from fleetpose.synth.arrays import Array
from fleetpose.synth.bodydata import cache_folder

CHECKSUMS = "CHECKSUMS.sha256"
REMEMBERED = "asset-folder.txt"
FOLDERS = ("garments", "shoes", "hair", "brows", "eyes", "hdri", "poses", "textures")


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One wearable of the folder, in the layout the folder's README describes (decimetres)."""

    name: str
    kind: str
    faces: Array
    face_uv: Array  # [F, 3, 2]
    part: Array
    bind_vertex: Array
    bind_weight: Array
    bind_offset: Array
    scale_vertex: Array
    scale_length: Array
    scale_valid: Array
    hides: Array  # base vertices hidden by the item
    textures: dict[str, str]

    def fit(self, verts: Array) -> Array:
        """Vertices `[N, 3]` of the item on shaped base vertices `verts` `[V, 3]`, metres."""
        ends = verts[self.scale_vertex]  # [3, 2, 3]
        spans = np.abs(ends[[0, 1, 2], 0, [0, 1, 2]] - ends[[0, 1, 2], 1, [0, 1, 2]])
        scale = np.where(self.scale_valid, 10 * spans / np.maximum(self.scale_length, 1e-6), 1.0)
        offset = (0.1 * scale * self.bind_offset).astype(np.float32)
        fitted: Array = np.einsum("nk,nkc->nc", self.bind_weight, verts[self.bind_vertex]) + offset
        return fitted


class AssetFolder:
    """Read access to one asset folder."""

    def __init__(self, root: Path) -> None:
        """Open `root`; a missing or foreign folder is a `ConfigError`."""
        self.root = root
        if not root.is_dir():
            raise ConfigError(f"asset folder {root} does not exist; give the folder that holds {CHECKSUMS}")
        if not (root / CHECKSUMS).is_file():
            raise ConfigError(
                f"{root} holds no {CHECKSUMS}, so it is no asset folder; expected {', '.join(FOLDERS)}"
            )
        self.checksums = read_checksums(root / CHECKSUMS)

    def verify(self) -> list[str]:
        """Compare every listed file with its checksum and name those that differ or are missing."""
        problems = []
        for name, expected in self.checksums.items():
            path = self.root / name
            if not path.is_file():
                problems.append(f"{name}: missing")
            elif hashlib.sha256(path.read_bytes()).hexdigest() != expected:
                problems.append(f"{name}: checksum differs")
        return problems

    def digest(self) -> str:
        """One sha256 over the checksum list: what the data card records."""
        return hashlib.sha256((self.root / CHECKSUMS).read_bytes()).hexdigest()

    def names(self, folder: str, suffix: str) -> list[str]:
        """Sorted file names below `folder` that end with `suffix`."""
        return sorted(path.name for path in (self.root / folder).glob(f"*{suffix}"))

    def arrays(self, name: str) -> dict[str, Array]:
        """All arrays of one npz file."""
        path = self.root / name
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
                return {key: data[key] for key in data.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise DatasetError(
                f"asset {path} cannot be read: {error}; restore it, then run "
                f"fleetpose synth assets {self.root}"
            ) from error

    def json(self, name: str) -> Any:  # noqa: ANN401 - the shape depends on the file
        """One JSON file."""
        path = self.root / name
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"asset {path} cannot be read: {error}; restore it, then run "
                f"fleetpose synth assets {self.root}"
            ) from error

    def image(self, name: str, *, size: int | None = None) -> Array:
        """One picture as RGB or RGBA uint8, at most `size` pixels on its longer side."""
        path = self.root / name
        data = np.frombuffer(path.read_bytes(), np.uint8) if path.is_file() else np.zeros(0, np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
        if image is None:
            raise DatasetError(
                f"asset {path} is missing or no picture; restore it, then run "
                f"fleetpose synth assets {self.root}"
            )
        if image.ndim == 2:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
        else:
            image = cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)
        longest = max(image.shape[:2])
        if size is not None and longest > size:
            scale = size / longest
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return np.asarray(image)

    def item(self, folder: str, name: str) -> Item:
        """One wearable by file name."""
        data = self.arrays(f"{folder}/{name}")
        try:
            meta = json.loads(str(data["meta"]))
            return Item(
                name=meta["name"],
                kind=meta["kind"],
                faces=data["faces"].astype(np.int32),
                face_uv=data["uv"][data["face_uv"]].astype(np.float32),
                part=data["part"],
                bind_vertex=data["bind_vertex"].astype(np.int64),
                bind_weight=data["bind_weight"].astype(np.float32),
                bind_offset=data["bind_offset"],
                scale_vertex=data["scale_vertex"].astype(np.int64),
                scale_length=data["scale_length"],
                scale_valid=data["scale_valid"],
                hides=data["delete_verts"].astype(np.int64),
                textures={use: f"{folder}/{file}" for use, file in meta["textures"].items()},
            )
        except KeyError as error:
            raise DatasetError(
                f"asset {self.root / folder / name} lacks {error}; restore it from the pack"
            ) from error


def read_checksums(path: Path) -> dict[str, str]:
    """File name to sha256 of a `sha256sum` list."""
    result = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise DatasetError(f"{path} line {number}: expected '<sha256>  <file>', but got {line[:80]!r}")
        result[name.removeprefix("*").removeprefix("./")] = digest
    return result


def remember_folder(root: Path) -> None:
    """Make `root` the asset folder of later runs."""
    note = cache_folder() / REMEMBERED
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(str(root.resolve()))


def remembered_folder() -> Path | None:
    """Asset folder named by `$FLEETPOSE_ASSETS`, else the one remembered, else None."""
    given = os.environ.get("FLEETPOSE_ASSETS")
    if given:
        return Path(given)
    note = cache_folder() / REMEMBERED
    return Path(note.read_text().strip()) if note.is_file() else None

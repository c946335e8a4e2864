"""Places to stand in: panoramas projected on the ground, photographs, and the choice among all kinds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from fleetpose.errors import ConfigError, MediaError
from fleetpose.synth.arrays import Array
from fleetpose.synth.backdrop import PLANE_COLUMNS
from fleetpose.synth.library import Library, Panorama
from fleetpose.synth.light import Light, light_from_map, uniform_light
from fleetpose.synth.props import Prop
from fleetpose.synth.records import Panorama as View360
from fleetpose.synth.texture import NO_TEXTURE, SRGB_TO_LINEAR

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
EMPTY_BOX = (1.0, -1.0, 0.0, 0.0, 0.0, 0.0)
# Decoding of the panoramas' 8-bit codes (the asset folder's README); bright lamps are cut for display.
_r = np.minimum((np.arange(256) / 255) ** 2.2, 0.998)
PANORAMA_RADIANCE = np.minimum(_r / (1 - _r), 12.0).astype(np.float32)


def plain_panorama(codes: Array, *, yaw_rad: float = 0.0) -> View360:
    """A panorama `[h, w, 3]` uint8 that is far away everywhere."""
    return View360(codes, PANORAMA_RADIANCE, yaw_rad, 1.6, 0.0, NO_TEXTURE, 1.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Backdrop:
    """Everything of a scene but people and camera.

    standing: (x0, x1, z0, z1) metres where people may be. yaw_rad: turn of the panorama. eye_height: usual
    metres of
    the camera above ground. dome: metres of flat ground in the panorama, 0 for none.
    """

    name: str
    light: Light
    standing: tuple[float, float, float, float]
    planes: Array = field(default_factory=lambda: np.zeros((0, PLANE_COLUMNS)))
    box: tuple[float, float, float, float, float, float] = EMPTY_BOX
    panorama: View360 = field(default_factory=lambda: plain_panorama(np.full((2, 2, 3), 128, np.uint8)))
    photo: Array | None = None
    props: tuple[Prop, ...] = ()
    eye_height: tuple[float, float] = (0.9, 2.0)
    is_indoor: bool = False


def usable_yaw(rng: np.random.Generator, panorama: Panorama) -> float:
    """Draw a turn that keeps statues and mannequins behind the camera."""
    if panorama.masked_columns is None:
        return float(rng.uniform(-np.pi, np.pi))
    middle = sum(panorama.masked_columns) / 2 / 1024 * 2 * np.pi - np.pi
    return float(np.pi - middle + rng.uniform(-0.8, 0.8))


def panorama_backdrop(rng: np.random.Generator, library: Library, panorama: Panorama) -> Backdrop:
    """Stand on a panorama's own ground, with a fine texture of like colour laid over it."""
    yaw = usable_yaw(rng, panorama)
    radiance = library.light_maps[panorama.light_row]
    picture = library.picture(panorama.file)
    if rng.random() < 0.5 and panorama.masked_columns is None:
        picture, radiance = picture[:, ::-1], radiance[:, ::-1]
    light = light_from_map(radiance, yaw_rad=yaw, is_indoor=panorama.is_indoor)
    reach = 3.0 if panorama.is_indoor else 14.0
    view = plain_panorama(np.ascontiguousarray(picture), yaw_rad=yaw)
    view = view._replace(dome=5.0 if panorama.is_indoor else 400.0)
    if library.swatches and not panorama.is_indoor:
        ground = picture[int(0.72 * len(picture)) :].reshape(-1, 3).mean(axis=0)
        number = nearest_swatch(rng, library, "ground", ground)
        texture = library.atlas.add(library.swatch("ground", number), mirrored=True)
        mean = float(library.atlas.mean_linear(texture) @ np.array([0.2126, 0.7152, 0.0722]))
        view = view._replace(detail=texture, detail_mean=mean, detail_repeat=float(rng.uniform(0.45, 0.9)))
    return Backdrop(
        name=panorama.name,
        light=light,
        standing=(-reach, reach, -reach - 2, reach),
        panorama=view,
        is_indoor=panorama.is_indoor,
    )


def nearest_swatch(rng: np.random.Generator, library: Library, sheet: str, colour: Array) -> int:
    """One of the five tiles whose mean sRGB colour is closest in hue to `colour`."""
    means = library.swatch_means(sheet)
    chroma = means / means.sum(axis=1, keepdims=True)
    wanted = colour / max(float(colour.sum()), 1e-6)
    order = np.argsort(np.linalg.norm(chroma - wanted, axis=1), kind="stable")
    return int(order[rng.integers(5)])


def photo_files(folder: Path) -> list[Path]:
    """Sorted pictures of a background folder."""
    if not folder.is_dir():
        raise ConfigError(
            f"background folder {folder} does not exist; give a folder of photographs without people"
        )
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
    if not files:
        raise ConfigError(f"background folder {folder} holds no {', '.join(PHOTO_SUFFIXES)} pictures")
    return files


def photo_backdrop(rng: np.random.Generator, path: Path, size: tuple[int, int]) -> Backdrop:
    """Stand in front of a photograph, cropped to the picture's shape and lit by its own colours."""
    data = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if data is None:
        raise MediaError(f"background {path} is no readable picture; remove it from the folder")
    image = cv2.cvtColor(data, cv2.COLOR_BGR2RGB)
    height, width = image.shape[:2]
    scale = max(size[0] / height, size[1] / width) * rng.uniform(1.0, 1.3)
    image = cv2.resize(
        image,
        (max(round(width * scale), size[1]), max(round(height * scale), size[0])),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    y = int(rng.integers(image.shape[0] - size[0] + 1))
    x = int(rng.integers(image.shape[1] - size[1] + 1))
    crop = image[y : y + size[0], x : x + size[1]]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    linear = SRGB_TO_LINEAR[crop]
    sky, ground = linear[: size[0] // 2].mean(axis=(0, 1)), linear[size[0] // 2 :].mean(axis=(0, 1))
    even = float(rng.uniform(0.9, 1.6))
    lamp = np.array([rng.normal(0, 0.6), rng.uniform(0.5, 1.5), rng.uniform(-0.2, 1.0)])
    strength = float(rng.choice((0.15, 0.5, 1.2)))
    light = uniform_light((sky + 0.1) * even, (ground + 0.03) * even, lamp, (sky + 0.1) * strength, 0.08)
    return Backdrop(
        name=f"photo:{path.name}",
        light=light,
        standing=(-12.0, 12.0, -16.0, 12.0),
        photo=np.ascontiguousarray(linear),
    )

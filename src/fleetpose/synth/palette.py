"""Colours people wear, and small procedural textures for cloth."""

from __future__ import annotations

import cv2
import numpy as np

from fleetpose.synth.arrays import Array
from fleetpose.synth.texture import srgb_to_linear

Colour = tuple[int, int, int]

# sRGB with how often each is worn; mostly neutrals, because loud clothes were the prototype's commonest flaw.
TOPS: tuple[tuple[Colour, float], ...] = (
    ((232, 230, 224), 4), ((196, 195, 190), 3), ((128, 130, 132), 3), ((46, 48, 52), 5), ((34, 42, 62), 4),
    ((82, 100, 128), 3), ((154, 172, 192), 3), ((92, 36, 42), 2), ((88, 92, 68), 2), ((64, 82, 70), 2),
    ((172, 150, 120), 2), ((202, 186, 162), 2), ((134, 98, 76), 2), ((168, 100, 84), 1), ((184, 158, 92), 1),
    ((186, 152, 152), 1.5), ((66, 108, 114), 1.5), ((146, 52, 52), 1.5), ((112, 92, 122), 1),
)  # fmt: skip
BOTTOMS: tuple[tuple[Colour, float], ...] = (
    ((62, 76, 102), 4), ((40, 46, 62), 4), ((36, 36, 40), 4), ((90, 90, 94), 2), ((150, 134, 108), 2),
    ((46, 52, 74), 2), ((92, 74, 60), 1), ((84, 86, 68), 1), ((122, 138, 160), 2), ((206, 200, 190), 0.7),
)  # fmt: skip
SHOES: tuple[tuple[Colour, float], ...] = (
    ((38, 36, 36), 4), ((92, 62, 44), 3), ((220, 218, 212), 3), ((70, 72, 78), 2), ((44, 54, 80), 1),
)  # fmt: skip
HAIR: tuple[tuple[Colour, float], ...] = (
    ((30, 25, 23), 5), ((52, 38, 30), 5), ((82, 58, 42), 4), ((118, 88, 60), 2), ((168, 138, 96), 1.5),
    ((104, 56, 36), 0.7),
)  # fmt: skip
GREY_HAIR: tuple[tuple[Colour, float], ...] = (((150, 146, 142), 2), ((206, 203, 198), 2), ((96, 90, 86), 1))
# Skin tones, light to dark, for bodies without skin textures.
SKINS: tuple[Colour, ...] = (
    (236, 204, 182), (224, 186, 158), (212, 172, 140), (198, 156, 122), (178, 136, 102), (156, 114, 82),
    (132, 94, 66), (108, 74, 52), (86, 58, 42), (66, 44, 34),
)  # fmt: skip


def pick(rng: np.random.Generator, table: tuple[tuple[Colour, float], ...]) -> tuple[float, float, float]:
    """Draw a colour of `table`, vary it a little, and return it as linear RGB."""
    weights = np.array([weight for _, weight in table])
    colour = np.array(table[rng.choice(len(table), p=weights / weights.sum())][0], np.float64)
    grey = colour.mean()
    varied = (grey + (colour - grey) * rng.uniform(0.7, 1.15)) * rng.uniform(0.85, 1.12) + rng.normal(0, 3, 3)
    red, green, blue = srgb_to_linear(np.clip(varied, 8, 240))
    return float(red), float(green), float(blue)


def fractal_noise(rng: np.random.Generator, size: int, *, octaves: tuple[int, ...]) -> Array:
    """Tileable noise `[size, size]`, mean 0, standard deviation 1; `octaves` are cells across the tile."""
    total = np.zeros((size, size), np.float32)
    for cells in octaves:
        grid = rng.normal(size=(cells, cells)).astype(np.float32)
        padded = np.pad(grid, 2, mode="wrap")
        scale = size // cells
        big = cv2.resize(padded, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        total += big[2 * scale : 2 * scale + size, 2 * scale : 2 * scale + size] / np.sqrt(cells)
    noise: Array = (total - total.mean()) / total.std()
    return noise


def wrinkle_normals(rng: np.random.Generator, size: int = 256) -> Array:
    """A tileable normal map `[size, size, 3]` uint8 of soft folds: ridges of stretched noise."""
    across = fractal_noise(rng, size, octaves=(4, 8, 16))
    warp = fractal_noise(rng, size, octaves=(4, 8)) * 10
    ys, xs = np.mgrid[:size, :size].astype(np.float32)
    folded = cv2.remap(across, (xs + warp) % size, (ys * 2 + warp) % size, cv2.INTER_LINEAR)
    height = cv2.GaussianBlur(1 - np.abs(np.tanh(folded)), (0, 0), 2.2)
    dx = (np.roll(height, -1, axis=1) - np.roll(height, 1, axis=1)) * 6
    dy = (np.roll(height, 1, axis=0) - np.roll(height, -1, axis=0)) * 6
    normal = np.dstack([-dx, -dy, np.ones_like(dx)])
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    codes: Array = np.round((normal * 0.5 + 0.5) * 255).astype(np.uint8)
    return codes


def cloth_patterns(rng: np.random.Generator, size: int = 128) -> list[Array]:
    """Grey cloth textures `[size, size, 3]` uint8, the plainest first: weaves, stripes, checks."""
    ys, xs = np.mgrid[:size, :size]
    weave = 6 * np.sin(xs * np.pi / 2) * np.sin(ys * np.pi / 2) + 4 * rng.normal(size=(size, size))
    heather = 7 * fractal_noise(rng, size, octaves=(32, 64)) + weave
    broad = np.where((ys // 32) % 2 == 0, 20, -20)
    thin = np.where(ys % 16 < 4, 40, -12)
    upright = np.where(xs % 32 < 3, 40, -4)
    check = np.where((ys // 32) % 2 == 0, 16, -16) + np.where((xs // 32) % 2 == 0, 16, -16)
    patterns = [weave, heather, broad + weave, thin + weave, upright + weave, check + weave]
    return [np.repeat(np.clip(186 + p, 0, 255).astype(np.uint8)[..., None], 3, axis=2) for p in patterns]

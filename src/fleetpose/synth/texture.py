"""All textures of a run in one flat array with mip levels, so that compiled code can look any of them up."""

# ruff: noqa: PLR0917 - compiled functions take positional arguments only

from __future__ import annotations

import cv2
import numpy as np

from fleetpose.synth.arrays import Array, drawing_kernel
from fleetpose.synth.records import Textures

LEVELS = 8
NO_TEXTURE = -1

# sRGB code value to linear light (IEC 61966-2-1).
_code = np.arange(256) / 255
SRGB_TO_LINEAR = np.where(_code <= 0.04045, _code / 12.92, ((_code + 0.055) / 1.055) ** 2.4).astype(
    np.float32
)


def srgb_to_linear(colour: tuple[float, ...] | Array) -> Array:
    """Code values 0 to 255 → linear light 0 to 1."""
    return np.interp(np.asarray(colour, np.float64), np.arange(256), SRGB_TO_LINEAR)


class TextureAtlas:
    """Textures by number. Those added after `freeze` last until `reset`: one picture's own."""

    def __init__(self) -> None:
        """Start empty."""
        self.texels: Array = np.zeros((1 << 20, 4), np.uint8)
        self.table: Array = np.zeros((256, LEVELS, 4), np.int64)  # offset, width, height, 1 if mirrored
        self.numbers: dict[str, int] = {}
        self._used = 0
        self._count = 0
        self._frozen = (0, 0)

    def freeze(self) -> None:
        """Make everything added so far permanent, and leave room for one picture's own textures."""
        self._reserve(self._used + (1 << 21))
        self._frozen = (self._used, self._count)

    def reset(self) -> None:
        """Forget the textures added since `freeze`."""
        self._used, self._count = self._frozen

    def add(self, image: Array, *, mirrored: bool = False, name: str | None = None) -> int:
        """Add an RGB or RGBA uint8 picture with its mip levels, and return its number."""
        if name is not None and name in self.numbers:
            return self.numbers[name]
        level = np.ascontiguousarray(image if image.shape[2] == 4 else _with_alpha(image))
        number = self._count
        if number == len(self.table):
            self.table = np.concatenate([self.table, np.zeros_like(self.table)])
        for k in range(LEVELS):
            height, width = level.shape[:2]
            self._reserve(self._used + height * width)
            self.texels[self._used : self._used + height * width] = level.reshape(-1, 4)
            self.table[number, k] = (self._used, width, height, int(mirrored))
            self._used += height * width
            level = cv2.resize(level, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)
        self._count += 1
        if name is not None:
            self.numbers[name] = number
        return number

    def textures(self) -> Textures:
        """What compiled functions need to look textures up."""
        return Textures(self.texels, self.table, SRGB_TO_LINEAR)

    def mean_linear(self, number: int) -> Array:
        """Mean linear RGB of a texture, from one of its small levels, weighted by alpha."""
        offset, width, height, _ = self.table[number, 4]
        texels = self.texels[offset : offset + width * height]
        weight = texels[:, 3:].astype(np.float64) + 1e-3
        mean: Array = (SRGB_TO_LINEAR[texels[:, :3]] * weight).sum(axis=0) / weight.sum()
        return mean

    def _reserve(self, texels: int) -> None:
        while texels > len(self.texels):
            self.texels = np.concatenate([self.texels, np.zeros_like(self.texels)])


def _with_alpha(image: Array) -> Array:
    return np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])


@drawing_kernel
def sample(textures: Textures, number: int, level: int, u: float, v: float, out: Array) -> None:
    """Bilinear look-up at (u, v), v upwards, repeated or mirrored; `out` `[4]` gets codes 0 to 255."""
    texels, table = textures.texels, textures.table
    offset, width, height = table[number, level, 0], table[number, level, 1], table[number, level, 2]
    v = 1.0 - v
    if table[number, level, 3] == 1:
        u = abs(u - 2.0 * np.floor(u * 0.5 + 0.5))
        v = abs(v - 2.0 * np.floor(v * 0.5 + 0.5))
    x = (u - np.floor(u)) * width - 0.5
    y = (v - np.floor(v)) * height - 0.5
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - x0, y - y0
    x1, y1 = x0 + 1, y0 + 1
    if x0 < 0:
        x0 += width
    if y0 < 0:
        y0 += height
    if x1 >= width:
        x1 -= width
    if y1 >= height:
        y1 -= height
    a, b = offset + y0 * width, offset + y1 * width
    for c in range(4):
        top = texels[a + x0, c] * (1.0 - fx) + texels[a + x1, c] * fx
        bottom = texels[b + x0, c] * (1.0 - fx) + texels[b + x1, c] * fx
        out[c] = top * (1.0 - fy) + bottom * fy

"""From light to a JPEG-like picture: exposure, depth of field, motion blur, tone curve, noise."""

# ruff: noqa: PLR0917 - compiled functions take positional arguments only

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fleetpose.synth.arrays import Array, kernel

NOISE_TILE = 1024
MIN_MOTION = 1.5  # pixels below which nobody is smeared
MAX_MOTION = 0.03  # of the picture's longer side
PEOPLE_STOPS = 0.25  # natural logarithm: dressed people reflect less than the middle grey of a scene


@dataclass(frozen=True, slots=True)
class Sensor:
    """Settings of one shot; blur widths in pixels of the final picture."""

    exposure: float = 1.0
    auto: float = 1.0  # 0 keeps the scene's own brightness, 1 brings every picture to the same mean
    white: tuple[float, float, float] = (1.0, 1.0, 1.0)
    contrast: float = 1.0
    saturation: float = 1.0
    noise: float = 0.008
    vignette: float = 0.1
    defocus: float = 0.0  # largest circle of confusion
    focus: float = 4.0  # metres
    shake: tuple[float, float] = (0.0, 0.0)  # motion over the exposure (x, y)
    quality: int = 90
    motion: tuple[tuple[float, float], ...] = ()  # of each person over the exposure (x, y), pixels


def draw_sensor(rng: np.random.Generator, *, focus: float, size: int) -> Sensor:
    """Draw a camera's settings; `focus` in metres, `size` is the picture's longer side in pixels."""
    warmth = rng.normal(0, 0.05)
    shaken = rng.random() < 0.12
    angle, length = rng.uniform(0, np.pi), rng.uniform(0.002, 0.008) * size * shaken
    return Sensor(
        exposure=float(np.exp(rng.normal(0, 0.22))),
        auto=float(rng.uniform(0.75, 1.0)),
        white=(1 + warmth, 1.0, 1 - warmth),
        contrast=float(rng.uniform(0.9, 1.12)),
        saturation=float(rng.uniform(0.75, 1.1)),
        noise=float(rng.exponential(0.008) + 0.002),
        vignette=float(rng.uniform(0, 0.25)),
        defocus=float(rng.uniform(0.002, 0.006) * size) if rng.random() < 0.35 else 0.0,
        focus=focus,
        shake=(float(np.cos(angle) * length), float(np.sin(angle) * length)),
        quality=int(rng.integers(62, 96)),
    )


def expose(colour: Array, nearness: Array, sensor: Sensor) -> float:
    """Gain that brings people, and the scene around them, to a middle grey; windows and lamps may clip."""
    small = np.maximum(colour[::4, ::4].mean(axis=2), 1e-4)
    middle = float(np.log(small).mean())
    people = small[nearness[::4, ::4] > 0]
    if people.size > 0.01 * small.size:
        middle = 0.5 * middle + 0.5 * float(np.log(people).mean() + PEOPLE_STOPS)
    gain = sensor.exposure * (0.2 / np.exp(middle)) ** sensor.auto
    bright = float(np.quantile(small, 0.92))
    return float(min(gain, 2.5 / bright))


@kernel
def develop(
    colour: Array, gain: float, white: Array, contrast: float, saturation: float, noise: float, vignette:
    float,
    grain: Array, grain_x: int, grain_y: int, curve: Array,
) -> Array:  # fmt: skip
    """Linear light `[H, W, 3]` → sRGB codes uint8, through exposure, grain and a film-like curve."""
    height, width = colour.shape[0], colour.shape[1]
    out = np.empty((height, width, 3), np.uint8)
    last = curve.shape[0] - 1
    value = np.empty(3)
    for y in range(height):
        dy = (y - height / 2) / height
        for x in range(width):
            dx = (x - width / 2) / width
            shade = gain * (1.0 - vignette * (dx * dx + dy * dy) * 1.6)
            light = 0.0
            for c in range(3):
                value[c] = max(colour[y, x, c], 0.0) * shade * white[c]
                light += value[c] / 3.0
            for c in range(3):
                v = light + (value[c] - light) * saturation
                # Shot noise grows with the square root of light; read noise stays.
                g = grain[(y + grain_y) & 1023, (x + grain_x + 331 * c) & 1023]
                v += noise * g * (0.25 + np.sqrt(max(v, 0.0)))
                code = curve[min(max(int(v * 512.0), 0), last)]
                out[y, x, c] = np.uint8(min(max((code - 118.0) * contrast + 118.0, 0.0), 255.0))
    return out


def tone_curve() -> Array:
    """Codes for linear light 0..8 in steps of 1/512: linear in the shadows, a soft shoulder above."""
    x = np.arange(8 * 512 + 1) / 512
    mapped = x * (1 + x / 9) / (1 + x * 0.9)  # Reinhard's extended curve with white at 3
    mapped = np.clip(mapped / (3 * (1 + 3 / 9) / (1 + 3 * 0.9)), 0, 1)
    return (np.where(mapped <= 0.0031308, 12.92 * mapped, 1.055 * mapped ** (1 / 2.4) - 0.055) * 255).astype(
        np.float32
    )


CURVE = tone_curve()
GRAIN = np.random.default_rng(7).standard_normal((NOISE_TILE, NOISE_TILE)).astype(np.float32)


def blur_by_depth(colour: Array, nearness: Array, sensor: Sensor) -> Array:
    """Depth of field: blend in blurred copies, keeping sharp people from bleeding into a soft background."""
    distance_off = np.abs(nearness - 1 / sensor.focus) * sensor.focus
    wide = sensor.defocus * np.clip(distance_off, 0, 1)
    far = (nearness < 0.75 / sensor.focus).astype(np.float32)
    result = colour
    for sigma in (0.5 * sensor.defocus, sensor.defocus):
        if sigma < 0.4:
            continue
        weight = cv2.GaussianBlur(far, (0, 0), sigma)
        soft = cv2.GaussianBlur(colour * far[..., None], (0, 0), sigma) / np.maximum(weight, 1e-3)[..., None]
        share = np.clip((wide - 0.35 * sigma) / (0.65 * sigma), 0, 1) * far
        result = result * (1 - share[..., None]) + soft * share[..., None]
    return result.astype(np.float32)


def take_picture(
    rng: np.random.Generator, colour: Array, nearness: Array, owner: Array, sensor: Sensor,
    size: tuple[int, int],
) -> Array:  # fmt: skip
    """Light `[S, S', 3]`, nearness and owners at render resolution → RGB uint8 picture of `size` (H, W)."""
    height, width = size
    small = cv2.resize(colour, (width, height), interpolation=cv2.INTER_AREA)
    near = cv2.resize(nearness, (width, height), interpolation=cv2.INTER_AREA)
    for person, way in enumerate(sensor.motion):
        if np.hypot(*way) > MIN_MOTION:
            blur_person(small, owner == person, way)
    if sensor.defocus > 0:
        small = blur_by_depth(small, near, sensor)
    length = float(np.hypot(*sensor.shake))
    if length > 1:
        small = cv2.filter2D(small, -1, motion_kernel(sensor.shake), borderType=cv2.BORDER_REPLICATE)
    grain_x, grain_y = (int(k) for k in rng.integers(0, NOISE_TILE, 2))
    return develop(
        small,
        expose(small, near, sensor),
        np.array(sensor.white),
        sensor.contrast,
        sensor.saturation,
        sensor.noise,
        sensor.vignette,
        GRAIN,
        grain_x,
        grain_y,
        CURVE,
    )


def blur_person(colour: Array, mask: Array, way: tuple[float, float]) -> None:
    """Smear who `mask` `[S, S']` shows along `way` (x, y) in `colour` `[H, W, 3]`, in place."""
    height, width = colour.shape[:2]
    cover = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    ys, xs = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
    if not ys.size:
        return
    length = float(np.hypot(*way))
    shrink = min(MAX_MOTION * max(height, width) / length, 1.0)
    kernel_ = motion_kernel((way[0] * shrink, way[1] * shrink))
    reach = kernel_.shape[0] // 2 + 1
    y0, y1 = max(ys[0] - reach, 0), min(ys[-1] + reach + 1, height)
    x0, x1 = max(xs[0] - reach, 0), min(xs[-1] + reach + 1, width)
    part, share = colour[y0:y1, x0:x1], cover[y0:y1, x0:x1, None]
    moved = cv2.filter2D(part * share, -1, kernel_, borderType=cv2.BORDER_REPLICATE)
    spread = cv2.filter2D(share[..., 0], -1, kernel_, borderType=cv2.BORDER_REPLICATE)[..., None]
    # What a moving edge uncovers is not known: the person's own colour stands in for it.
    part[:] = moved + part * (1 - spread)


def motion_kernel(shake: tuple[float, float]) -> Array:
    """A blur kernel along the line `shake` (x, y) in pixels, centred, sum 1."""
    radius = int(np.ceil(max(abs(shake[0]), abs(shake[1])) / 2)) + 1
    line = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    for share in np.linspace(-0.5, 0.5, 8 * radius):
        line[round(radius + share * shake[1]), round(radius + share * shake[0])] += 1
    normed: Array = line / line.sum()
    return normed

"""Changes of light, colour and sharpness, which leave every label where it is."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

#: Luminance of RGB (ITU-R BT.601).
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


def jitter(image: Image, rng: np.random.Generator, *, strength: float = 1.0) -> Image:
    """Draw brightness, contrast, gamma, saturation and colour cast anew; sometimes grey, blur, noise, JPEG.

    Args:
        image: `[H, W, 3]` uint8 RGB.
        rng: source of all randomness.
        strength: 0 changes nothing, 1 is the usual amount.
    """
    if strength == 0:
        return image
    image = _tone(image, rng, strength)
    if rng.random() < 0.25 * strength:
        image = _blur(image, rng)
    if rng.random() < 0.25 * strength:
        noise = rng.normal(0, rng.uniform(2, 12), image.shape[:2]).astype(np.float32)
        image = np.clip(image + noise[..., None], 0, 255).astype(np.uint8)
    if rng.random() < 0.25 * strength:
        image = _packed(image, int(rng.integers(25, 85)))
    return image


def coarsen(image: Image, rng: np.random.Generator, *, share: tuple[float, float]) -> Image:
    """Show no more detail than a small and far person does: shrunk, half the time packed as JPEG, enlarged.

    Args:
        image: `[H, W, 3]` uint8 RGB.
        rng: source of all randomness.
        share: sides of the shrunk picture as a share of the picture's: lowest, highest.
    """
    h, w = image.shape[:2]
    factor = np.exp(rng.uniform(*np.log(share)))
    small = cv2.resize(
        image, (max(1, round(w * factor)), max(1, round(h * factor))), interpolation=cv2.INTER_AREA
    )
    if rng.random() < 0.5:
        small = _packed(small, int(rng.integers(40, 95)))
    return np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR), np.uint8)


def _packed(image: npt.NDArray[np.generic], quality: int) -> Image:
    _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_UNCHANGED), np.uint8)


def _tone(image: Image, rng: np.random.Generator, strength: float) -> Image:
    """One 3x3 colour matrix for saturation and cast, one curve for gamma, contrast and brightness."""
    saturation = 0.0 if rng.random() < 0.1 * strength else 1 + strength * rng.uniform(-0.5, 0.5)
    cast = 1 + strength * rng.uniform(-0.15, 0.15, size=3).astype(np.float32)
    matrix = (saturation * np.eye(3) + (1 - saturation) * LUMINANCE[None, :]) * cast[:, None]
    gamma = np.exp(strength * rng.uniform(-0.4, 0.4))
    contrast = np.exp(strength * rng.uniform(-0.4, 0.4))
    brightness = strength * rng.uniform(-0.15, 0.15)
    levels = np.linspace(0, 1, 256) ** gamma
    curve = np.clip((levels - 0.5) * contrast + 0.5 + brightness, 0, 1) * 255
    coloured = cv2.transform(image, matrix.astype(np.float32))
    return np.asarray(cv2.LUT(coloured, curve.astype(np.uint8)), np.uint8)


def _blur(image: Image, rng: np.random.Generator) -> Image:
    """Either out of focus, or enlarged from a smaller picture."""
    if rng.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.6)), np.uint8)
    h, w = image.shape[:2]
    factor = rng.uniform(0.35, 0.8)
    small = cv2.resize(
        image, (max(1, round(w * factor)), max(1, round(h * factor))), interpolation=cv2.INTER_AREA
    )
    return np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR), np.uint8)

"""What networks take and how keypoints return: shared by the ways of finding people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeGuard, runtime_checkable

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.codecs.description import InputDescription, ModelDescription
from fleetpose.geometry import Image, warp

Array = npt.NDArray[np.float32]


class Network(Protocol):
    """Something that runs a model, such as `OnnxSession`."""

    description: ModelDescription

    def run(self, image: Array) -> dict[str, Array]:
        """Input tensor `[1, 3, H, W]`, normalised → maps `[C, h, w]` by field name."""


@runtime_checkable
class BatchNetwork(Network, Protocol):
    """A network that may look at several pictures at once.

    Attributes:
        takes_batches: whether it does; older model files take one picture at a time.
    """

    takes_batches: bool

    def run_batch(self, images: Array) -> dict[str, Array]:
        """Input tensor `[B, 3, H, W]`, normalised → maps `[B, C, h, w]` by field name."""


def takes_batches(network: Network) -> TypeGuard[BatchNetwork]:
    """Whether a network looks at several pictures at once."""
    return isinstance(network, BatchNetwork) and network.takes_batches


def run_each(network: Network, canvases: Sequence[Array]) -> list[dict[str, Array]]:
    """Run a network on input tensors `[1, 3, H, W]` of one size, at once if it can → maps of each."""
    if len(canvases) > 1 and takes_batches(network):
        maps = network.run_batch(np.concatenate(canvases))
        return [{name: values[row] for name, values in maps.items()} for row in range(len(canvases))]
    return [network.run(canvas) for canvas in canvases]


def draw_canvas(
    image: Image, affine: npt.NDArray[np.floating], size: tuple[int, int], settings: InputDescription
) -> Array:
    """Draw a picture, moved by `affine`, as an input tensor `[1, 3, H, W]` of `size` (H, W)."""
    return normalise(warp(image, affine, size, fill=settings.padding), settings)


def normalise(canvas: Image, settings: InputDescription) -> Array:
    """RGB picture `[H, W, 3]` → input tensor `[1, 3, H, W]` float32, (rgb - mean) / std per channel."""
    tensor = np.empty((1, 3, *canvas.shape[:2]), np.float32)
    channels = zip(cv2.split(canvas), tensor[0], settings.mean, settings.std, strict=True)
    for channel, target, mean, std in channels:
        # Channel by channel is ten times as fast as the formula on the whole picture.
        np.multiply(channel, np.float32(1 / std), out=target, dtype=np.float32)
        np.subtract(target, np.float32(mean / std), out=target)
    return tensor


def clip_keypoints(keypoints: Array, size: tuple[int, int]) -> Array:
    """Move keypoints beyond the border to the outermost pixel's centre; those not found become zero."""
    points = np.clip(keypoints[..., :2], 0, [size[1] - 1, size[0] - 1])
    scores = np.clip(keypoints[..., 2:], 0, 1)
    return np.concatenate([np.where(scores > 0, points, 0), scores], axis=-1).astype(np.float32)

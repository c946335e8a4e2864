"""A contact sheet: samples of an annotation file with their labels drawn on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from fleetpose.data.annotations import Picture, check_pictures, read_coco
from fleetpose.draw import DrawSettings, draw_people
from fleetpose.errors import ConfigError
from fleetpose.geometry import Image
from fleetpose.media.images import read_image
from fleetpose.results import PoseResult
from fleetpose.skeletons import Skeleton

MAX_TILES = 400


def draw_sheet(
    annotations: Path, images: Path, *, skeleton: Skeleton, count: int = 24, columns: int = 6, tile: int =
    320,
    seed: int = 0,
) -> Image:  # fmt: skip
    """Draw a random sample of labelled pictures in one sheet `[rows * tile, columns * tile, 3]`.

    Hidden keypoints (v = 1) are drawn as well. Each picture is scaled into a square tile.
    """
    if not 1 <= count <= MAX_TILES or not 1 <= columns <= MAX_TILES or not 32 <= tile <= 2048:
        raise ConfigError(
            f"a sheet takes 1 to {MAX_TILES} pictures and columns and tiles of 32 to 2048 pixels, "
            f"but got {count}, {columns} and {tile}"
        )
    pictures = read_coco(annotations, images, skeleton=skeleton)
    if not pictures:
        raise ConfigError(f"{annotations} lists no picture; there is nothing to show")
    order = np.random.default_rng(seed).permutation(len(pictures))[:count]
    chosen = [pictures[k] for k in sorted(order.tolist())]
    check_pictures(chosen)
    return join_tiles([draw_tile(picture, skeleton, tile) for picture in chosen], columns)


def draw_tile(picture: Picture, skeleton: Skeleton, tile: int) -> Image:
    """One labelled picture, scaled to fit a square of `tile` pixels on black."""
    image = read_image(picture.path)
    h, w = image.shape[:2]
    scale = tile / max(h, w)
    small = cv2.resize(
        image, (max(1, round(w * scale)), max(1, round(h * scale))), interpolation=cv2.INTER_AREA
    )
    factor = np.array([small.shape[1] / w, small.shape[0] / h])
    keypoints = picture.keypoints.copy()
    keypoints[..., :2] = (keypoints[..., :2] + 0.5) * factor - 0.5
    keypoints[..., 2] = np.minimum(keypoints[..., 2], 1)
    boxes = (picture.boxes.reshape(-1, 2, 2) + 0.5) * factor - 0.5
    result = PoseResult(
        keypoints=keypoints.astype(np.float32),
        boxes=boxes.reshape(-1, 4).astype(np.float32),
        scores=np.ones(len(keypoints), np.float32),
        image_size=(small.shape[0], small.shape[1]),
        skeleton=skeleton,
    )
    canvas = np.zeros((tile, tile, 3), np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = draw_people(small, result, DrawSettings(has_boxes=True))
    return canvas


def join_tiles(tiles: Sequence[Image], columns: int) -> Image:
    """Put square tiles side by side, row after row, black where the last row is short."""
    columns = min(columns, len(tiles))
    rows = (len(tiles) + columns - 1) // columns
    tile = tiles[0].shape[0]
    sheet = np.zeros((rows * tile, columns * tile, 3), np.uint8)
    for place, image in enumerate(tiles):
        row, column = divmod(place, columns)
        sheet[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile] = image
    return sheet

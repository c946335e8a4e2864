"""COCO's compressed run lengths of masks."""

from __future__ import annotations

import numpy as np

from fleetpose.errors import DatasetError
from fleetpose.synth.arrays import Array


def encode_mask(mask: Array) -> dict[str, object]:
    """Mask `[H, W]` bool → COCO segmentation with `size` and compressed `counts`.

    >>> encode_mask(np.array([[False, True], [False, True]]))
    {'size': [2, 2], 'counts': '22'}
    """
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    if edges.size and edges[-1] == mask.size:
        counts = counts[:-1]
    return {"size": list(mask.shape), "counts": _pack(counts.tolist())}


def decode_mask(segmentation: dict[str, object]) -> Array:
    """COCO segmentation with compressed `counts` → mask `[H, W]` bool."""
    size, text = segmentation["size"], segmentation["counts"]
    if not isinstance(size, list) or not isinstance(text, str):
        raise DatasetError(f"expected a compressed run-length segmentation, but got {segmentation!r}")
    height, width = int(size[0]), int(size[1])
    counts = _unpack(text)
    if sum(counts) != height * width:
        raise DatasetError(f"run lengths cover {sum(counts)} pixels, but the mask has {height * width}")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape((height, width), order="F")


def _pack(counts: list[int]) -> str:
    """Write counts as COCO's text: differences to the count two before, five bits per character."""
    characters = []
    for k, count in enumerate(counts):
        value = count - counts[k - 2] if k > 2 else count
        while True:
            chunk = value & 0x1F
            value >>= 5
            # The fifth bit is the sign of what remains.
            more = value != (-1 if chunk & 0x10 else 0)
            characters.append(chr(chunk + (0x20 if more else 0) + 48))
            if not more:
                break
    return "".join(characters)


def _unpack(text: str) -> list[int]:
    counts: list[int] = []
    value = shift = 0
    for character in text:
        chunk = ord(character) - 48
        value |= (chunk & 0x1F) << shift
        shift += 5
        if chunk & 0x20:
            continue
        if chunk & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts

"""An endless, numbered stream of training scenes, encoded for the network."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fleetpose.codecs.associative_embedding import TAG_CELLS, AssociativeEmbeddingCodec
from fleetpose.data.scenes import SceneMaker

#: image `[H, W, 3]` uint8; target heatmaps and masks by field name; tag cells `[N, K]`.
Item = tuple[Tensor, dict[str, Tensor], dict[str, Tensor], Tensor]


class SceneDataset(Dataset[Item]):
    """Scene number i and its targets; the number and the seed alone decide what it shows."""

    def __init__(
        self, *, maker: SceneMaker, codec: AssociativeEmbeddingCodec, size: tuple[int, int], seed: int
    ) -> None:
        self.maker = maker
        self.codec = codec
        self.size = size
        self.seed = seed

    def __getitem__(self, index: int) -> Item:
        sample = self.maker.make(np.random.default_rng([self.seed, index]), self.size)
        targets = self.codec.encode(sample.keypoints, size=self.size)
        masks = self.codec.masks(sample.counts, boxes=sample.boxes, is_known=sample.is_known)
        cells = torch.from_numpy(targets.pop(TAG_CELLS))
        return torch.from_numpy(sample.image), _tensors(targets), _tensors(masks), cells


def batches(
    dataset: SceneDataset, *, first: int, steps: int, batch: int, rank: int, world: int, workers: int
) -> Iterator[Item]:
    """Yield `steps` batches from scene number `first` on; each of `world` processes takes its own scenes."""
    numbers = [
        first + (step * world + rank) * batch + position for step in range(steps) for position in range(batch)
    ]
    yield from DataLoader(
        dataset,
        sampler=numbers,
        batch_size=batch,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_calm_worker,
    )


def _calm_worker(_: int) -> None:
    """Keep a loader process to one thread, and leave Ctrl-C to the process that saves the checkpoint."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:  # type: ignore[type-arg]
    return {name: torch.from_numpy(array) for name, array in arrays.items()}

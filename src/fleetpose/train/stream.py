"""An endless, numbered stream of training scenes, encoded for the network."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fleetpose.codecs.associative_embedding import TAG_CELLS, AssociativeEmbeddingCodec
from fleetpose.data.scenes import SceneMaker
from fleetpose.errors import DatasetError

#: image `[H, W, 3]` uint8; target heatmaps and masks by field name; tag cells `[N, K]`.
#: A batch has one axis more, in front.
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


@dataclass(frozen=True, slots=True)
class SceneNumbers(Sampler[int]):
    """Which scenes one of several processes draws: every step takes `batch` for each process in turn.

    >>> list(SceneNumbers(first=100, steps=2, batch=3, rank=1, world=2))
    [103, 104, 105, 109, 110, 111]
    """

    first: int
    steps: int
    batch: int
    rank: int
    world: int

    def __len__(self) -> int:
        return self.steps * self.batch

    def __iter__(self) -> Iterator[int]:
        for step in range(self.steps):
            start = self.first + (step * self.world + self.rank) * self.batch
            yield from range(start, start + self.batch)


def batches(dataset: SceneDataset, numbers: SceneNumbers, *, workers: int) -> Iterator[Item]:
    """Yield the scenes of the given numbers in batches, drawn by `workers` processes.

    Raises:
        DatasetError: a picture cannot be read.
    """
    loader = DataLoader(
        dataset,
        sampler=numbers,
        batch_size=numbers.batch,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_calm_worker,
    )
    scenes = iter(loader)
    try:
        yield from scenes
    except DatasetError as error:  # a worker's message comes wrapped in its traceback
        raise DatasetError(str(error).rpartition("DatasetError: ")[2].strip()) from error
    finally:
        # An error's traceback keeps the iterator alive, and a worker, which is deaf to SIGTERM, would then
        # keep the whole program from ending.
        if workers:
            scenes._shutdown_workers()  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way


def _calm_worker(_: int) -> None:
    """Keep a loader process to one thread, and leave Ctrl-C to the process that saves the checkpoint."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _tensors(arrays: Mapping[str, npt.NDArray[np.generic]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}

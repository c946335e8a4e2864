"""An endless, numbered stream of training samples, encoded for the network."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fleetpose.errors import DatasetError

#: Groups of tensors by name, as the task that makes them has them: targets, masks.
Labels: TypeAlias = dict[str, dict[str, Tensor]]
#: image `[H, W, 3]` uint8 and its labels. A batch has one axis more, in front.
Item: TypeAlias = tuple[Tensor, Labels]


@dataclass(frozen=True, slots=True)
class SampleNumbers(Sampler[int]):
    """Which samples one of several processes draws: every step takes `batch` for each process in turn.

    >>> list(SampleNumbers(first=100, steps=2, batch=3, rank=1, world=2))
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


def batches(dataset: Dataset[Item], numbers: SampleNumbers, *, workers: int) -> Generator[Item, None, None]:
    """Yield the samples of the given numbers in batches, drawn by `workers` processes.

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
    samples = iter(loader)
    try:
        yield from samples
    except DatasetError as error:  # a worker's message comes wrapped in its traceback
        raise DatasetError(str(error).rpartition("DatasetError: ")[2].strip()) from error
    finally:
        # An error's traceback keeps the iterator alive, and a worker, which is deaf to SIGTERM, would then
        # keep the whole program from ending.
        if workers:
            samples._shutdown_workers()  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way


def _calm_worker(_: int) -> None:
    """Keep a loader process to one thread, and leave Ctrl-C to the process that saves the checkpoint."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def tensors(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Tensor]:
    """Arrays by name → tensors that share their memory."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}

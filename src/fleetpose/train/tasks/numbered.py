"""Numbered samples with people, and what draws them in each phase of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

import numpy as np
from torch.utils.data import Dataset

from fleetpose.data.crops import CropMaker
from fleetpose.data.pictures import PictureCache
from fleetpose.data.scenes import SceneMaker
from fleetpose.skeletons import load_skeleton
from fleetpose.train.config import TrainConfig
from fleetpose.train.stream import Item

Drawn = TypeVar("Drawn")
Drawn_co = TypeVar("Drawn_co", covariant=True)
AnyCodec = TypeVar("AnyCodec")


class Maker(Protocol[Drawn_co]):
    """Draws scenes or crops."""

    def make(self, rng: np.random.Generator, size: tuple[int, int]) -> Drawn_co:
        """Draw one of `size` (h, w)."""
        ...


class NumberedDataset(Dataset[Item], ABC, Generic[Drawn, AnyCodec]):
    """Sample number i with its targets; the number and the seed alone decide what it shows."""

    def __init__(self, *, maker: Maker[Drawn], codec: AnyCodec, size: tuple[int, int], seed: int) -> None:
        self.maker = maker
        self.codec = codec
        self.size = size
        self.seed = seed

    def __getitem__(self, index: int) -> Item:
        return self.encoded(self.maker.make(np.random.default_rng([self.seed, index]), self.size))

    @abstractmethod
    def encoded(self, drawn: Drawn) -> Item:
        """Picture and labels of a scene or crop."""


def scene_makers(config: TrainConfig) -> list[SceneMaker]:
    """Read the sources of a run once → what draws the scenes of each phase.

    Raises:
        DatasetError: pictures or labels are missing or broken.
    """
    has_outlines = any(phase.scenes.paste.chance > 0 for phase in config.phases)
    maker = SceneMaker(
        config.sources,
        load_skeleton(config.skeleton),
        has_outlines=has_outlines,
        cache=PictureCache(config.cache_mb),
    )
    maker.check_pictures()
    return [maker.with_settings(phase.scenes) for phase in config.phases]


def crop_makers(config: TrainConfig) -> list[CropMaker]:
    """Read the sources of a run once → what draws the crops of each phase.

    Raises:
        DatasetError: pictures or labels are missing or broken.
    """
    maker = CropMaker(config.sources, load_skeleton(config.skeleton), cache=PictureCache(config.cache_mb))
    maker.check_pictures()
    return [maker.with_settings(phase.crops) for phase in config.phases]

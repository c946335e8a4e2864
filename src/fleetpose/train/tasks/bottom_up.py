"""Bottom-up: scenes with any number of people, heatmaps and tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fleetpose.codecs.associative_embedding import TAG_CELLS, AssociativeEmbeddingCodec
from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.data.scenes import SceneMaker
from fleetpose.losses import associative_embedding_losses
from fleetpose.skeletons import load_skeleton
from fleetpose.train.config import TrainConfig
from fleetpose.train.stream import Item, Labels, tensors


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
        return torch.from_numpy(sample.image), {"targets": tensors(targets), "masks": tensors(masks)}


class BottomUp:
    """Training of networks that find all people of a picture at once; see `Task`."""

    def __init__(self, *, fields: tuple[Field, ...], config: TrainConfig) -> None:
        names = [field.name for field in fields if field.kind is FieldKind.HEATMAPS]
        weights, sigmas = config.loss.per_heatmap(len(names), config.model)
        self.heatmap_weights = dict(zip(names, weights, strict=True))
        self.codec = AssociativeEmbeddingCodec(fields=fields, sigma_cells=sigmas, grouping=config.grouping)
        self.input_size = (config.short_side, config.short_side)
        self._config = config

    def datasets(self) -> Sequence[Dataset[Item]]:
        """One dataset of scenes per phase."""
        config = self._config
        maker = SceneMaker(config.sources, load_skeleton(config.skeleton))
        maker.check_pictures()
        return [
            SceneDataset(
                maker=maker.with_settings(phase.scenes),
                codec=self._of_spread(phase.sigma_scale),
                size=phase.size,
                seed=config.seed,
            )
            for phase in config.phases
        ]

    def _of_spread(self, scale: float) -> AssociativeEmbeddingCodec:
        return replace(self.codec, sigma_cells=tuple(scale * sigma for sigma in self.codec.sigma_cells))

    def losses(self, predicted: Mapping[str, Tensor], labels: Labels) -> dict[str, Tensor]:
        """See `associative_embedding_losses`."""
        settings = self._config.loss
        return associative_embedding_losses(
            predicted,
            {name: labels["targets"][name] for name in self.heatmap_weights},
            labels["masks"],
            labels["targets"][TAG_CELLS],
            tags=self.codec.tag_field.name,
            tag_weight=settings.tags,
            foreground_weight=settings.foreground,
            location_weight=settings.location,
            presence_weight=settings.presence,
            heatmap_weights=self.heatmap_weights,
        )

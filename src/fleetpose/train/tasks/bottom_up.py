"""Bottom-up: scenes with any number of people, heatmaps and tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fleetpose.codecs.associative_embedding import TAG_CELLS, AssociativeEmbeddingCodec
from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.data.samples import Sample
from fleetpose.losses import associative_embedding_losses
from fleetpose.train.config import TrainConfig
from fleetpose.train.stream import Item, Labels, tensors
from fleetpose.train.tasks.numbered import NumberedDataset, scene_makers


class SceneDataset(NumberedDataset[Sample, AssociativeEmbeddingCodec]):
    """Scenes with heatmaps and the cells of tags."""

    def encoded(self, drawn: Sample) -> Item:
        """See `NumberedDataset`."""
        targets = self.codec.encode(drawn.keypoints, size=self.size)
        masks = self.codec.masks(drawn.counts, boxes=drawn.boxes, is_known=drawn.is_known)
        return torch.from_numpy(drawn.image), {"targets": tensors(targets), "masks": tensors(masks)}


class BottomUp:
    """Training of networks that find all people of a picture at once; see `Task`."""

    def __init__(self, *, fields: tuple[Field, ...], config: TrainConfig) -> None:
        names = [field.name for field in fields if field.kind is FieldKind.HEATMAPS]
        weights, sigmas = config.loss.per_heatmap(len(names), config.model)
        self.heatmap_weights = dict(zip(names, weights, strict=True))
        # A skeleton may have fewer keypoints than people are asked to show.
        fewest = min(config.grouping.min_keypoints, fields[0].channels)
        grouping = replace(config.grouping, min_keypoints=fewest)
        self.codec = AssociativeEmbeddingCodec(fields=fields, sigma_cells=sigmas, grouping=grouping)
        self.input_size = (config.short_side, config.short_side)
        self._config = config

    def datasets(self) -> Sequence[Dataset[Item]]:
        """One dataset of scenes per phase."""
        config = self._config
        return [
            SceneDataset(
                maker=maker,
                codec=self._of_spread(phase.sigma_scale),
                size=phase.size,
                seed=config.seed,
            )
            for maker, phase in zip(scene_makers(config), config.phases, strict=True)
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
            has_hinge=settings.has_tag_hinge,
        )

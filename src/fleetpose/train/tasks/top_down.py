"""Top-down: crops of one person, one heatmap per keypoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fleetpose.codecs.fields import Field
from fleetpose.codecs.top_down import KEYPOINT_WEIGHTS, TopDownCodec
from fleetpose.data.crops import Crop
from fleetpose.errors import ConfigError
from fleetpose.losses import top_down_losses
from fleetpose.skeletons import load_skeleton
from fleetpose.train.config import TrainConfig
from fleetpose.train.stream import Item, Labels, tensors
from fleetpose.train.tasks.numbered import NumberedDataset, crop_makers


class CropDataset(NumberedDataset[Crop, TopDownCodec]):
    """Crops with heatmaps."""

    def encoded(self, drawn: Crop) -> Item:
        """See `NumberedDataset`."""
        targets = self.codec.encode(drawn.keypoints, size=self.size)
        # A keypoint that is known to lie outside the crop counts too: its map is to stay empty.
        targets[KEYPOINT_WEIGHTS] = (drawn.keypoints[:, 2] > 0).astype(np.float32)
        return torch.from_numpy(drawn.image), {"targets": tensors(targets)}


class TopDown:
    """Training of networks that see one person at a time; see `Task`."""

    def __init__(self, *, fields: tuple[Field, ...], config: TrainConfig) -> None:
        if len(fields) != 1:
            raise ConfigError(
                f"top-down training takes a network with one field of heatmaps, "
                f"but {config.model} has {len(fields)}"
            )
        _, (sigma,) = config.loss.per_heatmap(1, config.model)
        last = config.phases[-1]
        # Both losses together make the map a distribution over cells and its height a chance.
        are_chances = min(config.loss.location, config.loss.presence) > 0
        self.input_size = last.size
        self.codec = TopDownCodec(
            fields=fields,
            input_size=last.size,
            sigma_cells=sigma,
            decoding="expected_oks" if are_chances else "dark",
            sigmas=load_skeleton(config.skeleton).sigmas if are_chances else (),
            kernel_cells=_kernel_cells(sigma),
            box_padding=last.crops.padding,
        )
        self._config = config

    def datasets(self) -> Sequence[Dataset[Item]]:
        """One dataset of crops per phase."""
        config = self._config
        return [
            CropDataset(
                maker=maker,
                codec=replace(self.codec, sigma_cells=phase.sigma_scale * self.codec.sigma_cells),
                size=phase.size,
                seed=config.seed,
            )
            for maker, phase in zip(crop_makers(config), config.phases, strict=True)
        ]

    def losses(self, predicted: Mapping[str, Tensor], labels: Labels) -> dict[str, Tensor]:
        """See `top_down_losses`."""
        settings = self._config.loss
        (name,) = (field.name for field in self.codec.fields)
        return top_down_losses(
            predicted[name],
            labels["targets"][name],
            labels["targets"][KEYPOINT_WEIGHTS],
            foreground_weight=settings.foreground,
            location_weight=settings.location,
            presence_weight=settings.presence,
            hardest=settings.hard_keypoints,
        )


def _kernel_cells(sigma_cells: float) -> int:
    """Side of the smoothing before decoding, odd, in the proportion that DARK's authors use.

    >>> _kernel_cells(2.0), _kernel_cells(3.0)
    (11, 17)
    """
    return 2 * int(2.75 * sigma_cells) + 1

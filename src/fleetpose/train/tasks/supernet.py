"""Training of a supernet: at every step another of its parts, at another resolution."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fleetpose.codecs.associative_embedding import TAG_CELLS
from fleetpose.codecs.fields import Field
from fleetpose.errors import ConfigError
from fleetpose.models import PoseNetwork
from fleetpose.models.litepose import LitePoseConfig
from fleetpose.models.supernet import LitePoseSupernet
from fleetpose.train.config import ElasticSettings, TrainConfig
from fleetpose.train.stream import Labels
from fleetpose.train.tasks.bottom_up import BottomUp


class Elastic(BottomUp):
    """Bottom-up training of LitePose's supernet (arXiv:2205.01271, Sect. 4); see `Task`.

    As in the authors' code, pictures and targets are brought to the drawn resolution by taking the nearest
    pixel or cell.
    """

    def __init__(self, *, fields: tuple[Field, ...], config: TrainConfig, elastic: ElasticSettings) -> None:
        super().__init__(fields=fields, config=config)
        self._elastic = elastic
        self._part: LitePoseConfig | None = None
        self._hooked: nn.Module | None = None

    def prepare(
        self, network: PoseNetwork, images: Tensor, labels: Labels, *, seed: int
    ) -> tuple[Tensor, Labels]:
        """Draw a part and a resolution by the step's seed, and bring the batch to that."""
        if not isinstance(network, LitePoseSupernet):
            raise ConfigError("elastic training needs a supernet, such as litepose-supernet")
        if self._hooked is not network:  # Fabric's wrapper would not let settings through its own call
            network.register_forward_pre_hook(self._hand_on_part, with_kwargs=True)
            self._hooked = network
        rng = random.Random(seed)
        space = replace(network.space, resolutions=self._elastic.resolutions, ratios=self._elastic.ratios)
        self._part = space.sample(rng)
        same_grid = next(
            item.name for item in self.codec.heatmap_fields if item.stride == self.codec.tag_field.stride
        )
        return resized(images, labels, same_grid, self._part.input_size[0] / max(images.shape[2:]))

    def _hand_on_part(
        self, network: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return arguments, {**named, "config": self._part} if network.training else named


def resized(images: Tensor, labels: Labels, tag_field: str, scale: float) -> tuple[Tensor, Labels]:
    """Bring a batch to another size, every pixel and cell taking the nearest one's value.

    Args:
        images: `[B, 3, H, W]`.
        labels: of a bottom-up network: its masks and targets.
        tag_field: name of the masks or targets on the same grid as the tags.
        scale: factor of the size.
    """
    if scale == 1:
        return images, labels
    targets = {name: _nearest(value, scale) for name, value in labels["targets"].items() if name != TAG_CELLS}
    masks = {name: _nearest(value, scale) for name, value in labels["masks"].items()}
    before, after = labels["targets"][tag_field].shape, targets[tag_field].shape
    cells = labels["targets"][TAG_CELLS]
    y, x = cells.div(before[3], rounding_mode="floor"), cells % before[3]
    y, x = (
        ((place + 0.5) * (after[axis] / before[axis])).long().clamp(max=after[axis] - 1)
        for place, axis in ((y, 2), (x, 3))
    )
    targets[TAG_CELLS] = torch.where(cells < 0, cells, y * after[3] + x)
    return _nearest(images, scale), {**labels, "targets": targets, "masks": masks}


def _nearest(maps: Tensor, scale: float) -> Tensor:
    size = [round(length * scale) for length in maps.shape[2:]]
    return functional.interpolate(maps, size=size, mode="nearest-exact")

"""What a family of models brings to training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor
from torch.utils.data import Dataset

from fleetpose.models import PoseNetwork
from fleetpose.train.stream import Item, Labels


class Codec(Protocol):
    """Encoder and decoder of a family."""

    def settings(self) -> dict[str, Any]:
        """Plain data for a model file, from which the runtime builds the same codec."""
        ...


class Task(Protocol):
    """What is drawn, what is compared and how outputs are read; all else is the engine's.

    A task is made from a network's fields and the settings of a run, and costs nothing until `datasets` is
    called: export and validation ask for the codec alone.
    """

    @property
    def codec(self) -> Codec:
        """What makes targets here and people in the exported model."""
        ...

    @property
    def input_size(self) -> tuple[int, int]:
        """(H, W) of the pictures that the trained network is meant for, in pixels."""
        ...

    def datasets(self) -> Sequence[Dataset[Item]]:
        """Read the labels once and return an endless, numbered dataset for each phase.

        Raises:
            DatasetError: pictures or labels are missing or broken.
        """
        ...

    def losses(self, predicted: Mapping[str, Tensor], labels: Labels) -> dict[str, Tensor]:
        """Compare the network's maps with a batch of labels.

        Returns:
            Scalars by name, among them `total`, which is what gets minimised.
        """
        ...


@runtime_checkable
class BatchPreparer(Protocol):
    """What a task may have besides: something to do before the network sees a batch."""

    def prepare(
        self, network: PoseNetwork, images: Tensor, labels: Labels, *, seed: int
    ) -> tuple[Tensor, Labels]:
        """Change a batch, or how the network will see it, for the coming step.

        Args:
            network: that is trained.
            images: `[B, 3, H, W]`, normalised.
            labels: of the batch.
            seed: of the step, alike in all processes.
        """
        ...

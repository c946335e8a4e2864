"""Tasks: one file per way of training, chosen by what a network declares to return."""

from __future__ import annotations

from fleetpose.codecs.fields import FieldKind
from fleetpose.errors import ConfigError
from fleetpose.models import PoseNetwork
from fleetpose.train.config import TrainConfig
from fleetpose.train.tasks.bottom_up import BottomUp
from fleetpose.train.tasks.contract import Task
from fleetpose.train.tasks.top_down import TopDown

__all__ = ["Task", "task_of"]


def task_of(network: PoseNetwork, config: TrainConfig) -> Task:
    """Choose the task of a network: heatmaps and tags are bottom-up, heatmaps alone top-down.

    Raises:
        ConfigError: there is no task for such a network, or the settings do not fit it.
    """
    kinds = {field.kind for field in network.fields}
    if kinds == {FieldKind.HEATMAPS, FieldKind.TAGS}:
        return BottomUp(fields=network.fields, config=config)
    if kinds == {FieldKind.HEATMAPS}:
        return TopDown(fields=network.fields, config=config)
    names = ", ".join(field.name for field in network.fields)
    raise ConfigError(f"{config.model} returns {names}, which the trainer knows no losses for")

"""What a trained network takes and gives, in words for its model file."""

from __future__ import annotations

from fleetpose.codecs.description import InputDescription, ModelCard, ModelDescription
from fleetpose.geometry import IMAGE_MEAN, IMAGE_STD
from fleetpose.models import PoseNetwork
from fleetpose.skeletons import load_skeleton
from fleetpose.train.config import TrainConfig
from fleetpose.train.tasks import task_of

#: Stands in the card of a model that is not finished.
UNKNOWN_CARD = ModelCard(
    licence="unknown", data=(), command="", commit="", hours=0.0, hardware="", metrics={}, params=0, macs=0
)


def describe(network: PoseNetwork, config: TrainConfig, *, name: str, card: ModelCard) -> ModelDescription:
    """Put into words what a trained network takes and gives."""
    task = task_of(network, config)
    return ModelDescription(
        name=name,
        family=config.model.partition("-")[0],
        skeleton=load_skeleton(config.skeleton),
        fields=network.fields,
        input=InputDescription(
            short_side=min(task.input_size),
            multiple=network.size_multiple,
            mean=IMAGE_MEAN,
            std=IMAGE_STD,
        ),
        card=card,
        codec=task.codec.settings(),
    )

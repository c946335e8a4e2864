"""From a training run to a model file: validation while it runs, and export when it is done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from fleetpose.codecs.description import InputDescription, ModelCard, ModelDescription
from fleetpose.codecs.top_down import CODEC_TYPE as TOP_DOWN
from fleetpose.data.annotations import read_coco
from fleetpose.data.scenes import around_keypoints
from fleetpose.errors import ConfigError
from fleetpose.export.onnx_file import export_onnx
from fleetpose.geometry import IMAGE_MEAN, IMAGE_STD
from fleetpose.models import PoseNetwork, build
from fleetpose.models.counting import count
from fleetpose.recipes.labelled_boxes import LabelledBoxPredictor
from fleetpose.results import PoseResult
from fleetpose.runtime.evaluation import evaluate
from fleetpose.runtime.predictor import Predictor
from fleetpose.runtime.torch_session import TorchSession
from fleetpose.settings import from_plain, override
from fleetpose.skeletons import load_skeleton
from fleetpose.train.checkpoint import load_checkpoint
from fleetpose.train.config import TrainConfig, ValidationSet
from fleetpose.train.tasks import task_of

logger = logging.getLogger(__name__)

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


def validator(config: TrainConfig) -> Callable[[PoseNetwork], dict[str, float]] | None:
    """Return what scores a network on the run's validation sets, or None without such sets.

    Sets whose files are not there are left out with a warning, so that a recipe runs without them.
    """
    sets = [item for item in config.validation if _is_there(item)]
    if not sets:
        return None

    def validate(network: PoseNetwork) -> dict[str, float]:
        skeleton = load_skeleton(config.skeleton)
        scores: dict[str, float] = {}
        for item in sets:
            predict = _predictor(network, config, item)
            result = evaluate(predict, item.annotations, item.images, skeleton=skeleton, every=item.every)
            scores[f"{item.name}/AP"] = 100 * result.coco.ap
            scores[f"{item.name}/AP50"] = 100 * result.coco.ap50
            scores[f"{item.name}/PCK"] = 100 * result.pck.mean
        return scores

    return validate


def _predictor(
    network: PoseNetwork, config: TrainConfig, item: ValidationSet
) -> Callable[[Path], PoseResult]:
    """What finds people in the pictures of a validation set; a top-down network is told their boxes."""
    session = TorchSession(network, describe(network, config, name=config.model, card=UNKNOWN_CARD))
    if session.description.codec["type"] != TOP_DOWN:
        return Predictor(session, threshold=0.0)
    pictures = read_coco(item.annotations, item.images, skeleton=session.description.skeleton)
    if item.annotations in {source.annotations for source in config.sources if source.is_single_person}:
        pictures = [replace(one, boxes=around_keypoints(one.keypoints)) for one in pictures]
    return LabelledBoxPredictor(session, pictures)


def _is_there(item: ValidationSet) -> bool:
    is_there = item.annotations.is_file() and item.images.is_dir()
    if not is_there:
        logger.warning("validation set %s is left out: %s is missing", item.name, item.annotations)
    return is_there


def load_trained(checkpoint: Path) -> tuple[PoseNetwork, TrainConfig, dict[str, Any]]:
    """Rebuild the averaged network of a training checkpoint → network, settings, progress.

    Raises:
        CheckpointError: the file is no checkpoint of a training run.
    """
    state = load_checkpoint(checkpoint)
    config = from_plain(TrainConfig, state["config"], where=f"settings in {checkpoint}")
    network = build(config.model, num_keypoints=len(load_skeleton(config.skeleton)))
    network.load_state_dict(state["ema"])
    return network.eval(), config, state["progress"]


def export_checkpoint(
    checkpoint: Path,
    target: Path,
    *,
    card: ModelCard,
    overrides: Sequence[str] = (),
    has_half_weights: bool = False,
) -> float:
    """Write the averaged network of a checkpoint as a model file → largest difference, in deviations.

    Args:
        checkpoint: `last.pt` of a training run.
        target: model file to write; its name without suffix becomes the model's name.
        card: where the weights come from; parameters and multiply-adds are counted here.
        overrides: changed settings of the run that matter to prediction, such as `short_side=192`.
        has_half_weights: see `export_onnx`.
    """
    network, config, _ = load_trained(checkpoint)
    config = override(config, overrides)
    cost = count(network, task_of(network, config).input_size)
    counted = replace(card, params=cost.params, macs=cost.operations)
    description = describe(network, config, name=target.stem, card=counted)
    return export_onnx(network, description, target, has_half_weights=has_half_weights)


def read_card(path: Path) -> ModelCard:
    """Read a model card from YAML; parameters and multiply-adds are counted later and may be absent.

    Raises:
        ConfigError: the file is missing, or a field is unknown, missing or of the wrong type.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the model card {path}: {' '.join(str(error).split())}") from error
    if isinstance(data, dict):
        data = {"params": 0, "macs": 0, **data}
    return from_plain(ModelCard, data, where=f"model card {path}")

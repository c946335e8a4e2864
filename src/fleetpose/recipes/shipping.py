"""From a training run to a model file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from fleetpose.codecs.description import ModelCard
from fleetpose.errors import CheckpointError, ConfigError
from fleetpose.export.onnx_file import export_onnx
from fleetpose.models import PoseNetwork
from fleetpose.models.checkpoints import load_strictly
from fleetpose.models.counting import count
from fleetpose.recipes.describing import UNKNOWN_CARD, describe
from fleetpose.recipes.scores import validator
from fleetpose.settings import from_plain, override
from fleetpose.train.checkpoint import load_checkpoint
from fleetpose.train.config import TrainConfig
from fleetpose.train.networks import build_network
from fleetpose.train.tasks import task_of

__all__ = ["UNKNOWN_CARD", "describe", "export_checkpoint", "load_trained", "read_card", "validator"]


def load_trained(checkpoint: Path) -> tuple[PoseNetwork, TrainConfig, dict[str, Any]]:
    """Rebuild the averaged network of a training checkpoint → network, settings, progress.

    Raises:
        CheckpointError: the file is no checkpoint of a training run.
    """
    state = load_checkpoint(checkpoint)
    config = from_plain(TrainConfig, state["config"], where=f"settings in {checkpoint}")
    network = build_network(config)
    try:
        load_strictly(network, state["ema"])
    except CheckpointError as error:
        raise CheckpointError(
            f"{checkpoint} is not of {config.model} as this version builds it: {error}"
        ) from error
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
    trained, config, _ = load_trained(checkpoint)
    network, config = trained.for_prediction(), override(config, overrides)
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

"""Going on from a checkpoint: what may not have changed since, and taking it up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from fleetpose.errors import CheckpointError, ConfigError
from fleetpose.models.checkpoints import load_strictly
from fleetpose.train.checkpoint import load_checkpoint
from fleetpose.train.config import OptimiserSettings, TrainConfig

#: What a checkpoint must hold, beside the averaged weights, for a run to go on.
_NEEDED = ("network", "averages", "optimiser", "progress", "config")


def read_state(last: Path, config: TrainConfig) -> dict[str, Any]:
    """Read the checkpoint of a run that is to go on with `config`.

    Raises:
        CheckpointError: the file is missing, broken or no checkpoint of a run, or it is another network's.
        ConfigError: a setting has changed that the run cannot go on without.
    """
    state = load_checkpoint(last)
    missing = [key for key in _NEEDED if key not in state]
    if missing:
        raise CheckpointError(f"{last} cannot be resumed: it lacks {', '.join(missing)}")
    before = state["config"]
    model = before.get("model", config.model)
    if model != config.model:
        raise CheckpointError(
            f"{last} holds a run of {model}, whose weights do not fit the model {config.model}; "
            f"resume with model={model}, or start a new run in another folder"
        )
    kind = before.get("optimiser", {}).get("kind", OptimiserSettings().kind)
    _refuse_change("optimiser.kind", kind, config.optimiser.kind, last)
    _refuse_change("frozen", sorted(before.get("frozen", ())), sorted(config.frozen), last)
    step = state["progress"]["step"]
    if step > config.total_steps:
        raise ConfigError(
            f"{last} is at step {step}, but the phases have {config.total_steps} steps in all; give them at "
            f"least {step} to resume, or start a new run in another folder"
        )
    return state


def _refuse_change(name: str, before: object, after: object, last: Path) -> None:
    """Refuse to go on where the optimiser's memory would be of other weights, or of another kind."""
    if before != after:
        raise ConfigError(
            f"a run cannot be resumed with another {name}: {last} has {before}, got {after}; "
            f"keep it, or start a new run in another folder with init={last}"
        )


def restore(
    state: dict[str, Any],
    last: Path,
    *,
    network: nn.Module,
    averaged: AveragedModel,
    optimiser: torch.optim.Optimizer,
) -> None:
    """Give a run's parts what the checkpoint `last` holds; options of the optimiser stay the settings'.

    Raises:
        CheckpointError: something does not fit.
    """
    remedy = f"resume with the settings of the run, or start a new one in another folder with init={last}"
    try:
        load_strictly(network, state["network"])
        load_strictly(averaged.module, state["ema"])
    except CheckpointError as error:
        raise CheckpointError(f"{last} cannot be resumed: {error}; {remedy}") from error
    averaged.n_averaged.fill_(state["averages"])
    options = [
        {name: value for name, value in group.items() if name != "params"} for group in optimiser.param_groups
    ]
    try:
        optimiser.load_state_dict(state["optimiser"])
    except (ValueError, LookupError) as error:
        raise CheckpointError(f"{last} cannot be resumed: its optimiser does not fit; {remedy}") from error
    for group, own in zip(optimiser.param_groups, options, strict=True):
        group.update(own)

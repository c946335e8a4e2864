"""`fleetpose train`: train a model by a recipe or by one's own settings."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fleetpose.cli.exit_codes import EXIT_INTERRUPTED, EXIT_OK

#: A run goes to a folder of its own within this one.
RUNS = Path("runs/train")


def train(
    recipe: str,
    *,
    data: Path | None = None,
    overrides: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    out: Path | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    devices: int = 1,
    accelerator: str = "auto",
) -> int:
    """Train a model by a recipe or by one's own settings.

    The run goes to runs/train/NAME: settings (config.yaml), checkpoint (last.pt), losses (train.csv),
    scores (validation.csv), both as curves (curves.png). Ctrl-C saves and stops; --resume goes on from there.

    Args:
        recipe: name of a recipe, such as first-weights, or a YAML file with one's own settings.
        data: folder of the recipe's training data.
        overrides: change a setting, such as --set optimiser.lr=1e-3; may be given several times.
        out: folder of the run instead of runs/train/NAME.
        resume: go on from the run's last checkpoint.
        devices: processes or accelerators to train on.
        accelerator: cpu, cuda, mps or auto.
    """
    # Imports stand here so that help need not wait for PyTorch.
    from fleetpose.recipes import find_recipe  # noqa: PLC0415
    from fleetpose.recipes.shipping import validator  # noqa: PLC0415
    from fleetpose.settings import override  # noqa: PLC0415
    from fleetpose.train.config import read_config  # noqa: PLC0415
    from fleetpose.train.engine import train as run  # noqa: PLC0415

    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    is_file = Path(recipe).suffix in {".yaml", ".yml"}
    config = override(read_config(Path(recipe)) if is_file else find_recipe(recipe, data), overrides)
    progress = run(
        config,
        out or RUNS / Path(recipe).stem,
        is_resumed=resume,
        validate=validator(config),
        devices=devices,
        accelerator=accelerator,
    )
    return EXIT_OK if progress.step == config.total_steps else EXIT_INTERRUPTED

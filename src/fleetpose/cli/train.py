"""`fleetpose train`: train a model by a recipe or by one's own settings."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from fleetpose.cli.exit_codes import EXIT_INTERRUPTED, EXIT_OK
from fleetpose.cli.output import say
from fleetpose.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from fleetpose.train.config import TrainConfig

YAML_SUFFIXES = frozenset({".yaml", ".yml"})
#: A run goes to a folder of its own within this one.
RUNS = Path("runs/train")


def train(
    recipe: str = "",
    *,
    data: Path | None = None,
    overrides: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    out: Path | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    devices: int = 1,
    accelerator: str = "auto",
    scale: Literal["full", "tiny"] = "full",
    is_listing: Annotated[bool, Parameter(name="--list", negative="")] = False,
) -> int:
    """Train a model by a recipe or by one's own settings.

    The run goes to runs/train/NAME: settings (config.yaml), checkpoints (last.pt, best.pt), losses
    (train.csv), scores (validation.csv), both as curves (curves.png), predictions (samples). Ctrl-C saves and
    stops; --resume goes on from there.

    Args:
        recipe: name of a recipe, such as first-weights, or a YAML file with one's own settings.
        data: folder of the recipe's training data, or a YAML file with one's own data instead of the
            recipe's; `fleetpose doctor` checks it.
        overrides: change a setting, such as --set optimiser.lr=1e-3; may be given several times.
        out: folder of the run instead of runs/train/NAME.
        resume: go on from the run's last checkpoint.
        devices: processes or accelerators to train on.
        accelerator: cpu, cuda, mps or auto.
        scale: tiny runs the recipe for two steps on drawn data, in seconds, to see that all works.
        is_listing: list the recipes with what to expect of them, and train nothing.
    """
    if is_listing:
        return _list()
    if not recipe:
        raise ConfigError("name a recipe or a settings file; fleetpose train --list shows the recipes")
    # Imports stand here so that help need not wait for PyTorch.
    from fleetpose.recipes import find_recipe  # noqa: PLC0415
    from fleetpose.recipes.tiny import tiny  # noqa: PLC0415
    from fleetpose.settings import override  # noqa: PLC0415
    from fleetpose.train.config import read_config  # noqa: PLC0415

    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    folder = out or RUNS / Path(recipe).stem
    data_file = data if data is not None and data.suffix in YAML_SUFFIXES else None
    is_file = Path(recipe).suffix in YAML_SUFFIXES
    # A recipe names its data below a folder; where other data take their place, any folder will do.
    elsewhere = data_file.parent if data_file else (data or Path() if scale == "tiny" else data)
    config = read_config(Path(recipe)) if is_file else find_recipe(recipe, elsewhere)
    if data_file:
        config = _with_data(config, data_file)
    if scale == "tiny":
        config = tiny(config, folder / "drawn", recipe=lambda name: find_recipe(name, Path()))
    config = override(config, overrides)
    # And these here so that a mistyped setting need not wait for the trainer.
    from fleetpose.recipes.scores import depicter, validator  # noqa: PLC0415
    from fleetpose.train.engine import train as run  # noqa: PLC0415

    progress = run(
        config,
        folder,
        is_resumed=resume,
        validate=validator(config),
        depict=depicter(config),
        devices=devices,
        accelerator=accelerator,
    )
    return EXIT_OK if progress.step >= config.total_steps else EXIT_INTERRUPTED


def _list() -> int:
    """Print the recipes with their summaries and expected results."""
    from fleetpose.recipes import RECIPES  # noqa: PLC0415

    for name, recipe in RECIPES.items():
        say(f"{name:<30} {recipe.summary}; expect {recipe.expected}")
    return EXIT_OK


def _with_data(config: TrainConfig, data_file: Path) -> TrainConfig:
    """Put a user's data in the place of a recipe's."""
    from fleetpose.data.mixture import read_data  # noqa: PLC0415
    from fleetpose.skeletons import SKELETONS  # noqa: PLC0415
    from fleetpose.train.config import ValidationSet  # noqa: PLC0415

    data = read_data(data_file)
    name = data.skeleton.name
    skeleton = name if SKELETONS.get(name) == data.skeleton else data.skeleton
    for one in data.validation:  # of a recipe, data of its validation may be absent; here somebody named them
        if not one.annotations.is_file():
            raise DatasetError(f"validation set {one.name} of {data_file}: {one.annotations} is missing")
    validation = tuple(
        ValidationSet(
            name=one.name,
            annotations=one.annotations,
            images=one.images,
            every=one.every,
            split=one.split,
        )
        for one in data.validation
    )
    return replace(config, sources=data.train, skeleton=skeleton, validation=validation)

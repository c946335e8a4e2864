"""`fleetpose train`: train a model by a recipe or by one's own settings."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fleetpose.cli.exit_codes import EXIT_INTERRUPTED, EXIT_OK

if TYPE_CHECKING:
    from fleetpose.train.config import TrainConfig

YAML_SUFFIXES = frozenset({".yaml", ".yml"})
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
        data: folder of the recipe's training data, or a YAML file with one's own data instead of the
            recipe's; `fleetpose doctor` checks it.
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
    folder = out or RUNS / Path(recipe).stem
    data_file = data if data is not None and data.suffix in YAML_SUFFIXES else None
    is_file = Path(recipe).suffix in YAML_SUFFIXES
    # A recipe names its data below a folder; where a data file takes their place, any folder will do.
    config = (
        read_config(Path(recipe)) if is_file else find_recipe(recipe, data_file.parent if data_file else data)
    )
    if data_file:
        config = _with_data(config, data_file, folder)
    config = override(config, overrides)
    progress = run(
        config,
        folder,
        is_resumed=resume,
        validate=validator(config),
        devices=devices,
        accelerator=accelerator,
    )
    return EXIT_OK if progress.step == config.total_steps else EXIT_INTERRUPTED


def _with_data(config: TrainConfig, data_file: Path, folder: Path) -> TrainConfig:
    """Put a user's data in the place of a recipe's; the user's own keypoints are kept in the run's folder."""
    import yaml  # noqa: PLC0415

    from fleetpose.data.mixture import read_data  # noqa: PLC0415
    from fleetpose.skeletons import SKELETONS  # noqa: PLC0415
    from fleetpose.train.config import ValidationSet  # noqa: PLC0415

    data = read_data(data_file)
    skeleton = data.skeleton.name
    if SKELETONS.get(skeleton) != data.skeleton:
        path = folder / "skeleton.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(data.skeleton.to_dict(), sort_keys=False), encoding="utf-8")
        skeleton = str(path)
    validation = tuple(
        ValidationSet(name=one.name, annotations=one.annotations, images=one.images, every=one.every)
        for one in data.validation
    )
    return replace(config, sources=data.train, skeleton=skeleton, validation=validation)

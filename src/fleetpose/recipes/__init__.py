"""Recipes: one module per published or shipped result, with its command and what to expect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fleetpose.errors import ConfigError, UnknownNameError
from fleetpose.recipes import first_weights, top_down_first

if TYPE_CHECKING:
    from fleetpose.train.config import TrainConfig

#: Name of a recipe → its settings, given the folder of the training data.
RECIPES: dict[str, Callable[[Path], TrainConfig]] = {
    "first-weights": first_weights.recipe,
    "first-top-down": top_down_first.recipe,
}


def find_recipe(name: str, data: Path | None) -> TrainConfig:
    """Settings of the recipe called `name`, for the training data in the folder `data`.

    Raises:
        UnknownNameError: there is no such recipe.
        ConfigError: the folder is missing.
    """
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    if data is None or not data.is_dir():
        raise ConfigError(f"recipe {name} needs the folder of its data, got {data}; give it with --data")
    return RECIPES[name](data)

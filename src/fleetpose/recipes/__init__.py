"""Recipes: how to reproduce each published result, and how our own weights were made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fleetpose.errors import ConfigError, UnknownNameError
from fleetpose.recipes import (
    bottom_up,
    classification,
    efficienthrnet,
    efficientpose,
    first_weights,
    litepose,
    segmentation,
    top_down,
    top_down_first,
)
from fleetpose.recipes.contract import Recipe

if TYPE_CHECKING:
    from fleetpose.train.config import TrainConfig

__all__ = ["RECIPES", "Recipe", "find_recipe"]


def _by_name(*tables: dict[str, Recipe]) -> dict[str, Recipe]:
    joined: dict[str, Recipe] = {}
    for table in tables:
        twice = joined.keys() & table.keys()
        if twice:
            raise ConfigError(f"two recipes are called {min(twice)!r}; rename one")
        joined |= table
    return joined


#: Every recipe by its name.
RECIPES = _by_name(
    first_weights.RECIPES,
    top_down_first.RECIPES,
    classification.RECIPES,
    efficienthrnet.RECIPES,
    segmentation.RECIPES,
    efficientpose.RECIPES,
    litepose.RECIPES,
    top_down.RECIPES,
    bottom_up.RECIPES,
)


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
    return RECIPES[name].config(data)

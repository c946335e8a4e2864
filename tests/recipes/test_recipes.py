"""Recipes give settings for data in any folder, and a card says where weights come from."""

from pathlib import Path

import pytest

from fleetpose.errors import ConfigError, UnknownNameError
from fleetpose.models import MODELS
from fleetpose.recipes import RECIPES, find_recipe
from fleetpose.recipes.shipping import read_card
from fleetpose.settings import from_plain, to_plain
from fleetpose.train.config import TrainConfig


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_survives_being_written_to_a_file(name, tmp_path):
    config = find_recipe(name, tmp_path)

    assert from_plain(TrainConfig, to_plain(config)) == config
    assert config.model in MODELS


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_never_trains_on_what_it_is_judged_by(name, tmp_path):
    config = find_recipe(name, tmp_path)

    trained = {source.annotations: source.held_out_every for source in config.sources}
    for judged in config.validation:
        held_out = trained.get(judged.annotations)
        assert held_out is None or (held_out > 0 and judged.every % held_out == 0), judged.name


def test_an_unknown_recipe_offers_the_closest(tmp_path):
    with pytest.raises(UnknownNameError, match="first-weights"):
        find_recipe("first-weight", tmp_path)


@pytest.mark.parametrize("folder", [None, Path("no/such/folder")])
def test_a_recipe_without_its_data_says_how_to_give_it(folder):
    with pytest.raises(ConfigError, match="--data"):
        find_recipe("first-weights", folder)


def test_a_card_is_read_from_yaml(tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text(
        "licence: Apache-2.0\ndata: [drawn people]\ncommand: train\ncommit: abc\nhours: 2\n"
        "hardware: two cores\nmetrics: {coco_dev/AP: 1.5}\n"
    )

    card = read_card(path)

    assert card.data == ("drawn people",)
    assert card.hours == 2.0
    assert card.metrics == {"coco_dev/AP": 1.5}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("licence: MIT", "lacks data"),
        ("licenze: MIT", "licenze"),
        ("[1", "cannot read"),
        ("3", "must be a mapping"),
    ],
)
def test_a_card_that_lacks_something_is_refused_by_name(text, problem, tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=problem):
        read_card(path)

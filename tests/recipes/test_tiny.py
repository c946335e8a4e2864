"""Every recipe runs end to end at the smallest size: training, validation, checkpoints, export."""

from pathlib import Path

import cv2
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")

from fleetpose.recipes import RECIPES, find_recipe
from fleetpose.recipes.scores import depicter, validator
from fleetpose.recipes.shipping import UNKNOWN_CARD, export_checkpoint
from fleetpose.recipes.tiny import tiny
from fleetpose.train.checkpoint import load_checkpoint
from fleetpose.train.engine import train
from fleetpose.train.log import read_rows
from fleetpose.train.networks import build_network, save_new_weights, take_starting_weights

ROOT = Path(__file__).parents[2]
#: Recipes of networks too large for every run of the tests; smaller ones are trained in the same way.
LARGE = (
    *("efficienthrnet-h0", "efficienthrnet-h0-seg", "efficienthrnet-h0-seg-v2"),
    *("efficienthrnet-hm1", "efficienthrnet-hm2", "efficientpose-iii", "efficientpose-iv"),
    *("higherhrnet-w32", "higherhrnet-w48", "hrnet-w32", "hrnet-w48"),
    *("simplebaseline-r101", "simplebaseline-r152"),
)


def _make(config):
    """What decides of which kind a recipe's model file is."""
    return config.model, config.loss.presence > 0


def run(name, folder):
    """Train a recipe at the smallest size → its settings."""
    config = tiny(
        find_recipe(name, Path()), folder / "drawn", recipe=lambda other: find_recipe(other, Path())
    )
    train(config, folder, validate=validator(config), depict=depicter(config), accelerator="cpu")
    return config


def check(name, folder):
    """Train a recipe, and look at all that it leaves behind."""
    config = run(name, folder)

    state = load_checkpoint(folder / "last.pt")
    rows = read_rows(folder / "validation.csv")
    assert state["progress"]["step"] == 2
    assert state["card"]["data"]
    assert [row["step"] for row in rows] == ["2"]
    assert len(rows[0]) > 2
    if depicter(config) is not None:
        assert cv2.imread(str(folder / "samples/0000002.png")) is not None


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in sorted(RECIPES)]
)
def test_every_recipe_runs_at_the_smallest_size(name, tmp_path):
    check(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted({_make(find_recipe(name, Path())): name for name in RECIPES}.values())
)
def test_what_a_recipe_trained_becomes_a_model_file(name, tmp_path):
    pytest.importorskip("onnxscript")
    config = tiny(find_recipe(name, Path()), tmp_path, recipe=lambda other: find_recipe(other, Path()))
    if config.elastic is not None:
        pytest.skip("parts of a supernet are exported, not the whole")
    checkpoint = save_new_weights(config, tmp_path / "last.pt")

    export_checkpoint(checkpoint, tmp_path / "model.onnx", card=UNKNOWN_CARD)

    assert (tmp_path / "model.onnx").is_file()


@pytest.mark.slow
def test_a_network_begins_with_its_part_of_the_supernet(tmp_path):
    config = tiny(
        find_recipe("litepose-xs-crowdpose", Path()),
        tmp_path / "drawn",
        recipe=lambda other: find_recipe(other, Path()),
    )
    network = build_network(config)
    take_starting_weights(network, config)

    whole = load_checkpoint(config.init)["ema"]
    part = network.state_dict()
    for key, value in part.items():
        corner = tuple(slice(length) for length in value.shape)
        assert (whole[key][corner] == value).all(), key


def test_every_recipe_says_what_to_expect_and_what_was_left_open():
    for name, recipe in RECIPES.items():
        assert recipe.summary, name
        assert recipe.expected, name
        assert recipe.settled, name
        assert recipe.command(name) == f"fleetpose train {name} --data DIR"


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_that_begins_with_another_names_one_that_exists(name):
    config = find_recipe(name, Path())

    starts = [config.init, config.init_backbone, config.teacher and config.teacher.path]
    for path in filter(None, starts):
        if path.parts[0] == "checkpoints":
            assert (ROOT / path).is_file()
        else:
            assert path.parts[:2] == ("runs", "train")
            assert path.parent.name in RECIPES

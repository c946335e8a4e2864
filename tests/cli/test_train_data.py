"""`fleetpose train RECIPE --data my.yaml`: a user's data in the place of a recipe's."""

import pytest
import yaml

from fleetpose.train.config import read_config


@pytest.fixture
def trained(monkeypatch):
    """Stands in for the training itself; holds the settings and the folder that it was asked for."""
    asked = {}

    def train(config, folder, **options):
        asked.update(config=config, folder=folder, **options)
        return type("Progress", (), {"step": config.total_steps})

    monkeypatch.setattr("fleetpose.train.engine.train", train)
    for name in ("validator", "depicter"):
        monkeypatch.setattr(f"fleetpose.recipes.scores.{name}", lambda _: None)
    return asked


@pytest.fixture
def data_file(tmp_path):
    """Function that writes a data file with this skeleton → its path."""

    def write(skeleton):
        path = tmp_path / "mine" / "my.yaml"
        path.parent.mkdir()
        (path.parent / "b.json").touch()
        content = {
            "skeleton": skeleton,
            "train": [{"images": "images", "annotations": "a.json", "weight": 3}],
            "validation": [{"name": "mine", "images": "images", "annotations": "b.json", "every": 5}],
        }
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def test_a_data_file_takes_the_place_of_a_recipes_data(fleetpose_here, trained, data_file, tmp_path):
    code, _, err = fleetpose_here("train", "first-weights", "--data", data_file("lsp14"), "--set", "seed=5")

    config = trained["config"]
    (source,) = config.sources
    (validation,) = config.validation
    assert (code, err) == (0, "")
    assert source.annotations == tmp_path / "mine" / "a.json"
    assert source.weight == 3
    assert (validation.name, validation.every) == ("mine", 5)
    assert validation.annotations == tmp_path / "mine" / "b.json"
    assert (config.skeleton, config.seed, config.model) == ("lsp14", 5, "litepose-plain")


def test_keypoints_of_the_users_own_go_with_the_settings(fleetpose_here, trained, data_file, tmp_path):
    own = {"name": "tool", "keypoints": ["tip", "left_end", "right_end"], "sigmas": [0.1, 0.1, 0.1]}

    code, _, err = fleetpose_here("train", "first-weights", "--data", data_file(own), "--out", "run")

    assert (code, err) == (0, "")
    skeleton = trained["config"].skeleton
    assert skeleton.keypoints == ("tip", "left_end", "right_end")
    assert skeleton.flip_pairs == (("left_end", "right_end"),)
    assert not (tmp_path / "run").exists()  # the training itself opens it, once all is well


def test_a_data_file_replaces_the_data_of_ones_own_settings_too(fleetpose_here, trained, data_file, tmp_path):
    settings = {
        "model": "litepose-plain",
        "sources": [{"images": "elsewhere"}],
        "phases": [{"size": [64, 64], "batch": 2, "steps": 3}],
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(settings))

    fleetpose_here("train", "mine.yaml", "--data", data_file("coco17"))

    assert trained["config"].sources[0].weight == 3
    assert trained["config"].phases == read_config(tmp_path / "mine.yaml").phases
    assert trained["folder"].name == "mine"


def test_validation_that_somebody_named_must_be_there(fleetpose_here, trained, data_file, tmp_path):
    path = data_file("lsp14")
    (tmp_path / "mine" / "b.json").unlink()

    code, _, err = fleetpose_here("train", "first-weights", "--data", path)

    assert code == 2
    assert f"validation set mine of {path}: {tmp_path}/mine/b.json is missing" in err
    assert not trained


def test_a_data_file_that_is_not_there_is_named(fleetpose_here):
    code, _, err = fleetpose_here("train", "first-weights", "--data", "no.yaml")

    assert code == 2
    assert "no.yaml" in err
    assert err.count("\n") == 1

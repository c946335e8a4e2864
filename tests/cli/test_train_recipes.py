"""`fleetpose train --list` and `--scale tiny`."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")

from fleetpose.recipes import RECIPES


def test_the_list_names_every_recipe_with_what_to_expect(fleetpose_here):
    code, out, _ = fleetpose_here("train", "--list")

    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == list(RECIPES)
    assert any("35.7" in line for line in lines if line.startswith("efficienthrnet-hm4"))


def test_a_recipe_must_be_named(fleetpose_here):
    code, _, err = fleetpose_here("train")

    assert code == 2
    assert "--list" in err
    assert err.count("\n") == 1


def test_the_smallest_size_needs_no_data(fleetpose_here, tmp_path):
    code, _, err = fleetpose_here("train", "slimdeconv-b0", "--scale", "tiny", "--out", "run")

    assert code == 0, err
    assert {"last.pt", "config.yaml", "environment.yaml", "train.csv", "validation.csv"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }

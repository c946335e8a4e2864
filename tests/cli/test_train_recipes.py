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


def test_a_finished_run_is_no_interrupted_one_and_cannot_be_shortened(fleetpose_here, tmp_path):
    tiny = ("train", "slimdeconv-b0", "--scale", "tiny", "--out", "run")
    longer = ("--set", "phases.0.steps=3")
    assert fleetpose_here(*tiny, *longer)[0] == 0
    before = (tmp_path / "run" / "last.pt").read_bytes()

    finished, _, _ = fleetpose_here(*tiny, *longer, "--resume")
    shortened, _, err = fleetpose_here(*tiny, "--resume")

    assert finished == 0
    assert shortened == 2
    assert ", but the phases have 2 steps in all; give them at least" in err
    assert (tmp_path / "run" / "last.pt").read_bytes() == before
    assert not (tmp_path / "run" / "changes.yaml").exists()

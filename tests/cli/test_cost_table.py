"""`fleetpose models --table`: every network's cost beside its paper's figures."""

import json

import pytest

from fleetpose.models import MODELS
from fleetpose.models.published import cost_rows


@pytest.fixture
def few_networks(monkeypatch):
    """Let the table have three rows, because counting all networks takes a minute."""
    names = ("litepose-xs", "litepose-plain", "higherhrnet-c4")
    monkeypatch.setattr("fleetpose.models.published.MODELS", {name: MODELS[name] for name in names})


@pytest.mark.usefixtures("few_networks")
def test_the_table_sets_our_count_beside_the_papers(fleetpose_here):
    code, out, err = fleetpose_here("models", "--table")

    row = next(line for line in out.splitlines() if "litepose-xs" in line)
    assert (code, err) == (0, "")
    assert [cell.strip() for cell in row.strip("│┃").split("│")] == [
        *("litepose-xs", "256 x 256", "14", "1,675,552", "0.883 G"),
        *("1.676 M, 1.202 G", "1.7 M, 1.2 G", "ptflops"),
    ]
    assert "3,361,592" in out or "3,362,168" in out


@pytest.mark.usefixtures("few_networks")
def test_figures_that_nothing_gives_are_named(fleetpose_here):
    out = fleetpose_here("models", "--table")[1]

    assert "higherhrnet-c4 !" in out
    assert out.rstrip().endswith(
        "higherhrnet-c4: operations 9.148, not 9.2 (9.15 by the tool, which the paper rounds up)"
    )


@pytest.mark.usefixtures("few_networks")
def test_the_table_as_json_has_exact_figures(fleetpose_here):
    rows = {row["name"]: row for row in json.loads(fleetpose_here("models", "--table", "--json")[1])}

    assert rows["litepose-xs"]["params"] == 1_675_552
    assert rows["litepose-xs"]["macs"] == 882_892_800
    assert rows["litepose-xs"]["paper_operations_g"] == "1.2"
    assert rows["litepose-plain"]["counted_as"] is None
    assert rows["higherhrnet-c4"]["not_reproduced"] == ["higherhrnet-c4: operations 9.148, not 9.2"]


@pytest.mark.slow
def test_every_network_has_a_row():
    assert [row.name for row in cost_rows()] == list(MODELS)

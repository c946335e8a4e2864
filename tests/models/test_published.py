"""The papers' figures beside ours."""

import pytest

from fleetpose.errors import UnknownNameError
from fleetpose.models import MODELS
from fleetpose.models.published import PUBLISHED, Convention, cost_row, is_printed_as, why_not

#: One of each paper.
QUICK = {
    *("litepose-s", "efficienthrnet-hm3", "higherhrnet-c4", "efficientnet-bm4", "efficientpose-rt"),
    *("slimdeconv-b1", "simplebaseline-r50", "lightweight-openpose", "efficienthrnet-h0-seg-small"),
}


def test_every_published_name_can_be_built():
    assert PUBLISHED.keys() <= MODELS.keys()


@pytest.mark.parametrize(
    ("value", "printed", "agrees"),
    [
        (16.054, "16", True),
        (8.991, "8.9", True),  # cut off
        (8.991, "9.0", True),  # rounded
        (8.991, "8.99", True),
        (9.1477, "9.2", False),
        (0.397, "0.40", True),
        (16.1, "14.9", False),
    ],
)
def test_a_printed_figure_may_be_rounded_or_cut_off(value, printed, agrees):
    assert is_printed_as(value, printed) is agrees


def test_whatever_cannot_be_reproduced_is_explained():
    explained = {name for name in PUBLISHED if why_not(name)}

    assert explained.issuperset(UNEXPLAINED)
    assert why_not("litepose-xs") == ""


# Figures that no way of counting gives.
UNEXPLAINED = {
    "higherhrnet-w24": ["params"],
    "higherhrnet-c4": ["operations"],
    "efficienthrnet-h0-seg": ["params", "operations"],
    "efficienthrnet-h0-seg-v2": ["operations"],
    "efficienthrnet-h0-seg-small": ["params", "operations"],
    **{f"efficientpose-{size}": ["operations"] for size in ("rt", "i", "ii", "iii", "iv")},
    "efficientnet-bm2": ["operations"],
    "efficientnet-bm4": ["params"],
    **{f"efficientnet-b{number}": ["operations"] for number in range(1, 8)},
    "efficientnet-b2": ["params", "operations"],
    "slimdeconv-fpga": ["operations"],
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in sorted(PUBLISHED)]
)
def test_only_these_figures_cannot_be_reproduced(name):
    figures = [figure.split()[1] for figure in cost_row(name).not_reproduced]

    assert figures == UNEXPLAINED.get(name, [])


def test_a_network_without_a_paper_is_only_counted():
    row = cost_row("litepose-plain")

    assert row.true.params > 3_000_000
    assert row.published is None
    assert row.counted is None
    assert row.not_reproduced == ()


def test_the_papers_unit_of_operations_is_kept():
    row = cost_row("simplebaseline-r50")

    assert row.published.convention is Convention.HRNET_BINARY
    assert row.counted.operations / row.published.convention.giga == pytest.approx(8.991, abs=0.001)
    assert row.true.operations == 5_426_380_800


def test_an_unknown_name_is_answered_with_close_ones():
    with pytest.raises(UnknownNameError, match="did you mean litepose-xs"):
        cost_row("litepose-xss")

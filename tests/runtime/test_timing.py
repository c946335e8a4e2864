import time

import pytest

from fleetpose.runtime.timing import StepTotals, Stopwatch


def test_a_step_lasts_from_the_last_lap_and_adds_up():
    watch = Stopwatch()
    time.sleep(0.02)
    watch.lap("slow")
    watch.lap("quick")
    time.sleep(0.02)
    watch.lap("slow")

    assert list(watch.steps_ms) == ["slow", "quick"]
    assert 40 <= watch.steps_ms["slow"] < 400
    assert watch.steps_ms["quick"] < 20


def test_means_run_over_all_pictures_also_those_without_the_step():
    totals = StepTotals()
    totals.add({"network": 4.0, "draw": 1.0})
    totals.add({"network": 8.0})

    assert totals.count == 2
    assert totals.means_ms() == pytest.approx({"network": 6.0, "draw": 0.5})


def test_no_picture_has_no_means():
    assert StepTotals().means_ms() == {}

import importlib
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def paired_studies(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("paired_studies")


def _row(arm, seed, *, scale=1.0, **scores):
    return {"study": "sleep", "arm": arm, "seed": seed, "scale": scale, **scores}


def test_the_interval_is_that_of_students_paired_test(paired_studies):
    differences = [0.5, 1.5, 2.0, 4.0]

    mean, half = paired_studies.paired_interval(differences)

    # 3.182 is the 97.5 % quantile of t with 3 degrees of freedom; deviation and root of 4 by hand.
    assert mean == 2.0
    assert half == pytest.approx(3.1824 * (6.5 / 3) ** 0.5 / 2, rel=1e-4)


def test_a_single_pair_says_nothing_about_the_spread(paired_studies):
    assert paired_studies.paired_interval([3.0]) == (3.0, np.inf)


def test_a_stopped_study_makes_only_the_runs_that_are_missing(paired_studies, tmp_path):
    path = tmp_path / "results.json"
    first = paired_studies.Results(path)
    first.add(_row("less", 0))
    first.add(_row("more", 0))
    first.add(_row("less", 1))
    first.add(_row("more", 1, scale=0.5))

    resumed = paired_studies.Results(path)
    missing = list(paired_studies.missing_runs(resumed, "sleep", ["less", "more"], seeds=3, scale=1.0))

    assert missing == [("more", 1), ("less", 2), ("more", 2)]
    assert list(tmp_path.iterdir()) == [path]


def test_the_table_takes_differences_within_pairs(paired_studies, tmp_path):
    results = paired_studies.Results(tmp_path / "results.json")
    for seed, (less, more) in enumerate([(10.0, 11.0), (20.0, 22.0), (30.0, 33.0)]):
        # The second arm first: the order of the file does not matter.
        for arm, value in (("more", more), ("less", less)):
            results.add(_row(arm, seed, **dict.fromkeys(paired_studies.METRICS, value)))

    rows = list(paired_studies.table(results, "sleep", ["less", "more"], seeds=3, scale=1.0))

    assert len(rows) == len(paired_studies.METRICS)
    assert rows[0] == "| sleep | loss | 20.000 | 22.000 | +1.000, +2.000, +3.000 | +2.000 ± 2.484 |"


def test_a_half_made_pair_is_left_out_of_the_table(paired_studies, tmp_path):
    results = paired_studies.Results(tmp_path / "results.json")
    for arm, seed, value in (("less", 0, 1.0), ("less", 1, 5.0), ("more", 1, 7.0)):
        results.add(_row(arm, seed, **dict.fromkeys(paired_studies.METRICS, value)))

    rows = list(paired_studies.table(results, "sleep", ["less", "more"], seeds=2, scale=1.0))

    assert rows[0] == "| sleep | loss | 5.000 | 7.000 | +2.000 | +2.000 ± inf |"


def test_the_table_of_a_study_without_a_whole_pair_is_empty(paired_studies, tmp_path):
    results = paired_studies.Results(tmp_path / "results.json")
    results.add(_row("less", 0, **dict.fromkeys(paired_studies.METRICS, 1.0)))

    assert list(paired_studies.table(results, "sleep", ["less", "more"], seeds=3, scale=1.0)) == []


def test_errors_are_counted_in_torsos_and_only_where_there_are_labels(paired_studies):
    person = np.zeros((17, 3))
    person[[5, 12, 9]] = [(0, 0, 2), (30, 40, 2), (100, 100, 1)]  # a torso of 50 pixels, one wrist
    found = person[:, :2] + (5, 0)

    errors = paired_studies.limb_errors(found, person[None])

    np.testing.assert_allclose(errors, [0.1, 0.1, 0.1])
    person[12, 2] = 0
    assert paired_studies.limb_errors(found, person[None]).size == 0


def test_the_highest_cell_is_found_in_pixels(paired_studies):
    maps = np.zeros((1, 2, 4, 6))
    maps[0, 0, 1, 5] = maps[0, 1, 3, 0] = 1

    found = paired_studies.highest_pixels(maps, stride=4)

    np.testing.assert_allclose(found, [[[21.5, 5.5], [1.5, 13.5]]])


def test_arms_of_a_pair_differ_in_one_thing_only(paired_studies, tmp_path):
    differing = {"distillation": {"teacher"}, "supernet": {"model", "elastic"}, "cross-resolution": {"model"}}

    for name, study in paired_studies.studies(tmp_path, tmp_path / "teacher.onnx", scale=1.0).items():
        plain, changed = (make(7, tmp_path) for make in study.arms.values())

        assert [first.phases for first in plain] == [second.phases for second in changed]
        for first, second in zip(plain[:1], changed[:1], strict=True):
            fields = type(first).__dataclass_fields__
            assert {key for key in fields if getattr(first, key) != getattr(second, key)} == differing[name]
        assert plain[1:] == changed[1:]

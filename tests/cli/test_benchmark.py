import csv

import pytest

from fleetpose.media.images import read_image
from fleetpose.runtime.machine import processor


@pytest.fixture
def measure(fleetpose_here, dots_model, photo):
    """Function that measures the fake network on a picture, three times."""

    def run(*arguments):
        return fleetpose_here(
            *("benchmark", "-m", dots_model, "--runtime", "onnx", "--source", photo, "--frames", 3),
            *arguments,
        )

    return run


def test_a_table_a_file_and_a_plot(measure, tmp_path):
    code, out, err = measure("--threads", 1)

    folder = tmp_path / "runs" / "benchmark" / "photo"
    assert (code, err) == (0, "")
    assert processor() in out
    assert "threads per network: 1" in out
    assert "| dots onnx |" in out
    assert (folder / "benchmark.md").read_text() in out
    with (folder / "benchmark.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["network"]) > 0
    assert row["AP"] == "12.34"
    assert read_image(folder / "pareto.png").ndim == 3


def test_the_one_that_fits_the_budget_is_named(measure):
    code, out, _ = measure("--budget-ms", 100000)

    assert code == 0
    assert "within 100000 ms: dots onnx" in out


def test_a_budget_that_none_fits_is_an_exit_code(measure):
    code, out, _ = measure("--budget-ms", 0.001)

    assert code == 1
    assert "none fits 0.001 ms; the fastest, dots onnx" in out


def test_an_unknown_runtime_is_told_in_one_line(fleetpose_here, dots_model):
    code, _, err = fleetpose_here("benchmark", "-m", dots_model, "--runtime", "onyx")

    assert code == 2
    assert "unknown runtime 'onyx'; did you mean onnx" in err
    assert err.count("\n") == 1

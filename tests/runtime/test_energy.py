import pytest

from fleetpose.runtime.energy import EnergyMeter


@pytest.fixture
def counters(tmp_path):
    """Function that sets the counters of two processors and a part of the first, in microjoules."""

    def write(first, second, part=10**9):
        for name, value in (("intel-rapl:0", first), ("intel-rapl:1", second), ("intel-rapl:0:0", part)):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "energy_uj").write_text(f"{value}\n")
            (tmp_path / name / "max_energy_range_uj").write_text("9000000\n")
        return tmp_path

    return write


def test_energy_is_the_sum_over_processors_since_the_last_call(counters):
    meter = EnergyMeter(counters(1_000_000, 2_000_000))
    counters(3_500_000, 2_000_000, part=2 * 10**9)

    assert meter.is_readable
    assert meter.joules() == pytest.approx(2.5)
    assert meter.joules() == 0


def test_a_counter_that_starts_over_loses_nothing(counters):
    meter = EnergyMeter(counters(8_000_000, 0))
    counters(500_000, 0)

    assert meter.joules() == pytest.approx(1.5)


def test_a_machine_without_counters_says_so(tmp_path):
    meter = EnergyMeter(tmp_path)

    assert not meter.is_readable
    assert meter.joules() == 0

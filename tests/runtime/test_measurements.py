import pytest

from fleetpose.runtime import measurements
from fleetpose.runtime.measurements import read_measurements, write_measurements


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLEETPOSE_CACHE", str(tmp_path / "cache"))


def test_new_measurements_join_the_old():
    write_measurements("speeds", {"a": 1.0})
    write_measurements("speeds", {"b": {"x": 2}})

    assert read_measurements("speeds") == {"a": 1.0, "b": {"x": 2}}
    assert read_measurements("others") == {}


def test_the_oldest_go_first(monkeypatch):
    monkeypatch.setattr(measurements, "MAX_KEPT", 2)

    for name in "abc":
        write_measurements("speeds", {name: 1})

    assert list(read_measurements("speeds")) == ["b", "c"]


def test_nothing_new_writes_nothing(tmp_path):
    write_measurements("speeds", {})

    assert not (tmp_path / "cache").exists()

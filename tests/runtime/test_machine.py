from pathlib import Path

from fleetpose.runtime.machine import cache_folder, processor, usable_cores


def test_the_machine_has_a_name_and_cores():
    assert processor()
    assert usable_cores() >= 1


def test_the_cache_goes_where_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("FLEETPOSE_CACHE", str(tmp_path))

    assert cache_folder() == tmp_path


def test_the_cache_goes_into_the_users_folder_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("FLEETPOSE_CACHE")
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path))

    folder = cache_folder()

    assert folder.name == "fleetpose"
    assert folder.parent in {tmp_path, Path.home() / "Library" / "Caches"}

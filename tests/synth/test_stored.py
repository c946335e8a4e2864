import logging
import pickle

import numpy as np
import pytest

from fleetpose.synth.assets import AssetFolder, Item
from fleetpose.synth.config import SynthConfig
from fleetpose.synth.generate import make_picture
from fleetpose.synth.library import Library
from fleetpose.synth.stored import KEPT, read_stored, write_stored


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit",)


def test_arrays_come_back_mapped_writable_and_apart_from_the_file(tmp_path):
    value = {"a": np.arange(7, dtype=np.float32), "b": [np.full((3, 5), 9, np.uint8)], "c": tmp_path}

    write_stored(tmp_path / "x-1.bin", value)
    first, second = read_stored(tmp_path / "x-1.bin"), read_stored(tmp_path / "x-1.bin")

    first["a"][0] = 50
    assert first["c"] == tmp_path
    np.testing.assert_array_equal(second["a"], value["a"])
    np.testing.assert_array_equal(second["b"][0], value["b"][0])
    assert second["a"].flags.aligned
    assert not second["a"].flags.owndata


@pytest.mark.parametrize("keep", [0, 10, 60, -40])
def test_a_cut_file_counts_as_none(tmp_path, keep):
    path = tmp_path / "x-1.bin"
    write_stored(path, {"a": np.arange(100.0)})
    path.write_bytes(path.read_bytes()[:keep])

    assert read_stored(path) is None


def test_a_missing_file_counts_as_none(tmp_path):
    assert read_stored(tmp_path / "x-1.bin") is None


def test_a_file_that_would_run_code_is_not_taken(tmp_path, caplog):
    write_stored(tmp_path / "x-1.bin", Evil())

    assert read_stored(tmp_path / "x-1.bin") is None
    assert "exec is no data of this package" in caplog.text


def test_a_place_that_cannot_be_written_costs_only_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("")

    with caplog.at_level(logging.WARNING):
        write_stored(tmp_path / "file" / "x-1.bin", 1)

    assert "cannot keep" in caplog.text


def test_only_the_newest_files_stay(tmp_path):
    for number in range(KEPT + 2):
        write_stored(tmp_path / f"x-{number}.bin", number)
    (tmp_path / "y-0.bin").write_bytes(b"")

    assert len(list(tmp_path.glob("x-*.bin"))) == KEPT
    assert read_stored(tmp_path / f"x-{KEPT + 1}.bin") == KEPT + 1
    assert (tmp_path / "y-0.bin").exists()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FLEETPOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Library, "prepare", lambda _: None)
    root = tmp_path / "assets"
    root.mkdir()
    (root / "thing").write_text("1")
    (root / "CHECKSUMS.sha256").write_text(f"{'0' * 64}  thing\n")
    for name, content in (("hdri/index.json", "[]"), ("textures/swatches/index.json", "{}")):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(content)
    return root


def test_a_library_is_kept_and_mapped_the_next_time(folder, monkeypatch):
    first = Library.open(assets=folder)
    monkeypatch.setattr(Library, "__init__", lambda *_, **__: pytest.fail("made anew"))

    again, sent = Library.open(assets=folder), pickle.loads(pickle.dumps(first))  # noqa: S301 - our own

    assert isinstance(again.assets, AssetFolder)
    np.testing.assert_array_equal(again.atlas.texels, first.atlas.texels)
    np.testing.assert_array_equal(sent.scalp, first.scalp)
    assert len(pickle.dumps(first)) < 1000


def test_a_changed_asset_is_read_anew(folder, monkeypatch):
    Library.open(assets=folder)
    (folder / "thing").write_text("22")
    made = []
    real = Library.__init__
    monkeypatch.setattr(
        Library, "__init__", lambda self, **settings: (made.append(1), real(self, **settings))[1]
    )

    Library.open(assets=folder)

    assert made == [1]


def test_stored_libraries_draw_the_same_pictures(folder):
    config = SynthConfig(size=(64, 64), people=(1, 1), mean_people=1, scenes=("street",))
    fresh = Library(assets=AssetFolder(folder), anny=None)
    Library.open(assets=folder)

    stored = Library.open(assets=folder)

    np.testing.assert_array_equal(make_picture(stored, config, 3).image, make_picture(fresh, config, 3).image)


def test_wearables_survive_being_stored(tmp_path):
    item = Item("hat", "hat", *(np.full((2, 3), k) for k in range(10)), textures={"diffuse": "a.webp"})

    write_stored(tmp_path / "x-1.bin", item)

    back = read_stored(tmp_path / "x-1.bin")
    assert back.textures == {"diffuse": "a.webp"}
    np.testing.assert_array_equal(back.hides, item.hides)

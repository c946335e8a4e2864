import json

import cv2
import numpy as np
import pytest

from fleetpose.cli import main

SMALL = ["--size", "96x128", "--people", "1-2", "--mean-people", "1.5"]


@pytest.fixture(autouse=True)
def no_remembered_assets(monkeypatch, tmp_path):
    monkeypatch.delenv("FLEETPOSE_ASSETS", raising=False)
    monkeypatch.setenv("FLEETPOSE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def no_anny(monkeypatch):
    """The built-in body, whether or not the package is installed."""
    monkeypatch.setattr("fleetpose.synth.library.find_anny", lambda given: given)


def test_a_data_set_is_drawn_shown_and_described(tmp_path, capsys):
    out = tmp_path / "set"

    assert main(["synth", "dataset", str(out), "--count", "4", "--shard-size", "2", *SMALL]) == 0

    annotations = out / "person_keypoints_train.json"
    assert len(json.loads(annotations.read_text())["images"]) == 4
    told = capsys.readouterr().out
    assert "4 pictures in" in told
    assert "bodies are made of capsules" in told
    assert main(["synth", "stats", str(annotations)]) == 0
    assert "people per picture" in capsys.readouterr().out
    sheet = tmp_path / "sheet.png"
    assert (
        main(
            [
                "data",
                "show",
                str(annotations),
                "--out",
                str(sheet),
                "--count",
                "3",
                "--columns",
                "2",
                "--tile",
                "64",
            ]
        )
        == 0
    )
    assert cv2.imread(str(sheet)).shape == (128, 128, 3)


def test_one_picture_is_drawn_into_a_file(tmp_path, capsys):
    assert (
        main(["synth", "picture", str(tmp_path / "a.png"), "--seed", "3", *SMALL, "--supersample", "1"]) == 0
    )

    assert cv2.imread(str(tmp_path / "a.png")).shape == (96, 128, 3)
    assert "seed 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "count must be between 1"),
        (["--count", "4", "--size", "tall"], "--size must look like"),
        (["--count", "4", "--people", "9-2"], "people must be"),
        (["--count", "4", "--assets", "nowhere"], "asset folder nowhere does not exist"),
        (["--count", "4", "--backgrounds", "nowhere"], "background folder nowhere does not exist"),
        (["--count", "4", "--workers", "0"], "workers must be"),
    ],
)
def test_wrong_settings_are_told_in_one_line(tmp_path, capsys, arguments, message):
    assert main(["synth", "dataset", str(tmp_path / "out"), *arguments]) == 2

    complaint = capsys.readouterr().err.strip().splitlines()
    assert len(complaint) == 1
    assert message in complaint[0]


def test_a_checked_asset_folder_is_remembered_and_a_damaged_one_is_not(tmp_path, capsys):
    from fleetpose.synth.assets import remembered_folder

    folder = tmp_path / "pack"
    folder.mkdir()
    (folder / "CHECKSUMS.sha256").write_text(f"{'0' * 64}  a.bin\n")

    assert main(["synth", "assets", str(folder)]) == 1
    assert "a.bin: missing" in capsys.readouterr().err
    assert remembered_folder() is None
    (folder / "CHECKSUMS.sha256").write_text("")
    assert main(["synth", "assets", str(folder)]) == 0
    assert remembered_folder() == folder


def test_labels_land_where_they_belong_on_a_sheet(tmp_path):
    from fleetpose.data.sheet import draw_sheet
    from fleetpose.skeletons import COCO

    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((100, 200, 3), np.uint8))
    keypoints = [0] * 51
    keypoints[:3] = [150, 50, 2]
    (tmp_path / "a.json").write_text(json.dumps({
        "images": [{"id": 1, "file_name": "a.png", "height": 100, "width": 200}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": keypoints,
                         "bbox": [140, 40, 20, 20]}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}],
    }))  # fmt: skip

    sheet = draw_sheet(tmp_path / "a.json", tmp_path, skeleton=COCO, count=1, tile=100)

    ys, xs = np.nonzero(sheet.any(axis=2))
    assert sheet[25, 75].any()  # the keypoint at half the size
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == pytest.approx((70, 80, 20, 30), abs=1)

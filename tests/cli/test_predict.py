import csv
import json
import signal
import time

import av
import numpy as np
import pytest

from fleetpose.media.images import read_image, write_image
from fleetpose.media.video import VideoWriter


def _load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_picture_gives_an_annotated_picture_and_its_keypoints(
    fleetpose_here, tmp_path, photo, dots_model, stick_person
):
    code, out, err = fleetpose_here("predict", photo, "-m", dots_model)

    folder = tmp_path / "runs" / "predict" / "photo"
    assert (code, err) == (0, "")
    assert "1 picture, 1 person: runs/predict/photo" in out
    assert "pictures/s" in out
    assert _names(folder) == ["images.coco.json", "keypoints.csv", "photo.jpg", "predictions.coco.json"]
    (row,) = _load(folder / "predictions.coco.json")
    assert row["keypoints"][0:2] == pytest.approx(stick_person[0].tolist(), abs=0.5)
    with (folder / "keypoints.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 17
    assert (read_image(folder / "photo.jpg") != read_image(photo)).any()


def test_a_video_gives_a_video_that_browsers_play(fleetpose_here, tmp_path, make_clip, dots_model):
    clip = make_clip(tmp_path / "clip.mp4", 5)

    code, out, _ = fleetpose_here("predict", clip, "-m", dots_model)

    folder = tmp_path / "runs" / "predict" / "clip"
    assert code == 0
    assert "5 frames, 5 people: runs/predict/clip" in out
    with av.open(str(folder / "clip.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].frames == 5
    assert [image["frame"] for image in _load(folder / "images.coco.json")] == [0, 1, 2, 3, 4]


def test_the_run_of_a_folder_is_called_as_the_folder(
    fleetpose_here, tmp_path, photo, dots_model, monkeypatch
):
    (tmp_path / "album").mkdir()
    photo.rename(tmp_path / "album" / "a.png")
    fleetpose_here("predict", "album/", "-m", dots_model)
    monkeypatch.chdir(tmp_path / "album")

    out = fleetpose_here("predict", ".", "-m", dots_model)[1]

    assert (tmp_path / "runs" / "predict" / "album" / "a.jpg").exists()
    assert "runs/predict/album" in out


def test_nothing_is_ever_overwritten(fleetpose_here, tmp_path, photo, dots_model):
    for _ in range(3):
        fleetpose_here("predict", photo, "-m", dots_model, "--save", "csv")
        fleetpose_here("predict", photo, "-m", dots_model, "--save", "csv", "--out", "mine")

    assert _names(tmp_path / "runs" / "predict") == ["photo", "photo-2", "photo-3"]
    assert _names(tmp_path / "mine") == _names(tmp_path / "mine-3") == ["keypoints.csv"]


@pytest.mark.parametrize(
    ("save", "expected"),
    [
        ("json", ["results.json"]),
        ("openpose", ["openpose"]),
        ("image, csv", ["keypoints.csv", "photo.jpg"]),
        ("video", []),
    ],
)
@pytest.mark.usefixtures("photo")
def test_only_what_is_asked_for_is_saved(fleetpose_here, tmp_path, dots_model, save, expected):
    fleetpose_here("predict", "photo.png", "-m", dots_model, "--save", save, "--out", "mine")

    assert _names(tmp_path / "mine") == expected


def test_a_folder_with_a_bad_file_yields_all_others_and_names_it(
    fleetpose_here, tmp_path, photo, make_clip, dots_model
):
    folder = tmp_path / "album"
    folder.mkdir()
    photo.rename(folder / "a.png")
    (folder / "b.jpg").write_bytes(b"no picture")
    make_clip(folder / "c.mp4", 2)
    write_image(folder / "d.png", read_image(folder / "a.png"))

    code, out, err = fleetpose_here("predict", folder, "-m", dots_model, "--out", "mine")

    assert code == 1
    assert err.count("\n") == 1
    assert "b.jpg" in err
    assert "2 pictures, 2 frames, 4 people" in out
    assert {"a.jpg", "c.mp4", "d.jpg"} <= set(_names(tmp_path / "mine"))


def test_a_missing_file_among_others_is_named_and_the_others_done(fleetpose_here, photo, dots_model):
    code, out, err = fleetpose_here("predict", "nothing.jpg", photo, "-m", dots_model)

    assert code == 1
    assert "1 picture, 1 person" in out
    assert err == "error: cannot read nothing.jpg: no such file or folder\n"


def test_nothing_to_be_found_makes_no_folder(fleetpose_here, tmp_path, dots_model):
    code, out, err = fleetpose_here("predict", "nothing.jpg", "-m", dots_model)

    assert (code, out) == (1, "")
    assert err == "error: cannot read nothing.jpg: no such file or folder\n"
    assert list(tmp_path.iterdir()) == []


def test_a_pattern_is_expanded_and_each_file_taken_once(fleetpose_here, photo, dots_model):
    assert "1 picture," in fleetpose_here("predict", "*.png", photo.name, "-m", dots_model)[1]


def test_a_video_that_ends_in_the_middle_is_kept_and_reported(
    fleetpose_here, tmp_path, make_clip, dots_model
):
    clip = make_clip(tmp_path / "clip.mp4", 30)
    with av.open(str(clip)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.size]
    clip.write_bytes(clip.read_bytes()[: positions[20]])

    code, _, err = fleetpose_here("predict", clip, "-m", dots_model, "--out", "mine")

    assert code == 1
    assert err.count("\n") == 1
    assert "clip.mp4 is damaged" in err
    written = len(_load(tmp_path / "mine" / "images.coco.json"))
    assert 5 < written < 30
    with av.open(str(tmp_path / "mine" / "clip.mp4")) as container:
        assert container.streams.video[0].frames == written


def test_an_unknown_model_is_answered_with_close_matches(fleetpose_here, photo, dots_model, monkeypatch):
    monkeypatch.setattr("fleetpose.weights.FOLDER", dots_model.parent)

    code, _, err = fleetpose_here("predict", photo, "-m", "dotz")

    assert (code, err) == (2, "error: unknown model 'dotz'; did you mean dots?\n")


def test_an_unknown_format_is_refused_before_any_work(fleetpose_here, tmp_path, photo, dots_model):
    code, _, err = fleetpose_here("predict", photo, "-m", dots_model, "--save", "image,vidio")

    assert code == 2
    assert "did you mean video" in err
    assert not (tmp_path / "runs").exists()


def test_an_unwritable_folder_is_told_in_one_line(fleetpose_here, tmp_path, photo, dots_model):
    (tmp_path / "file").touch()

    code, out, err = fleetpose_here("predict", photo, "-m", dots_model, "--out", "file/mine")

    assert (code, out) == (2, "")
    assert err == "error: cannot write into file/mine: Not a directory; choose another folder with --out\n"


def test_a_video_can_be_stopped_after_some_frames(fleetpose_here, tmp_path, make_clip, dots_model):
    clip = make_clip(tmp_path / "clip.mp4", 9)

    code, out, err = fleetpose_here("predict", clip, "-m", dots_model, "--max-frames", "4")

    assert (code, err) == (0, "")
    assert "4 frames" in out


def test_boxes_are_drawn_when_asked_for(fleetpose_here, tmp_path, photo, dots_model):
    for name, options in (("plain", []), ("boxed", ["--draw-boxes"])):
        fleetpose_here("predict", photo, "-m", dots_model, "--save", "image", "--out", name, *options)

    plain, boxed = (read_image(tmp_path / name / "photo.jpg") for name in ("plain", "boxed"))
    assert (plain != boxed).any()


def test_the_threshold_reaches_the_model(fleetpose_here, photo, dots_model):
    assert ", 0 people" in fleetpose_here("predict", photo, "-m", dots_model, "--threshold", "0.99")[1]


@pytest.mark.parametrize(
    ("number", "ending"),
    [(signal.SIGINT, (130, "error: interrupted\n")), (signal.SIGTERM, (143, "error: terminated\n"))],
)
def test_interrupted_work_leaves_complete_files(start_fleetpose, tmp_path, dots_model, number, ending):
    with VideoWriter(tmp_path / "clip.mp4") as writer:  # small frames, which are quick to write
        for _ in range(6000):
            writer.add(np.zeros((32, 32, 3), np.uint8))
    process = start_fleetpose("predict", "clip.mp4", "-m", dots_model, "--out", "mine", "--threads", 1)
    deadline = time.monotonic() + 60
    while not (tmp_path / "mine" / "clip.mp4").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)

    process.send_signal(number)
    out, err = process.communicate(timeout=60)

    assert (process.returncode, err) == ending
    frames = len(_load(tmp_path / "mine" / "images.coco.json"))
    assert 0 < frames < 6000
    assert "frames" in out
    with av.open(str(tmp_path / "mine" / "clip.mp4")) as container:
        assert abs(container.streams.video[0].frames - frames) <= 1

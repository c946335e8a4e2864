import csv
import json

import numpy as np
import pytest

from fleetpose.draw import LEFT_COLOR
from fleetpose.errors import ConfigError, UnknownNameError
from fleetpose.media.images import read_image
from fleetpose.media.sources import Source, SourceKind
from fleetpose.media.video import Frame, VideoReader
from fleetpose.results import TABLE_COLUMNS, PoseResult
from fleetpose.runtime.recording import FORMATS, Recorder, ensure_folder, new_folder
from fleetpose.skeletons import COCO

SIZE = (60, 80)


def _picture(name):
    return Source(SourceKind.IMAGE, name)


def _result(people=1, *, index=0, source="a.jpg"):
    keypoints = np.zeros((people, 17, 3), np.float32)
    keypoints[:, 5] = (10, 20, 0.9)
    keypoints[:, 7] = (70, 20, 0.8)
    return PoseResult(
        keypoints=keypoints,
        boxes=np.tile(np.array([9, 19, 71, 21], np.float32), (people, 1)),
        scores=np.full(people, 0.5, np.float32),
        image_size=SIZE,
        skeleton=COCO,
        frame_index=index,
        timestamp_s=index / 10,
        source=source,
    )


def _frame(index=0):
    return Frame(np.zeros((*SIZE, 3), np.uint8), index, index / 10)


def _load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_picture_is_written_with_its_people_drawn(tmp_path):
    with Recorder(tmp_path, formats=["image"]) as recorder:
        recorder.add(_picture("x/a.png"), _frame(), _result())

    drawn = read_image(tmp_path / "a.jpg")
    assert drawn.shape == (*SIZE, 3)
    assert drawn[20, 40].tolist() == pytest.approx(LEFT_COLOR, abs=80)
    assert drawn[50].max() < 30


def test_each_video_becomes_one_video_with_its_times(tmp_path):
    with Recorder(tmp_path, formats=["image", "video"]) as recorder:
        for name, count in (("a.mp4", 3), ("b.mp4", 2)):
            for index in range(count):
                recorder.add(Source(SourceKind.VIDEO, name), _frame(index), _result(index=index), fps=10)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
    frames = list(VideoReader(tmp_path / "a.mp4"))
    assert [frame.timestamp_s for frame in frames] == pytest.approx([0, 0.1, 0.2])
    assert frames[2].image[20, 40].max() > 100
    assert len(list(VideoReader(tmp_path / "b.mp4"))) == 2


def test_coco_results_hold_one_row_per_person_and_name_their_pictures(tmp_path):
    with Recorder(tmp_path, formats=["coco"]) as recorder:
        for name, people in (("a.jpg", 2), ("b.jpg", 0), ("c.jpg", 1)):
            recorder.add(_picture(name), _frame(), _result(people))

    rows, images = _load(tmp_path / "predictions.coco.json"), _load(tmp_path / "images.coco.json")
    assert [row["image_id"] for row in rows] == [1, 1, 3]
    assert rows[0]["category_id"] == 1
    assert rows[0]["score"] == 0.5
    assert len(rows[0]["keypoints"]) == 51
    assert rows[0]["keypoints"][15:18] == [10, 20, 0.9]
    assert [(image["id"], image["file_name"]) for image in images] == [
        (1, "a.jpg"),
        (2, "b.jpg"),
        (3, "c.jpg"),
    ]
    assert (images[0]["width"], images[0]["height"]) == (80, 60)


def test_pictures_called_by_numbers_keep_them_as_coco_ids(tmp_path):
    sources = [_picture("000000000139.jpg"), _picture("000000000285.jpg")]

    with Recorder(tmp_path, formats=["coco"], sources=sources) as recorder:
        for source in sources:
            recorder.add(source, _frame(), _result())

    assert [row["image_id"] for row in _load(tmp_path / "predictions.coco.json")] == [139, 285]


@pytest.mark.parametrize("others", [["b.jpg"], ["x/7.jpg"]])
def test_pictures_are_counted_when_their_names_are_no_ids(tmp_path, others):
    sources = [_picture("7.jpg"), *(_picture(name) for name in others)]

    with Recorder(tmp_path, formats=["coco"], sources=sources) as recorder:
        for source in sources:
            recorder.add(source, _frame(), _result())

    assert [row["image_id"] for row in _load(tmp_path / "predictions.coco.json")] == [1, 2]


def test_a_frame_of_a_video_has_an_id_and_its_time(tmp_path):
    with Recorder(tmp_path, formats=["coco"]) as recorder:
        for index in range(2):
            recorder.add(Source(SourceKind.VIDEO, "a.mp4"), _frame(index), _result(index=index), fps=10)

    assert _load(tmp_path / "images.coco.json")[1] == {
        "id": 2,
        "file_name": "a.mp4",
        "width": 80,
        "height": 60,
        "frame": 1,
        "time_s": 0.1,
    }


def test_the_table_has_a_row_per_found_keypoint(tmp_path):
    with Recorder(tmp_path, formats=["csv"]) as recorder:
        recorder.add(_picture("a.jpg"), _frame(), _result(2))

    with (tmp_path / "keypoints.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == TABLE_COLUMNS
    assert [(row["person"], row["keypoint"], row["x"]) for row in rows] == [
        ("0", "left_shoulder", "10.0"),
        ("0", "left_elbow", "70.0"),
        ("1", "left_shoulder", "10.0"),
        ("1", "left_elbow", "70.0"),
    ]


def test_json_names_keypoints_and_leaves_out_what_was_not_found(tmp_path):
    with Recorder(tmp_path, formats=["json"]) as recorder:
        recorder.add(_picture("a.jpg"), _frame(), _result())

    (entry,) = _load(tmp_path / "results.json")
    assert entry["source"] == "a.jpg"
    assert entry["image_size"] == [60, 80]
    assert entry["people"] == [
        {
            "score": 0.5,
            "box": [9, 19, 71, 21],
            "keypoints": {"left_shoulder": [10, 20, 0.9], "left_elbow": [70, 20, 0.8]},
        }
    ]


def test_openpose_files_stand_one_per_picture_and_frame(tmp_path):
    with Recorder(tmp_path, formats=["openpose"]) as recorder:
        recorder.add(_picture("a.jpg"), _frame(), _result())
        recorder.add(Source(SourceKind.VIDEO, "b.mp4"), _frame(7), _result(index=7), fps=10)

    names = sorted(path.name for path in (tmp_path / "openpose").iterdir())
    assert names == ["a_keypoints.json", "b_000000000007_keypoints.json"]
    (person,) = _load(tmp_path / "openpose" / names[0])["people"]
    assert person["pose_keypoints_2d"][15:18] == [10, 20, 0.9]


def test_sources_of_one_name_do_not_overwrite_each_other(tmp_path):
    with Recorder(tmp_path, formats=["image"]) as recorder:
        for folder in ("x", "y", "z"):
            recorder.add(_picture(f"{folder}/a.jpg"), _frame(), _result())

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-2.jpg", "a-3.jpg", "a.jpg"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError])
def test_all_files_are_complete_when_work_is_interrupted(tmp_path, interruption):
    def record_and_stop():
        with Recorder(tmp_path, formats=FORMATS) as recorder:
            for index in range(3):
                recorder.add(Source(SourceKind.VIDEO, "a.mp4"), _frame(index), _result(index=index), fps=10)
            raise interruption

    with pytest.raises(interruption):
        record_and_stop()

    assert len(_load(tmp_path / "predictions.coco.json")) == 3
    assert len(_load(tmp_path / "results.json")) == 3
    assert len((tmp_path / "keypoints.csv").read_text(encoding="utf-8").splitlines()) == 1 + 6
    assert len(list(VideoReader(tmp_path / "a.mp4"))) == 3


def test_files_are_whole_when_nobody_was_found(tmp_path):
    with Recorder(tmp_path, formats=["coco", "csv", "json"]):
        pass

    assert _load(tmp_path / "predictions.coco.json") == []
    assert _load(tmp_path / "results.json") == []
    assert (tmp_path / "keypoints.csv").read_text(encoding="utf-8").strip() == ",".join(TABLE_COLUMNS)


def test_writing_is_timed(tmp_path):
    with Recorder(tmp_path, formats=["image", "csv"]) as recorder:
        steps_ms = recorder.add(_picture("a.jpg"), _frame(), _result())

    assert list(steps_ms) == ["draw", "encode", "write"]


def test_an_unknown_format_is_refused_with_close_matches(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean"):
        Recorder(tmp_path, formats=["vidoe"])


def test_a_new_folder_never_holds_anything(tmp_path):
    first = new_folder(tmp_path / "run")
    again = new_folder(tmp_path / "run")
    (again / "x").touch()
    second = new_folder(tmp_path / "run")
    (second / "x").touch()
    third = new_folder(tmp_path / "run")

    assert [first.name, again.name, second.name, third.name] == ["run", "run", "run-2", "run-3"]
    assert list(third.iterdir()) == []


@pytest.mark.parametrize("make", [new_folder, ensure_folder])
def test_a_folder_that_cannot_be_written_is_named_with_a_remedy(tmp_path, make):
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match=r"cannot write into .*run: .*choose another folder with --out"):
        make(tmp_path / "file" / "run")

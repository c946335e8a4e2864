import json
import shutil

import cv2
import numpy as np
import pytest

from fleetpose.errors import ConfigError, DatasetError, MediaError
from fleetpose.synth import writer
from fleetpose.synth.card import write_card
from fleetpose.synth.rle import decode_mask
from fleetpose.synth.writer import Job, run_job

COUNT = 10


def job_in(folder, **changes):
    return Job(out=folder, count=COUNT, shard_size=3, seed=40, **changes)


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def dataset(library, config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    run_job(library, config, job_in(folder, semantic=True, depth=True))
    return folder


def test_every_picture_is_there_once_with_its_seed(dataset):
    data = json.loads((dataset / "person_keypoints_train.json").read_text())

    assert [image["seed"] for image in data["images"]] == list(range(40, 40 + COUNT))
    assert len({image["id"] for image in data["images"]}) == COUNT
    assert len({person["id"] for person in data["annotations"]}) == len(data["annotations"]) > 0
    assert all((dataset / image["file_name"]).is_file() for image in data["images"])


def test_the_number_of_workers_changes_no_byte(library, config, dataset, tmp_path):
    run_job(library, config, job_in(tmp_path, semantic=True, depth=True), workers=3)

    assert files(tmp_path) == files(dataset)


def test_a_killed_run_goes_on_without_a_lost_or_doubled_picture(library, config, dataset, tmp_path):
    shutil.copytree(dataset, tmp_path, dirs_exist_ok=True)
    (tmp_path / "person_keypoints_train.json").unlink()
    shutil.rmtree(tmp_path / "shards" / "00001")
    # What a killed worker leaves behind: a hidden folder with half a shard.
    (tmp_path / "shards" / ".00001.999").mkdir()
    (tmp_path / "shards" / ".00001.999" / "000003.jpg").write_bytes(b"half")
    untouched = (tmp_path / "shards" / "00000" / "000000.jpg").stat().st_mtime_ns
    seen = []

    run_job(
        library, config, job_in(tmp_path, semantic=True, depth=True), progress=lambda *step: seen.append(step)
    )

    assert files(tmp_path) == files(dataset)
    assert (tmp_path / "shards" / "00000" / "000000.jpg").stat().st_mtime_ns == untouched
    assert seen == [(COUNT, COUNT)]


def test_labels_read_back_from_disk_match_the_pictures(dataset):
    data = json.loads((dataset / "person_keypoints_train.json").read_text())
    images = {image["id"]: image for image in data["images"]}

    for person in data["annotations"]:
        mask = decode_mask(person["segmentation"])
        classes = cv2.imread(str(dataset / images[person["image_id"]]["semantic_file"]), cv2.IMREAD_UNCHANGED)
        depth = cv2.imread(str(dataset / images[person["image_id"]]["depth_file"]), cv2.IMREAD_UNCHANGED)
        assert person["area"] == mask.sum()
        assert person["num_keypoints"] == np.count_nonzero(person["keypoints"][2::3])
        assert (classes[mask] < 20).mean() > 0.9
        assert depth.dtype == np.uint16
        x, y, w, h = person["bbox"]
        assert mask[int(y) : int(y + h), int(x) : int(x + w)].sum() == mask.sum()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the tool itself
def test_coco_tools_load_the_file(dataset, capsys):
    tools = pytest.importorskip("pycocotools.coco")

    coco = tools.COCO(str(dataset / "person_keypoints_train.json"))

    capsys.readouterr()
    first = coco.loadAnns(coco.getAnnIds())[0]
    np.testing.assert_array_equal(coco.annToMask(first).astype(bool), decode_mask(first["segmentation"]))


def test_our_own_reader_loads_the_file(dataset):
    from fleetpose.data.annotations import check_pictures, read_coco
    from fleetpose.skeletons import COCO

    pictures = read_coco(dataset / "person_keypoints_train.json", dataset, skeleton=COCO)

    check_pictures(pictures)
    assert len(pictures) == COUNT


def test_other_settings_are_refused_in_a_begun_folder(library, config, dataset):
    with pytest.raises(ConfigError, match="begun with shard_size = 3, but now it is 5"):
        run_job(
            library, config, Job(out=dataset, count=COUNT, shard_size=5, seed=40, semantic=True, depth=True)
        )


def test_a_longer_run_adds_to_what_is_there(library, config, dataset, tmp_path):
    shutil.copytree(dataset, tmp_path, dirs_exist_ok=True)

    run_job(library, config, Job(out=tmp_path, count=12, shard_size=3, seed=40, semantic=True, depth=True))

    data = json.loads((tmp_path / "person_keypoints_train.json").read_text())
    assert [image["seed"] for image in data["images"]] == list(range(40, 52))
    before, after = files(dataset), files(tmp_path)
    assert all(after[name] == content for name, content in before.items() if name.endswith(".jpg"))


def test_clips_stay_whole_and_number_their_frames(library, config, tmp_path):
    run_job(library, config, Job(out=tmp_path, count=8, shard_size=6, clip_frames=4))

    data = json.loads((tmp_path / "person_keypoints_train.json").read_text())
    assert [(image["clip_id"], image["frame"]) for image in data["images"]] == [
        (c, f) for c in (0, 1) for f in range(4)
    ]
    assert {image["file_name"].split("/")[1] for image in data["images"][:4]} == {"00000"}
    assert all(isinstance(person["action"], str) for person in data["annotations"])


def test_a_full_disk_leaves_finished_shards_intact(library, config, tmp_path, monkeypatch):
    real, room = writer._write_image, iter(range(4))

    def write(path, image, settings=()):
        if next(room, None) is None:
            raise OSError(28, "No space left on device")
        real(path, image, settings)

    monkeypatch.setattr(writer, "_write_image", write)

    with pytest.raises(MediaError, match="No space left on device; finished shards are intact"):
        run_job(library, config, job_in(tmp_path))
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == ["00000"]
    monkeypatch.undo()
    run_job(library, config, job_in(tmp_path))
    assert len(list(tmp_path.glob("shards/*/*.jpg"))) == COUNT


def test_an_unwritable_place_is_a_clear_error(library, config, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match=r"cannot write to .*file.*give a folder"):
        run_job(library, config, job_in(tmp_path / "file" / "out"))


def test_a_damaged_shard_is_named(library, config, dataset, tmp_path):
    shutil.copytree(dataset, tmp_path, dirs_exist_ok=True)
    (tmp_path / "shards" / "00002" / "labels.json").write_text("{")

    with pytest.raises(DatasetError, match=r"00002.labels.json cannot be read.*delete its folder"):
        run_job(library, config, job_in(tmp_path, semantic=True, depth=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count must be between 1"),
        ({"count": 10, "seed": -1}, "seed must be 0 or more"),
        ({"count": 10, "shard_size": 0}, "shard_size must be"),
        ({"count": 10, "clip_frames": 1}, "clip_frames must be"),
        ({"count": 10, "clip_frames": 4}, "multiple of clip_frames 4, but got 10"),
        ({"count": 10, "fps": 0}, "fps must be"),
    ],
)
def test_absurd_jobs_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        Job(out=tmp_path, **changes)


def test_too_many_workers_are_refused(library, config, tmp_path):
    with pytest.raises(ConfigError, match="workers must be"):
        run_job(library, config, job_in(tmp_path), workers=0)


def test_the_card_tells_seeds_parts_and_statistics(library, config, dataset):
    card = write_card(library, config, job_in(dataset), dataset / "person_keypoints_train.json")

    text = card.read_text()
    assert "| seeds | 40 to 49" in text
    assert "people per picture" in text
    assert "mocap.cs.cmu.edu" not in text
    card.unlink()

"""A user's own data in one YAML file."""

from pathlib import Path

import pytest

from fleetpose.data.mixture import read_data
from fleetpose.data.scenes import Source
from fleetpose.errors import ConfigError
from fleetpose.skeletons import COCO, LSP


@pytest.fixture
def write(tmp_path):
    """Function that writes a data file → its path."""

    def write_data(text):
        path = tmp_path / "data.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_data


def test_paths_start_from_the_files_folder_unless_they_are_absolute(write, tmp_path):
    path = write(
        "train:\n- {images: pictures, annotations: labels/train.json, weight: 4, is_single_person: true}\n"
        f"- {{images: {tmp_path / 'rooms'}}}\n"
        "validation:\n- {images: pictures, annotations: labels/val.json, every: 10}\n"
        "- {name: other, images: pictures, annotations: other.json}\n"
    )

    data = read_data(path)

    assert data.train == (
        Source(
            images=tmp_path / "pictures",
            annotations=tmp_path / "labels/train.json",
            weight=4.0,
            is_single_person=True,
        ),
        Source(images=tmp_path / "rooms"),
    )
    first, second = data.validation
    assert (first.name, first.every, first.annotations) == ("val", 10, tmp_path / "labels/val.json")
    assert second.name == "other"
    assert data.skeleton == COCO


def test_a_source_may_name_its_part_of_a_file_and_which_labels_to_believe(write):
    path = write(
        "train:\n- {images: a, annotations: b.mat, split: test, least_agreement: 0.5, least_votes: -1}\n"
        "validation:\n- {images: a, annotations: b.mat, split: train}\n"
    )

    data = read_data(path)

    (source,) = data.train
    assert (source.split, source.least_agreement, source.least_votes) == ("test", 0.5, -1)
    assert data.validation[0].split == "train"


def test_keypoints_may_stand_in_the_file_with_pairs_by_name(write):
    path = write(
        "skeleton:\n  name: tool\n  keypoints: [tip, left_grip, right_grip]\n  limbs: [[tip, left_grip]]\n"
        "  sigmas: [0.05, 0.08, 0.08]\ntrain:\n- {images: a}\n"
    )

    skeleton = read_data(path).skeleton

    assert skeleton.flip_pairs == (("left_grip", "right_grip"),)
    assert skeleton.sigmas == (0.05, 0.08, 0.08)


def test_a_skeleton_may_be_a_name_or_a_file_beside(write, tmp_path):
    (tmp_path / "mine.yaml").write_text("{name: mine, keypoints: [a, b], sigmas: [0.1, 0.1]}")

    assert read_data(write("{skeleton: lsp14, train: [{images: a}]}")).skeleton == LSP
    assert read_data(write("{skeleton: mine.yaml, train: [{images: a}]}")).skeleton.keypoints == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [", "cannot read the data file"),
        ("- a", "must hold a mapping with train, got list"),
        ("{validation: []}", "lacks train"),
        ("{train: []}", "at least one source"),
        ("{train: [{images: a, wieght: 2}]}", "did you mean weight"),
        ("{train: [{annotations: a.json}]}", "lacks images"),
        ("{train: [{images: a}], vaildation: []}", "did you mean validation"),
        ("{train: [{images: a, split: tset}]}", "split"),
        ("{train: [{images: a}], skeleton: coco18}", "coco17"),
        ("{train: [{images: a}], skeleton: none.yaml}", "cannot read the skeleton file"),
        ("{train: [{images: a}], skeleton: 17}", "skeleton must be a name, a file or keypoints, got 17"),
        (
            "{train: [{images: a}], skeleton: {keypoints: [a, a], sigmas: [1, 1]}}",
            "stands twice",
        ),
        (
            "{train: [{images: a}], validation: [{images: a, annotations: b, every: 0}]}",
            "every of",
        ),
    ],
)
def test_what_is_wrong_in_a_data_file_is_named(write, text, message):
    with pytest.raises(ConfigError, match=message):
        read_data(write(text))


def test_an_absent_data_file_is_named():
    with pytest.raises(ConfigError, match=r"no\.yaml"):
        read_data(Path("no.yaml"))

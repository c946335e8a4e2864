"""Annotation files whose parts are not what they should be: one line, from training and from the doctor."""

import json

import numpy as np
import pytest

from fleetpose.data.annotations import read_coco
from fleetpose.data.doctor import closest_skeleton, examine
from fleetpose.data.mixture import DataFile
from fleetpose.data.outlines import segmentation_mask
from fleetpose.data.samples import load_sample
from fleetpose.data.scenes import Source
from fleetpose.errors import DatasetError
from fleetpose.skeletons import LSP

SIDE = 20


def data_set(**changes):
    """What a sound file of one picture and one person holds, but for `changes` of the annotation."""
    person = {
        "id": 7,
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [2, 2, 12, 12],
        "keypoints": [5, 5, 2] * len(LSP),
    }
    return {
        "images": [{"id": 1, "file_name": "1.png", "width": SIDE, "height": SIDE}],
        "annotations": [person | changes],
        "categories": [{"id": 1, "name": "person", "keypoints": list(LSP.keypoints)}],
    }


@pytest.fixture
def write(tmp_path):
    """Function that writes a file beside its picture, and returns both paths."""
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((SIDE, SIDE, 3), np.uint8))

    def write(data):
        path = tmp_path / "labels.json"
        path.write_text(json.dumps(data))
        return path, tmp_path

    return write


def with_entry(kind, entry):
    data = data_set()
    return data | {kind: [*data[kind], entry]}


def with_side(**sides):
    data = data_set(bbox=None)
    data["images"][0] |= sides
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_entry("annotations", None), "entry 1 of its annotations must be an object .* got None"),
        (with_entry("annotations", "hello"), "entry 1 of its annotations must be an object .* got 'hello'"),
        (with_entry("images", 3), "entry 1 of its images must be an object .* got 3"),
        (with_entry("categories", "person"), "entry 1 of its categories must be an object"),
        (with_entry("categories", {"keypoints": [1, 2]}), r"must be a list of names, got \[1, 2\]"),
        (with_entry("categories", {"keypoints": "nose"}), "must be a list of names, got 'nose'"),
        (with_side(width="20"), "the width of picture 1 must be a number of pixels, got '20'"),
        (with_side(height=True), "the height of picture 1 must be a number of pixels, got True"),
        (data_set(image_id=[1]), r"the image_id of annotation 7 must be a number, got \[1\]"),
        (data_set(category_id={}), "the category_id of annotation 7 must be a number, got {}"),
        ([1, 2, 3], "is neither a COCO file nor a list of MPII's people"),
    ],
)
def test_a_file_whose_parts_are_of_the_wrong_kind_is_refused_in_one_line(write, data, message):
    file, images = write(data)

    with pytest.raises(DatasetError, match=message):
        read_coco(file, images, skeleton=LSP)
    with pytest.raises(DatasetError, match=message):
        closest_skeleton(file)
    (finding,) = [one for _, one in examined(file, images).findings if one.level == "fix"][:1]
    assert finding.problem == "set cannot be read"


def examined(file, images):
    return examine(DataFile(train=(Source(images=images, annotations=file),), skeleton=LSP))


NUMBERS = "keypoints that are not 14 times x, y, v"
OUTLINE = "a broken outline"


@pytest.mark.parametrize(
    ("changes", "message", "finding"),
    [
        ({"keypoints": 5}, "annotation 7 has keypoints that are no list of numbers: 5", NUMBERS),
        ({"keypoints": [[5, 5, 2]] * 14}, "annotation 7 has 14 keypoint numbers, expected 42", NUMBERS),
        ({"keypoints": [1e30, 5, 2] * 14}, "a keypoint more than 1000000 pixels away", NUMBERS),
        ({"votes": 3}, "annotation 7 has votes that are no list of numbers: 3", "votes that are not 14"),
        ({"bbox": [1, 2, 3], "iscrowd": 1}, "annotation 7 has a bbox that is no x, y, width", NUMBERS),
        ({"iscrowd": 1, "segmentation": {"foo": 1}}, "annotation 7 has an outline with {'foo': 1}", OUTLINE),
        ({"iscrowd": 1, "segmentation": "abc"}, "annotation 7 has an outline with 'abc'", OUTLINE),
        ({"iscrowd": 1, "segmentation": [[1, 2, 3]]}, "a polygon of 3 numbers", OUTLINE),
        ({"iscrowd": 1, "segmentation": [7]}, "7 in the place of a polygon", OUTLINE),
        (
            {"iscrowd": 1, "segmentation": {"counts": [1, 2], "size": [3, 4]}},
            "run lengths that cover 3 pixels of 3 x 4",
            OUTLINE,
        ),
        (
            {"iscrowd": 1, "segmentation": {"counts": [-1, 13], "size": [3, 4]}},
            r"run lengths whose counts are \[-1, 13\]",
            OUTLINE,
        ),
        ({"iscrowd": 1, "segmentation": {"counts": [12], "size": [12]}}, r"whose size is \[12\]", OUTLINE),
    ],
)
def test_a_broken_annotation_is_refused_and_found_by_the_doctor(write, changes, message, finding):
    file, images = write(data_set(**changes))

    with pytest.raises(DatasetError, match=message):
        read_coco(file, images, skeleton=LSP)
    assert finding in " ".join(
        one.problem for _, one in examined(file, images).findings if one.level == "fix"
    )


def test_a_whole_file_gives_no_finding_of_that_kind(write):
    file, images = write(data_set(segmentation=[[2, 2, 14, 2, 14, 14]]))

    problems = " ".join(one.problem for _, one in examined(file, images).findings)
    assert not any(words in problems for words in (NUMBERS, OUTLINE, "cannot be read"))


def test_run_lengths_that_cannot_be_read_are_named_with_their_picture(write):
    pytest.importorskip("faster_coco_eval")
    crowd = {"counts": "zzz", "size": [SIDE, SIDE]}
    (picture,) = read_coco(*write(data_set(iscrowd=1, segmentation=crowd)), skeleton=LSP)

    with pytest.raises(DatasetError, match=r"labels of .*1\.png: an outline has compressed run lengths"):
        load_sample(picture)


def test_outlines_are_drawn():
    square = segmentation_mask([[1, 1, 3, 1, 3, 3, 1, 3]], (5, 5))
    runs = segmentation_mask({"counts": [1, 2, 3], "size": [2, 3]}, (9, 9))

    assert square.sum() == 9
    assert runs.tolist() == [[0, 1, 0], [1, 0, 0]]
    with pytest.raises(DatasetError, match="a polygon of what are no numbers"):
        segmentation_mask([["a", 1]], (5, 5))
    with pytest.raises(DatasetError, match="not finite"):
        segmentation_mask([[float("nan"), 1]], (5, 5))

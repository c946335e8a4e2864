"""`fleetpose doctor`: findings in lines, a sheet, and what it answers to a shell."""

import json

import cv2
import numpy as np
import pytest

from fleetpose.media.images import read_image
from fleetpose.skeletons import COCO


@pytest.fixture
def labelled(tmp_path, stick_person):
    """Function that writes a set of two pictures, of which `missing` are not there → annotation file."""

    def write(*, missing=()):
        (tmp_path / "images").mkdir()
        records, annotations = [], []
        for number in (1, 2):
            records.append({"id": number, "file_name": f"{number}.png", "width": 140, "height": 220})
            points = np.column_stack([stick_person, np.full(17, 2)]).ravel().tolist()
            annotations.append({"id": number, "image_id": number, "category_id": 1, "keypoints": points})
            if number not in missing:
                pixels = np.full((220, 140, 3), 50 * number, np.uint8)
                cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), pixels)
        category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
        content = {"images": records, "annotations": annotations, "categories": [category]}
        (tmp_path / "labels.json").write_text(json.dumps(content))
        return tmp_path / "labels.json"

    return write


def test_good_data_answers_0_and_draws_samples(fleetpose_here, labelled, tmp_path):
    code, out, err = fleetpose_here("doctor", labelled())

    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "labels.json: 2 pictures, 2 people",
        "0 to fix, 0 to look at",
        "drawn samples: doctor.png",
    ]
    assert read_image(tmp_path / "doctor.png").shape == (240, 480, 3)


def test_what_must_be_fixed_is_told_in_a_line_and_answers_1(fleetpose_here, labelled, tmp_path):
    labelled(missing=[2])
    (tmp_path / "my.yaml").write_text(
        "train: [{images: images, annotations: labels.json}]\n"
        "skeleton: {name: mine, keypoints: [nose, left_eye], sigmas: [0.1, 0.1]}\n"
    )

    code, out, _ = fleetpose_here("doctor", "my.yaml", "--sheet", "s.png")

    lines = out.splitlines()
    assert code == 1
    assert lines[1] == (
        "fix   1 keypoints are named left or right but have no counterpart; the first: left_eye. "
        "Add the counterpart or a flip pair, or mirrored pictures teach the wrong side."
    )
    assert lines[2].startswith("labels.json: fix   1 of 2 pictures are missing; the first: ")
    assert lines[2].endswith("2.png. Copy them there, or remove their entries.")
    assert lines[-2:] == ["2 to fix, 1 to look at", "drawn samples: s.png"]


def test_findings_as_json_hold_every_part(fleetpose_here, labelled):
    code, out, _ = fleetpose_here("doctor", labelled(missing=[1]), "--json", "--skeleton", "coco17")

    (finding,) = json.loads(out)
    assert code == 1
    assert finding["set"] == "labels.json"
    assert (finding["level"], finding["count"]) == ("fix", 1)
    assert finding["example"].endswith("1.png")
    assert finding["remedy"]


@pytest.mark.parametrize("name", ["no.yaml", "no.json"])
def test_data_that_is_not_there_answers_2(fleetpose_here, name):
    code, out, err = fleetpose_here("doctor", name)

    assert code == 2
    assert out == ""
    assert name in err

import numpy as np
import pytest

from fleetpose.errors import DatasetError
from fleetpose.skeletons import COCO
from fleetpose.synth.statistics import describe, read_annotations


def standing(x=100.0, *, facing=True):
    """A person 200 pixels tall in a picture of 400."""
    side = 20 if facing else -20
    height = {"shoulder": 50, "elbow": 80, "wrist": 110, "hip": 110, "knee": 160, "ankle": 200}
    points = np.full((17, 3), 2.0)
    for k, name in enumerate(COCO.keypoints):
        sign = 1 if name.startswith("left") else -1 if name.startswith("right") else 0
        points[k, :2] = x + sign * side, 100 + height.get(name.rpartition("_")[2], 20)
    return points


def file_of(*people):
    return {
        "images": [{"id": 1, "height": 400, "width": 600}],
        "annotations": [
            {
                "image_id": 1,
                "keypoints": p.ravel().tolist(),
                "bbox": [p[:, 0].min(), 100, 50, 200],
                "iscrowd": 0,
            }
            for p in people
        ],
    }


def test_sizes_and_visibility_are_counted():
    half_hidden = standing()
    half_hidden[11:, 2] = 0

    found = describe(file_of(standing(300), half_hidden))

    assert found["people per picture"] == 2
    assert found["box height / picture, p50"] == pytest.approx(0.5)
    assert found["share of keypoints with v=0"] == pytest.approx(6 / 34)
    assert found["people with both ankles"] == 0.5


def test_upright_people_are_upright_and_straight():
    found = describe(file_of(standing()))

    assert found["trunk tilt, median deg"] == pytest.approx(0, abs=1e-6)
    assert found["knee bend, median deg"] == pytest.approx(0, abs=1e-3)
    assert found["left shoulder on the right (facing)"] == 1
    assert describe(file_of(standing(facing=False)))["left shoulder on the right (facing)"] == 0


def test_overlap_is_the_largest_of_the_picture():
    apart, same = describe(file_of(standing(), standing(400))), describe(file_of(standing(), standing()))

    assert apart["people with a box IoU over 0.3"] == 0
    assert same["largest box IoU, mean"] == pytest.approx(1)


def test_a_file_without_people_or_without_sense_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="labels nobody"):
        describe({"images": [], "annotations": []})
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(DatasetError, match="no COCO keypoint file"):
        read_annotations(tmp_path / "a.json")
    with pytest.raises(DatasetError, match="cannot read annotations"):
        read_annotations(tmp_path / "b.json")

import json

import numpy as np
import pytest

from fleetpose.errors import ConfigError, DatasetError
from fleetpose.export.parity import compare, look, read_labels
from fleetpose.results import PoseResult
from fleetpose.skeletons import COCO


def _result(people, *, scores=None, size=(200, 200)):
    keypoints = np.asarray(people, np.float32).reshape(-1, 17, 3)
    points = keypoints[..., :2]
    boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=-1)
    return PoseResult(
        keypoints=keypoints,
        boxes=boxes.astype(np.float32),
        scores=np.asarray([0.9] * len(keypoints) if scores is None else scores, np.float32),
        image_size=size,
        skeleton=COCO,
    )


@pytest.fixture
def person(stick_person):
    return np.concatenate([stick_person, np.full((17, 1), 0.9)], axis=1)


def _moved(person, dx):
    return np.add(person, [dx, 0, 0])


def test_the_same_people_lose_nothing(person):
    results = [_result([person]), _result([_moved(person, 60)])]

    parity = compare(results, results)

    assert (parity.pictures, parity.people, parity.lost) == (2, 2, 0)
    assert parity.largest_shift_px == 0
    assert parity.reference_ap == parity.ap == pytest.approx(100)
    assert parity.drop == 0


def test_the_shift_is_that_of_the_keypoint_that_moved_most(person):
    moved = person.copy()
    moved[4, 0] += 3
    moved[9, :2] += [3, 4]

    parity = compare([_result([person])], [_result([moved])])

    assert parity.largest_shift_px == pytest.approx(5)
    assert parity.median_shift_px == 0


def test_people_are_compared_with_their_own_counterpart(person):
    other = _moved(person, 80)

    parity = compare([_result([person, other])], [_result([_moved(other, 1), person])])

    assert parity.lost == 0
    assert parity.largest_shift_px == pytest.approx(1)


def test_a_lost_person_is_counted_and_costs_precision(person):
    other = _moved(person, 80)

    parity = compare([_result([person, other])], [_result([person])])

    assert (parity.people, parity.lost) == (2, 1)
    assert parity.drop > 40


def test_nobody_found_is_a_total_loss(person):
    parity = compare([_result([person])], [_result(np.zeros((0, 17, 3)))])

    assert parity.lost == 1
    assert parity.ap == 0


def test_unsure_people_need_not_be_found_again(person):
    weak = _result([person, _moved(person, 80)], scores=[0.9, 0.05])

    parity = compare([weak], [_result([person])])

    assert (parity.people, parity.lost, parity.drop) == (1, 0, 0)


def test_keypoints_that_one_lacks_do_not_count_as_shifts(person):
    less = person.copy()
    less[3] = 0

    assert compare([_result([person])], [_result([less])]).largest_shift_px == 0


def _labels(person, name="a.jpg"):
    points = person.copy()
    points[:, 2] = 2
    return {
        "images": [{"id": 7, "file_name": name, "height": 200, "width": 200}],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 1,
                "keypoints": points.ravel().tolist(),
                "num_keypoints": 17,
                "bbox": [20, 12, 80, 193],
                "area": 15000.0,
                "iscrowd": 0,
            }
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}],
    }


def test_with_labels_both_are_measured_against_them(person):
    wrong = _result([_moved(person, 40)])

    parity = compare([wrong], [_result([person])], labels=_labels(person), names=["a.jpg"])

    assert parity.reference_ap < 20
    assert parity.ap == pytest.approx(100)
    assert parity.drop < -80
    assert parity.labels == "annotations"


def test_labels_that_lack_a_picture_are_refused(person):
    with pytest.raises(DatasetError, match=r"lack 1 of 1 pictures, the first is b\.jpg"):
        compare([_result([person])], [_result([person])], labels=_labels(person), names=["b.jpg"])


def test_no_picture_proves_nothing():
    with pytest.raises(ConfigError, match="at least one picture"):
        look(_result, [])


@pytest.mark.parametrize("content", ["{", "[]", '{"images": []}'])
def test_labels_that_are_none_are_refused(tmp_path, content):
    path = tmp_path / "labels.json"
    path.write_text(content)

    with pytest.raises(DatasetError, match=r"labels\.json"):
        read_labels(path)


def test_the_report_is_plain_data(person):
    parity = compare([_result([person])], [_result([person])])

    assert json.loads(json.dumps(parity.to_dict()))["drop"] == 0

"""Kinds of errors, on people whose keypoints go wrong one at a time."""

import numpy as np
import pytest

from fleetpose.metrics.breakdown import KINDS, SIZES, break_down
from fleetpose.metrics.tables import detections_from_coco, labels_from_coco
from fleetpose.skeletons import COCO

LEFT_WRIST, RIGHT_WRIST, NOSE = COCO.index("left_wrist"), COCO.index("right_wrist"), COCO.index("nose")
AREA = 150.0**2


def standing(x, *, v=2, area=AREA, number=1):
    """A labelled person 400 pixels tall whose keypoints lie far apart."""
    keypoints = np.column_stack(
        [x + 200.0 * (np.arange(17) % 2), 25.0 * np.arange(17), np.full(17, float(v))]
    )
    return {
        "id": number,
        "image_id": 1,
        "category_id": 1,
        "bbox": [x, 0, 200, 400],
        "area": area,
        "keypoints": keypoints,
    }


def off(keypoint, similarity, area=AREA):
    """Distance at which a keypoint has this similarity."""
    return float(np.sqrt(-2 * np.log(similarity) * area) * 2 * COCO.sigmas[keypoint])


def found_as(person, changes=(), *, score=0.9):
    keypoints = person["keypoints"].copy()
    for keypoint, xy in dict(changes).items():
        keypoints[keypoint, :2] = xy
    keypoints[:, 2] = 0.8
    return {"image_id": 1, "category_id": 1, "keypoints": keypoints, "score": score}


def broken_down(people, rows):
    def plain(items):
        return [item | {"keypoints": np.ravel(item["keypoints"]).tolist()} for item in items]

    truth = {"images": [{"id": 1}], "annotations": plain(people)}
    labels = labels_from_coco(truth, num_keypoints=17)
    return break_down(labels, detections_from_coco(plain(rows), num_keypoints=17), COCO)


def kind_of(breakdown, keypoint):
    counts = breakdown.per_keypoint[COCO.keypoints[keypoint]]
    return [kind for kind in KINDS if counts[kind]]


def test_a_perfect_person_is_all_good_and_nothing_is_to_be_won():
    breakdown = broken_down([standing(0)], [found_as(standing(0))])

    assert breakdown.per_size["large"] == dict(zip(KINDS, (17, 0, 0, 0, 0), strict=True))
    assert breakdown.ap == 1.0
    assert set(breakdown.ap_if_mended.values()) == {1.0}


@pytest.mark.parametrize(
    ("similarity", "kind"), [(0.86, "good"), (0.84, "jitter"), (0.51, "jitter"), (0.49, "miss")]
)
def test_near_misses_go_by_similarity(similarity, kind):
    person = standing(0)
    x, y = person["keypoints"][LEFT_WRIST, :2]

    breakdown = broken_down([person], [found_as(person, {LEFT_WRIST: (x + off(LEFT_WRIST, similarity), y)})])

    assert kind_of(breakdown, LEFT_WRIST) == [kind]


def test_a_wrist_on_the_other_wrist_is_an_inversion():
    person = standing(0)

    breakdown = broken_down([person], [found_as(person, {LEFT_WRIST: person["keypoints"][RIGHT_WRIST, :2]})])

    assert kind_of(breakdown, LEFT_WRIST) == ["inversion"]
    assert kind_of(breakdown, RIGHT_WRIST) == ["good"]


@pytest.mark.parametrize("other", [LEFT_WRIST, RIGHT_WRIST])
def test_a_wrist_on_somebody_elses_wrist_is_a_swap(other):
    first, second = standing(0), standing(600, number=2)

    breakdown = broken_down([first, second], [found_as(first, {LEFT_WRIST: second["keypoints"][other, :2]})])

    assert kind_of(breakdown, LEFT_WRIST) == ["swap"]


def test_swaps_are_seen_with_every_other_person_of_the_picture():
    people = [standing(600.0 * n, number=n + 1) for n in range(4)]
    rows = [
        found_as(person, {LEFT_WRIST: people[(n + 2) % 4]["keypoints"][LEFT_WRIST, :2]}, score=0.9 - 0.1 * n)
        for n, person in enumerate(people)
    ]

    breakdown = broken_down(people, rows)

    assert breakdown.per_keypoint["left_wrist"]["swap"] == 4


def test_a_wrist_on_another_persons_nose_is_a_miss():
    first, second = standing(0), standing(600, number=2)

    breakdown = broken_down([first, second], [found_as(first, {LEFT_WRIST: second["keypoints"][NOSE, :2]})])

    assert kind_of(breakdown, LEFT_WRIST) == ["miss"]


def test_keypoints_without_a_label_are_of_no_kind():
    person = standing(0)
    person["keypoints"][LEFT_WRIST] = 0

    breakdown = broken_down([person], [found_as(standing(0))])

    assert kind_of(breakdown, LEFT_WRIST) == []
    assert breakdown.keypoints.sum() == 16


def test_misses_without_a_position_are_told_apart():
    person = standing(0)
    row = found_as(person, {LEFT_WRIST: (0, 0), RIGHT_WRIST: (900, 900)})
    row["keypoints"][LEFT_WRIST, 2] = 0

    breakdown = broken_down([person], [row])

    assert breakdown.per_visibility["visible"]["miss"] == 2
    assert breakdown.not_found.nonzero()[0].tolist() == [LEFT_WRIST]


def test_hidden_and_visible_keypoints_are_counted_apart():
    breakdown = broken_down([standing(0, v=1)], [found_as(standing(0))])

    assert breakdown.per_visibility["hidden"]["good"] == 17
    assert breakdown.per_visibility["visible"]["good"] == 0


@pytest.mark.parametrize(("area", "size"), [(31.9**2, "small"), (32.0**2, "medium"), (96.0**2, "large")])
def test_people_are_told_apart_by_size(area, size):
    breakdown = broken_down([standing(0, area=area)], [])

    assert {name for name in SIZES if breakdown.labelled[name]} == {size}
    assert sum(breakdown.found.values()) == 0


def test_a_second_detection_is_a_duplicate_and_one_far_away_is_background():
    far = found_as(standing(3000), score=0.95)

    breakdown = broken_down([standing(0)], [found_as(standing(0)), found_as(standing(0), score=0.5), far])

    assert sum(breakdown.duplicates.values()) == 1
    assert sum(breakdown.background.values()) == 1
    assert breakdown.ap == pytest.approx(0.5)
    assert breakdown.ap_if_mended["background"] == 1.0
    assert breakdown.ap_if_mended["duplicates"] == pytest.approx(0.5)
    assert breakdown.ap_if_mended["scores"] == 1.0


def test_people_not_found_cost_what_is_won_without_them():
    breakdown = broken_down([standing(0), standing(600, number=2)], [found_as(standing(0))])

    assert breakdown.labelled["large"] == 2
    assert breakdown.found["large"] == 1
    assert breakdown.ap == pytest.approx(51 / 101)
    assert breakdown.ap_if_mended["not found"] == 1.0
    assert breakdown.ap_if_mended["jitter"] == breakdown.ap


def test_a_kind_of_error_costs_what_is_won_when_it_is_mended():
    person = standing(0)
    mirrored = {k: person["keypoints"][j, :2] for k, j in enumerate(COCO.flip_permutation) if k >= 5}

    breakdown = broken_down([person], [found_as(person, mirrored)])

    assert breakdown.per_size["large"]["inversion"] == 12
    assert breakdown.ap == 0
    assert breakdown.ap_if_mended["inversion"] == 1.0
    assert breakdown.ap_if_mended["miss"] == breakdown.ap_if_mended["jitter"] == 0


def test_crowds_and_people_without_keypoints_are_nobodys_error():
    nobody = standing(0, v=0)
    nobody["keypoints"][:] = 0
    crowd = standing(1000, number=2) | {"iscrowd": 1}

    breakdown = broken_down([nobody, crowd], [found_as(standing(0)), found_as(standing(1000))])

    assert sum(breakdown.labelled.values()) == 0
    assert sum(breakdown.background.values()) + sum(breakdown.duplicates.values()) == 0
    assert breakdown.keypoints.sum() == 0


def test_as_plain_data_it_holds_every_table():
    data = broken_down([standing(0)], [found_as(standing(0))]).to_dict()

    assert set(data) == {
        *("ap", "ap_if_mended", "people", "per_keypoint", "not_found", "per_visibility", "per_size")
    }
    assert data["people"]["large"] == {"labelled": 1, "found": 1, "duplicates": 0, "background": 0}

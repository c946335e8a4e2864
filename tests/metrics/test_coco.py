"""COCO's keypoint table, against COCO's own tool."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetpose.errors import DatasetError, ShapeError
from fleetpose.metrics.coco import CocoScores, coco_keypoint_scores
from fleetpose.metrics.matching import pair_similarities
from fleetpose.metrics.tables import detections_from_coco, labels_from_coco
from fleetpose.skeletons import COCO, CROWDPOSE

CATEGORIES = [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}]


def random_annotations(rng, *, num_images=12, num_keypoints=17):
    """Pictures with 0 to 5 people: crowds, people without a keypoint, small ones, partly seen ones."""
    annotations = []
    for image_id in range(1, num_images + 1):
        for _ in range(rng.integers(0, 6)):
            side = rng.uniform(15, 250)
            x, y = rng.uniform(0, 300, 2)
            points = np.column_stack(
                [rng.uniform(x, x + side, num_keypoints), rng.uniform(y, y + side, num_keypoints)]
            )
            v = rng.choice([0, 1, 2], num_keypoints) * (rng.uniform() > 0.15)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "iscrowd": int(rng.uniform() < 0.15),
                    "bbox": [x, y, side, side],
                    "area": float(side * side * rng.uniform(0.3, 0.9)),
                    "keypoints": np.column_stack([points * (v > 0)[:, None], v]).ravel().tolist(),
                    "num_keypoints": int((v > 0).sum()),
                }
            )
    images = [{"id": n, "width": 640, "height": 480} for n in range(1, num_images + 1)]
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def random_detections(rng, truth, *, num_keypoints=17):
    """Labelled people, shaken, missed or seen twice; people from nowhere; more than 20 in one picture."""
    rows = []
    for annotation in truth["annotations"]:
        for _ in range(rng.integers(0, 3)):
            points = np.array(annotation["keypoints"], float).reshape(-1, 3)
            points[:, :2] += rng.normal(
                0, rng.choice([0.01, 0.05, 0.2]) * annotation["area"] ** 0.5, (num_keypoints, 2)
            )
            rows.append((annotation["image_id"], points))
    last = len(truth["images"])
    rows += [
        (int(image_id), rng.uniform(0, 400, (num_keypoints, 3)))
        for image_id in [*rng.integers(1, last + 1, 10), *[last] * 25]
    ]
    return [
        {
            "image_id": image_id,
            "category_id": 1,
            "keypoints": points.ravel().tolist(),
            "score": round(float(rng.uniform()), 2),  # so that some are equal
        }
        for image_id, points in rows
    ]


def pycocotools_scores(truth, detections, sigmas):
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = coco.COCO()
        ground_truth.dataset = copy.deepcopy(truth)
        ground_truth.createIndex()
        evaluation = cocoeval.COCOeval(
            ground_truth, ground_truth.loadRes(copy.deepcopy(detections)), "keypoints"
        )
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=lambda skeleton: skeleton.name)
def test_scores_equal_those_of_pycocotools(seed, skeleton):
    rng = np.random.default_rng(seed)
    truth = random_annotations(rng, num_keypoints=len(skeleton))
    detections = random_detections(rng, truth, num_keypoints=len(skeleton))

    scores = coco_keypoint_scores(truth, detections, skeleton.sigmas)

    expected = pycocotools_scores(truth, detections, skeleton.sigmas)
    np.testing.assert_allclose(list(scores.to_dict().values()), expected, rtol=0, atol=1e-9)
    assert 0 < scores.ap < 1


COORDINATE = st.integers(0, 12).map(lambda n: 10.0 * n)


@st.composite
def small_sets(draw):
    """Few coordinates, scores and areas, so that people, similarities and scores are often equal."""
    num_images, num_keypoints = draw(st.integers(1, 3)), 2
    points = st.lists(st.tuples(COORDINATE, COORDINATE), min_size=num_keypoints, max_size=num_keypoints)
    annotations = []
    for _ in range(draw(st.integers(1, 7))):
        v = draw(st.lists(st.sampled_from([0, 1, 2]), min_size=num_keypoints, max_size=num_keypoints))
        xy = np.array(draw(points)) * (np.array(v) > 0)[:, None]
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": draw(st.integers(1, num_images)),
                "category_id": draw(st.sampled_from([1, 1, 1, 2])),
                "iscrowd": draw(st.sampled_from([0, 0, 0, 1])),
                "bbox": [draw(COORDINATE), draw(COORDINATE), 40.0, 30.0],
                "area": draw(st.sampled_from([500.0, 1024.0, 5000.0, 9216.0, 20000.0])),
                "keypoints": np.column_stack([xy, v]).ravel().tolist(),
                "num_keypoints": sum(n > 0 for n in v),
            }
        )
    has_boxes = draw(st.booleans())
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        source = draw(st.sampled_from([None, *annotations]))
        xy = draw(points) if source is None else np.reshape(source["keypoints"], (-1, 3))[:, :2]
        row = {
            "image_id": draw(st.integers(1, num_images)) if source is None else source["image_id"],
            "category_id": draw(st.sampled_from([1, 1, 1, 2])),
            "keypoints": np.column_stack([xy, np.ones(num_keypoints)]).ravel().tolist(),
            "score": draw(st.sampled_from([0.2, 0.5, 0.5, 0.9])),
        }
        rows.append(
            row | ({"bbox": [0, 0, *draw(st.sampled_from([(20, 30), (90, 90)]))]} if has_boxes else {})
        )
    images = [{"id": n} for n in range(1, num_images + 1)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1}, {"id": 2}]}, rows


@settings(max_examples=150, deadline=None)
@given(small_sets())
def test_scores_equal_those_of_pycocotools_where_much_is_equal(drawn):
    truth, rows = drawn

    scores = coco_keypoint_scores(truth, rows, [0.2, 0.3])

    expected = pycocotools_scores(truth, rows, [0.2, 0.3])
    np.testing.assert_allclose(list(scores.to_dict().values()), expected, rtol=0, atol=1e-9)


def test_similarities_equal_those_of_pycocotools_to_the_last_bit():
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    truth = random_annotations(np.random.default_rng(3), num_images=1)
    while len(truth["annotations"]) < 30:
        truth["annotations"] += random_annotations(np.random.default_rng(len(truth["annotations"])))[
            "annotations"
        ]
    for annotation in truth["annotations"]:
        annotation["image_id"] = 1
    rows = random_detections(np.random.default_rng(4), truth | {"images": [{"id": 1}]})[:20]
    labels = labels_from_coco(truth, num_keypoints=17)
    detections = detections_from_coco(rows, num_keypoints=17)
    found, labelled = (grid.ravel() for grid in np.mgrid[: len(rows), : len(labels)])

    similarities = pair_similarities(labels, detections.keypoints, labelled, found, np.array(COCO.sigmas))

    evaluation = cocoeval.COCOeval(iouType="keypoints")
    evaluation._gts[1, 1] = truth["annotations"]
    evaluation._dts[1, 1] = [row | {"score": 0.5} for row in rows]
    evaluation.params.kpt_oks_sigmas = np.array(COCO.sigmas)
    expected = evaluation.computeOks(1, 1)
    assert similarities.tolist() == expected.ravel().tolist()
    assert len(set(labels.is_labelled.sum(axis=1).tolist())) > 5


def test_scores_are_named_as_in_papers():
    named = coco_keypoint_scores(truth_of(one_person()), [], COCO.sigmas).named()

    assert list(named) == ["AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl"]
    assert (named["APm"], named["APl"]) == (-1.0, 0.0)


def test_a_score_that_is_not_a_number_is_refused():
    with pytest.raises(ShapeError, match="finite numbers"):
        coco_keypoint_scores(truth_of(one_person()), [detection_of(one_person(), float("nan"))], COCO.sigmas)


def test_a_detection_without_a_score_is_refused():
    row = detection_of(one_person())
    del row["score"]

    with pytest.raises(DatasetError, match="lacks 'score'"):
        coco_keypoint_scores(truth_of(one_person()), [row], COCO.sigmas)


def test_the_random_sets_hold_what_makes_scoring_hard():
    truth = random_annotations(np.random.default_rng(0))
    people = truth["annotations"]

    assert any(person["iscrowd"] for person in people)
    assert any(not person["num_keypoints"] and not person["iscrowd"] for person in people)
    assert {image["id"] for image in truth["images"]} - {person["image_id"] for person in people}


def one_person(image_id=1, *, number=1, **changes):
    keypoints = np.column_stack([np.arange(17) * 9.0, np.arange(17) * 7.0, np.full(17, 2)])
    person = {"id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0, "num_keypoints": 17}
    person |= {"bbox": [0, 0, 144, 112], "area": 10000.0, "keypoints": keypoints.ravel().tolist()}
    return person | changes


def truth_of(*annotations, num_images=1):
    return {
        "images": [{"id": n + 1} for n in range(num_images)],
        "annotations": list(annotations),
        "categories": CATEGORIES,
    }


def detection_of(person, score=0.9):
    return {key: person[key] for key in ("image_id", "category_id", "keypoints")} | {"score": score}


def test_a_perfect_answer_scores_one():
    scores = coco_keypoint_scores(truth_of(one_person()), [detection_of(one_person())], COCO.sigmas)

    assert scores == CocoScores(*(1.0, 1.0, 1.0, -1.0, 1.0), *(1.0, 1.0, 1.0, -1.0, 1.0))


def test_no_detections_score_zero():
    scores = coco_keypoint_scores(truth_of(one_person(area=5000.0), one_person(number=2)), [], COCO.sigmas)

    assert set(scores.to_dict().values()) == {0.0}


def test_a_picture_without_detections_counts():
    truth = truth_of(one_person(1), one_person(2, number=2), num_images=2)

    scores = coco_keypoint_scores(truth, [detection_of(one_person(1))], COCO.sigmas)

    assert scores.ar == 0.5


def test_the_annotation_numbered_0_counts_like_any_other():
    scores = coco_keypoint_scores(truth_of(one_person(number=0)), [detection_of(one_person())], COCO.sigmas)

    assert scores.ap == 1.0


def test_a_crowd_without_keypoints_takes_detections_inside_it_out_of_the_count():
    crowd = one_person(number=2, iscrowd=1, bbox=[300, 300, 200, 200], area=40000.0)
    del crowd["keypoints"], crowd["num_keypoints"]
    in_crowd = detection_of(one_person(keypoints=[400.0, 400.0, 1.0] * 17), score=0.99)

    scores = coco_keypoint_scores(
        truth_of(one_person(), crowd), [in_crowd, detection_of(one_person())], COCO.sigmas
    )

    assert scores.ap == 1.0


def test_people_whose_keypoints_nobody_counted_are_counted_here():
    person = one_person()
    del person["num_keypoints"], person["iscrowd"]

    scores = coco_keypoint_scores(truth_of(person), [detection_of(person)], COCO.sigmas)

    assert scores.ap == 1.0


def test_nothing_labelled_scores_minus_one_as_in_coco():
    assert coco_keypoint_scores(truth_of(), [], COCO.sigmas).ap == -1.0


def test_annotations_may_come_as_a_file(tmp_path):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth_of(one_person())), encoding="utf-8")

    assert coco_keypoint_scores(path, [detection_of(one_person())], COCO.sigmas).ap == 1.0


def test_nothing_is_printed_and_arguments_stay_as_they_are(capfd):
    truth, detections = truth_of(one_person()), [detection_of(one_person())]
    before = copy.deepcopy((truth, detections))

    coco_keypoint_scores(truth, detections, COCO.sigmas)

    assert (truth, detections) == before
    assert capfd.readouterr() == ("", "")


def test_a_detection_in_a_picture_that_is_not_listed_is_refused():
    with pytest.raises(DatasetError, match="image 7"):
        coco_keypoint_scores(truth_of(one_person()), [detection_of(one_person(7))], COCO.sigmas)


def test_a_detection_of_another_skeleton_is_refused():
    with pytest.raises(DatasetError, match="51 keypoint numbers, expected 42"):
        coco_keypoint_scores(truth_of(one_person()), [detection_of(one_person())], CROWDPOSE.sigmas)

"""Evaluation of a predictor on annotated pictures; the predictor is a table, so every score is known."""

import json

import numpy as np
import pytest

from fleetpose.errors import ConfigError, DatasetError
from fleetpose.geometry import boxes_from_coco
from fleetpose.results import PoseResult
from fleetpose.runtime.evaluation import evaluate
from fleetpose.skeletons import COCO, LSP

SIZE = (200, 200)


def person(image_id, *, shift=0.0, **changes):
    """An annotation of a person within the box (20 + shift, 20, 120, 160)."""
    x = 20 + shift + np.linspace(0, 120, 17) * (np.arange(17) % 2)
    y = 20 + np.linspace(0, 160, 17)
    annotation = {
        "id": 10 * image_id + len(changes),
        "image_id": image_id,
        "category_id": 3,
        "iscrowd": 0,
        "bbox": [20 + shift, 20, 120, 160],
        "area": 10000.0,
        "num_keypoints": 17,
        "keypoints": np.column_stack([x, y, np.full(17, 2)]).ravel().tolist(),
    }
    return annotation | changes


def result_of(*annotations, skeleton=COCO):
    keypoints = np.array([item["keypoints"] for item in annotations], np.float32).reshape(-1, 17, 3)
    keypoints[..., 2] = np.where(keypoints[..., 2] > 0, 0.9, 0)
    boxes = boxes_from_coco(np.array([item["bbox"] for item in annotations], np.float32).reshape(-1, 4))
    scores = np.linspace(0.9, 0.5, len(annotations), dtype=np.float32)
    return PoseResult(
        keypoints=keypoints[:, : len(skeleton)],
        boxes=boxes.astype(np.float32),
        scores=scores,
        image_size=SIZE,
        skeleton=skeleton,
    )


@pytest.fixture
def dataset(tmp_path):
    """Function that writes annotations and empty pictures, and returns the two paths."""

    def write(annotations, *, image_ids=(1, 2), **changes):
        images = [{"id": n, "file_name": f"{n}.jpg", "height": 200, "width": 200} for n in image_ids]
        for image in images:
            (tmp_path / image["file_name"]).touch()
        categories = [{"id": 3, "name": "person", "keypoints": list(COCO.keypoints)}]
        data = {"images": images, "annotations": annotations, "categories": categories} | changes
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(data), encoding="utf-8")
        return path, tmp_path

    return write


def table(results):
    """Predictor that knows the answer per file name; nobody elsewhere."""
    return lambda path: results.get(path.name, PoseResult.empty(SIZE, COCO))


def test_perfect_predictions_score_one(dataset):
    people = [person(1), person(2)]

    evaluation = evaluate(
        table({f"{n + 1}.jpg": result_of(p) for n, p in enumerate(people)}), *dataset(people)
    )

    assert evaluation.coco.ap == evaluation.coco.ar == 1.0
    assert evaluation.pck.mean == 1.0
    assert evaluation.num_images == evaluation.num_people == 2


def test_a_picture_in_which_nobody_is_found_halves_the_scores(dataset):
    evaluation = evaluate(table({"1.jpg": result_of(person(1))}), *dataset([person(1), person(2)]))

    assert evaluation.coco.ar == 0.5
    assert evaluation.pck.mean == 0.5


def test_detections_are_kept_with_the_files_image_and_category(dataset):
    evaluation = evaluate(table({"2.jpg": result_of(person(2))}), *dataset([person(1), person(2)]))

    (row,) = evaluation.detections
    assert (row["image_id"], row["category_id"]) == (2, 3)
    np.testing.assert_allclose(row["keypoints"][:2], person(2)["keypoints"][:2], atol=1e-3)


def test_each_labelled_person_is_compared_with_the_one_in_its_box(dataset):
    left, right = person(1), person(1, shift=60.0, id=77)

    evaluation = evaluate(table({"1.jpg": result_of(right, left)}), *dataset([left, right], image_ids=(1,)))

    assert evaluation.pck.mean == 1.0


def test_only_every_tenth_image_is_taken_where_asked(dataset):
    people = [person(n) for n in (5, 10, 20)]
    asked = []

    def predict(path):
        asked.append(path.name)
        return PoseResult.empty(SIZE, COCO)

    evaluation = evaluate(predict, *dataset(people, image_ids=(5, 10, 20)), every=10)

    assert asked == ["10.jpg", "20.jpg"]
    assert evaluation.num_images == evaluation.num_people == 2


def test_pictures_left_out_need_not_be_there(dataset):
    annotations, images = dataset([person(5), person(10)], image_ids=(5, 10))
    (images / "5.jpg").unlink()

    assert evaluate(table({}), annotations, images, every=10).num_images == 1


def test_progress_is_told_after_each_picture(dataset):
    told = []

    evaluate(table({}), *dataset([person(1)]), progress=lambda done, total: told.append((done, total)))

    assert told == [(1, 2), (2, 2)]


def test_crowds_and_people_without_keypoints_count_for_nothing(dataset):
    crowd = person(1, iscrowd=1, id=50)
    del crowd["keypoints"]
    unlabelled = person(2, keypoints=[0] * 51, num_keypoints=0)

    evaluation = evaluate(table({"1.jpg": result_of(person(1))}), *dataset([person(1), crowd, unlabelled]))

    assert evaluation.num_people == 1
    assert evaluation.coco.ap == evaluation.pck.mean == 1.0


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (person(1, keypoints=[1.0] * 42), r"annotation 11 has 42 keypoint numbers, but coco17 needs 51"),
        (person(1, keypoints=[]), r"annotation 11 has 0 keypoint numbers"),
        ({key: value for key, value in person(1).items() if key != "area"}, r"annotation 10 lacks area"),
        (
            {key: value for key, value in person(1).items() if key not in {"bbox", "area"}},
            r"annotation 10 lacks bbox, area",
        ),
    ],
)
def test_an_annotation_that_does_not_fit_is_named(dataset, annotation, message):
    with pytest.raises(DatasetError, match=message):
        evaluate(table({}), *dataset([annotation]))


def test_a_missing_picture_is_named_before_any_is_predicted(dataset):
    annotations, images = dataset([person(1)])
    (images / "2.jpg").unlink()

    with pytest.raises(DatasetError, match=r"1 of the 2 pictures .* the first is 2\.jpg"):
        evaluate(lambda _: pytest.fail("predicted"), annotations, images)


@pytest.mark.parametrize(("every", "message"), [(1, "lists no picture"), (7, "multiple of 7")])
def test_a_file_without_the_wanted_pictures_is_refused(dataset, every, message):
    with pytest.raises(DatasetError, match=message):
        evaluate(table({}), *dataset([], image_ids=() if every == 1 else (1, 2)), every=every)


def test_a_file_without_a_category_is_refused(dataset):
    with pytest.raises(DatasetError, match="has no category"):
        evaluate(table({}), *dataset([], categories=[]))


def test_predictions_of_another_skeleton_are_refused(dataset):
    with pytest.raises(ConfigError, match=r"lsp14, but coco17"):
        evaluate(lambda _: PoseResult.empty(SIZE, LSP), *dataset([person(1)]))


def test_every_must_be_a_positive_number(dataset):
    with pytest.raises(ConfigError, match="every must be at least 1, got 0"):
        evaluate(table({}), *dataset([]), every=0)


@pytest.mark.parametrize(
    "name",
    [
        "coco_dev/person_keypoints.json",
        pytest.param("lspet/lspet_coco17.json", marks=pytest.mark.slow),
    ],
)
def test_the_labels_themselves_score_one_on_the_shared_photos(name, shared):
    path = shared / "data" / name
    data = json.loads(path.read_text(encoding="utf-8"))
    files = {image["id"]: image["file_name"] for image in data["images"]}
    people = {}
    for item in data["annotations"]:
        if not item["iscrowd"] and item["num_keypoints"]:
            people.setdefault(files[item["image_id"]], []).append(item)

    evaluation = evaluate(
        table({file_name: result_of(*items) for file_name, items in people.items()}),
        path,
        path.parent / "images",
        every=10,
    )

    assert evaluation.coco.ap > 0.98  # rows hold three decimals, and 20 people per picture count
    assert evaluation.pck.mean > 0.98

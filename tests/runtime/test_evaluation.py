"""Evaluation of a predictor on annotated pictures; the predictor is a table, so every score is known."""

import json

import numpy as np
import pytest
from scipy.io import savemat

from fleetpose.errors import ConfigError, DatasetError
from fleetpose.geometry import boxes_from_coco
from fleetpose.results import PoseResult
from fleetpose.runtime.evaluation import METRICS, evaluate, evaluate_detections, skeleton_of
from fleetpose.runtime.truth import load_truth
from fleetpose.skeletons import COCO, CROWDPOSE, LSP, MPII, Skeleton

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
    unknown = person(2, shift=40.0, keypoints=[], id=51)
    del unknown["num_keypoints"]

    found = {"1.jpg": result_of(person(1)), "2.jpg": result_of(person(2), person(2, shift=40.0))}
    evaluation = evaluate(table(found), *dataset([person(1), crowd, unlabelled, unknown]))

    assert evaluation.num_people == 1
    assert evaluation.coco.ap == evaluation.pck.mean == 1.0


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (person(1, keypoints=[1.0] * 42), r"annotation 11 has 42 keypoint numbers, but coco17 needs 51"),
        (person(1, keypoints=[]), "no annotation has keypoints, so that nobody can be scored"),
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


def test_only_cocos_tables_need_boxes_and_areas(dataset):
    bare = {key: value for key, value in person(1).items() if key not in {"bbox", "area"}}
    annotations, images = dataset([bare])

    evaluation = evaluate(table({"1.jpg": result_of(person(1))}), annotations, images, metric="pck")

    assert evaluation.scores["PCK@0.2"] == 1.0
    with pytest.raises(DatasetError, match="lacks bbox, area"):
        evaluate(table({}), annotations, images, metric="ochuman")


def test_ochumans_table_is_cocos(dataset):
    paths = dataset([person(1), person(2)])
    predict = table({"1.jpg": result_of(person(1))})

    tables = [evaluate(predict, *paths, metric=metric).scores for metric in (None, "coco", "ochuman")]

    assert tables[0] == tables[1] == tables[2]
    assert tables[0]["AR"] == 0.5


def test_an_unknown_metric_is_refused(dataset):
    with pytest.raises(ConfigError, match="unknown metric 'cocos'; did you mean coco"):
        evaluate(table({}), *dataset([]), metric="cocos")


def test_errors_are_broken_down_where_asked(dataset):
    paths = dataset([person(1), person(2)])
    predict = table({"1.jpg": result_of(person(1))})

    assert evaluate(predict, *paths).breakdown is None
    breakdown = evaluate(predict, *paths, has_breakdown=True).breakdown
    assert breakdown.found["large"] == 1
    assert breakdown.ap_if_mended["not found"] == 1.0


def reordered(annotation, order):
    """The same annotation with its keypoints in another order."""
    points = np.reshape(annotation["keypoints"], (-1, 3))
    return annotation | {"keypoints": points[order].ravel().tolist()}


def test_keypoints_that_the_file_names_in_another_order_are_found_by_name(dataset):
    backwards = list(range(17))[::-1]
    categories = [{"id": 3, "keypoints": [COCO.keypoints[k] for k in backwards]}]
    people = [person(1), person(2)]
    paths = dataset([reordered(one, backwards) for one in people], categories=categories)

    evaluation = evaluate(table({"1.jpg": result_of(people[0]), "2.jpg": result_of(people[1])}), *paths)

    assert evaluation.coco.ap == evaluation.pck.mean == 1.0


def test_detections_are_written_and_read_in_the_order_of_the_file(dataset):
    order = np.roll(np.arange(17), 5).tolist()
    categories = [{"id": 3, "keypoints": [COCO.keypoints[k] for k in order]}]
    labelled = reordered(person(1), order)
    annotations, folder = dataset([labelled], image_ids=(1,), categories=categories)

    evaluation = evaluate(table({"1.jpg": result_of(person(1))}), annotations, folder)

    (row,) = evaluation.detections
    np.testing.assert_allclose(
        np.reshape(row["keypoints"], (17, 3))[:, :2], np.reshape(labelled["keypoints"], (17, 3))[:, :2]
    )
    (folder / "found.json").write_text(json.dumps(evaluation.detections))
    for skeleton in (COCO, None):
        again = evaluate_detections(folder / "found.json", annotations, skeleton=skeleton)
        assert again.coco.ap == again.coco.ar == 1.0


HAND = Skeleton(
    name="hand_tool",
    keypoints=("right_wrist", "hammer", "nose"),
    limbs=(),
    flip_pairs=(),
    sigmas=(0.08, 0.08, 0.05),
)


def hands(annotation):
    """Result with the right wrist and the nose of an annotation of COCO's, and without a hammer."""
    points = np.reshape(annotation["keypoints"], (17, 3))[[10, 0, 0]] * [[1, 1, 1], [0, 0, 0], [1, 1, 1]]
    return PoseResult(
        keypoints=(points[None] * [1, 1, 0.45]).astype(np.float32),
        boxes=boxes_from_coco(np.array([annotation["bbox"]])).astype(np.float32),
        scores=np.ones(1, np.float32),
        image_size=SIZE,
        skeleton=HAND,
    )


def test_a_skeleton_of_some_of_the_files_keypoints_is_scored_on_those_and_says_what_is_missing(
    dataset, caplog
):
    hidden = [0] * 3, person(2)["keypoints"][3:30], [0] * 3, person(2)["keypoints"][33:]
    nobody = person(2, keypoints=[number for part in hidden for number in part], num_keypoints=15)
    crowd = person(1, iscrowd=1, id=50)
    del crowd["keypoints"]
    paths = dataset([person(1), nobody, crowd])
    found = {"1.jpg": hands(person(1))}

    evaluation = evaluate(
        lambda path: found.get(path.name, PoseResult.empty(SIZE, HAND)), *paths, skeleton=HAND
    )

    assert evaluation.coco.ap == evaluation.coco.ar == 1.0  # who lacks wrist and nose is nobody to miss
    assert (evaluation.num_images, evaluation.num_people) == (2, 1)
    assert "does not name hammer: only the other keypoints of hand_tool are scored" in caplog.text


def test_boxes_that_a_file_lacks_hold_all_its_keypoints_not_only_those_wanted(dataset):
    bare = {key: value for key, value in person(1).items() if key not in {"bbox", "area"}}
    truth = load_truth(dataset([bare])[0], HAND)

    assert truth.data["annotations"][0]["bbox"] == [20.0, 20.0, 112.5, 160.0]  # x ends at keypoint 15


def test_keypoints_without_names_or_with_other_spellings_are_not_guessed(dataset):
    unnamed = dataset([person(1)], categories=[{"id": 3}], image_ids=(1,))
    assert evaluate(table({"1.jpg": result_of(person(1))}), *unnamed).coco.ap == 1.0

    shouted = dataset([person(1)], categories=[{"id": 3, "keypoints": [n.upper() for n in COCO.keypoints]}])
    with pytest.raises(DatasetError, match=r"names none of the keypoints of coco17: it has NOSE, .*rename"):
        evaluate(lambda _: pytest.fail("predicted"), *shouted)


def test_keypoints_that_do_not_fit_the_names_of_their_category_are_refused(dataset):
    paths = dataset([person(1, keypoints=[1.0] * 9)])

    with pytest.raises(DatasetError, match=r"annotation 11 has 9 keypoint numbers, .* 17 names needs 51"):
        evaluate(table({}), *paths, skeleton=HAND)


def people_of(skeleton, count=2, **changes):
    """People of any skeleton, one per picture, in a box of (20, 20, 120, 160)."""
    keypoints = np.column_stack(
        [np.linspace(20, 140, len(skeleton)), np.linspace(20, 180, len(skeleton)), np.full(len(skeleton), 2)]
    )
    return [
        person(n, keypoints=keypoints.ravel().tolist(), num_keypoints=len(skeleton), **changes)
        for n in range(1, count + 1)
    ]


def written(folder, items, **changes):
    """Write detections that are the labels themselves, but for the `changes` of the first."""
    rows = [
        {"image_id": item["image_id"], "category_id": 3, "keypoints": item["keypoints"], "score": 0.5}
        for item in items
    ]
    rows[0] |= changes
    path = folder / "found.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("skeleton", "metric", "score"),
    [
        (COCO, "coco", "AP"),
        (CROWDPOSE, "crowdpose", "AP"),
        (LSP, "pck", "PCK@0.2"),
        (MPII, "mpii", "PCKh@0.5"),
    ],
    ids=["coco", "crowdpose", "lsp", "mpii"],
)
def test_each_skeleton_has_its_usual_table_and_is_known_by_its_names(dataset, skeleton, metric, score):
    people = people_of(skeleton, head_box=[20, 20, 30, 40])
    annotations, folder = dataset(
        people, categories=[{"id": 3, "name": "person", "keypoints": list(skeleton.keypoints)}]
    )

    evaluation = evaluate_detections(written(folder, people), annotations)

    assert evaluation.metric == metric
    assert evaluation.scores[score] == pytest.approx(1.0)
    assert metric in METRICS


def test_crowd_levels_come_from_the_pictures(dataset):
    people = people_of(CROWDPOSE)
    images = [
        {"id": 1, "file_name": "1.jpg", "crowdIndex": 0.1},
        {"id": 2, "file_name": "2.jpg", "crowdIndex": 0.9},
    ]
    annotations, folder = dataset(
        people, images=images, categories=[{"id": 3, "keypoints": list(CROWDPOSE.keypoints)}]
    )

    scores = evaluate_detections(written(folder, people[:1]), annotations).scores

    assert scores["AP-easy"] == 1.0
    assert scores["AP-medium"] == -1.0
    assert scores["AP-hard"] == 0.0


def test_mpii_wants_the_heads_box_of_everybody(dataset):
    people = people_of(MPII)
    annotations, folder = dataset(people, categories=[{"id": 3, "keypoints": list(MPII.keypoints)}])

    with pytest.raises(DatasetError, match="lacks head_box, four numbers x, y, w, h"):
        evaluate_detections(written(folder, people), annotations)


def test_each_person_is_measured_by_its_own_head(dataset):
    people = people_of(MPII, count=3)
    for item, (w, h) in zip(people, [(3, 4), (30, 40), (3, 4)], strict=True):
        item["head_box"] = [0, 0, w, h]
    people = [people[2], people[1], people[0]]
    annotations, folder = dataset(
        people, image_ids=(1, 2, 3), categories=[{"id": 3, "keypoints": list(MPII.keypoints)}]
    )
    moved = [
        item | {"keypoints": (np.array(item["keypoints"]) + [5.0, 0, 0] * 16).tolist()} for item in people
    ]

    scores = evaluate_detections(written(folder, moved), annotations).scores

    assert scores["PCKh@0.5"] == pytest.approx(1 / 3)  # half a head is 15 pixels for one, 1.5 for two


def test_detections_need_neither_boxes_nor_scores_of_keypoints(dataset):
    people = people_of(COCO)
    annotations, folder = dataset(people)
    unscored = [
        item | {"keypoints": (np.reshape(item["keypoints"], (-1, 3)) * [1, 1, 0]).ravel().tolist()}
        for item in people
    ]

    evaluation = evaluate_detections(written(folder, unscored), annotations)

    assert evaluation.coco.ap == evaluation.pck.mean == 1.0


def test_detections_in_pictures_left_out_are_left_out(dataset):
    people = people_of(COCO)
    annotations, folder = dataset(people)

    evaluation = evaluate_detections(written(folder, people), annotations, every=2)

    assert evaluation.num_images == evaluation.num_people == 1
    assert evaluation.coco.ap == 1.0


@pytest.mark.parametrize(("split", "pictures"), [("test", 1), ("train", 2)])
def test_of_a_file_with_training_pictures_only_the_others_count_unless_told(tmp_path, split, pictures):
    points = [[30 + 5 * k, 40 + 3 * k, 1] for k in range(16)]
    entries = [
        {"img_paths": name, "joint_self": points, "isValidation": is_validation}
        for name, is_validation in (("a.jpg", 0.0), ("b.jpg", 1.0), ("c.jpg", 0.0))
    ]
    (tmp_path / "mpii.json").write_text(json.dumps(entries))
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).touch()
    asked = []

    def predict(path):
        asked.append(path.name)
        return PoseResult(
            keypoints=np.zeros((0, 16, 3), np.float32),
            boxes=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            image_size=SIZE,
            skeleton=MPII,
        )

    evaluation = evaluate(predict, tmp_path / "mpii.json", tmp_path, skeleton=MPII, metric="pck", split=split)

    assert evaluation.num_images == len(asked) == pictures
    assert ("b.jpg" in asked) == (split == "test")


def test_mpiis_matlab_file_is_scored_on_its_training_part_by_those_who_are_labelled(tmp_path, matlab_cells):
    points = 30 + 5 * np.arange(32.0).reshape(16, 2)
    marks = [{"x": x + 1, "y": y + 1, "id": float(k), "is_visible": "1"} for k, (x, y) in enumerate(points)]
    head = {"x1": 1.0, "y1": 1.0, "x2": 31.0, "y2": 41.0}
    place = {"scale": 0.5, "objpos": {"x": 60.0, "y": 60.0}}
    people = matlab_cells(
        [head | place | {"annopoints": {"point": matlab_cells(marks)}}, head | place | {"annopoints": []}]
    )
    listed = [{"image": {"name": f"{name}.jpg"}, "annorect": people} for name in ("train", "test")]
    savemat(tmp_path / "mpii.mat", {"RELEASE": {"annolist": matlab_cells(listed), "img_train": [1, 0]}})
    (tmp_path / "train.jpg").touch()
    found = PoseResult(
        keypoints=np.column_stack([points, np.ones(16)])[None].astype(np.float32),
        boxes=np.array([[30, 30, 190, 190]], np.float32),
        scores=np.ones(1, np.float32),
        image_size=SIZE,
        skeleton=MPII,
    )

    evaluation = evaluate(
        table({"train.jpg": found}),
        tmp_path / "mpii.mat",
        tmp_path,
        skeleton=MPII,
        split="train",
        has_breakdown=True,
    )

    assert (evaluation.num_images, evaluation.num_people) == (1, 1)
    assert evaluation.scores["PCKh@0.5"] == evaluation.coco.ap == evaluation.pck.mean == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 9}, "image 9, which the annotations do not list"),
        ({"keypoints": [1.0] * 42}, "42 keypoint numbers, expected 51"),
        ({"score": "high"}, "something else than numbers"),
    ],
)
def test_detections_that_do_not_fit_are_named(dataset, changes, message):
    people = people_of(COCO)
    annotations, folder = dataset(people)

    with pytest.raises(DatasetError, match=message):
        evaluate_detections(written(folder, people, **changes), annotations)


def test_names_of_ones_own_make_a_skeleton_with_the_files_sigmas_and_limbs(dataset):
    category = {"id": 3, "keypoints": ["snout", "left_paw", "right_paw"], "skeleton": [[1, 2], [1, 3]]}
    annotations, _ = dataset([], categories=[category | {"sigmas": [0.03, 0.05, 0.05]}])

    skeleton = skeleton_of(annotations)

    assert skeleton.keypoints == ("snout", "left_paw", "right_paw")
    assert skeleton.limbs == (("snout", "left_paw"), ("snout", "right_paw"))
    assert skeleton.flip_pairs == (("left_paw", "right_paw"),)
    assert skeleton.sigmas == (0.03, 0.05, 0.05)


def test_sigmas_that_nobody_gave_are_guessed_with_a_warning(dataset, caplog):
    annotations, _ = dataset([], categories=[{"id": 3, "keypoints": ["left_wrist", "paw"]}])

    skeleton = skeleton_of(annotations)

    assert skeleton.sigmas == (0.062, 0.079)
    assert "no sigmas are given" in caplog.text


def test_a_file_that_names_no_keypoints_asks_for_a_skeleton(dataset):
    annotations, _ = dataset([], categories=[{"id": 3}])

    with pytest.raises(DatasetError, match="say which skeleton it has with --skeleton"):
        skeleton_of(annotations)


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

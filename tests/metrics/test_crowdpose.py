"""CrowdPose's table, against the toolkits that others use."""

import contextlib
import copy
import io

import numpy as np
import pytest

from fleetpose.metrics.crowdpose import crowd_indices, crowdpose_scores
from fleetpose.metrics.tables import detections_from_coco, labels_from_coco
from fleetpose.skeletons import CROWDPOSE


def random_set(seed):
    """Pictures of three crowd levels with people whose given area is of no use."""
    rng = np.random.default_rng(seed)
    images = [{"id": n, "crowdIndex": round(float(rng.uniform()), 2)} for n in range(1, 13)]
    images[0]["crowdIndex"], images[1]["crowdIndex"] = 0.2, 0.8
    annotations, rows = [], []
    for image in images:
        for _ in range(4):
            x, y, w, h = rng.uniform(20, 300, 4).tolist()
            points = np.column_stack([rng.uniform(x, x + w, 14), rng.uniform(y, y + h, 14)])
            v = rng.choice([0, 1, 2], 14)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": 1,
                    "iscrowd": 0,
                    "bbox": [x, y, w, h],
                    "area": 1.0,
                    "keypoints": np.column_stack([points * (v > 0)[:, None], v]).ravel().tolist(),
                    "num_keypoints": int((v > 0).sum()),
                }
            )
            points += rng.normal(0, rng.choice([0.02, 0.1]) * np.sqrt(w * h), points.shape)
            rows.append(
                {
                    "image_id": image["id"],
                    "category_id": 1,
                    "keypoints": np.column_stack([points, np.ones(14)]).ravel().tolist(),
                    "score": float(rng.uniform()),
                }
            )
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}, rows


def scores_of(truth, rows):
    labels = labels_from_coco(truth, num_keypoints=14)
    detections = detections_from_coco(rows, num_keypoints=14)
    return crowdpose_scores(labels, detections, CROWDPOSE.sigmas, crowd_indices(truth))


def ap_of_pycocotools(truth, rows, image_ids):
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    data = copy.deepcopy(truth)
    for annotation in data["annotations"]:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3] * 0.53
    with contextlib.redirect_stdout(io.StringIO()):
        labelled = coco.COCO()
        labelled.dataset = data
        labelled.createIndex()
        evaluation = cocoeval.COCOeval(labelled, labelled.loadRes(copy.deepcopy(rows)), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(CROWDPOSE.sigmas)
        evaluation.params.imgIds = image_ids
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, :, 0, :].mean()


@pytest.mark.parametrize("seed", range(3))
def test_precision_by_level_is_that_of_cocos_tool_on_the_levels_pictures(seed):
    truth, rows = random_set(seed)

    scores = scores_of(truth, rows)

    index = crowd_indices(truth)
    levels = {
        "ap_easy": [n for n in index if index[n] < 0.2],
        "ap_medium": [n for n in index if 0.2 <= index[n] < 0.8],
        "ap_hard": [n for n in index if index[n] >= 0.8],
        "ap": list(index),
    }
    for name, image_ids in levels.items():
        expected = ap_of_pycocotools(truth, rows, image_ids) if image_ids else -1.0
        assert getattr(scores, name) == pytest.approx(expected, abs=1e-9)


def test_all_nine_numbers_are_those_of_the_crowdpose_toolkit(tmp_path):
    evaluator = pytest.importorskip("faster_coco_eval")
    import json

    truth, rows = random_set(7)
    (tmp_path / "truth.json").write_text(json.dumps(truth), encoding="utf-8")

    scores = scores_of(truth, rows)

    labelled = evaluator.COCO(str(tmp_path / "truth.json"))
    evaluation = evaluator.COCOeval_faster(
        labelled,
        labelled.loadRes(copy.deepcopy(rows)),
        iouType="keypoints_crowd",
        kpt_oks_sigmas=list(CROWDPOSE.sigmas),
        use_area=False,
    )
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    ours = [scores.ap, scores.ap50, scores.ap75, scores.ar, scores.ar50, scores.ar75]
    np.testing.assert_allclose(ours, evaluation.stats[:6], rtol=0, atol=1e-9)
    levels = [scores.ap_easy, scores.ap_medium, scores.ap_hard]
    np.testing.assert_allclose(levels, evaluation.stats[6:9], rtol=0, atol=5.1e-5)  # it rounds


def test_a_picture_on_the_line_is_of_the_harder_level():
    truth, rows = random_set(0)
    truth["images"] = truth["images"][:1]  # its index is 0.2
    kept = {"images": truth["images"], "categories": truth["categories"]}
    kept["annotations"] = [item for item in truth["annotations"] if item["image_id"] == 1]

    scores = scores_of(kept, [row for row in rows if row["image_id"] == 1])

    assert scores.ap_easy == scores.ap_hard == -1.0
    assert scores.ap_medium == scores.ap


def test_without_crowd_indices_only_the_levels_are_missing():
    truth, rows = random_set(1)
    whole = scores_of(truth, rows)
    for image in truth["images"]:
        del image["crowdIndex"]

    scores = scores_of(truth, rows)

    assert scores.ap_easy == scores.ap_medium == scores.ap_hard == -1.0
    assert scores.ap == whole.ap
    assert list(scores.named())[3:6] == ["AP-easy", "AP-medium", "AP-hard"]

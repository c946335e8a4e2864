"""Scoring of COCO keypoints beside COCO's own tool, interleaved in one run on the same numbers.

    python benchmarks/evaluation.py [--images 5000] [--detections 100000] [--rounds 3] [--json FILE]

The made-up set has the make-up of COCO's validation set: as many people with and without keypoints per
picture, up to 20 detections in a picture, some of them good. Each round runs every tool once from file to
scores; "from arrays" (for the others: from their own loaded tables) leaves the files out. Seconds are those
of the processor, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval import COCOeval_faster
from faster_coco_eval.core import coco as faster_coco
from pycocotools import coco as pycoco
from pycocotools.cocoeval import COCOeval

from fleetpose.metrics.coco import coco_scores
from fleetpose.metrics.tables import labels_from_coco, load_detections
from fleetpose.skeletons import COCO

#: People with and without keypoints per picture of COCO's validation set of 2017.
PEOPLE, WITHOUT_KEYPOINTS = 6352 / 5000, 4652 / 5000


def main() -> None:
    """Time and print."""
    arguments = _arguments()
    rng = np.random.default_rng(0)
    truth = _truth(rng, arguments.images)
    rows = _rows(rng, truth, arguments.detections)
    tools = {"pycocotools": _pycocotools, "faster-coco-eval": _faster, "fleetpose": _ours}
    times_s: dict[str, list[tuple[float, float]]] = {name: [] for name in tools}
    scores: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        truth_file, rows_file = Path(folder) / "truth.json", Path(folder) / "rows.json"
        truth_file.write_text(json.dumps(truth), encoding="utf-8")
        rows_file.write_text(json.dumps(rows), encoding="utf-8")
        del truth, rows
        for _ in range(arguments.rounds):
            for name, tool in tools.items():
                scores[name], load_s, score_s = tool(truth_file, rows_file)
                times_s[name].append((load_s, score_s))
    record = _record(arguments, times_s, scores)
    _print(record)
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _record(
    arguments: argparse.Namespace,
    times_s: dict[str, list[tuple[float, float]]],
    scores: dict[str, list[float]],
) -> dict[str, Any]:
    medians = {name: np.median(np.array(times), axis=0) for name, times in times_s.items()}
    return {
        "images": arguments.images,
        "detections": arguments.detections,
        "rounds": arguments.rounds,
        "load_s": {name: float(times[0]) for name, times in medians.items()},
        "score_s": {name: float(times[1]) for name, times in medians.items()},
        "scores": scores,
        "largest_difference": {
            name: float(np.abs(np.subtract(values, scores["pycocotools"])).max())
            for name, values in scores.items()
        },
    }


def _print(record: dict[str, Any]) -> None:
    print(f"{record['images']} pictures, {record['detections']} detections, median of {record['rounds']}\n")
    print("| tool | files s | scoring s | in all s | times as fast | from arrays | largest difference |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    totals = {name: record["load_s"][name] + record["score_s"][name] for name in record["scores"]}
    for name, total in totals.items():
        faster = totals["pycocotools"] / total
        from_arrays = record["score_s"]["pycocotools"] / record["score_s"][name]
        print(
            f"| {name} | {record['load_s'][name]:.2f} | {record['score_s'][name]:.2f} | {total:.2f} "
            f"| {faster:.1f} | {from_arrays:.1f} | {record['largest_difference'][name]:.1e} |"
        )
    print("\nscores:", " ".join(f"{value:.4f}" for value in record["scores"]["fleetpose"]))


def _ours(truth_file: Path, rows_file: Path) -> tuple[list[float], float, float]:
    start_s = time.process_time()
    truth = json.loads(truth_file.read_text(encoding="utf-8"))
    labels = labels_from_coco(truth, num_keypoints=len(COCO))
    detections = load_detections(rows_file, num_keypoints=len(COCO))
    loaded_s = time.process_time()
    scores = coco_scores(labels, detections, COCO.sigmas)
    return list(scores.to_dict().values()), loaded_s - start_s, time.process_time() - loaded_s


def _pycocotools(truth_file: Path, rows_file: Path) -> tuple[list[float], float, float]:
    return _timed(
        truth_file, rows_file, pycoco.COCO, lambda truth, found: COCOeval(truth, found, "keypoints")
    )


def _faster(truth_file: Path, rows_file: Path) -> tuple[list[float], float, float]:
    def build(truth: faster_coco.COCO, found: faster_coco.COCO) -> COCOeval_faster:
        return COCOeval_faster(truth, found, iouType="keypoints", kpt_oks_sigmas=list(COCO.sigmas))

    return _timed(truth_file, rows_file, faster_coco.COCO, build)


def _timed(
    truth_file: Path, rows_file: Path, load: Callable[[str], Any], build: Callable[[Any, Any], Any]
) -> tuple[list[float], float, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        start_s = time.process_time()
        truth = load(str(truth_file))
        found = truth.loadRes(str(rows_file))
        loaded_s = time.process_time()
        evaluation = build(truth, found)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        done_s = time.process_time()
    return [float(value) for value in evaluation.stats[:10]], loaded_s - start_s, done_s - loaded_s


def _truth(rng: np.random.Generator, num_images: int) -> dict[str, Any]:
    annotations = []
    for image_id in range(1, num_images + 1):
        for has_keypoints in [True] * rng.poisson(PEOPLE) + [False] * rng.poisson(WITHOUT_KEYPOINTS):
            side = float(rng.lognormal(4.5, 0.8))
            x, y = rng.uniform(0, 500, 2).tolist()
            v = rng.choice([0, 1, 2], len(COCO), p=[0.3, 0.1, 0.6]) * has_keypoints
            points = np.column_stack(
                [rng.uniform(x, x + side, len(COCO)), rng.uniform(y, y + side, len(COCO))]
            )
            keypoints = np.column_stack([np.rint(points) * (v > 0)[:, None], v]).astype(int)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "iscrowd": int(not has_keypoints and rng.uniform() < 0.1),
                    "bbox": [x, y, side, side],
                    "area": side * side * 0.5,
                    "keypoints": keypoints.ravel().tolist(),
                    "num_keypoints": int((v > 0).sum()),
                }
            )
    images = [
        {"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(1, num_images + 1)
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}


def _rows(rng: np.random.Generator, truth: dict[str, Any], count: int) -> list[dict[str, Any]]:
    rows = []
    for person in truth["annotations"]:
        points = np.array(person["keypoints"], float).reshape(-1, 3)
        for spread in (0.03, 0.08, 0.2)[: rng.integers(0, 4)]:
            shaken = points[:, :2] + rng.normal(0, spread * person["area"] ** 0.5, (len(COCO), 2))
            rows.append((person["image_id"], shaken, float(rng.beta(4, 2))))
    while len(rows) < count:
        middle = rng.uniform(0, 500, 2)
        points = middle + rng.normal(0, 60, (len(COCO), 2))
        rows.append((int(rng.integers(1, len(truth["images"]) + 1)), points, float(rng.beta(2, 4))))
    return [
        {
            "image_id": image_id,
            "category_id": 1,
            "keypoints": np.column_stack([points, np.ones(len(COCO))]).round(3).ravel().tolist(),
            "score": round(score, 5),
        }
        for image_id, points, score in rows[:count]
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the record into this file too")
    return parser.parse_args()


if __name__ == "__main__":
    main()

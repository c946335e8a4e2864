"""Accuracy of our models beside published ones, on the same people and the same boxes, in one run.

    python benchmarks/peers.py [--model NAME_OR_FILE ...] [--shared FOLDER] [--lspet-every 10] [--json FILE]

Every model gets each labelled person's box, made square and a quarter larger, and finds one person in it.
Ours find several people; the one whose box fits best counts. Peers are the `.tflite` files of the shared
folder's `peers`; the photos are `data/coco_dev` and the kept-out part of `data/lspet`. EfficientPose knows no
face, so there is also the precision over the twelve keypoints of arms and legs. Milliseconds are those of one
thread of the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetpose.geometry import (
    Image,
    box_ious,
    boxes_from_coco,
    invert,
    similarity,
    transform_points,
    warp,
)
from fleetpose.media.images import read_image
from fleetpose.metrics.pck import LIMB_KEYPOINTS
from fleetpose.runtime.evaluation import evaluate_detections
from fleetpose.runtime.peers import PEERS
from fleetpose.runtime.predictor import load
from fleetpose.skeletons import COCO

Array = npt.NDArray[np.floating]

#: A person's square is so many times as large as the longer side of the box.
MARGIN = 1.25
#: Side of the square that our models, which resize by themselves, are given.
OUR_SIDE = 384
MOVENET = "movenet_singlepose_lightning_int8_4"
EFFICIENTPOSES = ("EfficientPoseRT", "EfficientPoseI", "EfficientPoseII")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model to be scored: from a square picture to the keypoints `[K, 3]` (x, y, score) of one person."""

    name: str
    side: int
    find: Callable[[Image], Array]
    has_face: bool = True


def main() -> None:
    """Score and print."""
    arguments = _arguments()
    if not (arguments.shared / "data" / "coco_dev").is_dir():
        sys.exit(f"skipped: no photos at {arguments.shared}; give the folder that holds data and peers")
    candidates = [*_ours(arguments.model), *_peers(arguments.shared / "peers")]
    with tempfile.TemporaryDirectory() as folder:
        rows = [_scores(candidate, arguments, Path(folder)) for candidate in candidates]
    _print(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _ours(names: list[str]) -> Iterator[Candidate]:
    for name in names or [None]:
        predictor = load(name, threshold=0.0, threads=1)

        def find(image: Image, predictor: Callable[..., Any] = predictor) -> Array:
            result = predictor(image)
            if not len(result):
                return np.zeros((len(COCO), 3))
            margin = (1 - 1 / MARGIN) / 2 * OUR_SIDE
            square = np.array([[margin, margin, OUR_SIDE - margin, OUR_SIDE - margin]])
            fit = box_ious(square, result.boxes)[0] * result.scores
            return result.keypoints[int(fit.argmax())].astype(float)

        yield Candidate(predictor.description.name, OUR_SIDE, find)


def _peers(folder: Path) -> Iterator[Candidate]:
    try:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415
    except ImportError:
        print("peers are skipped: ai-edge-litert is not installed; run: pip install ai-edge-litert")
        return
    for name in (MOVENET, *EFFICIENTPOSES):
        path = folder / f"{name}.tflite"
        if not path.is_file():
            print(f"{name} is skipped: {path} is missing")
            continue
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
        side = int(interpreter.get_input_details()[0]["shape"][1])
        kind = "movenet" if name == MOVENET else "efficientpose"
        yield Candidate(name, side, _of_square(interpreter, kind, side), has_face=name == MOVENET)


def _of_square(interpreter: Any, kind: str, side: int) -> Callable[[Image], Array]:  # noqa: ANN401
    entry = interpreter.get_input_details()[0]
    outputs = [one["index"] for one in interpreter.get_output_details()]
    prepare, read = PEERS[kind]

    def find(image: Image) -> Array:
        interpreter.set_tensor(entry["index"], prepare(image).astype(entry["dtype"]))
        interpreter.invoke()
        return read([interpreter.get_tensor(index) for index in outputs], side)

    return find


def _scores(candidate: Candidate, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    data = arguments.shared / "data"
    coco, lspet = data / "coco_dev" / "person_keypoints.json", data / "lspet" / "lspet_coco17.json"
    limbs = folder / "limbs.json"
    limbs.write_text(
        json.dumps(_without_face(json.loads(coco.read_text(encoding="utf-8")))), encoding="utf-8"
    )
    found, ms = _detections(candidate, coco, folder, every=arguments.coco_every)
    whole = evaluate_detections(found, coco, skeleton=COCO, every=arguments.coco_every)
    arms_and_legs = evaluate_detections(found, limbs, skeleton=COCO, every=arguments.coco_every)
    found, _ = _detections(candidate, lspet, folder, every=arguments.lspet_every)
    pck = evaluate_detections(found, lspet, skeleton=COCO, every=arguments.lspet_every).pck
    return {
        "model": candidate.name,
        "AP": whole.coco.ap if candidate.has_face else None,
        "AP50": whole.coco.ap50 if candidate.has_face else None,
        "AP, limbs": arms_and_legs.coco.ap,
        "AP50, limbs": arms_and_legs.coco.ap50,
        "coco_dev PCK@0.2": whole.pck.mean,
        "lspet PCK@0.2": pck.mean,
        "ms per person": ms,
    }


def _detections(candidate: Candidate, annotations: Path, folder: Path, *, every: int) -> tuple[Path, float]:
    """Run a model on everybody who is labelled → file of detections, median milliseconds."""
    data = json.loads(annotations.read_text(encoding="utf-8"))
    files = {image["id"]: image["file_name"] for image in data["images"] if image["id"] % every == 0}
    rows, times_ms = [], []
    image_id, image = None, np.zeros((1, 1, 3), np.uint8)
    for person in sorted(data["annotations"], key=lambda item: item["image_id"]):
        if person["image_id"] not in files or person.get("iscrowd") or not any(person["keypoints"][2::3]):
            continue
        if person["image_id"] != image_id:
            image_id = person["image_id"]
            image = read_image(annotations.parent / "images" / files[image_id], is_as_stored=True)
        affine = _square(person["bbox"], candidate.side)
        crop = warp(image, affine, (candidate.side, candidate.side))
        start_s = time.process_time()
        keypoints = candidate.find(crop)
        times_ms.append(1000 * (time.process_time() - start_s))
        placed = transform_points(keypoints, invert(affine)) * (keypoints[:, 2:] > 0)
        rows.append(
            {
                "image_id": image_id,
                "category_id": person["category_id"],
                "keypoints": placed.ravel().tolist(),
                "score": float(keypoints[:, 2].mean()),
                "bbox": person["bbox"],
            }
        )
    path = folder / "found.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path, float(np.median(times_ms))


def _square(box_xywh: list[float], side: int) -> Array:
    """Affine map that brings a person's box, made square and larger, onto a picture of `side` pixels."""
    x1, y1, x2, y2 = boxes_from_coco(np.array(box_xywh, float)).tolist()
    middle = (side - 1) / 2
    scale = side / (MARGIN * max(x2 - x1, y2 - y1, 1.0))
    return similarity(source_xy=((x1 + x2) / 2, (y1 + y2) / 2), target_xy=(middle, middle), scale=scale)


def _without_face(data: Mapping[str, Any]) -> dict[str, Any]:
    """Copy annotations and leave only the labels of arms and legs."""
    is_limb = np.array([name in LIMB_KEYPOINTS for name in COCO.keypoints])[:, None]
    annotations = []
    for person in data["annotations"]:
        keypoints = np.reshape(person["keypoints"], (-1, 3)) * is_limb
        count = int((keypoints[:, 2] > 0).sum())
        annotations.append({**person, "keypoints": keypoints.ravel().tolist(), "num_keypoints": count})
    return {**data, "annotations": annotations}


def _print(rows: list[dict[str, Any]]) -> None:
    columns = list(rows[0])
    print("| " + " | ".join(columns) + " |\n| --- |" + " ---: |" * (len(columns) - 1))
    for row in rows:
        cells = [_cell(column, row[column]) for column in columns]
        print("| " + " | ".join(cells) + " |")


def _cell(column: str, value: str | float | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value if column.startswith('ms') else 100 * value:.1f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(os.environ.get("FLEETPOSE_SHARED", Path(__file__).parents[2] / "shared"))
    parser.add_argument(
        "--model", "-m", action="append", default=[], help="bundled model or .onnx file; may be repeated"
    )
    parser.add_argument("--shared", type=Path, default=default, help="folder with data and peers")
    parser.add_argument("--coco-every", type=int, default=1, help="pictures whose id is a multiple of this")
    parser.add_argument(
        "--lspet-every", type=int, default=10, help="multiples of 10 are kept out of training"
    )
    parser.add_argument("--json", type=Path, help="write the table into this file too")
    return parser.parse_args()


if __name__ == "__main__":
    main()

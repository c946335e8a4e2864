"""`fleetpose evaluate`: COCO's keypoint table of a model on labelled pictures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from fleetpose.cli.exit_codes import EXIT_OK
from fleetpose.errors import ConfigError

if TYPE_CHECKING:
    from fleetpose.runtime.evaluation import Evaluation

#: COCO's names of the scores, in the order of its table.
COLUMNS = {
    "AP": "ap",
    "AP50": "ap50",
    "AP75": "ap75",
    "APM": "ap_medium",
    "APL": "ap_large",
    "AR": "ar",
}


def evaluate(
    *,
    data: Path,
    images: Path,
    model: Annotated[str | None, Parameter(name=["--model", "-m"])] = None,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    every: int = 1,
    short_side: int | None = None,
    threads: int | None = None,
    flip_test: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Score a model on labelled pictures, as COCO does.

    Args:
        data: COCO keypoint annotations, such as person_keypoints.json.
        images: folder of their pictures.
        model: name of a bundled model (see `fleetpose models`) or an .onnx file.
        json_file: write the scores into this file too.
        every: take only pictures whose id is a multiple of this.
        short_side: bring the shorter side of a picture to so many pixels.
        threads: processor threads of the network.
        flip_test: look at the mirrored picture too: better, half as fast.
    """
    # Imports stand here so that help need not wait for OpenCV and the runtime.
    from fleetpose.cli.output import say_table  # noqa: PLC0415
    from fleetpose.cli.progress import progress_bar  # noqa: PLC0415
    from fleetpose.runtime.evaluation import evaluate as run_evaluation  # noqa: PLC0415
    from fleetpose.runtime.predictor import load  # noqa: PLC0415

    # COCO's curve runs over all scores, so nobody is left out beforehand.
    predictor = load(model, threshold=0.0, short_side=short_side, threads=threads, has_flip_test=flip_test)
    with progress_bar("pictures") as progress:
        evaluation = run_evaluation(
            predictor, data, images, skeleton=predictor.skeleton, every=every, progress=progress
        )
    say_table(_table(predictor.description.name, evaluation))
    if json_file is not None:
        _write(json_file, evaluation, model=predictor.description.name, data=str(data), every=every)
    return EXIT_OK


def _table(name: str, evaluation: Evaluation) -> Any:  # noqa: ANN401 - rich is imported late
    from rich.table import Table  # noqa: PLC0415 - help must not wait for it

    table = Table(title=f"{name}: {evaluation.num_people} people in {evaluation.num_images} pictures")
    scores = evaluation.coco.to_dict()
    for column in (*COLUMNS, "PCK@0.2"):
        table.add_column(column, justify="right")
    table.add_row(*(_percent(scores[field]) for field in COLUMNS.values()), _percent(evaluation.pck.mean))
    return table


def _percent(share: float) -> str:
    """Share as COCO prints it, in percent; a dash where nobody was labelled."""
    return "-" if math.isnan(share) or share < 0 else f"{100 * share:.1f}"


def _write(path: Path, evaluation: Evaluation, *, model: str, data: str, every: int) -> None:
    per_keypoint = evaluation.pck.per_keypoint.items()
    record = {
        "model": model,
        "data": data,
        "every": every,
        "images": evaluation.num_images,
        "people": evaluation.num_people,
        "coco": evaluation.coco.to_dict(),
        "pck": {
            "mean": _number(evaluation.pck.mean),
            "per_keypoint": {keypoint: _number(share) for keypoint, share in per_keypoint},
        },
    }
    try:
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the scores to {path}: {error.strerror or error}") from error


def _number(value: float) -> float | None:
    """Value for JSON, which knows no NaN."""
    return None if math.isnan(value) else value

"""`fleetpose evaluate`: the scores of a model, or of a file of detections, on labelled pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from fleetpose.cli.exit_codes import EXIT_OK
from fleetpose.cli.picture_scores import PICTURE_METRICS, score_pictures
from fleetpose.errors import ConfigError

if TYPE_CHECKING:
    from fleetpose.runtime.bottom_up import BottomUpSettings
    from fleetpose.runtime.cascade import BoxSource
    from fleetpose.runtime.evaluation import Evaluation
    from fleetpose.runtime.picture_scores import PictureScores
    from fleetpose.runtime.predictor import Predictor
    from fleetpose.skeletons import Skeleton


@dataclass(frozen=True, slots=True)
class _Scoring:
    """Which pictures are scored, and how."""

    data: Path
    metric: str | None
    every: int
    split: Literal["train", "test"]
    has_breakdown: bool


def evaluate(
    data: Path,
    *,
    images: Path | None = None,
    model: Annotated[str | None, Parameter(name=["--model", "-m"])] = None,
    metric: str | None = None,
    breakdown: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    detections: Path | None = None,
    detections_in: Path | None = None,
    label_map: str = "cityscapes",
    skeleton: str | None = None,
    every: int = 1,
    split: Literal["train", "test"] = "test",
    short_side: str | None = None,
    threads: int | None = None,
    boxes: str | None = None,
    refine: str | None = None,
    flip_test: Annotated[
        bool, Parameter(name=["--flip-test", "--flip"], negative="", show_default=False)
    ] = False,
    closer_look: bool | None = None,
    scales: str | None = None,
    all_tags: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    project: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    canvas_64: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    zoom: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Score a model on labelled pictures, or detections that any tool has written.

    Args:
        data: COCO keypoint annotations, such as person_keypoints.json.
        images: folder of their pictures; the folder "images" beside the annotations if left out.
        model: name of a bundled model (see `fleetpose models`) or an .onnx file.
        metric: coco, crowdpose, ochuman, mpii or pck; what is usual for the skeleton if left out. Also miou,
            for pictures with a class per pixel, and top, for a score per class; both from files alone.
        breakdown: tell which errors cost how much, per keypoint, size and visibility.
        json_file: write the scores into this file too.
        detections: write the people found into this file, in COCO's results format.
        detections_in: score this file in COCO's results format; no model is run. With miou it is a folder of
            grey PNG pictures of class numbers, with top a CSV file: a picture's name, then a score per class.
        label_map: with miou, what the pixels of the labels mean: cityscapes, cityscapes-train, camvid,
            camvid-32, camvid-numbers or synth.
        skeleton: name or YAML file of the keypoints; what the model or the annotations say if left out.
        every: take only pictures whose id is a multiple of this.
        split: part to take of a Matlab or MPII file that holds training and test pictures.
        short_side: bring the shorter side of a picture to so many pixels; several numbers such as 96,224 look
            in each size.
        threads: processor threads of the network.
        boxes: where a top-down model looks for one person each: gt for the labelled boxes, whole for the
            whole picture, or a COCO file of a detector's results.
        refine: a top-down model that looks once more at each person whom the bottom-up model found.
        flip_test: look at the mirrored picture too: better, half as fast.
        closer_look: look twice at the people of a top-down model, better and slower; so it is where a second
            model refines and for the whole picture, unless told otherwise, but not in given boxes.
        scales: look at each picture in several sizes, such as 0.5,1,2.
        all_tags: of several scales, compare the tags of all, rather than those of scale 1.
        project: look for peaks at the resolution of the network's input, as the papers' code does.
        canvas_64: bring pictures to the sizes of the papers' code, multiples of 64.
        zoom: look once more at each person found, enlarged.
    """
    # Imports stand here and below so that help need not wait for OpenCV and the runtime.
    from fleetpose.cli.looks import bottom_up_settings, labelled_box_source, short_sides  # noqa: PLC0415
    from fleetpose.skeletons import load_skeleton  # noqa: PLC0415

    if metric is not None and metric in PICTURE_METRICS:
        useless: dict[str, object] = {"--model": model, "--images": images, "--boxes": boxes}
        useless |= {"--refine": refine, "--detections": detections, "--skeleton": skeleton}
        useless |= {"--short-side": short_side, "--threads": threads, "--scales": scales}
        is_given = {option: value is not None for option, value in useless.items()}
        is_given |= {"--breakdown": breakdown, "--every": every != 1, "--split": split != "test"}
        is_given |= {"--flip-test": flip_test, "--closer-look": closer_look is not None}
        is_given |= {"--all-tags": all_tags, "--project": project}
        is_given |= {"--canvas-64": canvas_64, "--zoom": zoom}
        scores = score_pictures(metric, data, detections_in, label_map=label_map, others=is_given)
        _show_pictures(scores, detections_in, json_file)
        return EXIT_OK
    scoring = _Scoring(data, metric, every, split, breakdown)
    given = None if skeleton is None else load_skeleton(skeleton)
    if detections_in is not None:
        _refuse_both(model, detections_in)
        name, evaluation = detections_in.name, _of_file(detections_in, scoring, given)
    else:
        predictor = _predictor(
            model,
            short_side=short_sides(short_side),
            threads=threads,
            has_flip_test=flip_test,
            has_closer_look=closer_look,
            bottom_up=bottom_up_settings(
                scales=scales, zoom=zoom, all_tags=all_tags, project=project, canvas_64=canvas_64
            ),
            boxes=labelled_box_source(boxes, data, split=split),
            refine=refine,
        )
        name = predictor.name
        evaluation = _of_model(predictor, images or data.parent / "images", scoring, given)
    _show(name, evaluation)
    if detections is not None:
        _write(detections, list(evaluation.detections), what="detections")
    if json_file is not None:
        _write(json_file, _record(name, evaluation, scoring), what="scores", indent=2)
    return EXIT_OK


def _predictor(
    model: str | None,
    *,
    short_side: int | tuple[int, ...] | None,
    threads: int | None,
    has_flip_test: bool,
    has_closer_look: bool | None,
    bottom_up: BottomUpSettings | None,
    boxes: BoxSource | None,
    refine: str | None,
) -> Predictor:
    from fleetpose.runtime.predictor import load  # noqa: PLC0415

    # COCO's curve runs over all scores, so nobody is left out beforehand.
    predictor = load(
        model,
        threshold=0.0,
        short_side=short_side,
        threads=threads,
        has_flip_test=has_flip_test,
        has_closer_look=has_closer_look,
        bottom_up=bottom_up,
        boxes=boxes,
        refine=refine,
    )
    if predictor.needs_boxes and boxes is None:
        raise ConfigError(
            f"model {predictor.description.name} is top-down and needs boxes: give --boxes gt, --boxes whole "
            "or a file of detections; or find people with a bottom-up model and --refine with this one"
        )
    return predictor


def _of_model(predictor: Predictor, images: Path, scoring: _Scoring, skeleton: Skeleton | None) -> Evaluation:
    from fleetpose.cli.progress import progress_bar  # noqa: PLC0415
    from fleetpose.runtime.evaluation import evaluate as run_evaluation  # noqa: PLC0415

    with progress_bar("pictures") as progress:
        return run_evaluation(
            predictor.find_as_stored,
            scoring.data,
            images,
            skeleton=skeleton or predictor.skeleton,
            metric=scoring.metric,
            every=scoring.every,
            split=scoring.split,
            has_breakdown=scoring.has_breakdown,
            progress=progress,
        )


def _of_file(detections: Path, scoring: _Scoring, skeleton: Skeleton | None) -> Evaluation:
    from fleetpose.runtime.evaluation import evaluate_detections  # noqa: PLC0415

    return evaluate_detections(
        detections,
        scoring.data,
        skeleton=skeleton,
        metric=scoring.metric,
        every=scoring.every,
        split=scoring.split,
        has_breakdown=scoring.has_breakdown,
    )


def _refuse_both(model: str | None, detections_in: Path) -> None:
    if model is not None:
        raise ConfigError(
            f"--model {model} and --detections-in {detections_in} exclude each other; leave one out"
        )


def _show(name: str, evaluation: Evaluation) -> None:
    from fleetpose.cli.output import say_table  # noqa: PLC0415
    from fleetpose.cli.score_tables import breakdown_tables, score_table  # noqa: PLC0415

    say_table(score_table(name, evaluation))
    if evaluation.breakdown is not None:
        for table in breakdown_tables(evaluation.breakdown):
            say_table(table)


def _show_pictures(scores: PictureScores, source: Path | None, json_file: Path | None) -> None:
    from fleetpose.cli.output import say_table  # noqa: PLC0415
    from fleetpose.cli.score_tables import picture_table  # noqa: PLC0415

    name = "" if source is None else source.name
    say_table(picture_table(name, scores))
    if json_file is not None:
        record = {"model": name, "metric": scores.metric, "images": scores.num_images}
        _write(json_file, {**record, "scores": _numbers(scores.scores)}, what="scores", indent=2)


def _record(name: str, evaluation: Evaluation, scoring: _Scoring) -> dict[str, Any]:
    record = {
        "model": name,
        "data": str(scoring.data),
        "metric": evaluation.metric,
        "every": scoring.every,
        "images": evaluation.num_images,
        "people": evaluation.num_people,
        "scores": _numbers(evaluation.scores),
        "coco": evaluation.coco.to_dict(),
        "pck": {
            "mean": _number(evaluation.pck.mean),
            "per_keypoint": _numbers(evaluation.pck.per_keypoint),
        },
    }
    if evaluation.breakdown is not None:
        record["breakdown"] = evaluation.breakdown.to_dict()
    return record


def _write(path: Path, data: object, *, what: str, indent: int | None = None) -> None:
    try:
        path.write_text(json.dumps(data, indent=indent) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the {what} to {path}: {error.strerror or error}") from error


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}


def _number(value: float) -> float | None:
    """Value for JSON, which knows no NaN."""
    return None if math.isnan(value) else value

"""Scores and sample pictures of a network while it trains, on the validation sets of its run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.codecs.efficientpose import SINGLE_PERSON
from fleetpose.data.annotations import Picture, read_coco
from fleetpose.data.classification import centre_crop
from fleetpose.data.framing import single_person_boxes
from fleetpose.data.segmentation import load_segmented
from fleetpose.data.sheet import join_tiles
from fleetpose.draw import DrawSettings, draw_people, person_color
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.geometry import IMAGE_MEAN, IMAGE_STD, Image, fit_box, warp
from fleetpose.media.images import read_image
from fleetpose.metrics.classification import top_accuracy
from fleetpose.metrics.segmentation import confusion, iou_scores
from fleetpose.models import PoseNetwork
from fleetpose.recipes.describing import UNKNOWN_CARD, describe
from fleetpose.recipes.labelled_boxes import LabelledBoxPredictor
from fleetpose.results import PoseResult
from fleetpose.runtime.evaluation import check_labels, evaluate
from fleetpose.runtime.predictor import Predictor
from fleetpose.runtime.torch_session import TorchSession
from fleetpose.skeletons import Skeleton, load_skeleton
from fleetpose.train.config import PictureSet, TrainConfig, ValidationSet
from fleetpose.train.tasks.classes import (
    check_class_names,
    class_names,
    difference,
    read_classified,
    read_segmented,
)

logger = logging.getLogger(__name__)

#: Sample pictures of a validation, and side of each in pixels.
SAMPLES, TILE = 8, 256
#: Scores of a validation set of each kind; a few classes have no top5, and keypoints without a trunk no PCK.
POSE_SCORES, CLASS_SCORES, SEGMENT_SCORES = ("AP", "AP50", "PCK"), ("top1", "top5"), ("mIoU",)
#: Lower keypoints are not drawn.
DRAWN_FROM = 0.1

Score = Callable[[PoseNetwork], dict[str, float]]


def validator(config: TrainConfig) -> Score | None:
    """Return what scores a network on the run's validation sets, or None without such sets.

    Sets whose files are not there are left out with a warning, so that a recipe runs without them. Those that
    are there are read now, so that what is wrong with them does not come to light after hours of training.

    Raises:
        DatasetError: a set cannot be read or scored.
        ConfigError: `best_by` is none of the scores.
    """
    people = [item for item in config.validation if _is_there(item)]
    pictures = [item for item in config.validation_pictures if _has_root(item)]
    if not people and not pictures:
        return None
    _check_best_by(config, people, pictures)
    for item in people:
        _check_set(config, item)
    for one in pictures:
        _check_pictures(config, one)

    def validate(network: PoseNetwork) -> dict[str, float]:
        scores: dict[str, float] = {}
        for item in people:
            scores |= _pose_scores(network, config, item)
        for one in pictures:
            score = classification_scores if _is_whole(one) else segmentation_scores
            scores |= score(network, config, one)
        return scores

    return validate


def _check_best_by(
    config: TrainConfig, people: Sequence[ValidationSet], pictures: Sequence[PictureSet]
) -> None:
    """Refuse a `best_by` that is none of the scores before the time of training is spent."""
    known = [f"{item.name}/{score}" for item in people for score in POSE_SCORES]
    for one in pictures:
        known += [f"{one.layout}/{score}" for score in (CLASS_SCORES if _is_whole(one) else SEGMENT_SCORES)]
    if config.best_by and config.best_by not in known:
        raise ConfigError(f"best_by must be one of {', '.join(known)}, got {config.best_by}")


def _check_set(config: TrainConfig, item: ValidationSet) -> None:
    """Refuse people who cannot be read or scored before the time of training is spent."""
    skeleton = load_skeleton(config.skeleton)
    try:
        _labelled(item, skeleton)
        check_labels(
            item.annotations,
            item.images,
            skeleton=skeleton,
            metric=_metric(skeleton),
            every=item.every,
            split=item.split,
        )
    except DatasetError as error:
        raise DatasetError(f"validation set {item.name}: {error}") from error


def _check_pictures(config: TrainConfig, item: PictureSet) -> None:
    """Refuse pictures with classes that cannot be read or scored before the time of training is spent."""
    where = f"validation pictures {item.root}"
    if not config.pictures or any(_is_whole(one) != _is_whole(item) for one in config.pictures):
        what = " and ".join(sorted({one.layout for one in config.pictures})) or "people alone"
        raise ConfigError(f"{where} are {item.layout}, but {config.model} learns from {what}; leave them out")
    try:
        classes = read_classified(item).classes if _is_whole(item) else ()
        if not classes:
            check_class_names(read_segmented(item), _names_of_pixels(config))
    except DatasetError as error:
        raise DatasetError(f"{where}: {error}") from error
    for other in config.pictures if classes else ():
        known = read_classified(other).classes
        if known != classes:
            reason = difference(classes, known)
            raise DatasetError(f"{where} must have the classes of {other.root}, in the same order; {reason}")


def _names_of_pixels(config: TrainConfig) -> tuple[str, ...]:
    """Classes of the pixels that a run learns from."""
    return next((one.label_map.classes for one in read_segmented(config.pictures[0])), ())


def _metric(skeleton: Skeleton) -> str:
    """Table of a validation: all come with AP and PCK; data other than COCO may lack what theirs needs."""
    return "coco" if skeleton.name == "coco17" else "pck"


def _is_whole(item: PictureSet) -> bool:
    """Whether a picture of the set has one class, not each of its pixels."""
    return item.layout in {"image_folder", "cifar100"}


def depicter(config: TrainConfig) -> Callable[[PoseNetwork], Image] | None:
    """Return what draws a network's predictions on a few validation pictures, or None without any."""
    people = [item for item in config.validation if not _missing(item)]
    if people:
        return lambda network: _draw_poses(network, config, people[0])
    pictures = [
        item for item in config.validation_pictures if item.layout == "cityscapes" and item.root.exists()
    ]
    if pictures:
        return lambda network: _draw_segments(network, config, pictures[0])
    return None


def _pose_scores(network: PoseNetwork, config: TrainConfig, item: ValidationSet) -> dict[str, float]:
    predict = _predictor(network, config, item)
    skeleton = load_skeleton(config.skeleton)
    result = evaluate(
        predict,
        item.annotations,
        item.images,
        skeleton=skeleton,
        metric=_metric(skeleton),
        every=item.every,
        split=item.split,
    )
    scores = {"AP": result.coco.ap, "AP50": result.coco.ap50}
    if np.isfinite(result.pck.mean):  # it needs a trunk, which keypoints of one's own may lack
        scores["PCK"] = result.pck.mean
    return {f"{item.name}/{name}": 100 * score for name, score in scores.items()}


def classification_scores(network: PoseNetwork, config: TrainConfig, item: PictureSet) -> dict[str, float]:
    """Accuracy in percent on the middle of each picture: `…/top1` and `…/top5`."""
    found = read_classified(item)
    size, session = config.phases[-1].size, _session(network, config)
    scores = [_run(session, centre_crop(one.load(), size))[:, 0, 0] for one in found.pictures]
    labels = np.array([one.label for one in found.pictures])
    return {
        f"{item.layout}/top{top}": 100 * top_accuracy(np.array(scores), labels, top=top)
        for top in (1, 5)
        if top <= len(scores[0])
    }


def segmentation_scores(network: PoseNetwork, config: TrainConfig, item: PictureSet) -> dict[str, float]:
    """Mean intersection over union in percent, at the labels' size."""
    channels, session = network.fields[-1].channels, _session(network, config)
    counts = np.zeros((channels, channels), np.int64)
    for picture in read_segmented(item):
        sample = load_segmented(picture)
        predicted = _segment(session, sample.image, config.phases[-1].size)
        counts += confusion(predicted, sample.labels, num_classes=channels)
    result = iou_scores(counts, class_names(config, channels))
    return {f"{item.layout}/mIoU": 100 * result.mean}


def _segment(session: TorchSession, image: Image, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Class of each pixel of a picture, seen undistorted, its shorter side as long as that of `size`."""
    h, w = image.shape[:2]
    scale, multiple = min(size) / min(h, w), session.description.input.multiple
    seen = [max(1, round(side * scale / multiple)) * multiple for side in (w, h)]
    maps = _run(session, np.asarray(cv2.resize(image, seen, interpolation=cv2.INTER_AREA)))
    enlarged = np.stack([cv2.resize(one, (w, h), interpolation=cv2.INTER_LINEAR) for one in maps])
    return np.asarray(enlarged.argmax(axis=0))


def _run(session: TorchSession, image: Image) -> npt.NDArray[np.float32]:
    """Picture `[H, W, 3]` → scores of classes `[C, h, w]`."""
    normalised = ((image - np.array(IMAGE_MEAN)) / IMAGE_STD).astype(np.float32)
    maps = session.run(normalised.transpose(2, 0, 1)[None])
    return maps[session.description.fields[-1].name]


def _session(network: PoseNetwork, config: TrainConfig) -> TorchSession:
    seen = network.for_prediction()
    return TorchSession(seen, describe(seen, config, name=config.model, card=UNKNOWN_CARD))


def _predictor(
    network: PoseNetwork, config: TrainConfig, item: ValidationSet
) -> Callable[[Path], PoseResult]:
    """What finds people in the pictures of a set; a network for single persons is told their boxes."""
    session = _session(network, config)
    if session.description.codec["type"] not in SINGLE_PERSON:
        return Predictor(session, threshold=0.0).find_as_stored
    pictures = _labelled(item, session.description.skeleton)
    if item.annotations in {source.annotations for source in config.sources if source.is_single_person}:
        pictures = [replace(one, boxes=single_person_boxes(one.keypoints, one.boxes)) for one in pictures]
    return LabelledBoxPredictor(session, pictures)


def _labelled(item: ValidationSet, skeleton: Skeleton) -> list[Picture]:
    return read_coco(item.annotations, item.images, skeleton=skeleton, split=item.split)


def _draw_poses(network: PoseNetwork, config: TrainConfig, item: ValidationSet) -> Image:
    predict = _predictor(network, config, item)
    pictures = _labelled(item, load_skeleton(config.skeleton))
    paths = [one.path for one in pictures if one.image_id % item.every == 0][:SAMPLES]
    drawn = [
        draw_people(read_image(path, is_as_stored=True), predict(path), DrawSettings(threshold=DRAWN_FROM))
        for path in paths
    ]
    return join_tiles([_tile(image) for image in drawn], 4)


def _draw_segments(network: PoseNetwork, config: TrainConfig, item: PictureSet) -> Image:
    colors = np.array([person_color(number) for number in range(network.fields[-1].channels)])
    tiles, session = [], _session(network, config)
    for picture in read_segmented(item)[:SAMPLES]:
        image = read_image(picture.image)
        tint = colors[_segment(session, image, config.phases[-1].size)]
        tiles.append(_tile(np.rint(0.5 * image + 0.5 * tint).astype(np.uint8)))
    return join_tiles(tiles, 4)


def _tile(image: Image) -> Image:
    h, w = image.shape[:2]
    whole = np.array([-0.5, -0.5, w - 0.5, h - 0.5], np.float32)
    return warp(image, fit_box(whole, (TILE, TILE)), (TILE, TILE), fill=(0, 0, 0))


def _is_there(item: ValidationSet) -> bool:
    missing = _missing(item)
    if missing:
        logger.warning("validation set %s is left out: %s is missing", item.name, " and ".join(missing))
    return not missing


def _missing(item: ValidationSet) -> list[str]:
    there = {item.annotations: item.annotations.is_file(), item.images: item.images.is_dir()}
    return [str(path) for path, is_there in there.items() if not is_there]


def _has_root(item: PictureSet) -> bool:
    if not item.root.exists():
        logger.warning("validation pictures are left out: %s is missing", item.root)
    return item.root.exists()

"""All checks on a user's data in one go, and a sheet of drawn samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fleetpose.data.annotations import Picture, read_coco
from fleetpose.data.checks import CheckedSet, check_copies, check_files, check_labels, check_skeleton
from fleetpose.data.filters import check_source, check_validation
from fleetpose.data.layouts import Split, holds_parts, load_annotations
from fleetpose.data.matching import match_keypoints
from fleetpose.data.mixture import DataFile, LabelledSet
from fleetpose.data.scenes import Source
from fleetpose.data.sheet import draw_tile, join_tiles
from fleetpose.data.survey import FileFacts, Finding, Survey, look_into_files, survey, survey_folder
from fleetpose.errors import DatasetError, PoseError
from fleetpose.geometry import Image
from fleetpose.skeletons import SKELETONS, Skeleton

#: Pictures of each set, and pixels on a side of each, in the sheet.
SHEET_PICTURES, SHEET_COLUMNS, SHEET_TILE = 12, 6, 240


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What an examination found.

    Attributes:
        sets: what was looked at, a line per set.
        findings: name of the set, empty for what concerns all, and what was found there.
        sheet: drawn samples of all sets, None where nothing could be drawn.
    """

    sets: tuple[str, ...]
    findings: tuple[tuple[str, Finding], ...]
    sheet: Image | None


def examine(
    data: DataFile, *, max_pictures: int = 0, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Look for trouble in a user's data, with and without its pictures.

    Args:
        data: what is to be trained on.
        max_pictures: files of each set to look into, evenly chosen; 0 for all.
        progress: is told how many files of how many are done.
    """
    findings = [("", finding) for finding in check_skeleton(data.skeleton)]
    surveys, broken = _surveys(data)
    findings += broken
    paths = [path for labels in surveys.values() for path in _chosen(labels, max_pictures)]
    facts = look_into_files(list(dict.fromkeys(paths)), progress=progress)
    for name, labels in _named(surveys):
        found = [*check_files(_paths(labels), facts, _stated_sizes(labels))]
        found += check_labels(labels, data.skeleton) if labels.names else []
        findings += [(name, finding) for finding in found]
    findings += _what_is_left(data, surveys)
    train, validation = _checked_sets(data, surveys)
    findings += [("", finding) for finding in check_copies(train, validation, facts)]
    tiles = [tile for labels in surveys.values() for tile in _tiles(labels, data.skeleton, facts)]
    return Report(
        sets=tuple(
            f"{name}: {len(labels.pictures)} pictures, {len(labels.keypoints)} people"
            for name, labels in _named(surveys)
        ),
        findings=tuple(findings),
        sheet=join_tiles(tiles, SHEET_COLUMNS) if tiles else None,
    )


def closest_skeleton(annotations: Path) -> Skeleton:
    """Built-in skeleton with most keypoints in common with a file's, else one made of the file's own names.

    Raises:
        DatasetError: the file cannot be read or names no keypoints.
    """
    categories = load_annotations(annotations)["categories"]
    names = next((category["keypoints"] for category in categories if category.get("keypoints")), None)
    if names is None:
        raise DatasetError(f"{annotations} has no category that names its keypoints")
    exact = [skeleton for skeleton in SKELETONS.values() if set(skeleton.keypoints) == set(names)]
    if exact:
        return exact[0]
    best = max(SKELETONS.values(), key=lambda skeleton: int((match_keypoints(names, skeleton) >= 0).sum()))
    if (match_keypoints(names, best) >= 0).any():
        return best
    return Skeleton.from_dict({"name": annotations.stem, "keypoints": list(names)})


#: Annotation file, or none, its part, and folder of pictures.
_Key = tuple[Path | None, Split, Path]
_Surveys = dict[_Key, Survey]


def _surveys(data: DataFile) -> tuple[_Surveys, list[tuple[str, Finding]]]:
    """Read each file once, however often it is used → what they hold, what cannot be read."""
    found: _Surveys = {}
    broken = []
    sets: list[Source | LabelledSet] = [*data.train, *data.validation]
    for file, split, images in dict.fromkeys(_key(one) for one in sets):
        result = _survey(file, images, split)
        if isinstance(result, Survey):
            found[file, split, images] = result
        else:
            broken.append(((file or images).name, result))
    return found, broken


def _key(one: Source | LabelledSet) -> _Key:
    """Tell sets of the same labels by the same key: most files are taken whole, whatever the split."""
    has_parts = one.annotations is not None and holds_parts(one.annotations)
    return one.annotations, (one.split if has_parts else "train"), one.images


def _survey(file: Path | None, images: Path, split: Split) -> Survey | Finding:
    try:
        return survey_folder(images) if file is None else survey(file, images, split=split)
    except DatasetError as error:
        remedy = "Correct the file, or its path, which starts from the data file's folder."
        return Finding("fix", 1, "set cannot be read", str(error), remedy)


def _named(surveys: _Surveys) -> Iterator[tuple[str, Survey]]:
    """Each set with its file's name and part, or with more of the path where names are alike."""
    names = [_in_short(labels) for labels in surveys.values()]
    for name, labels in zip(names, surveys.values(), strict=True):
        yield (name if names.count(name) == 1 else str(labels.file.parent / name)), labels


def _in_short(labels: Survey) -> str:
    return f"{labels.file.name} ({labels.split})" if labels.split else labels.file.name


def _what_is_left(data: DataFile, surveys: _Surveys) -> Iterator[tuple[str, Finding]]:
    """Findings about what the settings of each set leave of its labels."""
    names = {id(labels): name for name, labels in _named(surveys)}
    if data.train and all(source.annotations is None for source in data.train):
        remedy = "Give a source with annotations: folders without them hold pictures without people."
        yield "", Finding("fix", 0, "sources for training have people", "", remedy)
    for source in data.train:
        if (labels := surveys.get(_key(source))) is not None:
            yield from ((names[id(labels)], one) for one in check_source(source, labels, data.skeleton))
    for judged in data.validation:
        if (labels := surveys.get(_key(judged))) is not None:
            yield from ((names[id(labels)], one) for one in check_validation(judged, labels, data.skeleton))


def _checked_sets(data: DataFile, surveys: _Surveys) -> tuple[list[CheckedSet], list[CheckedSet]]:
    train = [
        CheckedSet(surveys[_key(source)], divisor=source.held_out_every)
        for source in data.train
        if _key(source) in surveys
    ]
    validation = [
        CheckedSet(surveys[_key(one)], divisor=one.every, is_held_out=True)
        for one in data.validation
        if _key(one) in surveys
    ]
    return train, validation


def _paths(labels: Survey) -> list[Path]:
    return [labels.path(number) for number in labels.pictures]


def _chosen(labels: Survey, count: int) -> list[Path]:
    """Return `count` pictures, evenly chosen, or all."""
    paths = _paths(labels)
    if not count or count >= len(paths):
        return paths
    return [paths[k] for k in np.unique(np.linspace(0, len(paths) - 1, count).astype(int)).tolist()]


def _stated_sizes(labels: Survey) -> dict[Path, tuple[int, int]]:
    """(h, w) that the labels were made for, where the file tells."""
    return {
        labels.path(number): (int(record["height"]), int(record["width"]))
        for number, record in labels.pictures.items()
        if record.get("height") and record.get("width")
    }


def _tiles(labels: Survey, skeleton: Skeleton, facts: Mapping[Path, FileFacts]) -> list[Image]:
    """Draw some labelled pictures, evenly chosen; none where the labels cannot be used."""
    if not labels.names:
        return []
    try:
        pictures = read_coco(labels.file, labels.folder, skeleton=skeleton, split=labels.split or "train")
    except PoseError:  # the findings say why
        return []
    good = [one for one in pictures if len(one.keypoints) and one.path in facts and facts[one.path].size]
    if not good:
        return []
    chosen = np.unique(np.linspace(0, len(good) - 1, SHEET_PICTURES).astype(int)).tolist()
    tiles = (_tile(good[k], skeleton) for k in chosen)
    return [tile for tile in tiles if tile is not None]


def _tile(picture: Picture, skeleton: Skeleton) -> Image | None:
    try:
        return draw_tile(picture, skeleton, SHEET_TILE)
    except PoseError:  # such as a box turned inside out, which is among the findings
        return None

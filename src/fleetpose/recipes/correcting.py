"""Correction of noisy labels by one network that does better than they do.

Unlike votes, which leave out what is doubted, this keeps the odd poses of a set: a label that the network
sees elsewhere is moved there. What the network itself gets wrong is written into the labels with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetpose.data.annotations import load_coco_json
from fleetpose.data.framing import around_keypoints
from fleetpose.errors import UnknownNameError
from fleetpose.geometry import Image, boxes_to_coco
from fleetpose.recipes.voting import Teacher, keypoint_category, keypoints_of, labelled_people, numbers_of

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: A label so near stands, as a share of the diagonal of the person's labelled keypoints: labellers mean it.
NEAR = 0.12
#: Where the network is not sure, so near will do: it may be off as well as the label.
NEAR_IF_UNSURE = 0.15
#: From this score on the network is believed against a label that is far away.
SURE = 0.4
#: Less is enough against a label that other networks already call wrong.
SURE_IF_OUTVOTED = 0.35
#: More is needed where nobody labelled anything: most such keypoints are hidden or out of view.
SURE_IF_UNLABELLED = 0.5
#: People with fewer keypoints left are left out: they teach little, and most of their labels were wrong.
FEWEST_LEFT = 4
#: What an annotation says of the labels as they were.
_OF_OLD_LABELS = frozenset({"votes", "agreement"})


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What becomes of each keypoint of a person; each array is `[K]`, and at most one of them is True.

    Attributes:
        kept: the label stays.
        moved: the label goes where the network sees the keypoint.
        added: there was no label, and the network sees the keypoint.
        unknown: the label goes, and the network does not tell where the keypoint is.
    """

    kept: Mask
    moved: Mask
    added: Mask
    unknown: Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many keypoints of the people who stay were kept, moved, added and made unknown, and who does not.

    Attributes:
        left_out: people who became regions to ignore.
    """

    kept: int
    moved: int
    added: int
    unknown: int
    left_out: int


def correct_labels(
    annotations: Path,
    images: Path,
    teacher: Teacher,
    *,
    keep: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], Tally]:
    """Correct the keypoints of everybody who is labelled → the file's data with them, and a tally.

    Keypoints that become unknown have v = 0, so that training needs `is_zero_unknown` (`read_coco`).
    People of whom fewer than `FEWEST_LEFT` keypoints are left become regions to ignore (`iscrowd`). Nothing
    is moved or added where the teacher knows no such keypoint, nor of people whose keypoints all lie in one
    place, which does not tell how large they are.

    Args:
        annotations: COCO keypoint file, or one of another known layout; the `votes` in it are heeded.
        images: folder of its pictures.
        teacher: its scores should be what its keypoints are likely to bring (`codecs/expected_oks.py`).
        keep: names of keypoints whose labels stay unless votes call them wrong.
        progress: told how many people are done, and of how many, after each.

    Raises:
        UnknownNameError: the file has no keypoint of a name in `keep`.
        DatasetError: the file or a picture cannot be read, or a person lacks a number.
    """
    data = load_coco_json(annotations)
    names = list(keypoint_category(data, annotations)["keypoints"])
    for name in keep:
        if name not in names:
            raise UnknownNameError(f"keypoint of {annotations}", name, names)
    is_believed = np.array([name in keep for name in names])
    corrected: dict[int, dict[str, Any]] = {}
    verdicts: list[Verdict] = []
    for person, image in labelled_people(data, images, progress=progress):
        points = numbers_of(person, "keypoints", 3 * len(names), annotations).reshape(-1, 3)
        is_voted_on = person.get("votes") is not None
        votes = numbers_of(person, "votes", len(names), annotations) if is_voted_on else np.zeros(len(names))
        predicted = _predict(points, names, image, teacher)
        verdict = judge(points, predicted, votes=votes, is_believed=is_believed)
        corrected[id(person)] = _rewrite(person, predicted, verdict)
        if not corrected[id(person)].get("iscrowd"):
            verdicts.append(verdict)
    tally = Tally(
        kept=sum(int(one.kept.sum()) for one in verdicts),
        moved=sum(int(one.moved.sum()) for one in verdicts),
        added=sum(int(one.added.sum()) for one in verdicts),
        unknown=sum(int(one.unknown.sum()) for one in verdicts),
        left_out=len(corrected) - len(verdicts),
    )
    return {**data, "annotations": [corrected.get(id(one), one) for one in data["annotations"]]}, tally


def judge(points: Array, predicted: Array, *, votes: Array, is_believed: Mask) -> Verdict:
    """Decide what becomes of the keypoints of one person.

    Args:
        points: `[K, 3]` (x, y, v), as labelled.
        predicted: `[K, 3]` (x, y, score), NaN where the network was not asked.
        votes: `[K]` other networks that agree with each label; -1 where they agree on another place.
        is_believed: `[K]` keypoints whose labels stay unless votes call them wrong.
    """
    is_labelled = points[:, 2] > 0
    distances = np.linalg.norm(predicted[:, :2] - points[:, :2], axis=1) / _diagonal(points)
    scores = predicted[:, 2]
    is_near = (distances < NEAR) | ((scores < SURE) & (distances < NEAR_IF_UNSURE))
    stands = (votes > 0) | ((votes == 0) & (is_near | is_believed | np.isnan(scores)))
    is_sure = scores >= np.where(votes < 0, SURE_IF_OUTVOTED, SURE)
    return Verdict(
        kept=is_labelled & stands,
        moved=is_labelled & ~stands & is_sure,
        added=~is_labelled & (scores >= SURE_IF_UNLABELLED),
        unknown=is_labelled & ~stands & ~is_sure,
    )


def _diagonal(points: Array) -> float:
    """Length of the diagonal around the labelled keypoints of `[K, 3]`, in pixels."""
    labelled = points[points[:, 2] > 0, :2]
    return float(np.hypot(*np.ptp(labelled, axis=0)))


def _predict(points: Array, names: Sequence[str], image: Image, teacher: Teacher) -> Array:
    """Keypoints `[K, 3]` (x, y, score) of a person whose labels `[K, 3]` say where to look."""
    if _diagonal(points) == 0:
        return np.full_like(points, np.nan)
    return keypoints_of(teacher, names, image, np.asarray(_frame(points), np.float64))


def _frame(points: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Box (x1, y1, x2, y2) around labelled keypoints `[K, 3]` or `[3 K]`, with room."""
    return np.asarray(around_keypoints(np.array(points, np.float32).reshape(1, -1, 3))[0])


def _rewrite(person: Mapping[str, Any], predicted: Array, verdict: Verdict) -> dict[str, Any]:
    """The annotation with its verdict carried out: a person, or a region to ignore."""
    rest = {key: value for key, value in person.items() if key not in _OF_OLD_LABELS}
    count = int((verdict.kept | verdict.moved | verdict.added).sum())
    if count < FEWEST_LEFT:
        box = person.get("bbox") or boxes_to_coco(_frame(person["keypoints"])).round(2).tolist()
        nothing = {"keypoints": [0] * len(person["keypoints"]), "num_keypoints": 0}
        return {**rest, **nothing, "bbox": box, "iscrowd": 1}
    values = list(person["keypoints"])
    for k in np.flatnonzero(verdict.unknown):
        values[3 * k : 3 * k + 3] = [0, 0, 0]
    for k in np.flatnonzero(verdict.moved | verdict.added):
        x, y = predicted[k, :2].tolist()
        values[3 * k : 3 * k + 3] = [round(x, 2), round(y, 2), 1]
    return {**rest, "keypoints": values, "num_keypoints": count}

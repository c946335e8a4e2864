"""What the settings of a training source or validation set leave of its labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fleetpose.data.checks import CheckedSet
from fleetpose.data.matching import match_keypoints
from fleetpose.data.mixture import LabelledSet
from fleetpose.data.scenes import Source
from fleetpose.data.survey import Finding, Survey
from fleetpose.skeletons import Skeleton

Mask = npt.NDArray[np.bool_]


def check_source(source: Source, labels: Survey, skeleton: Skeleton) -> Iterator[Finding]:
    """Tell what a source's filters leave out, and whether anything is left to train on."""
    used = CheckedSet(labels, divisor=source.held_out_every).used_ids()
    if not used:
        yield _nothing_left("pictures", labels, "Change split or held_out_every.")
        return
    is_wanted = _wanted(labels, skeleton)
    if not is_wanted.any():
        # A folder without people is meant so; of names that are all unknown another check tells.
        if (match_keypoints(labels.names, skeleton) >= 0).any():
            yield _nothing_left(
                "people", labels, "Label people, or leave out annotations if none are in view."
            )
        return
    is_wanted &= np.isin(labels.image_ids, used)[:, None]
    is_person = np.asarray(is_wanted.any(axis=1))
    is_doubtful = labels.agreement < source.least_agreement  # False where nobody was asked
    is_kept = is_wanted & ~is_doubtful[:, None]
    is_outvoted = is_kept & (labels.votes < source.least_votes)
    yield from _without_opinions(source, labels, is_person)
    yield from _people(
        labels,
        is_person & is_doubtful,
        f"of {is_person.sum()} people are left out by least_agreement {source.least_agreement:g}",
        "They count neither as people nor as background.",
    )
    yield from _keypoints(labels, is_outvoted, int(is_kept.sum()), source.least_votes)
    if not _left(source, labels, is_kept, is_outvoted).any():
        yield _nothing_left("people", labels, "Change split, held_out_every, least_agreement or least_votes.")


def check_validation(judged: LabelledSet, labels: Survey, skeleton: Skeleton) -> Iterator[Finding]:
    """Tell whether anything is left to be scored."""
    used = CheckedSet(labels, divisor=judged.every, is_held_out=True).used_ids()
    if not used:
        yield _nothing_left("pictures", labels, "Change split or every.")
    elif not _wanted(labels, skeleton)[np.isin(labels.image_ids, used)].any():
        yield _nothing_left("people", labels, "Nobody can be scored: change split or every, or label people.")


def _wanted(labels: Survey, skeleton: Skeleton) -> Mask:
    """`[N, K]` keypoints that are labelled and in the skeleton."""
    is_named = np.isin(np.arange(len(labels.names)), match_keypoints(labels.names, skeleton))
    return np.asarray((labels.keypoints[..., 2] > 0) & is_named)


def _left(source: Source, labels: Survey, is_kept: Mask, is_outvoted: Mask) -> Mask:
    """`[N]` people of whom training sees something."""
    is_left = (is_kept & ~is_outvoted).any(axis=1)
    if source.is_single_person:  # `read_source` draws only pictures of whose people all have a keypoint
        image_ids = np.array(labels.image_ids)
        is_left &= ~np.isin(image_ids, image_ids[is_kept.any(axis=1) & ~is_left])
    return np.asarray(is_left)


def _without_opinions(source: Source, labels: Survey, is_person: Mask) -> Iterator[Finding]:
    """People whom a filter takes because it knows nothing of them."""
    remedy = "They are believed; `fleetpose data vote` asks other networks."
    if source.least_agreement > 0:
        unknown = is_person & np.isnan(labels.agreement)
        problem = f"of {is_person.sum()} people have no agreement for least_agreement"
        yield from _people(labels, unknown, problem, remedy)
    if source.least_votes > 0:
        unknown = is_person & np.isnan(labels.votes).all(axis=1)
        problem = f"of {is_person.sum()} people have no votes for least_votes"
        yield from _people(labels, unknown, problem, remedy)


def _people(labels: Survey, marks: Mask, problem: str, remedy: str) -> Iterator[Finding]:
    """Finding about people marked in `[N]`, worth a look."""
    people = np.flatnonzero(marks).tolist()
    if people:
        yield Finding("look", len(people), problem, labels.where(people[0]), remedy)


def _keypoints(labels: Survey, is_outvoted: Mask, total: int, least_votes: int) -> Iterator[Finding]:
    people, places = np.nonzero(is_outvoted)
    if len(people):
        yield Finding(
            "look",
            len(people),
            f"of {total} keypoints of believed people are left out by least_votes {least_votes}",
            f"{labels.names[places[0]]} of {labels.where(int(people[0]))}",
            "They count as unknown.",
        )


def _nothing_left(what: str, labels: Survey, remedy: str) -> Finding:
    where = f"{labels.file.name} ({labels.split})" if labels.split else labels.file.name
    return Finding("fix", 0, f"{what} of {where} are left", "", remedy)

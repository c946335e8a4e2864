"""What can be wrong with labelled data: each check gives a finding per kind of trouble."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fleetpose.data.matching import match_keypoints
from fleetpose.data.sides import FRONTAL_SHARE, MIN_PEOPLE, frontal_agreement, pair_agreement, sides
from fleetpose.data.survey import FileFacts, Finding, Survey
from fleetpose.skeletons import GUESSED_SIGMA, Skeleton, flip_pairs_by_name

#: Points may lie this many pixels beyond the picture's edge: tools round differently.
EDGE_PIXELS = 1.0
#: Boxes may reach this share of the picture's side beyond its edge.
EDGE_SHARE = 0.02
#: A box may miss keypoints by this share of its longer side: annotators draw it tightly.
BOX_SLACK = 0.1
#: Up to this share of points or people, an error is a slip of an annotator, above it one of a program.
SLIP_SHARE = 0.02
#: People whose keypoints lie on average within this share of their extent are one person, labelled twice.
TWIN_SHARE = 0.01
#: OKS sigmas outside are hardly meant so; COCO's reach from 0.025 to 0.107.
SIGMA_RANGE = (0.01, 0.3)


@dataclass(frozen=True, slots=True)
class CheckedSet:
    """A set as training uses it.

    Attributes:
        labels: what its file holds.
        divisor: see `is_held_out`.
        is_held_out: only pictures whose id `divisor` divides are used, else only the others; 0 is for all.
    """

    labels: Survey
    divisor: int = 0
    is_held_out: bool = False

    def used_ids(self) -> list[int]:
        """Ids of the pictures in use."""
        ids = self.labels.pictures
        if not self.divisor:
            return list(ids)
        return [number for number in ids if (number % self.divisor == 0) == self.is_held_out]


def check_skeleton(skeleton: Skeleton) -> Iterator[Finding]:
    """Check what can be told from a skeleton alone: pairs and sigmas."""
    by_name = {frozenset(pair) for pair in flip_pairs_by_name(skeleton.keypoints)}
    given = {frozenset(pair) for pair in skeleton.flip_pairs}
    yield from _finding(
        "fix",
        [" and ".join(sorted(pair)) for pair in sorted(by_name - given, key=sorted)],
        "pairs of left and right keypoints change no places when a picture is mirrored",
        "List them under flip_pairs, or leave flip_pairs out: names make the pairs then.",
    )
    sided = [name for name in skeleton.keypoints if "left" in name.lower() or "right" in name.lower()]
    yield from _finding(
        "fix",
        [
            " and ".join(sorted(pair))
            for pair in sorted(given - by_name, key=sorted)
            if pair & {*sided, *(name for named in by_name for name in named)}
        ],
        "flip_pairs join keypoints whose names are not left and right of the same",
        "Correct flip_pairs, or leave them out: names make the pairs then.",
    )
    paired = {name for pair in by_name | given for name in pair}
    yield from _finding(
        "fix",
        [name for name in sided if name not in paired],
        "keypoints are named left or right but have no counterpart",
        "Add the counterpart or a flip pair, or mirrored pictures teach the wrong side.",
    )
    yield from _check_sigmas(skeleton)


def _check_sigmas(skeleton: Skeleton) -> Iterator[Finding]:
    sigma_of = dict(zip(skeleton.keypoints, skeleton.sigmas, strict=True))
    yield from _finding(
        "look",
        [
            f"{a} {sigma_of[a]} and {b} {sigma_of[b]}"
            for a, b in skeleton.flip_pairs
            if sigma_of[a] != sigma_of[b]
        ],
        "pairs have different sigmas left and right",
        "Check the order of sigmas: it is that of keypoints.",
    )
    low, high = SIGMA_RANGE
    yield from _finding(
        "look",
        [f"{name} {sigma}" for name, sigma in sigma_of.items() if not low <= sigma <= high],
        f"sigmas are outside {low} to {high}",
        "They are shares of the square root of a person's area; COCO's reach from 0.025 to 0.107.",
    )
    if set(skeleton.sigmas) == {GUESSED_SIGMA}:
        yield Finding(
            "look",
            len(skeleton),
            "sigmas are guessed",
            "",
            "Give sigmas if you want to compare OKS scores with anybody's.",
        )


def check_files(
    paths: Sequence[Path], facts: Mapping[Path, FileFacts], sizes: Mapping[Path, tuple[int, int]]
) -> Iterator[Finding]:
    """Check that pictures are there, can be read, and have the size that the labels were made for.

    Args:
        paths: pictures of a set.
        facts: of those that were looked into.
        sizes: (h, w) by file, where the labels tell.
    """
    known = {path: facts[path] for path in paths if path in facts}
    yield from _finding(
        "fix",
        [str(path) for path, fact in known.items() if not fact.digest],
        f"of {len(paths)} pictures are missing",
        "Copy them there, or remove their entries.",
    )
    yield from _finding(
        "fix",
        [fact.problem for fact in known.values() if fact.problem and fact.digest],
        "pictures cannot be read",
        "Replace them, or remove their entries.",
    )
    wrong = {
        path: fact for path, fact in known.items() if fact.size and path in sizes and sizes[path] != fact.size
    }
    upright = [path for path, fact in wrong.items() if fact.is_turned and sizes[path] == fact.size[::-1]]  # type: ignore[index]
    yield from _finding(
        "fix",
        [str(path) for path in upright],
        "pictures are labelled upright but stored on their side (EXIF orientation)",
        "Store them upright: labels refer to the pixels as stored.",
    )
    yield from _finding(
        "fix",
        [_sizes_in_words(path, sizes[path], fact) for path, fact in wrong.items() if path not in upright],
        "pictures are not of the size that the labels state",
        "Take the pictures that were labelled, or scale the labels.",
    )


def _sizes_in_words(path: Path, stated: tuple[int, int], fact: FileFacts) -> str:
    h, w = fact.size or (0, 0)
    return f"{path} is {w} x {h}, its labels are for {stated[1]} x {stated[0]}"


def check_labels(labels: Survey, skeleton: Skeleton) -> Iterator[Finding]:
    """Check what can be told from an annotation file without its pictures."""
    yield from labels.findings
    yield from _check_names(labels, skeleton)
    yield from _check_points(labels)
    yield from _check_people(labels)
    yield from _check_boxes(labels)
    yield from _check_sides(labels)


def _check_names(labels: Survey, skeleton: Skeleton) -> Iterator[Finding]:
    order = match_keypoints(labels.names, skeleton)
    if (order < 0).all():
        yield Finding(
            "fix",
            len(labels.names),
            f"keypoints of the file are all unknown to skeleton {skeleton.name}",
            labels.names[0],
            "Use the file's names, or another skeleton.",
        )
        return
    yield from _finding(
        "look",
        [name for name, place in zip(skeleton.keypoints, order, strict=True) if place < 0],
        f"keypoints of skeleton {skeleton.name} are not in the file",
        "They count as unknown for all its people; check the spelling.",
    )
    unused = sorted(set(range(len(labels.names))) - set(order.tolist()))
    yield from _finding(
        "look",
        [labels.names[place] for place in unused],
        f"keypoints of the file are not in skeleton {skeleton.name}",
        "They are left out; check the spelling.",
    )
    never = ~(labels.keypoints[..., 2] > 0).any(axis=0) & np.isin(np.arange(len(labels.names)), order)
    yield from _finding(
        "look",
        [labels.names[place] for place in np.flatnonzero(never)] if len(labels.keypoints) else [],
        "keypoints are labelled for nobody",
        "A network learns that they are never in view; leave them out of the file or state is_zero_unknown.",
    )


def _check_points(labels: Survey) -> Iterator[Finding]:
    x, y, v = np.moveaxis(labels.keypoints, -1, 0)
    is_labelled = v != 0
    total = int(is_labelled.sum())
    yield from _marked(
        labels, ~np.isin(v, (0, 1, 2)), 0, "keypoints have a v that is not 0, 1 or 2", "Write COCO's v."
    )
    yield from _marked(
        labels,
        is_labelled & (x == 0) & (y == 0),
        total,
        "keypoints are labelled at (0, 0)",
        "Write v = 0 for what was not labelled.",
    )
    h, w = labels.sizes[:, None, 0], labels.sizes[:, None, 1]
    low, slack = -0.5 - EDGE_PIXELS, EDGE_PIXELS - 0.5
    is_outside = (x < low) | (y < low) | (x > w + slack) | (y > h + slack)
    yield from _marked(
        labels,
        is_labelled & is_outside,
        total,
        "keypoints are labelled outside their picture",
        "They count as out of view; many mean labels of another size or picture.",
    )


def _check_people(labels: Survey) -> Iterator[Finding]:
    is_empty = ~(labels.keypoints[..., 2] > 0).any(axis=1)
    yield from _finding(
        "look",
        [labels.where(person) for person in np.flatnonzero(is_empty & ~labels.has_region).tolist()],
        "people have neither keypoints nor a box nor an outline",
        "They count as background: give them a box if they are in view, or remove them.",
    )
    twins = _twins(labels)
    yield from _finding(
        "fix" if len(twins) > SLIP_SHARE * len(labels.keypoints) else "look",
        [f"{labels.where(a)} and {labels.ids[b]}" for a, b in twins],
        "people are labelled twice",
        "Remove one of each pair: a network cannot tell two people in one place apart.",
    )


def _twins(labels: Survey) -> list[tuple[int, int]]:
    """Pairs of people of one picture whose keypoints are the same but for rounding."""
    by_picture = defaultdict(list)
    for person, image_id in enumerate(labels.image_ids):
        if (labels.keypoints[person, :, 2] > 0).any():
            by_picture[image_id].append(person)
    return [
        (a, b)
        for people in by_picture.values()
        for place, b in enumerate(people)
        for a in people[:place]
        if _are_twins(labels.keypoints[a], labels.keypoints[b])
    ]


def _are_twins(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> bool:
    is_labelled = a[:, 2] > 0
    if not np.array_equal(is_labelled, b[:, 2] > 0):
        return False
    points, others = a[is_labelled, :2], b[is_labelled, :2]
    extent = float(np.ptp(points, axis=0).max())
    return float(np.hypot(*(points - others).T).mean()) <= TWIN_SHARE * extent


def _check_boxes(labels: Survey) -> Iterator[Finding]:
    # Boxes of what is seen of a person, as COCO's, need not hold hidden keypoints.
    seen = np.where(labels.keypoints[..., 2:] == 2, labels.keypoints, 0)
    has_both = np.isfinite(labels.boxes).all(axis=1) & seen.any(axis=(1, 2))
    sides_ = labels.boxes[:, 2:] - labels.boxes[:, :2]
    yield from _finding(
        "fix",
        [labels.where(person) for person in np.flatnonzero((sides_ <= 0).any(axis=1)).tolist()],
        "boxes have no area",
        "Write x, y, width, height, or leave bbox out: it is drawn around the keypoints then.",
    )
    is_off = has_both & ~_holds(labels.boxes, seen)
    yield from _finding(
        "fix" if is_off.sum() > SLIP_SHARE * max(int(has_both.sum()), 1) else "look",
        [labels.where(person) for person in np.flatnonzero(is_off).tolist()],
        "people have visible keypoints outside their box",
        "Draw the box around the person; bbox is x, y, width, height.",
    )
    reach = EDGE_PIXELS + (1 + EDGE_SHARE) * labels.sizes[:, ::-1]
    is_beyond = np.asarray((labels.boxes[:, 2:] > reach).any(axis=1))
    yield from _finding(
        "fix" if is_beyond.sum() > SLIP_SHARE * len(is_beyond) else "look",
        [labels.where(person) for person in np.flatnonzero(is_beyond).tolist()],
        "boxes reach far beyond their picture",
        "bbox is x, y, width, height, not two corners.",
    )


def _holds(boxes: npt.NDArray[np.floating], keypoints: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Whether boxes `[N, 4]`, slightly widened, hold the labelled keypoints `[N, K, 3]` → `[N]`."""
    slack = BOX_SLACK * np.max(boxes[:, 2:] - boxes[:, :2], axis=1, initial=0, keepdims=True) + EDGE_PIXELS
    low, high = (boxes[:, :2] - slack)[:, None], (boxes[:, 2:] + slack)[:, None]
    points = keypoints[..., :2]
    is_in = ((points >= low) & (points <= high)).all(axis=-1)
    return np.asarray((is_in | (keypoints[..., 2] == 0)).all(axis=1))


def _check_sides(labels: Survey) -> Iterator[Finding]:
    """Compare left with right: among the pairs of each person, and with people who face the camera."""
    pairs = flip_pairs_by_name(labels.names)
    if not pairs or not len(labels.keypoints):
        return
    place = {name: number for number, name in enumerate(labels.names)}
    indices = np.array([[place[left], place[right]] for left, right in pairs])
    trunk = tuple(
        np.array([place[f"left_{part}"], place[f"right_{part}"]])
        for part in ("shoulder", "hip")
        if {f"left_{part}", f"right_{part}"} <= set(place)
    )
    found = sides(labels.keypoints, indices, trunk=trunk)
    swapped = [pair for pair, count in zip(pairs, pair_agreement(found), strict=True) if count.is_swapped]
    yield from _finding(
        "fix",
        [" and ".join(pair) for pair in swapped],
        f"of {len(pairs)} pairs look swapped: for most people they lie opposite to the other pairs",
        "Check the order of keypoints in the file and the numbering of your labelling tool.",
    )
    is_head = np.array([left.endswith(("_eye", "_ear")) for left, _ in pairs])
    against = np.flatnonzero(
        np.sign(found[:, is_head].sum(axis=1)) * np.sign(found[:, ~is_head].sum(axis=1)) < 0
    )
    if len(against) > SLIP_SHARE * len(labels.keypoints):
        yield Finding(
            "look",
            len(against),
            f"of {len(labels.keypoints)} people have eyes and ears the other way round than the body",
            labels.where(int(against[0])),
            "Some look over their shoulder; in the others left and right may be swapped.",
        )
    count, turned = frontal_agreement(found, _is_frontal(labels, place))
    if count.people >= MIN_PEOPLE and count.share < FRONTAL_SHARE:
        yield Finding(
            "fix",
            int(turned.sum()),
            f"of {count.people} people who face the camera have their left on the picture's left",
            labels.where(int(np.flatnonzero(turned)[0])),
            "Left is the person's own left: swap left and right of all labels.",
        )


def _is_frontal(labels: Survey, place: Mapping[str, int]) -> npt.NDArray[np.bool_]:
    """Whether each person's face is seen: nose and eyes are marked as visible, where the file has such."""
    face = [place[name] for name in ("nose", "left_eye", "right_eye") if name in place]
    if "nose" not in place:
        return np.zeros(len(labels.keypoints), bool)
    return np.asarray((labels.keypoints[:, face, 2] == 2).all(axis=1))


def check_copies(
    sets: Sequence[CheckedSet], validation: Sequence[CheckedSet], facts: Mapping[Path, FileFacts]
) -> Iterator[Finding]:
    """Check for the same picture twice: in training, and in training and validation.

    Args:
        sets: for training.
        validation: to be scored.
        facts: of the files that were looked into.
    """
    trained = _by_digest(sets, facts)
    judged = _by_digest(validation, facts)
    yield from _finding(
        "fix",
        [f"{trained[digest][0]} and {judged[digest][0]}" for digest in judged if digest in trained],
        "pictures are both for training and for validation",
        "Remove them from one, or set held_out_every and every alike: scores would flatter.",
    )
    copies = [paths for paths in trained.values() if len(set(paths)) > 1]
    yield from _finding(
        "look",
        [f"{paths[0]} and {next(path for path in paths if path != paths[0])}" for paths in copies],
        "pictures for training are there more than once, byte by byte",
        "Keep one, with all its labels.",
    )


def _by_digest(sets: Sequence[CheckedSet], facts: Mapping[Path, FileFacts]) -> dict[bytes, list[Path]]:
    found = defaultdict(list)
    for one in sets:
        for number in one.used_ids():
            path = one.labels.path(number)
            if path in facts and facts[path].size:
                found[facts[path].digest].append(path)
    return found


def _marked(
    labels: Survey, marks: npt.NDArray[np.bool_], total: int, problem: str, remedy: str
) -> Iterator[Finding]:
    """Finding about keypoints marked in `[N, K]`: to be fixed if many of `total`, or any of none."""
    people, places = np.nonzero(marks)
    if len(people):
        x, y, v = labels.keypoints[people[0], places[0]].tolist()
        where = f"{labels.names[places[0]]} ({x:g}, {y:g}, {v:g}) of {labels.where(people[0])}"
        level = "fix" if len(people) > SLIP_SHARE * total else "look"
        yield Finding(level, len(people), problem, where, remedy)  # type: ignore[arg-type]


def _finding(level: str, examples: Sequence[str], problem: str, remedy: str) -> Iterator[Finding]:
    """Yield one finding if there are examples."""
    if examples:
        yield Finding(level, len(examples), problem, examples[0], remedy)  # type: ignore[arg-type]

"""What a labelled set holds, read without trusting it: whatever is broken becomes a finding, not an error."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.data.annotations import FARTHEST, read_pictures
from fleetpose.data.layouts import Split, holds_parts, load_annotations
from fleetpose.data.outlines import outline_problem
from fleetpose.errors import DatasetError, MediaError
from fleetpose.geometry import boxes_from_coco
from fleetpose.media.images import decode_image, quiet_opencv

Array = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of trouble in a set.

    Attributes:
        level: "fix" before training, or "look" whether it is meant so.
        count: how often it was found.
        problem: what, in words that follow the count.
        example: where it was found first.
        remedy: what to do.
    """

    level: Literal["fix", "look"]
    count: int
    problem: str
    example: str
    remedy: str

    def in_words(self) -> str:
        """One line.

        >>> Finding("fix", 2, "pictures are missing", "a.jpg", "Copy them.").in_words()
        'fix   2 pictures are missing; the first: a.jpg. Copy them.'
        """
        first = f"; the first: {self.example}" if self.example else ""
        return f"{self.level:<5} {self.count} {self.problem}{first}. {self.remedy}"


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """The labels of one file, person by person; people whose labels are no numbers are left out.

    Attributes:
        file: annotation file.
        folder: of the pictures.
        names: keypoints of the file.
        pictures: entry by picture id.
        image_ids: `[N]` picture of each person.
        ids: `[N]` the annotations' own numbers, in words.
        keypoints: `[N, K, 3]` (x, y, v) in pixels, in the file's order.
        boxes: `[N, 4]` xyxy, NaN where there is none.
        sizes: `[N, 2]` (h, w) of each person's picture, NaN where the file does not tell.
        has_region: `[N]` the person has an outline or a box.
        agreement: `[N]` share of a person's keypoints that other networks confirm, NaN where none was asked.
        votes: `[N, K]` other networks that confirm each keypoint, NaN where none was asked.
        findings: what is broken in the file.
        split: part of the file that this is, None for the whole file.
    """

    file: Path
    folder: Path
    names: tuple[str, ...]
    pictures: Mapping[int, Mapping[str, Any]]
    image_ids: tuple[int, ...]
    ids: tuple[str, ...]
    keypoints: Array
    boxes: Array
    sizes: Array
    has_region: npt.NDArray[np.bool_]
    agreement: Array
    votes: Array
    findings: tuple[Finding, ...]
    split: Split | None = None

    def path(self, image_id: int) -> Path:
        """File of a picture."""
        return self.folder / str(self.pictures[image_id]["file_name"])

    def where(self, person: int) -> str:
        """Picture and annotation of a person, in words."""
        return f"annotation {self.ids[person]} of {self.pictures[self.image_ids[person]]['file_name']}"


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a picture file is.

    Attributes:
        size: (h, w) as stored, None if it cannot be read.
        is_turned: its EXIF orientation turns it on its side.
        digest: of its bytes; empty if it is missing.
        problem: why it cannot be read, else empty.
    """

    size: tuple[int, int] | None
    is_turned: bool
    digest: bytes
    problem: str


def survey(annotations: Path, images: Path, *, split: Split = "train") -> Survey:
    """Read the labels of a set, of whose file `split` may choose a part.

    Raises:
        DatasetError: the file cannot be read at all, or has no category with keypoints.
    """
    data = load_annotations(annotations, split=split)
    category = next((one for one in data["categories"] if one.get("keypoints")), None)
    if category is None:
        raise DatasetError(f"{annotations} has no category that names its keypoints")
    names = tuple(category["keypoints"])
    findings, pictures = _pictures(data["images"])
    people: list[tuple[Mapping[str, Any], Array, Array]] = []
    strangers, broken, garbled = [], [], []
    for annotation in data["annotations"]:
        if annotation.get("category_id", category.get("id")) != category.get("id"):
            continue
        keypoints, opinions = _keypoints(annotation, len(names)), _opinions(annotation, len(names))
        if annotation.get("image_id") not in pictures:
            strangers.append(f"annotation {annotation.get('id')}")
        elif keypoints is None:
            broken.append(f"annotation {annotation.get('id')}{_what_is_odd(annotation, len(names))}")
        elif opinions is None:
            garbled.append(f"annotation {annotation.get('id')}")
        elif not annotation.get("iscrowd"):
            people.append((annotation, keypoints, opinions))
    findings += _found(
        "fix",
        broken,
        f"annotations have keypoints that are not {len(names)} times x, y, v, or a bbox of not four numbers, "
        "or numbers that are none",
        "Correct or remove them: training refuses the file.",
    )
    findings += _found(
        "fix",
        garbled,
        f"annotations have votes that are not {len(names)} numbers, or an agreement that is no number",
        "Correct or remove them: training refuses the file.",
    )
    findings += _found(
        "fix",
        _torn(data["annotations"]),
        "annotations have a broken outline (segmentation)",
        "Correct or remove it: training stops where such a picture is drawn.",
    )
    findings += _found(
        "look",
        strangers,
        "annotations belong to no listed picture",
        "They are left out; check whether pictures were removed on purpose.",
    )
    opinions_of_all = np.array([opinions for _, _, opinions in people]).reshape(-1, 1 + len(names))
    labelled = [annotation for annotation, _, _ in people]
    records = [pictures[annotation["image_id"]] for annotation in labelled]
    return Survey(
        file=annotations,
        folder=images,
        names=names,
        pictures=pictures,
        image_ids=tuple(annotation["image_id"] for annotation in labelled),
        ids=tuple(str(annotation.get("id")) for annotation in labelled),
        keypoints=np.array([keypoints for _, keypoints, _ in people]).reshape(-1, len(names), 3),
        boxes=np.array([_box(annotation) for annotation in labelled]).reshape(-1, 4),
        sizes=np.array(
            [[record.get("height") or np.nan, record.get("width") or np.nan] for record in records]
        ).reshape(-1, 2),
        has_region=np.array(
            [bool(annotation.get("bbox") or annotation.get("segmentation")) for annotation in labelled], bool
        ),
        agreement=opinions_of_all[:, 0],
        votes=opinions_of_all[:, 1:],
        findings=tuple(findings),
        split=split if holds_parts(annotations) else None,
    )


def survey_folder(images: Path) -> Survey:
    """List the pictures of a folder without people.

    Raises:
        DatasetError: the folder is missing or holds no picture.
    """
    pictures = read_pictures(images, num_keypoints=0)
    return Survey(
        file=images,
        folder=images,
        names=(),
        pictures={one.image_id: {"id": one.image_id, "file_name": one.path.name} for one in pictures},
        image_ids=(),
        ids=(),
        keypoints=np.zeros((0, 0, 3)),
        boxes=np.zeros((0, 4)),
        sizes=np.zeros((0, 2)),
        has_region=np.zeros(0, bool),
        agreement=np.zeros(0),
        votes=np.zeros((0, 0)),
        findings=(),
    )


def look_into_files(
    paths: Sequence[Path], *, progress: Callable[[int, int], None] | None = None
) -> dict[Path, FileFacts]:
    """Read pictures, several at a time → what each is.

    Args:
        paths: files, which may be missing.
        progress: is told after each how many of how many are done.
    """
    facts: dict[Path, FileFacts] = {}
    with quiet_opencv(), ThreadPoolExecutor() as readers:
        for done, (path, fact) in enumerate(zip(paths, readers.map(_look, paths), strict=True), start=1):
            facts[path] = fact
            if progress is not None:
                progress(done, len(paths))
    return facts


def _look(path: Path) -> FileFacts:
    if not path.is_file():
        return FileFacts(None, is_turned=False, digest=b"", problem="it is missing")
    try:
        data = path.read_bytes()
        upright = decode_image(data, name=path.name).shape[:2]
    except (OSError, MediaError) as error:
        return FileFacts(None, is_turned=False, digest=b"?", problem=str(error))
    # A small version is enough to see whether the stored picture lies on its side, and quick to get.
    flags = cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_IGNORE_ORIENTATION
    small = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), flags)).shape
    is_turned = (upright[0] - upright[1]) * (small[0] - small[1]) < 0
    size = (upright[1], upright[0]) if is_turned else (upright[0], upright[1])
    return FileFacts(size, is_turned=is_turned, digest=hashlib.blake2b(data).digest(), problem="")


def _found(
    level: Literal["fix", "look"], examples: Sequence[str], problem: str, remedy: str
) -> list[Finding]:
    """One finding if there are examples, else none."""
    return [Finding(level, len(examples), problem, examples[0], remedy)] if examples else []


def _pictures(records: Iterable[Any]) -> tuple[list[Finding], dict[int, Mapping[str, Any]]]:
    """Index the list of pictures by id → findings, entry by id."""
    sound: list[Mapping[str, Any]] = []
    broken: list[Any] = []
    for record in records:
        is_sound = isinstance(record, Mapping) and isinstance(record.get("id"), int)
        (sound if is_sound and isinstance(record.get("file_name"), str) else broken).append(record)
    counts = Counter(record["id"] for record in sound)
    doubled = [f"id {number}" for number, count in counts.items() if count > 1]
    findings = _found(
        "fix",
        [str(record) for record in broken],
        "pictures lack a whole number as id or a file_name",
        "Correct the file: training refuses it.",
    )
    findings += _found(
        "fix", doubled, "picture ids occur more than once", "Number the pictures anew: training refuses them."
    )
    return findings, {record["id"]: record for record in sound}


def _keypoints(annotation: Mapping[str, Any], count: int) -> Array | None:
    """`[K, 3]` as the file has them, 0 where there are none; None if they or the box are no numbers."""
    try:
        given = np.array(annotation.get("keypoints") or [0] * (3 * count), float)
        box = _box(annotation)
    except (TypeError, ValueError):
        return None
    if given.shape != (3 * count,):
        return None
    keypoints = given.reshape(count, 3)
    keypoints[keypoints[:, 2] == 0] = 0  # what stands for an absent keypoint does not matter
    is_sound = (np.abs(keypoints[:, :2]) <= FARTHEST).all() and np.isfinite(keypoints[:, 2]).all()
    return keypoints if is_sound and (np.isfinite(box).all() or not annotation.get("bbox")) else None


def _what_is_odd(annotation: Mapping[str, Any], count: int) -> str:
    """Say in words what is wrong with an annotation's keypoints, if it is their number."""
    given = annotation.get("keypoints")
    if isinstance(given, list) and len(given) not in {0, 3 * count}:
        return f", which has {len(given)} numbers, not {3 * count}"
    return ""


def _opinions(annotation: Mapping[str, Any], count: int) -> Array | None:
    """Agreement and votes `[1 + K]`, NaN where there are none; None if they are no numbers."""
    agreement, votes = annotation.get("agreement", np.nan), annotation.get("votes")
    if isinstance(agreement, bool) or not isinstance(agreement, int | float):
        return None
    try:
        given = np.full(count, np.nan) if votes is None else np.array(votes, float).reshape(count)
    except (TypeError, ValueError):
        return None
    return np.array([agreement, *given])


def _torn(annotations: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name the annotations whose outline cannot be drawn, and say why."""
    outlines = ((one, one.get("segmentation")) for one in annotations)
    return [
        f"annotation {one.get('id')}, which has {problem}"
        for one, outline in outlines
        if outline and (problem := outline_problem(outline))
    ]


def _box(annotation: Mapping[str, Any]) -> Array:
    if not annotation.get("bbox"):
        return np.full(4, np.nan)
    return boxes_from_coco(np.array(annotation["bbox"], float).reshape(4))

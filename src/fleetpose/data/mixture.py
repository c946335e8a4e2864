"""A user's own data in one YAML file: keypoints, training mixture and validation sets.

    skeleton: coco17        # or a YAML file, or the parts of one: keypoints, limbs, flip_pairs, sigmas
    train:
    - {images: images, annotations: train.json, weight: 4}
    - {images: empty_rooms, weight: 0.5}
    validation:
    - {name: mine, images: images, annotations: val.json}

Paths start from the folder of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from fleetpose.data.layouts import Split
from fleetpose.data.scenes import Source
from fleetpose.errors import ConfigError
from fleetpose.settings import from_plain
from fleetpose.skeletons import COCO, SKELETONS, Skeleton, load_skeleton


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Labelled pictures on which a model is scored.

    Attributes:
        images: folder of pictures.
        annotations: COCO keypoint file.
        name: what to call it; the annotation file's own name where there is none.
        every: take only the pictures whose id is a multiple of this.
        split: part to take of a file that holds training and test pictures.
    """

    images: Path
    annotations: Path
    name: str = ""
    every: int = 1
    split: Split = "test"

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"a validation set needs an every of at least 1, got {self.every}")


@dataclass(frozen=True, slots=True)
class DataFile:
    """What a data file says: its parts are those of the YAML.

    Attributes:
        train: training mixture.
        validation: sets that are scored.
        skeleton: keypoints that are learned.
    """

    train: tuple[Source, ...]
    validation: tuple[LabelledSet, ...] = ()
    skeleton: Skeleton = COCO


def read_data(path: Path) -> DataFile:
    """Read a data file; paths in it are joined to its folder, and sets without a name are named.

    Raises:
        ConfigError: the file or the skeleton file is missing or malformed, or a part is unknown or wrong.
    """
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the data file {path}: {' '.join(str(error).split())}") from error
    if not isinstance(plain, Mapping):
        raise ConfigError(f"data file {path} must hold a mapping with train, got {type(plain).__name__}")
    rest = {name: value for name, value in plain.items() if name != "skeleton" and value is not None}
    data = from_plain(DataFile, rest, where=f"data file {path}")
    if not data.train:
        raise ConfigError(f"data file {path}: train must list at least one source")
    root = path.parent
    return DataFile(
        train=tuple(
            replace(
                source,
                images=root / source.images,
                annotations=None if source.annotations is None else root / source.annotations,
            )
            for source in data.train
        ),
        validation=tuple(
            replace(
                one,
                images=root / one.images,
                annotations=root / one.annotations,
                name=one.name or one.annotations.stem,
            )
            for one in data.validation
        ),
        skeleton=_skeleton(plain.get("skeleton"), path),
    )


def _skeleton(given: Any, path: Path) -> Skeleton:  # noqa: ANN401 - whatever YAML holds
    """Name, file or description → skeleton."""
    if given is None:
        return COCO
    if isinstance(given, str):
        return load_skeleton(given if given in SKELETONS else _file_beside(path, given))
    if isinstance(given, Mapping):
        try:
            return Skeleton.from_dict(dict(given))
        except ConfigError as error:
            raise ConfigError(f"data file {path}: {error}") from error
    raise ConfigError(f"data file {path}: skeleton must be a name, a file or keypoints, got {given!r}")


def _file_beside(path: Path, given: str) -> str | Path:
    """Path of a skeleton file; what is no YAML file stays as it is, for the message about unknown names."""
    return path.parent / given if Path(given).suffix in {".yaml", ".yml"} else given

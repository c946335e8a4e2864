"""Skeletons: which keypoints a model predicts, in which order, and how they belong together."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from fleetpose.errors import ConfigError, UnknownNameError

logger = logging.getLogger(__name__)

#: Middle of COCO's own sigmas; stands in where a user's skeleton gives none.
GUESSED_SIGMA = 0.079
#: An l for left: a word of its own, as in `l_hip` and `hip.L`, or at an end of one, as in `LHip` and `hipL`.
_LETTER = r"(?<![A-Za-z])[{0}](?![A-Za-z])|(?<![A-Za-z])[{0}](?=[A-Z][a-z])|(?<=[a-z]){1}(?![A-Za-z])"
_L_FOR_LEFT = re.compile(_LETTER.format("lL", "L"))
_R_FOR_RIGHT = re.compile(_LETTER.format("rR", "R"))


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Names, limbs, mirror pairs and OKS sigmas of a set of keypoints.

    Everything is given by name; indices follow from the order of `keypoints`.
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: tuple[tuple[str, str], ...]
    flip_pairs: tuple[tuple[str, str], ...]
    sigmas: tuple[float, ...]  # spread of annotators per keypoint, as a share of sqrt(area)

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise ConfigError(f"skeleton {self.name!r}: {problems[0]}")

    def _problems(self) -> list[str]:
        """Each thing that does not hold together, in words."""
        found = [
            *_pair_problems("limbs", self.limbs, self.keypoints),
            *_pair_problems("flip_pairs", self.flip_pairs, self.keypoints),
        ]
        if not self.keypoints:
            found.append("keypoints must name at least one keypoint, got none")
        doubled = [name for name, count in Counter(self.keypoints).items() if count > 1]
        if doubled:
            found.append(f"keypoints must be unique, but {doubled[0]!r} stands twice")
        paired = [name for pair in self.flip_pairs for name in pair]
        if len(paired) != len(set(paired)):
            found.append("flip_pairs must name each keypoint at most once")
        if len(self.sigmas) != len(self.keypoints):
            found.append(f"sigmas must be {len(self.keypoints)} numbers, got {len(self.sigmas)}")
        if any(not np.isfinite(sigma) or sigma <= 0 for sigma in self.sigmas):
            found.append(f"sigmas must be positive numbers, got {list(self.sigmas)}")
        return found

    def __len__(self) -> int:
        return len(self.keypoints)

    def index(self, keypoint: str) -> int:
        """Position of a keypoint, by name.

        >>> COCO.index("left_wrist")
        9
        """
        if keypoint not in self.keypoints:
            raise UnknownNameError(f"keypoint of skeleton {self.name}", keypoint, self.keypoints)
        return self.keypoints.index(keypoint)

    @property
    def limb_indices(self) -> npt.NDArray[np.int64]:
        """Limbs as `[L, 2]` indices into `keypoints`."""
        pairs = [[self.keypoints.index(a), self.keypoints.index(b)] for a, b in self.limbs]
        return np.array(pairs, np.int64).reshape(-1, 2)

    @property
    def flip_permutation(self) -> npt.NDArray[np.int64]:
        """`[K]` indices: keypoint k of a mirrored person is keypoint `flip_permutation[k]` of the person.

        >>> COCO.flip_permutation[:5].tolist()
        [0, 2, 1, 4, 3]
        """
        order = np.arange(len(self.keypoints))
        for a, b in self.flip_pairs:
            i, j = self.keypoints.index(a), self.keypoints.index(b)
            order[i], order[j] = j, i
        return order

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in a user's YAML file and in a model file's metadata."""
        return {
            "name": self.name,
            "keypoints": list(self.keypoints),
            "limbs": [list(limb) for limb in self.limbs],
            "flip_pairs": [list(pair) for pair in self.flip_pairs],
            "sigmas": list(self.sigmas),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Skeleton:
        """Build from plain data with keys `name`, `keypoints`, `limbs`, `flip_pairs`, `sigmas`.

        Without `name` it is called "custom". Without `flip_pairs`, names that differ only in left and right
        are paired. Without `sigmas` a middle value stands in and a warning is logged, because OKS scores
        then mean little.

        Raises:
            ConfigError: a key is unknown, missing or of the wrong form.
        """
        known = {"name", "keypoints", "limbs", "flip_pairs", "sigmas"}
        for key in data:
            if key not in known:
                raise UnknownNameError("skeleton key", key, known)
        # An absent key and one without a value say the same in YAML.
        given = {key: value for key, value in data.items() if value is not None}
        keypoints = _names("keypoints", given.get("keypoints"))
        name = given.get("name", "custom")
        if not isinstance(name, str):
            raise ConfigError(f"skeleton: name must be text, got {name!r}")
        return cls(
            name=name,
            keypoints=keypoints,
            limbs=_pairs("limbs", given.get("limbs", ())),
            flip_pairs=(
                _pairs("flip_pairs", given["flip_pairs"])
                if "flip_pairs" in given
                else flip_pairs_by_name(keypoints)
            ),
            sigmas=(
                _numbers("sigmas", given["sigmas"])
                if "sigmas" in given
                else _guessed_sigmas(name, len(keypoints))
            ),
        )


def flip_pairs_by_name(keypoints: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pair the names that differ only in a `left` and a `right`, or an l and an r; both may be capitalised.

    >>> flip_pairs_by_name(["nose", "left_eye", "right_eye", "Left Wing", "Right Wing"])
    (('left_eye', 'right_eye'), ('Left Wing', 'Right Wing'))
    >>> flip_pairs_by_name(["pelvis", "r_hip", "l_hip", "LKnee", "RKnee", "foot.l", "foot.r"])
    (('l_hip', 'r_hip'), ('LKnee', 'RKnee'), ('foot.l', 'foot.r'))
    """
    mirrored = {name: _mirrored_name(name) for name in keypoints}
    return tuple((left, right) for left, right in mirrored.items() if right != left and right in mirrored)


def side_of(name: str) -> str:
    """Side of the body that a keypoint's name tells: "left", "right", or "" for neither or both.

    >>> side_of("left_eye"), side_of("eye_r"), side_of("nose")
    ('left', 'right', '')
    """
    is_left = _mirrored_name(name) != name
    is_right = "right" in name.lower() or _R_FOR_RIGHT.search(name) is not None
    if is_left == is_right:
        return ""
    return "left" if is_left else "right"


def _mirrored_name(name: str) -> str:
    for left, right in (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT")):
        name = name.replace(left, right)
    return _L_FOR_LEFT.sub(lambda letter: "r" if letter[0] == "l" else "R", name)


def load_skeleton(source: str | Path | Skeleton) -> Skeleton:
    """Return a built-in skeleton by name, or read a user's own from a YAML file; one is returned as it is.

    Raises:
        ConfigError: the name is unknown, or the file is missing or malformed.
    """
    if isinstance(source, Skeleton):
        return source
    if str(source) in SKELETONS:
        return SKELETONS[str(source)]
    path = Path(source)
    if path.suffix not in {".yaml", ".yml"}:
        raise UnknownNameError("skeleton", str(source), SKELETONS)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"cannot read the skeleton file {path}: {reason}") from error
    if not isinstance(data, dict):
        raise ConfigError(
            f"skeleton file {path} must hold a mapping with keypoints, got {type(data).__name__}"
        )
    try:
        return Skeleton.from_dict(data)
    except ConfigError as error:
        raise ConfigError(f"skeleton file {path}: {error}") from error


def _pair_problems(kind: str, pairs: Sequence[tuple[str, str]], keypoints: Sequence[str]) -> list[str]:
    strangers = [name for pair in pairs for name in pair if name not in keypoints]
    found = [f"{kind} name {strangers[0]!r}, which is not among the keypoints"] if strangers else []
    if any(a == b for a, b in pairs):
        found.append(f"{kind} must join two different keypoints")
    return found


def _names(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item for item in value):
        raise ConfigError(f"skeleton: {key} must be a list of names, got {value!r}")
    return tuple(value)


def _pairs(key: str, value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"skeleton: {key} must be a list of pairs of names, got {value!r}")
    pairs = [_names(key, pair) for pair in value]
    if any(len(pair) != 2 for pair in pairs):
        raise ConfigError(f"skeleton: {key} must be pairs of names, got {value!r}")
    return tuple((pair[0], pair[1]) for pair in pairs)


def _numbers(key: str, value: object) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or not all(type(item) in (int, float) for item in value):
        raise ConfigError(f"skeleton: {key} must be a list of numbers, got {value!r}")
    return tuple(float(item) for item in value)


def _guessed_sigmas(name: str, count: int) -> tuple[float, ...]:
    logger.warning(
        "skeleton %s gives no sigmas: %.3f is guessed for all; OKS scores are only rough", name, GUESSED_SIGMA
    )
    return (GUESSED_SIGMA,) * count


_COCO_KEYPOINTS = (
    "nose",
    *("left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip"),
    *("left_knee", "right_knee", "left_ankle", "right_ankle"),
)
_ARMS_AND_LEGS = (
    ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"),
    ("left_hip", "left_knee"),
    ("left_knee", "left_ankle"),
    ("right_hip", "right_knee"),
    ("right_knee", "right_ankle"),
)
_TRUNK = (
    ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
    ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"),
)
#: Sigmas of COCO's and CrowdPose's evaluation (reference-facts of the official tools).
_SIGMAS = {
    "nose": 0.026,
    "eye": 0.025,
    "ear": 0.035,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
    "head": 0.079,
    "neck": 0.079,
    "head_top": 0.079,
    "thorax": 0.079,
    "pelvis": 0.107,
}


def _sigmas(keypoints: Sequence[str]) -> tuple[float, ...]:
    return tuple(_SIGMAS[name.removeprefix("left_").removeprefix("right_")] for name in keypoints)


def _built_in(name: str, keypoints: tuple[str, ...], limbs: tuple[tuple[str, str], ...]) -> Skeleton:
    return Skeleton(
        name=name,
        keypoints=keypoints,
        limbs=limbs,
        flip_pairs=flip_pairs_by_name(keypoints),
        sigmas=_sigmas(keypoints),
    )


#: COCO keypoints 2017 (Lin et al., arXiv:1405.0312), with the limbs of its annotation files.
COCO = _built_in(
    "coco17",
    _COCO_KEYPOINTS,
    (
        *_ARMS_AND_LEGS,
        *_TRUNK,
        ("left_eye", "right_eye"),
        ("nose", "left_eye"),
        ("nose", "right_eye"),
        ("left_eye", "left_ear"),
        ("right_eye", "right_ear"),
        ("left_ear", "left_shoulder"),
        ("right_ear", "right_shoulder"),
    ),
)

#: CrowdPose (Li et al., arXiv:1812.00324).
CROWDPOSE = _built_in(
    "crowdpose14",
    (*_COCO_KEYPOINTS[5:], "head", "neck"),
    (*_ARMS_AND_LEGS, *_TRUNK, ("head", "neck"), ("neck", "left_shoulder"), ("neck", "right_shoulder")),
)

#: MPII Human Pose (Andriluka et al., CVPR 2014). It has no official OKS sigmas:
#: those of like keypoints stand in.
MPII = _built_in(
    "mpii16",
    (
        *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
        *("pelvis", "thorax", "neck", "head_top"),
        *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
    ),
    (
        *_ARMS_AND_LEGS,
        ("pelvis", "left_hip"),
        ("pelvis", "right_hip"),
        ("pelvis", "thorax"),
        ("thorax", "left_shoulder"),
        ("thorax", "right_shoulder"),
        ("thorax", "neck"),
        ("neck", "head_top"),
    ),
)

#: Leeds Sports Pose (Johnson & Everingham, BMVC 2010). No official OKS sigmas either.
LSP = _built_in(
    "lsp14",
    (
        *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
        *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
        *("neck", "head_top"),
    ),
    (*_ARMS_AND_LEGS, *_TRUNK, ("neck", "left_shoulder"), ("neck", "right_shoulder"), ("neck", "head_top")),
)

SKELETONS = {skeleton.name: skeleton for skeleton in (COCO, CROWDPOSE, MPII, LSP)}

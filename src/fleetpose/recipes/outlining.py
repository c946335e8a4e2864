"""Outlines of people who have keypoints but none, by GrabCut (Rother et al., SIGGRAPH 2004) around the limbs.

Cut out along them, people of photos can be put into other pictures (`fleetpose.data.paste`). Whoever does not
stand out against the background gets no outline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.data.annotations import load_coco_json
from fleetpose.errors import ConfigError
from fleetpose.geometry import Image
from fleetpose.recipes.voting import keypoint_category, labelled_people, numbers_of
from fleetpose.skeletons import Skeleton
from fleetpose.synth.rle import encode_mask

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Fewer labelled keypoints do not tell where a person is.
FEWEST_KEYPOINTS = 8
#: Pictures are enlarged to this many pixels along the longer side: colours are told apart more finely.
WORKING_EXTENT = 256
#: Rounds of GrabCut.
ROUNDS = 3
#: Widths of limbs, as shares of the trunk's length: what surely is the person, what probably is, and how
#: far from the limbs the person may reach.
SURE, LIKELY, WITHIN = 0.055, 0.22, 0.85
#: Radii about the ends of limbs and about the head, as shares of the trunk's length.
HAND_OR_FOOT, HEAD, HEAD_LIKELY = 0.45, 0.55, 0.22
#: The head's middle lies this far above the shoulders where no face is labelled, in trunk lengths.
HEAD_ABOVE = 0.45
#: The trunk is at least this share of the person's extent: bent people show it short.
SHORTEST_TRUNK = 0.2
#: Pieces smaller than this share of the largest are specks.
SPECK = 0.1
#: An outline is good if this share of the labelled keypoints lies on it or near it,
LEAST_ON = 0.85
#: as near as this share of the trunk,
NEARBY = 0.12
#: if it fills this share of what the person may reach,
LEAST_FILLED, MOST_FILLED = 0.12, 0.72
#: and if no more of its rim than this is where the person's reach ends: there the background leaked in.
MOST_CLIPPED = 0.12
#: The picture changes so many times as fast across the rim as elsewhere on and around the person.
LEAST_CONTRAST = 1.5
#: What counts as around the person, in pixels, and the blur before changes are measured.
AROUND_PX, BLUR_PX = 12, 1.5

_TRUNK = (("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"))
_FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
_ENDS = ("left_wrist", "right_wrist", "left_ankle", "right_ankle")


@dataclass(frozen=True, slots=True)
class Guide:
    """Which keypoints say what of a person's shape, as indices.

    Attributes:
        limbs: pairs that a limb or another part of the body connects.
        trunk: pairs of a shoulder and the hip of its side.
        face: keypoints of the face.
        ends: wrists and ankles, beyond which hands and feet lie.
    """

    limbs: tuple[tuple[int, int], ...]
    trunk: tuple[tuple[int, int], ...]
    face: tuple[int, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, names: Sequence[str], skeleton: Skeleton) -> Guide:
        """Find a skeleton's limbs among the `names` of a file.

        Raises:
            ConfigError: there are none.
        """
        place = {name: k for k, name in enumerate(names)}
        limbs = tuple((place[a], place[b]) for a, b in skeleton.limbs if a in place and b in place)
        if not limbs:
            raise ConfigError(
                f"people are outlined along their limbs, but skeleton {skeleton.name!r} has none between "
                f"the file's keypoints ({', '.join(names)})"
            )
        return cls(
            limbs=limbs,
            trunk=tuple((place[a], place[b]) for a, b in _TRUNK if a in place and b in place),
            face=tuple(place[name] for name in _FACE if name in place),
            ends=tuple(place[name] for name in _ENDS if name in place),
        )


def add_outlines(
    annotations: Path,
    images: Path,
    skeleton: Skeleton,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Any], int, int]:
    """Give people without one an outline (`segmentation`) → the file's data, how many got one, of how many.

    Args:
        annotations: COCO keypoint file, or one of another known layout.
        images: folder of its pictures.
        skeleton: says which keypoints limbs connect; matched by name.
        progress: told how many people are done, and of how many, after each.

    Raises:
        ConfigError: the skeleton has no limb between keypoints of the file.
        DatasetError: the file or a picture cannot be read.
    """
    data = load_coco_json(annotations)
    names = tuple(keypoint_category(data, annotations)["keypoints"])
    guide = Guide.of(names, skeleton)
    outlined: dict[int, dict[str, Any]] = {}
    asked = 0
    for person, image in labelled_people(data, images, progress=progress):
        if person.get("segmentation"):
            continue
        asked += 1
        points = numbers_of(person, "keypoints", 3 * len(names), annotations).reshape(-1, 3)
        mask = outline(image, points, guide)
        if mask is not None:
            outlined[id(person)] = {**person, "segmentation": encode_mask(mask)}
    return (
        {**data, "annotations": [outlined.get(id(one), one) for one in data["annotations"]]},
        len(outlined),
        asked,
    )


def outline(image: Image, points: Array, guide: Guide) -> Mask | None:
    """Tell a person from the background → mask `[H, W]`, or None where that does not come out well.

    Args:
        image: `[H, W, 3]` uint8 RGB, the whole picture.
        points: `[K, 3]` (x, y, v) of the person.
        guide: what the keypoints say of the shape.
    """
    if (points[:, 2] > 0).sum() < FEWEST_KEYPOINTS:
        return None
    h, w = image.shape[:2]
    enlarged = max(1.0, WORKING_EXTENT / max(h, w))
    size = (round(w * enlarged), round(h * enlarged))
    body = _Body.of(points, enlarged, guide)
    trimap = body.trimap((size[1], size[0]))
    if not {cv2.GC_BGD, cv2.GC_FGD} <= set(np.unique(trimap).tolist()):
        return None
    within = trimap != cv2.GC_BGD
    surely = trimap == cv2.GC_FGD
    seen = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    cv2.setRNGSeed(0)  # the colours' first guess is drawn at random
    cv2.grabCut(seen, trimap, None, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    mask = _without_specks((trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD), surely)
    if not body.is_good(mask, within) or _contrast(seen, mask) < LEAST_CONTRAST:
        return None
    return np.asarray(cv2.resize(mask.astype(np.uint8), (w, h), interpolation=cv2.INTER_AREA) > 0)


@dataclass(frozen=True, slots=True, eq=False)
class _Body:
    """A person's labelled keypoints `[K, 2]`, which of them there are, and the trunk's length in pixels."""

    xy: Array
    is_there: Mask
    trunk: float
    guide: Guide

    @classmethod
    def of(cls, points: Array, enlarged: float, guide: Guide) -> _Body:
        xy, is_there = (points[:, :2] + 0.5) * enlarged - 0.5, points[:, 2] > 0
        lengths = [np.linalg.norm(xy[a] - xy[b]) for a, b in guide.trunk if is_there[a] and is_there[b]]
        extent = float(np.ptp(xy[is_there], axis=0).max())
        trunk = max(float(np.median(lengths)) if lengths else 0.0, SHORTEST_TRUNK * extent, 1.0)
        return cls(xy, is_there, trunk, guide)

    def trimap(self, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """What GrabCut starts from: what surely and probably is the person, probably not, and surely not."""
        within = self._limbs(size, WITHIN)
        likely = self._limbs(size, LIKELY)
        surely = self._limbs(size, SURE)
        for k in self.guide.ends:
            if self.is_there[k]:
                self._disc(within, self.xy[k], HAND_OR_FOOT)
        head, has_face = self._head()
        if head is not None:
            self._disc(within, head, HEAD)
            self._disc(likely, head, HEAD_LIKELY)
            if has_face:
                self._disc(surely, head, SURE)
        corners = [k for side in self.guide.trunk for k in side if self.is_there[k]]
        if len(corners) > 2:
            hull = cv2.convexHull(np.rint(self.xy[corners]).astype(np.int32))
            for mask in (within, likely, surely):
                cv2.fillConvexPoly(mask, hull, 1)
        trimap = np.full(size, cv2.GC_BGD, np.uint8)
        trimap[within > 0] = cv2.GC_PR_BGD
        trimap[likely > 0] = cv2.GC_PR_FGD
        trimap[surely > 0] = cv2.GC_FGD
        return trimap

    def is_good(self, mask: Mask, within: Mask) -> bool:
        """Whether a mask covers the keypoints, fills some of the person's reach, and ends within it."""
        if not LEAST_FILLED <= mask.sum() / within.sum() <= MOST_FILLED:
            return False
        distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
        h, w = mask.shape
        x, y = np.rint(self.xy[self.is_there]).astype(int).T
        near = distance[np.clip(y, 0, h - 1), np.clip(x, 0, w - 1)] <= NEARBY * self.trunk
        rim = mask & ~_shrunk(mask)
        clipped = rim & ~_shrunk(_shrunk(within))
        return bool(near.mean() >= LEAST_ON and clipped.sum() <= MOST_CLIPPED * rim.sum())

    def _limbs(self, size: tuple[int, int], share: float) -> npt.NDArray[np.uint8]:
        mask = np.zeros(size, np.uint8)
        for a, b in self.guide.limbs:
            if self.is_there[a] and self.is_there[b]:
                width = max(1, round(share * self.trunk))
                cv2.line(mask, _pixel(self.xy[a]), _pixel(self.xy[b]), 1, width)
        return mask

    def _disc(self, mask: npt.NDArray[np.uint8], xy: Array, share: float) -> None:
        cv2.circle(mask, _pixel(xy), max(1, round(share * self.trunk)), 1, -1)

    def _head(self) -> tuple[Array | None, bool]:
        """Middle of the head, if anything tells where it is, and whether a labelled face does."""
        face = [k for k in self.guide.face if self.is_there[k]]
        if face:
            return self.xy[face].mean(axis=0), True
        sides = [(a, b) for a, b in self.guide.trunk if self.is_there[a] and self.is_there[b]]
        if len(sides) != len(_TRUNK):
            return None, False
        shoulders, hips = (self.xy[[side[end] for side in sides]].mean(axis=0) for end in (0, 1))
        length = float(np.linalg.norm(shoulders - hips))
        upward = (shoulders - hips) / max(length, 1.0)
        return shoulders + upward * HEAD_ABOVE * self.trunk, False


def _contrast(image: Image, mask: Mask) -> float:
    """How fast the picture changes across the rim of a mask, relative to the rest of and around it."""
    blurred = cv2.GaussianBlur(image, (0, 0), BLUR_PX).astype(np.float32)
    slopes = [cv2.Sobel(blurred, cv2.CV_32F, dx, 1 - dx, ksize=3) for dx in (0, 1)]
    change = np.sqrt(sum((slope**2).sum(axis=-1) for slope in slopes))
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    rim = grown & ~_shrunk(mask)
    side = 2 * AROUND_PX + 1
    rest = (cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0) & ~rim
    if not rim.any() or not rest.any():
        return 0.0
    return float(change[rim].mean() / max(change[rest].mean(), 1e-6))


def _without_specks(mask: Mask, surely: Mask) -> Mask:
    """Open the mask by a pixel and drop small pieces."""
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) | surely
    _, pieces, statistics, _ = cv2.connectedComponentsWithStats(opened.astype(np.uint8))
    areas = statistics[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    is_kept = areas >= SPECK * max(areas.max(), 1)
    return np.asarray(is_kept[pieces])


def _shrunk(mask: Mask) -> Mask:
    """Take a pixel off the rim; the picture's edge is no rim."""
    return np.asarray(cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)


def _pixel(xy: Array) -> tuple[int, int]:
    x, y = np.clip(np.rint(xy), -10_000, 10_000).astype(int)
    return int(x), int(y)

"""People cut out along their outlines and put into other pictures (copy-paste; arXiv:2012.07177).

What a pasted person covers becomes hidden (v = 1), and nobody is covered so far that too little is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.data.annotations import Picture
from fleetpose.data.outlines import segmentation_mask
from fleetpose.data.photometric import LUMINANCE
from fleetpose.data.pictures import PictureCache
from fleetpose.data.samples import Sample, drop_outside, load_sample
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.geometry import Image, similarity, transform_points, warp
from fleetpose.skeletons import Skeleton

#: Who is worth cutting out: so many visible keypoints, and so many pixels along the longer side of the box.
MIN_VISIBLE, MIN_EXTENT = 8, 48
#: Pictures that are tried for somebody who stands whole in the picture, and places for somebody to paste.
TRIES = 8
#: A keypoint belongs to a cut-out if it lies within this share of the person's extent of the outline.
REACH = 0.03
#: Small people are not blown up beyond this, lest they blur.
MAX_SCALE = 1.5
#: Brightness is matched by at most this factor.
MAX_GAIN = 1.6


@dataclass(frozen=True, slots=True)
class PasteSettings:
    """How people are pasted.

    Attributes:
        chance: share of pictures that get somebody.
        most: largest number of people that a picture gets.
        size: longer side of a pasted person, as a share of the picture's shorter side: lowest, highest.
        likeness: 1 pastes people as large as those in the picture, 0 pays no heed to them.
        light: share of the difference in brightness to the surroundings that is taken away.
        hidden: largest share of anybody's visible keypoints that a paste may hide.
        rotation_deg: largest turn to either side.
    """

    chance: float = 0.5
    most: int = 2
    size: tuple[float, float] = (0.35, 1.0)
    likeness: float = 0.5
    light: float = 0.5
    hidden: float = 0.5
    rotation_deg: float = 15.0

    def __post_init__(self) -> None:
        shares = (self.chance, self.likeness, self.light, self.hidden)
        if not all(0 <= share <= 1 for share in shares) or self.most < 1 or self.rotation_deg < 0:
            raise ConfigError(
                f"pasting needs chance, likeness, light and hidden from 0 to 1, at least one person at "
                f"most and a turn of at least 0, got {self}"
            )
        if not 0 < self.size[0] <= self.size[1]:
            raise ConfigError(f"paste.size must be a lowest and a highest size above 0, got {self.size}")


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """One person cut out of a picture.

    Attributes:
        image: `[H, W, 3]` uint8 RGB.
        mask: `[H, W]` uint8, 1 on the person.
        keypoints: `[K, 3]` (x, y, v) in pixels of `image`; nothing lies off the person.
        is_known: `[K]` False where nobody looked, or where the keypoint is not on what was cut out.
    """

    image: Image
    mask: npt.NDArray[np.uint8]
    keypoints: npt.NDArray[np.float32]
    is_known: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Cutouts:
    """People who can be cut out of pictures that were read with their outlines.

    Attributes:
        pictures: where the people are.
        skeleton: their keypoints.
        weights: how often people of each picture are drawn, relative to the others; all alike by default.
        cache: what reads the pictures.
    """

    pictures: Sequence[Picture]
    skeleton: Skeleton
    weights: Sequence[float] = ()
    cache: PictureCache = field(default_factory=PictureCache)
    _people: tuple[tuple[int, int], ...] = field(init=False, repr=False)
    _up_to: npt.NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        weights = self.weights or [1.0] * len(self.pictures)
        people = tuple(
            (number, person)
            for number, picture in enumerate(self.pictures)
            for person, outline in enumerate(picture.outlines)
            if outline is not None and weights[number] > 0 and _is_worthwhile(picture, person)
        )
        if not people:
            raise DatasetError(
                "nobody can be cut out: no picture has a person with an outline (COCO segmentation), "
                f"{MIN_VISIBLE} visible keypoints and {MIN_EXTENT} pixels"
            )
        object.__setattr__(self, "_people", people)
        object.__setattr__(self, "_up_to", np.cumsum([weights[number] for number, _ in people]))

    def __len__(self) -> int:
        """Return the number of people on offer."""
        return len(self._people)

    def draw(self, rng: np.random.Generator) -> Cutout | None:
        """Cut out somebody who stands whole in the picture; None after some vain tries.

        Raises:
            DatasetError: a picture cannot be read.
        """
        for _ in range(TRIES):
            drawn = np.searchsorted(self._up_to, rng.random() * self._up_to[-1], side="right")
            number, person = self._people[min(int(drawn), len(self._people) - 1)]
            found = cut_out(self.pictures[number], person, cache=self.cache)
            if found is not None:
                return found
        return None


def cut_out(picture: Picture, person: int, *, cache: PictureCache | None = None) -> Cutout | None:
    """Cut a person out along the outline; None if the edge of the picture cuts through the person.

    Raises:
        DatasetError: the picture cannot be read, or the outline is of another size.
    """
    image = load_sample(replace(picture, ignored=()), cache=cache).image
    mask = segmentation_mask(picture.outlines[person], image.shape[:2])
    if mask.shape != image.shape[:2]:
        raise DatasetError(
            f"{picture.path} has {image.shape[0]} rows and {image.shape[1]} columns, "
            f"but an outline {mask.shape[0]} and {mask.shape[1]}"
        )
    x, y, w, h = cv2.boundingRect(mask)
    if w == 0 or x == 0 or y == 0 or x + w == mask.shape[1] or y + h == mask.shape[0]:
        return None
    mask = mask[y : y + h, x : x + w]
    keypoints = picture.keypoints[person].copy()
    keypoints[:, :2] -= (x, y)
    on_it = _is_near(mask, keypoints, reach=REACH * max(w, h)) & (keypoints[:, 2] > 0)
    is_known = picture.is_known[person] & (on_it | (keypoints[:, 2] == 0))
    keypoints[~on_it] = 0
    return Cutout(image[y : y + h, x : x + w], mask, keypoints, is_known)


def paste_people(
    sample: Sample, cutouts: Cutouts, rng: np.random.Generator, settings: PasteSettings
) -> Sample:
    """Put people into a picture, or leave it as it is, as `rng` decides.

    Raises:
        DatasetError: a picture to cut from cannot be read.
    """
    if rng.random() >= settings.chance:
        return sample
    for _ in range(int(rng.integers(1, settings.most + 1))):
        cutout = cutouts.draw(rng)
        if cutout is not None:
            sample = _paste_somewhere(sample, cutout, rng, settings, cutouts.skeleton.flip_permutation)
    return sample


def paste(
    sample: Sample,
    cutout: Cutout,
    affine: npt.NDArray[np.floating],
    *,
    flip_permutation: npt.NDArray[np.int64],
    light: float = 0.5,
    hidden: float = 1.0,
) -> Sample | None:
    """Put a person into a picture where `affine` takes the cut-out.

    The edge is softened over a pixel or two. Visible keypoints of others below the person become hidden, and
    what the picture's labels left open counts where the person covers it.

    Args:
        sample: picture with labels.
        cutout: whom to paste.
        affine: map `[2, 3]` from the cut-out's pixels to the picture's; one that mirrors swaps sides.
        flip_permutation: of the skeleton.
        light: see `PasteSettings`.
        hidden: see `PasteSettings`.

    Returns:
        The picture with the person in front of all others, or None if too much of anybody would be hidden or
        nothing of the person would be in the picture.
    """
    size = (sample.image.shape[0], sample.image.shape[1])
    # A rim of one pixel is left off: outlines take in some of the background.
    core = cv2.erode(np.pad(cutout.mask, 1), np.ones((3, 3), np.uint8))[1:-1, 1:-1]
    alpha = cv2.GaussianBlur(warp(core * np.uint8(255), affine, size), (0, 0), 0.8)
    covered = np.asarray(alpha > 127)
    is_below = _is_on(covered, sample.keypoints) & (sample.keypoints[..., 2] == 2)
    visible = (sample.keypoints[..., 2] == 2).sum(axis=1)
    if not covered.any() or (is_below.sum(axis=1) > hidden * visible).any():
        return None
    image = _blend(sample.image, warp(cutout.image, affine, size), alpha, light=light)
    mirrored = np.linalg.det(affine[:, :2]) < 0
    order = flip_permutation if mirrored else np.arange(len(flip_permutation))
    moved = transform_points(cutout.keypoints[order], affine).astype(np.float32)
    moved = drop_outside(moved, (-0.5, -0.5, size[1] - 0.5, size[0] - 0.5))
    keypoints = sample.keypoints.copy()
    keypoints[is_below, 2] = 1
    x, y, w, h = cv2.boundingRect(covered.astype(np.uint8))
    box = np.array([x - 0.5, y - 0.5, x + w - 0.5, y + h - 0.5], np.float32)
    return Sample(
        image=image,
        keypoints=np.concatenate([keypoints, moved[None]]),
        is_known=np.concatenate([sample.is_known, cutout.is_known[order][None]]),
        boxes=np.concatenate([sample.boxes, box[None]]),
        counts=np.where(covered, np.uint8(1), sample.counts).astype(np.uint8),
    )


def _paste_somewhere(
    sample: Sample,
    cutout: Cutout,
    rng: np.random.Generator,
    settings: PasteSettings,
    flip_permutation: npt.NDArray[np.int64],
) -> Sample:
    """Try some sizes and places; the picture stays as it is if none will do."""
    h, w = sample.image.shape[:2]
    for _ in range(TRIES):
        affine = similarity(
            source_xy=(np.array(cutout.mask.shape[::-1]) - 1) / 2,
            target_xy=rng.uniform(0, [w - 1, h - 1]),
            scale=_scale(sample, cutout, rng, settings),
            angle_deg=float(rng.uniform(-settings.rotation_deg, settings.rotation_deg)),
            is_mirrored=bool(rng.random() < 0.5),
        )
        pasted = paste(
            sample,
            cutout,
            affine,
            flip_permutation=flip_permutation,
            light=settings.light,
            hidden=settings.hidden,
        )
        if pasted is not None:
            return pasted
    return sample


def _scale(sample: Sample, cutout: Cutout, rng: np.random.Generator, settings: PasteSettings) -> float:
    """Draw a size, drawn towards that of the people who are there, as a scale of the cut-out."""
    extent = np.log(min(sample.image.shape[:2])) + rng.uniform(*np.log(settings.size))
    if len(sample.boxes):
        there = np.max(sample.boxes[:, 2:] - sample.boxes[:, :2], axis=1)
        extent += settings.likeness * (np.log(max(float(np.median(there)), 1.0)) - extent)
    return float(min(np.exp(extent) / max(cutout.mask.shape), MAX_SCALE))


def _blend(below: Image, above: Image, alpha: npt.NDArray[np.uint8], *, light: float) -> Image:
    """Lay `above` over `below`, its brightness drawn towards that of the picture around it."""
    x, y, w, h = cv2.boundingRect((alpha > 127).astype(np.uint8))
    part = np.s_[y : y + h, x : x + w]
    is_above = alpha[part] > 127
    around, person = below[part] @ LUMINANCE, (above[part] @ LUMINANCE)[is_above]
    ratio = (float(around.mean()) + 1) / (float(person.mean()) + 1)
    gain = float(np.clip(ratio**light, 1 / MAX_GAIN, MAX_GAIN))
    x, y, w, h = cv2.boundingRect(alpha)  # with the soft edge
    part = np.s_[y : y + h, x : x + w]
    share = (alpha[part] / np.float32(255))[..., None]
    lit = np.clip(above[part] * np.float32(gain), 0, 255)
    image = below.copy()
    image[part] = np.rint(below[part] * (1 - share) + lit * share)
    return image


def _is_worthwhile(picture: Picture, person: int) -> bool:
    x1, y1, x2, y2 = picture.boxes[person]
    visible = int((picture.keypoints[person, :, 2] == 2).sum())
    extent = float(max(x2 - x1, y2 - y1))
    return visible >= min(MIN_VISIBLE, picture.keypoints.shape[1]) and extent >= MIN_EXTENT


def _is_near(
    mask: npt.NDArray[np.uint8], keypoints: npt.NDArray[np.float32], *, reach: float
) -> npt.NDArray[np.bool_]:
    """Whether keypoints `[K, 3]` lie on the mask or within `reach` pixels of it → `[K]`."""
    room = int(np.ceil(reach)) + 1
    distance = cv2.distanceTransform(np.pad(1 - mask, room, constant_values=1), cv2.DIST_L2, 5)
    x, y = (np.rint(keypoints[:, axis]).astype(int) + room for axis in (0, 1))
    is_in = (x >= 0) & (y >= 0) & (x < distance.shape[1]) & (y < distance.shape[0])
    return np.asarray(
        is_in & (distance[np.clip(y, 0, len(distance) - 1), np.clip(x, 0, distance.shape[1] - 1)] <= reach)
    )


def _is_on(mask: npt.NDArray[np.bool_], keypoints: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Whether labelled keypoints `[N, K, 3]` lie on the mask `[H, W]` → `[N, K]`."""
    x = np.clip(np.rint(keypoints[..., 0]).astype(int), 0, mask.shape[1] - 1)
    y = np.clip(np.rint(keypoints[..., 1]).astype(int), 0, mask.shape[0] - 1)
    return np.asarray(mask[y, x] & (keypoints[..., 2] > 0))

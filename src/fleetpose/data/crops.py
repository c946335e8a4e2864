"""Training crops: one labelled person, framed at random scale, turn, place and light.

The counterpart of `scenes` for networks that see one person at a time. Every crop follows from one integer,
as every scene does.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from fleetpose.data.annotations import Picture, check_pictures
from fleetpose.data.framing import FEWEST_FOR_PART, FEWEST_KEYPOINTS, Cut, around_keypoints, draw_cut
from fleetpose.data.photometric import coarsen, jitter
from fleetpose.data.pictures import PictureCache
from fleetpose.data.scenes import Source, read_source, source_chances
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.geometry import PADDING, affine_scale, compose, fit_box, scaling, transform_points, warp
from fleetpose.media.images import Reduction
from fleetpose.skeletons import Skeleton

#: JPEG decoders draw a picture at half its size, or less, for less; other files are read whole.
_REDUCTIONS: tuple[Reduction, ...] = (8, 4, 2)
#: A place outside every crop: a labelled keypoint there is known not to be in view.
_NOWHERE = -1e6
_JPEG_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe"})


@dataclass(frozen=True, slots=True)
class CropSettings:
    """How crops are drawn.

    Attributes:
        padding: a person's box is widened by this factor, as it will be when the network is used.
        scale: the person's size relative to that: lowest, highest.
        rotation_deg: largest turn to either side.
        turn_chance: share of crops that are turned.
        shift: largest displacement, as a share of the box.
        part_chance: share of crops that frame only the half of a person's keypoints around one of them, as
            pictures that cut people off do (the half-body crops of arXiv:1911.07524, for any skeleton).
        cut_chance: share of crops that show a person only as far as a line, as the edge of a picture or a
            table does: one colour lies beyond, and no keypoint is to be found there. As with `part_chance`,
            people with fewer than 8 labelled keypoints stay whole.
        cutout_chance: share of crops with a rectangle painted over.
        cutout_share: sides of that rectangle, as a share of the crop's: lowest, highest.
        cutout_people: share of those rectangles that show a piece of somebody else's crop, as when another
            person stands in front or beside; one colour otherwise.
        light: strength of photometric changes.
        coarse_chance: share of crops that show no more detail than small and far people do.
        coarse_share: size at which those are still seen, as a share of the crop's: lowest, highest.
    """

    padding: float = 1.25
    scale: tuple[float, float] = (0.65, 1.35)
    rotation_deg: float = 40.0
    turn_chance: float = 0.6
    shift: float = 0.1
    part_chance: float = 0.2
    cut_chance: float = 0.0
    cutout_chance: float = 0.3
    cutout_share: tuple[float, float] = (0.15, 0.4)
    cutout_people: float = 0.0
    light: float = 1.0
    coarse_chance: float = 0.0
    coarse_share: tuple[float, float] = (0.25, 0.7)

    def __post_init__(self) -> None:
        if not self.padding > 0:
            raise ConfigError(f"crops.padding must be above 0, got {self.padding}")
        for name in ("scale", "cutout_share", "coarse_share"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(f"crops.{name} must be a lowest and a highest above 0, got {(low, high)}")
        for name in ("rotation_deg", "shift"):
            if getattr(self, name) < 0:
                raise ConfigError(f"crops.{name} must be at least 0, got {getattr(self, name)}")
        chances = (
            "turn_chance",
            "part_chance",
            "cut_chance",
            "cutout_chance",
            "cutout_people",
            "light",
            "coarse_chance",
        )
        for name in chances:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"crops.{name} must be from 0 to 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A picture of one person.

    Attributes:
        image: `[H, W, 3]` uint8 RGB.
        keypoints: `[K, 3]` float32 (x, y, v) in pixels of the crop; labelled ones may lie outside it.
    """

    image: npt.NDArray[np.uint8]
    keypoints: npt.NDArray[np.float32]


@dataclass(slots=True)
class CropMaker:
    """Draws training crops from a mixture of sources.

    Sources without people take no part. Every person of a source is drawn equally often.

    Attributes:
        sources: the mixture.
        skeleton: keypoints that are learnt.
        settings: how crops are drawn.
        cache: what reads the pictures.
    """

    sources: Sequence[Source]
    skeleton: Skeleton
    settings: CropSettings = field(default_factory=CropSettings)
    cache: PictureCache = field(default_factory=PictureCache)
    _people: list[list[tuple[Picture, int]]] = field(init=False, repr=False)
    _chances: npt.NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        peopled = [source for source in self.sources if source.annotations is not None]
        if self.sources and not peopled:
            raise DatasetError(
                "crops are of people, but no source of the training mixture has annotations; name the file "
                "with the labelled keypoints of at least one"
            )
        self._people = [_people(source, self.skeleton) for source in peopled]
        self._chances = source_chances([source.weight for source in peopled])

    def __len__(self) -> int:
        """Return the number of different people."""
        return sum(len(people) for people in self._people)

    def check_pictures(self) -> None:
        """Make sure that every picture is there.

        Raises:
            DatasetError: some are missing.
        """
        for people in self._people:
            check_pictures(list({picture.path: picture for picture, _ in people}.values()))

    def with_settings(self, settings: CropSettings) -> CropMaker:
        """Draw from the same people, whose labels are not read again, with other settings."""
        other = copy(self)
        other.settings = settings
        return other

    def make(self, rng: np.random.Generator, size: tuple[int, int]) -> Crop:
        """Draw one crop of `size` (h, w).

        Raises:
            DatasetError: the picture is missing or broken.
        """
        settings = self.settings
        crop = self._plain(rng, size)
        image = crop.image
        if settings.coarse_chance and rng.random() < settings.coarse_chance:
            image = coarsen(image, rng, share=settings.coarse_share)
        image = jitter(image, rng, strength=settings.light)
        if rng.random() < settings.cutout_chance:
            rectangle = _rectangle(image.shape[:2], rng, settings.cutout_share)
            if settings.cutout_people and rng.random() < settings.cutout_people:
                image[rectangle] = self._plain(rng, size).image[rectangle]
            else:
                image[rectangle] = rng.integers(0, 256, size=3)
        return Crop(image=image, keypoints=crop.keypoints)

    def _plain(self, rng: np.random.Generator, size: tuple[int, int]) -> Crop:
        """Draw one crop of `size` (h, w), its pixels as they are but for what a cut hides."""
        people = self._people[int(rng.choice(len(self._people), p=self._chances))]
        picture, person = people[int(rng.integers(len(people)))]
        keypoints, box = picture.keypoints[person], picture.boxes[person]
        cut = None
        if self.settings.cut_chance and rng.random() < self.settings.cut_chance:
            cut = draw_cut(rng, keypoints)
        if cut is not None:
            keypoints, box = keypoints.copy(), cut.box
            keypoints[cut.is_hidden(keypoints), :2] = _NOWHERE
        elif rng.random() < self.settings.part_chance:
            box = _part(rng, keypoints, box)
        affine = self._framing(rng, box, size)
        keypoints = transform_points(keypoints, affine).astype(np.float32)
        if np.linalg.det(affine[:, :2]) < 0:
            keypoints = keypoints[self.skeleton.flip_permutation]
        keypoints[keypoints[:, 2] == 0] = 0
        reduction = _reduction(picture, affine)
        pixels = self.cache.read(picture.path, reduction=reduction)
        if cut is not None:
            pixels = _hide(rng, pixels, replace(cut, edge=cut.edge / reduction))
        image = warp(pixels, compose(scaling(reduction, reduction), affine), size, fill=PADDING)
        return Crop(image=image, keypoints=keypoints)

    def _framing(
        self,
        rng: np.random.Generator,
        box: npt.NDArray[np.float32],
        size: tuple[int, int],
    ) -> npt.NDArray[np.floating]:
        """Draw the one affine map of a crop: scale, turn, mirror, place."""
        settings = self.settings
        shift = rng.uniform(-settings.shift, settings.shift, size=2) * (box[2:] - box[:2])
        is_turned = rng.random() < settings.turn_chance
        return fit_box(
            box + np.concatenate([shift, shift]),
            size,
            padding=settings.padding / float(np.exp(rng.uniform(*np.log(settings.scale)))),
            angle_deg=float(rng.uniform(-settings.rotation_deg, settings.rotation_deg)) * is_turned,
            is_mirrored=bool(rng.random() < 0.5),
        )


def _people(source: Source, skeleton: Skeleton) -> list[tuple[Picture, int]]:
    """All people of a source who show enough: the picture and their number in it."""
    fewest = min(FEWEST_KEYPOINTS, len(skeleton))
    people = [
        (picture, person)
        for picture in read_source(source, skeleton)
        for person in np.flatnonzero((picture.keypoints[..., 2] > 0).sum(axis=1) >= fewest).tolist()
    ]
    if not people:
        raise DatasetError(f"{source.annotations} has nobody with {fewest} labelled keypoints")
    return people


def _part(
    rng: np.random.Generator, keypoints: npt.NDArray[np.float32], box: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Box around the half of a person's keypoints that lie nearest to one drawn at random."""
    labelled = keypoints[keypoints[:, 2] > 0]
    if len(labelled) < FEWEST_FOR_PART:
        return box
    middle = labelled[int(rng.integers(len(labelled))), :2]
    order = np.argsort(np.linalg.norm(labelled[:, :2] - middle, axis=1), kind="stable")
    half = labelled[order[: (len(labelled) + 1) // 2]]
    return np.asarray(around_keypoints(half[None])[0])


def _reduction(picture: Picture, affine: npt.NDArray[np.floating]) -> Reduction:
    """How coarsely a picture can be read for a crop by `affine` to lose nothing by it."""
    if picture.path.suffix.lower() not in _JPEG_SUFFIXES:
        return 1
    scale = affine_scale(affine)
    return next((factor for factor in _REDUCTIONS if factor * scale <= 1), 1)


def _hide(rng: np.random.Generator, pixels: npt.NDArray[np.uint8], cut: Cut) -> npt.NDArray[np.uint8]:
    """Paint what lies beyond a cut: half the time as beyond a picture's edge, else in any colour."""
    red, green, blue = rng.integers(0, 256, size=3).tolist()
    colour = PADDING if rng.random() < 0.5 else (red, green, blue)
    painted = pixels.copy()
    along = np.moveaxis(painted, 1 - cut.axis, 0)
    edge = int(np.clip(round(cut.edge), 0, len(along)))
    along[slice(edge, None) if cut.is_far_side else slice(edge)] = colour
    return painted


def _rectangle(
    size: tuple[int, int], rng: np.random.Generator, share: tuple[float, float]
) -> tuple[slice, slice]:
    """Rows and columns of a rectangle at a random place of a crop of `size` (h, w) (arXiv:1708.04552)."""
    h, w = size
    half = rng.uniform(*share, size=2) * (w, h) / 2
    centre = rng.uniform(0, 1, size=2) * (w, h)
    x1, y1 = np.maximum(np.rint(centre - half), 0).astype(int)
    x2, y2 = np.rint(centre + half).astype(int)
    return slice(y1, y2), slice(x1, x2)

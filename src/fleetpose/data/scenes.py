"""Training scenes: one picture, or a mosaic of two to four, at random scale, turn, place and light.

A mosaic makes a scene with several people of photos that show one each. Every scene follows from one integer,
so that a run can be stopped and taken up again, and split over processes, without changing what the network
sees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fleetpose.data.annotations import Picture, check_pictures, read_coco, read_pictures
from fleetpose.data.framing import Cut, draw_cut, single_person_boxes
from fleetpose.data.layouts import Split
from fleetpose.data.paste import Cutouts, PasteSettings, paste_people
from fleetpose.data.photometric import jitter
from fleetpose.data.pictures import PictureCache
from fleetpose.data.samples import Sample, drop_outside, load_sample, people_in_view, warp_sample
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.geometry import PADDING, similarity, warp
from fleetpose.skeletons import Skeleton

#: Backdrops are enlarged by up to this factor beyond what fills a tile.
BACKDROP_ZOOM = 1.5


@dataclass(frozen=True, slots=True)
class Source:
    """One part of the training mixture.

    Attributes:
        images: folder of pictures.
        annotations: COCO keypoint file; None for a folder without people.
        weight: share of this source in the mixture, relative to the others.
        is_single_person: see `load_sample`; such pictures are framed around their person.
        is_zero_unknown: see `read_coco`.
        held_out_every: pictures whose id this divides are left out (0: none), to be a validation split.
        least_agreement: people with whose labels other networks agree less are ignored, see `read_coco`; 0
            takes everybody, and so does a file that says nothing of it.
        least_votes: keypoints with whose label fewer other networks agree are unknown, see `read_coco`; 0
            leaves out what is probably wrong, 1 all that nobody confirms, and -1 nothing.
        split: part to take of a file that holds training and test pictures.
    """

    images: Path
    annotations: Path | None = None
    weight: float = 1.0
    is_single_person: bool = False
    is_zero_unknown: bool = False
    held_out_every: int = 0
    least_agreement: float = 0.0
    least_votes: int = 0
    split: Split = "train"

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf or self.held_out_every < 0:
            raise ConfigError(
                f"a source needs a finite weight and a held_out_every of at least 0, "
                f"got {self.weight} and {self.held_out_every} for {self.images}"
            )
        if not 0 <= self.least_agreement <= 1:
            raise ConfigError(
                f"least_agreement of a source must be from 0 to 1, got {self.least_agreement} "
                f"for {self.images}"
            )
        if self.least_votes < -1:
            raise ConfigError(
                f"least_votes of a source must be at least -1, got {self.least_votes} for {self.images}"
            )


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """How scenes are drawn.

    Attributes:
        tiles: chances of a scene of 1, 2 and 4 tiles.
        person_share: longer side of a lone person's box, as a share of the tile's shorter side: lowest,
            highest.
        zoom: shorter side of a picture of several people, as a multiple of the tile's shorter side.
        rotation_deg: largest turn to either side.
        shift: largest displacement, as a share of the tile.
        cut_chance: share of lone people, of sources with `is_single_person`, whom an edge of their tile cuts
            off, mostly below; `person_share` is then the size of what is left of them. People with fewer than
            8 labelled keypoints stay whole.
        backdrop_chance: share of the tiles that their picture does not fill where one without people, of a
            source that has no annotations, is seen around it; one colour otherwise.
        light: strength of photometric changes.
        paste: people who are cut out of the sources along their outlines and put into scenes; none unless
            its chance is set.
    """

    tiles: tuple[float, float, float] = (0.5, 0.2, 0.3)
    person_share: tuple[float, float] = (0.45, 1.1)
    zoom: tuple[float, float] = (0.75, 1.6)
    rotation_deg: float = 30.0
    shift: float = 0.15
    cut_chance: float = 0.0
    backdrop_chance: float = 0.0
    light: float = 1.0
    paste: PasteSettings = field(default_factory=lambda: PasteSettings(chance=0.0))

    def __post_init__(self) -> None:
        if min(self.tiles) < 0 or sum(self.tiles) == 0:
            raise ConfigError(f"scenes.tiles must be chances, one of them above 0, got {self.tiles}")
        for name, (low, high) in (("person_share", self.person_share), ("zoom", self.zoom)):
            if not 0 < low <= high:
                raise ConfigError(
                    f"scenes.{name} must be a lowest and a highest size above 0, got {(low, high)}"
                )
        for name, value in (("rotation_deg", self.rotation_deg), ("shift", self.shift)):
            if value < 0:
                raise ConfigError(f"scenes.{name} must be at least 0, got {value}")
        for name, share in (
            ("cut_chance", self.cut_chance),
            ("backdrop_chance", self.backdrop_chance),
            ("light", self.light),
        ):
            if not 0 <= share <= 1:
                raise ConfigError(f"scenes.{name} must be from 0 to 1, got {share}")


@dataclass(slots=True)
class SceneMaker:
    """Draws training scenes from a mixture of sources.

    Attributes:
        sources: the mixture.
        skeleton: keypoints that are learnt.
        settings: how scenes are drawn.
        has_outlines: keep people's outlines, which pasting needs and which take memory.
        cache: what reads the pictures.
    """

    sources: Sequence[Source]
    skeleton: Skeleton
    settings: SceneSettings = field(default_factory=SceneSettings)
    has_outlines: bool = False
    cache: PictureCache = field(default_factory=PictureCache)
    _pictures: list[list[Picture]] = field(init=False, repr=False)
    _chances: npt.NDArray[np.float64] = field(init=False, repr=False)
    _backdrops: list[Picture] = field(init=False, repr=False)
    _cutouts: Cutouts | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.has_outlines = self.has_outlines or self.settings.paste.chance > 0
        self._pictures = [
            read_source(source, self.skeleton, has_outlines=self.has_outlines) for source in self.sources
        ]
        self._chances = source_chances([source.weight for source in self.sources])
        self._backdrops = [
            picture
            for source, pictures in zip(self.sources, self._pictures, strict=True)
            for picture in pictures
            if source.annotations is None
        ]
        self._cutouts = None
        if self.has_outlines:
            everything = [picture for pictures in self._pictures for picture in pictures]
            # A person is drawn as often as the picture is.
            weights = [
                chance / len(pictures)
                for chance, pictures in zip(self._chances, self._pictures, strict=True)
                for _ in pictures
            ]
            self._cutouts = Cutouts(everything, self.skeleton, weights, self.cache)

    def __len__(self) -> int:
        """Return the number of different pictures."""
        return sum(len(pictures) for pictures in self._pictures)

    def check_pictures(self) -> None:
        """Make sure that every picture is there.

        Raises:
            DatasetError: some are missing.
        """
        for pictures in self._pictures:
            check_pictures(pictures)

    def with_settings(self, settings: SceneSettings) -> SceneMaker:
        """Draw from the same pictures, which are not read again, with other settings.

        Raises:
            ConfigError: people are to be pasted, but their outlines were not read.
        """
        if settings.paste.chance > 0 and self._cutouts is None:
            raise ConfigError("people can be pasted only by a maker with has_outlines")
        other = copy(self)
        other.settings = settings
        return other

    def make(self, rng: np.random.Generator, size: tuple[int, int]) -> Sample:
        """Draw one scene of `size` (h, w)."""
        parts = [self._tile(rng, box) for box in _tile_boxes(rng, size, self.settings.tiles)]
        sample = parts[0][1] if len(parts) == 1 else _join(parts, size, len(self.skeleton))
        if self._cutouts is not None and self.settings.paste.chance > 0:
            sample = paste_people(sample, self._cutouts, rng, self.settings.paste)
        return people_in_view(replace(sample, image=jitter(sample.image, rng, strength=self.settings.light)))

    def _tile(
        self, rng: np.random.Generator, box: tuple[int, int, int, int]
    ) -> tuple[tuple[int, int, int, int], Sample]:
        """One picture, warped to fill the tile `box` (x1, y1, x2, y2)."""
        number = int(rng.choice(len(self.sources), p=self._chances))
        pictures = self._pictures[number]
        is_single = self.sources[number].is_single_person
        picture = pictures[int(rng.integers(len(pictures)))]
        sample = load_sample(picture, is_single_person=is_single, cache=self.cache)
        size = (box[3] - box[1], box[2] - box[0])
        affine = self._framing(rng, sample, size, is_single=is_single)
        warped = warp_sample(sample, affine, size, flip_permutation=self.skeleton.flip_permutation)
        if self.settings.backdrop_chance and rng.random() < self.settings.backdrop_chance:
            is_covered = warp(np.ones(sample.image.shape[:2], np.uint8), affine, size) > 0
            warped = self._before_backdrop(rng, warped, is_covered)
        return box, warped

    def _before_backdrop(
        self, rng: np.random.Generator, tile: Sample, is_covered: npt.NDArray[np.bool_]
    ) -> Sample:
        """Show a picture without people where the tile's own, `is_covered` `[H, W]`, does not reach."""
        if is_covered.all() or not self._backdrops:
            return tile
        backdrop = self.cache.read(self._backdrops[int(rng.integers(len(self._backdrops)))].path)
        (h, w), size = backdrop.shape[:2], np.array(is_covered.shape)
        scale = float((size / (h, w)).max() * np.exp(rng.uniform(0, np.log(BACKDROP_ZOOM))))
        overhang = (np.array([h, w]) * scale - size) / 2
        y, x = (size - 1) / 2 + rng.uniform(-1, 1, size=2) * overhang
        affine = similarity(
            source_xy=((w - 1) / 2, (h - 1) / 2),
            target_xy=(x, y),
            scale=scale,
            is_mirrored=bool(rng.random() < 0.5),
        )
        around = warp(backdrop, affine, tile.image.shape[:2], fill=PADDING)
        return replace(
            tile,
            image=np.where(is_covered[..., None], tile.image, around),
            counts=np.where(is_covered, tile.counts, 1).astype(np.uint8),
        )

    def _framing(
        self, rng: np.random.Generator, sample: Sample, size: tuple[int, int], *, is_single: bool
    ) -> npt.NDArray[np.floating]:
        """Draw the one affine map of a tile: scale, turn, mirror, place."""
        h, w = sample.image.shape[:2]
        if is_single and len(sample.boxes):
            if self.settings.cut_chance and rng.random() < self.settings.cut_chance:
                cut = draw_cut(rng, sample.keypoints[0])
                if cut is not None:
                    return self._cut_framing(rng, cut, size)
            x1, y1, x2, y2 = (float(side) for side in sample.boxes[0])
            centre, extent, span = (
                ((x1 + x2) / 2, (y1 + y2) / 2),
                max(x2 - x1, y2 - y1),
                self.settings.person_share,
            )
        else:
            centre, extent, span = ((w - 1) / 2, (h - 1) / 2), min(h, w), self.settings.zoom
        scale = min(size) / max(extent, 1.0) * float(np.exp(rng.uniform(*np.log(span))))
        shift = rng.uniform(-self.settings.shift, self.settings.shift, size=2) * size[::-1]
        if not is_single:  # where a zoomed picture overhangs the tile, look at any part of it
            overhang = np.maximum(np.array([w, h]) * scale - np.array(size[::-1]), 0) / 2
            shift = shift + rng.uniform(-1, 1, size=2) * overhang
        return similarity(
            source_xy=centre,
            target_xy=(np.array([size[1] - 1, size[0] - 1]) / 2 + shift).tolist(),
            scale=scale,
            angle_deg=float(rng.uniform(-self.settings.rotation_deg, self.settings.rotation_deg)),
            is_mirrored=bool(rng.random() < 0.5),
        )

    def _cut_framing(
        self, rng: np.random.Generator, cut: Cut, size: tuple[int, int]
    ) -> npt.NDArray[np.floating]:
        """Draw the affine map that puts a person's cut on an edge of the tile of `size` (h, w)."""
        settings = self.settings
        x1, y1, x2, y2 = (float(side) for side in cut.box)
        span = np.log(np.minimum(settings.person_share, 1.0))
        scale = min(size) / max(x2 - x1, y2 - y1, 1.0) * float(np.exp(rng.uniform(*span)))
        source = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
        source[cut.axis] = cut.edge
        extent = np.array([size[1] - 1, size[0] - 1], float)
        target = extent / 2 + rng.uniform(-settings.shift, settings.shift, size=2) * size[::-1]
        target[cut.axis] = extent[cut.axis] if cut.is_far_side else 0.0
        return similarity(
            source_xy=source.tolist(),
            target_xy=target.tolist(),
            scale=scale,
            angle_deg=float(rng.uniform(-settings.rotation_deg, settings.rotation_deg)) / 2,
            is_mirrored=bool(rng.random() < 0.5) and cut.axis == 1,
        )


def source_chances(weights: Sequence[float]) -> npt.NDArray[np.float64]:
    """Chances of drawing from each source of a mixture.

    Raises:
        DatasetError: no weight is above 0.
    """
    total = sum(weights)
    if total == 0:
        raise DatasetError("a training mixture needs at least one source with a weight above 0")
    return np.array(weights, float) / total


def read_source(source: Source, skeleton: Skeleton, *, has_outlines: bool = False) -> list[Picture]:
    """Read the labels of a source; those held out are left out, and lone people get boxes of their labels.

    Args:
        source: what to read, and which labels to believe.
        skeleton: wanted keypoints.
        has_outlines: keep people's outlines too.

    Raises:
        DatasetError: the source cannot be read, or nothing of it is left.
    """
    if source.annotations is None:
        pictures = read_pictures(source.images, num_keypoints=len(skeleton))
    else:
        pictures = read_coco(
            source.annotations,
            source.images,
            skeleton=skeleton,
            is_zero_unknown=source.is_zero_unknown,
            has_outlines=has_outlines,
            least_agreement=source.least_agreement,
            least_votes=source.least_votes,
            split=source.split,
        )
    if source.held_out_every:
        pictures = [picture for picture in pictures if picture.image_id % source.held_out_every]
    if source.is_single_person:
        pictures = [
            replace(picture, boxes=single_person_boxes(picture.keypoints, picture.boxes))
            for picture in pictures
            if len(picture.keypoints) and (picture.keypoints[..., 2] > 0).any(axis=1).all()
        ]
    if not pictures:
        raise DatasetError(f"{source.annotations or source.images} leaves no picture to train on")
    return pictures


def _tile_boxes(
    rng: np.random.Generator, size: tuple[int, int], chances: Sequence[float]
) -> list[tuple[int, int, int, int]]:
    """Split a canvas of `size` (h, w) into 1, 2 or 4 tiles (x1, y1, x2, y2)."""
    h, w = size
    tiles = int(rng.choice([1, 2, 4], p=np.array(chances) / np.sum(chances)))
    split_x, split_y = round(w * rng.uniform(0.38, 0.62)), round(h * rng.uniform(0.38, 0.62))
    if tiles == 1:
        return [(0, 0, w, h)]
    if tiles == 2:
        return [(0, 0, split_x, h), (split_x, 0, w, h)]
    return [
        (0, 0, split_x, split_y),
        (split_x, 0, w, split_y),
        (0, split_y, split_x, h),
        (split_x, split_y, w, h),
    ]


def _join(
    parts: Sequence[tuple[tuple[int, int, int, int], Sample]], size: tuple[int, int], num_keypoints: int
) -> Sample:
    """Put tiles side by side; what a person loses at a tile's edge is out of view."""
    image = np.empty((*size, 3), np.uint8)
    image[:] = PADDING
    counts = np.ones(size, np.uint8)
    keypoints = [np.zeros((0, num_keypoints, 3), np.float32)]
    known = [np.zeros((0, num_keypoints), bool)]
    boxes = [np.zeros((0, 4), np.float32)]
    for (x1, y1, x2, y2), sample in parts:
        image[y1:y2, x1:x2] = sample.image
        counts[y1:y2, x1:x2] = sample.counts
        points = sample.keypoints.copy()
        points[..., :2] += np.where(points[..., 2:] > 0, np.array([x1, y1], np.float32), 0)
        left, top, right, bottom = x1 - 0.5, y1 - 0.5, x2 - 0.5, y2 - 0.5  # edges of the outermost pixels
        keypoints.append(drop_outside(points, (left, top, right, bottom)))
        known.append(sample.is_known)
        moved = sample.boxes + np.array([x1, y1, x1, y1], np.float32)
        boxes.append(
            np.clip(moved, (left, top, left, top), (right, bottom, right, bottom)).astype(np.float32)
        )
    return Sample(
        image=image,
        keypoints=np.concatenate(keypoints),
        is_known=np.concatenate(known),
        boxes=np.concatenate(boxes),
        counts=counts,
    )

"""Settings of a training run, as frozen dataclasses; a run folder keeps them as YAML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from fleetpose.codecs.grouping import GroupingSettings
from fleetpose.data.crops import CropSettings
from fleetpose.data.layouts import Split
from fleetpose.data.scenes import SceneSettings, Source
from fleetpose.errors import ConfigError
from fleetpose.settings import from_plain, to_plain
from fleetpose.skeletons import SKELETONS, Skeleton, load_skeleton

#: Spread of the target Gaussians in the papers, on every map.
PAPER_SIGMA_CELLS = 2.0
#: What a factor of a part of the loss, and the like, must be.
_WEIGHT = "at least 0 and finite"
#: More than any machine has; PyTorch fails without a word where threads cannot be made.
_MOST_THREADS = 1024


@dataclass(frozen=True, slots=True)
class PictureSet:
    """Pictures with classes: one per picture for classification, one per pixel for segmentation.

    Attributes:
        layout: how the files lie, see `fleetpose.data.classification` and `fleetpose.data.segmentation`.
        root: folder of the data; for rendered people the COCO file.
        split: part of the data. For an image folder it is a folder below `root`, "" for `root` itself; for
            CamVid the labels are in the folder of that name with "_labels" behind it.
    """

    layout: Literal["image_folder", "cifar100", "cityscapes", "camvid", "synth"]
    root: Path
    split: str = "train"


@dataclass(frozen=True, slots=True)
class PictureCropSettings:
    """How pictures with classes are cut out.

    Attributes:
        area: lowest and highest share of the picture that a crop shows, for classification.
        stretch: highest ratio of the crop's sides, for classification.
        padding: pixels of canvas around the picture, for classification.
        zoom: lowest and highest enlargement, for segmentation.
        light: strength of photometric changes, from 0 to 1.
    """

    area: tuple[float, float] = (0.08, 1.0)
    stretch: float = 4 / 3
    padding: int = 0
    zoom: tuple[float, float] = (0.5, 2.0)
    light: float = 0.5


@dataclass(frozen=True, slots=True)
class ElasticSettings:
    """Which parts of a supernet are trained: at every step another one, drawn from these.

    Attributes:
        resolutions: sides of the input, in pixels; pictures of other sizes are resized.
        ratios: widths, as shares of the largest.
    """

    resolutions: tuple[int, ...] = (256, 320, 384, 448, 512)
    ratios: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25)

    def __post_init__(self) -> None:
        _require(min(self.resolutions, default=0) >= 1, "elastic.resolutions", "sizes", self.resolutions)
        is_share = bool(self.ratios) and all(0 < ratio <= 1 for ratio in self.ratios)
        _require(is_share, "elastic.ratios", "shares above 0 and up to 1", self.ratios)

    def sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Sizes (h, w) to which pictures of `size` are brought: their longer side becomes a resolution."""
        return [
            (round(size[0] * side / max(size)), round(size[1] * side / max(size)))
            for side in self.resolutions
        ]


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """A network to learn from, beside the labels.

    Attributes:
        path: `last.pt` of a training run, a model file (.onnx), or a .tflite file of EfficientPose's or
            MoveNet's kind, which know one person per picture and so can teach top-down networks only.
        weight: factor of the squared error to the teacher's heatmaps; Lite Pose uses 1.
        location: factor of the cross-entropy between the teacher's and the student's heatmaps read as
            distributions over cells, see `losses.taught_location_loss`; both must be chances.
        labels: factor of everything else, that is of the loss on the labels.
        size: (H, W) at which the teacher sees the pictures; None for the student's size.
    """

    path: Path
    weight: float = 1.0
    location: float = 0.0
    labels: float = 1.0
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        weights = (self.weight, self.location)
        _require(_are_weights(weights), "teacher.weight and teacher.location", _WEIGHT, weights)
        _require(max(weights) > 0, "teacher.weight or teacher.location", "above 0", weights)
        _require(_are_weights([self.labels]), "teacher.labels", _WEIGHT, self.labels)
        _require(min(self.size or (1,)) >= 1, "teacher.size", "at least 1 x 1", self.size)


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of training at one input size; a run goes through its phases in turn.

    Attributes:
        size: (H, W) of the scenes or crops, in pixels.
        batch: scenes or crops per step and process.
        steps: optimiser steps.
        scenes: how scenes are drawn, for networks that see whole pictures.
        crops: how crops are drawn, for networks that see one person at a time.
        pictures: how pictures with classes are cut out, for classification and segmentation.
        sigma_scale: spread of the target Gaussians in this phase, as a multiple of the settings' own; a
            schedule of spreads is a row of phases that differ in this.
    """

    size: tuple[int, int]
    batch: int
    steps: int
    scenes: SceneSettings = field(default_factory=SceneSettings)
    crops: CropSettings = field(default_factory=CropSettings)
    pictures: PictureCropSettings = field(default_factory=PictureCropSettings)
    sigma_scale: float = 1.0

    def __post_init__(self) -> None:
        if min(*self.size, self.batch, self.steps) < 1:
            raise ConfigError(
                f"a phase needs a size, a batch and steps of at least 1, "
                f"got size {self.size}, batch {self.batch} and steps {self.steps}"
            )
        _require(self.sigma_scale > 0, "sigma_scale of a phase", "above 0", self.sigma_scale)


@dataclass(frozen=True, slots=True)
class OptimiserSettings:
    """How weights move; by default AdamW with a linear warm-up and a cosine decay to a hundredth.

    Attributes:
        lr: highest learning rate.
        kind: "adamw", "muon" (see `fleetpose.train.muon`), "adam" or "sgd", which has a momentum.
        momentum: of SGD.
        schedule: how the rate falls: "cosine" to a hundredth, at the "drops" alone, or "cyclical".
        drops: shares of the run's steps at which "drops" multiplies the rate by `drop_factor`.
        drop_factor: see `drops`.
        cycle_steps: length of a triangle of "cyclical", which goes up and down between two bounds.
        lowest_share: lower bound of the first triangle, as a share of `lr`.
        last_share: where both bounds of "cyclical" have met in the end, as a share of `lr`.
        warmup_steps: steps over which the rate rises from 0.
        weight_decay: not applied to biases and normalisation; decoupled in AdamW and Muon, where 0.05 suits.
        accumulate: batches whose gradients are averaged for one step.
        clip_norm: largest norm of the gradient, 0 for no limit.
        ema_decay: decay of the running average of the weights, which is what gets exported.
    """

    lr: float = 2e-3
    kind: Literal["adamw", "muon", "adam", "sgd"] = "adamw"
    momentum: float = 0.9
    schedule: Literal["cosine", "drops", "cyclical"] = "cosine"
    drops: tuple[float, ...] = ()
    drop_factor: float = 0.1
    cycle_steps: int = 1000
    lowest_share: float = 1 / 3000
    last_share: float = 0.02
    warmup_steps: int = 200
    weight_decay: float = 1e-4
    accumulate: int = 1
    clip_norm: float = 0.0
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        _require(0 < self.lr < math.inf, "optimiser.lr", "above 0 and finite", self.lr)
        _require(self.warmup_steps >= 0, "optimiser.warmup_steps", "at least 0", self.warmup_steps)
        for name in ("weight_decay", "clip_norm"):
            value = getattr(self, name)
            _require(_are_weights([value]), f"optimiser.{name}", _WEIGHT, value)
        _require(0 <= self.ema_decay < 1, "optimiser.ema_decay", "from 0 to below 1", self.ema_decay)
        _require(0 <= self.momentum < 1, "optimiser.momentum", "from 0 to below 1", self.momentum)
        _require(self.accumulate >= 1, "optimiser.accumulate", "at least 1", self.accumulate)
        _require(self.cycle_steps >= 1, "optimiser.cycle_steps", "at least 1", self.cycle_steps)
        _require(0 < self.drop_factor <= 1, "optimiser.drop_factor", "above 0, up to 1", self.drop_factor)
        for name in ("lowest_share", "last_share"):
            share = getattr(self, name)
            _require(0 < share <= 1, f"optimiser.{name}", "above 0, up to 1", share)
        is_in_order = list(self.drops) == sorted(self.drops) and all(0 < at < 1 for at in self.drops)
        _require(is_in_order, "optimiser.drops", "rising shares between 0 and 1", self.drops)


@dataclass(frozen=True, slots=True)
class LossSettings:
    """Weights of the parts of the loss; see `fleetpose.losses`.

    Attributes:
        tags: factor of pull and push, for networks with tags; the papers use 1e-3.
        has_tag_hinge: push apart only people whose mean tags differ by less than 1, see `losses.tag_loss`.
        foreground: extra weight of cells near a keypoint; the papers use 0.
        location: factor of the cross-entropy between heatmaps read as a distribution over cells; the papers
            use 0. It finds keypoints several times sooner in short training.
        presence: factor of the cross-entropy per cell, in place of the squared error; the papers use 0. Above
            0, the heatmaps of every network are sigmoids, which read as chances.
        sigma_cells: spread of the target Gaussians of each heatmap field; none for the papers' 2 everywhere.
        heatmaps: factor of each heatmap field, in the same order; none for the papers' 1 everywhere. A field
            with 0 costs nothing and learns nothing.
        hard_keypoints: of each picture, only so many keypoints with the largest errors count, 0 for all
            (online hard keypoint mining, arXiv:1711.07319); for top-down networks.
        pafs: factor of part affinity fields, for networks with those.
        sigma_px: spread of the target Gaussians in pixels, for networks with part affinity fields; 0 for
            their codec's own.
        classes: factor of the cross-entropy of classes beside keypoints.
        is_class_balanced: weigh classes of pixels by how rare they are, see `losses.class_weights`.
        label_smoothing: share of the certainty of a picture's class that all classes divide.
    """

    tags: float = 1e-3
    has_tag_hinge: bool = False
    foreground: float = 0.0
    location: float = 0.0
    presence: float = 0.0
    sigma_cells: tuple[float, ...] = ()
    heatmaps: tuple[float, ...] = ()
    hard_keypoints: int = 0
    pafs: float = 1.0
    sigma_px: float = 0.0
    classes: float = 1.0
    is_class_balanced: bool = False
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("tags", "foreground", "location", "presence", "pafs", "classes", "sigma_px"):
            weight = getattr(self, name)
            _require(_are_weights([weight]), f"loss.{name}", _WEIGHT, weight)
        are_spreads = all(0 < spread < math.inf for spread in self.sigma_cells)
        _require(are_spreads, "loss.sigma_cells", "above 0 and finite", self.sigma_cells)
        _require(_are_weights(self.heatmaps), "loss.heatmaps", _WEIGHT, self.heatmaps)
        _require(max(self.heatmaps, default=1) > 0, "loss.heatmaps", "above 0 somewhere", self.heatmaps)
        _require(self.hard_keypoints >= 0, "loss.hard_keypoints", "at least 0", self.hard_keypoints)
        _require(
            0 <= self.label_smoothing < 1, "loss.label_smoothing", "from 0 to below 1", self.label_smoothing
        )

    def per_heatmap(self, count: int, model: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return factors and spreads, one each for the `count` heatmap fields of `model`.

        Raises:
            ConfigError: there are some, but not as many as fields.
        """
        for name, given in (("sigma_cells", self.sigma_cells), ("heatmaps", self.heatmaps)):
            if len(given) not in {0, count}:
                raise ConfigError(
                    f"loss.{name} must have {count} entries, one per heatmap field of {model}, "
                    f"got {len(given)}"
                )
        return self.heatmaps or (1.0,) * count, self.sigma_cells or (PAPER_SIGMA_CELLS,) * count


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """Labelled pictures on which the averaged network is scored from time to time.

    Attributes:
        name: stands before each score in the log.
        annotations: COCO keypoint file.
        images: folder of its pictures.
        every: take only the pictures whose id is a multiple of this.
        split: part to take of a file that holds training and test pictures.
    """

    name: str
    annotations: Path
    images: Path
    every: int = 1
    split: Split = "test"

    def __post_init__(self) -> None:
        _require(self.every >= 1, f"every of validation set {self.name}", "at least 1", self.every)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides what a run computes.

    Attributes:
        model: name of a network, see `fleetpose.models`.
        sources: training mixture.
        phases: stretches of training, in order.
        skeleton: built-in name, YAML file, or the keypoints themselves.
        pictures: pictures with classes, for classification and segmentation.
        pictures_share: share of those in the batches of networks that learn keypoints and classes.
        num_classes: classes of a classifier; 0 for the network's own.
        class_names: of a classifier; a run fills them in from its data.
        init: checkpoint whose averaged weights are the start, None for random weights. A network may
            begin with those of a smaller relative, see `fleetpose.train.growing`, and a LitePose with the
            supernet's. Where the keypoints differ, channels go by their names, and others are new.
        init_backbone: checkpoint of a classifier whose weights the network's EfficientNet begins with: of a
            training run, or published.
        frozen: patterns of modules' names, such as "backbone" or "stage.*", whose weights and statistics
            stay as they are.
        teacher: a network to learn from, beside the labels.
        elastic: train a supernet by its parts.
        seed: of weights, scenes and everything random.
        precision: of the network's arithmetic, as Fabric names it; weights and losses stay fp32. "bf16-mixed"
            is about 1.5 times faster than "32-true" on CPUs with bf16 instructions, and slower on others.
        threads: CPU threads for the arithmetic, 0 for the library's own choice.
        workers: processes that draw scenes; one is plenty for the small networks.
        cache_mb: MiB of decoded pictures that each of those processes keeps, so as not to decode them again;
            0 for none.
        log_every_steps: steps between lines of the log.
        checkpoint_every_s: seconds between checkpoints.
        validation: sets that are scored.
        validation_pictures: the same for networks that tell classes.
        best_by: score by which `best.pt` is chosen, such as "coco_dev/AP"; "" for the first one.
        validate_every_s: seconds of training between validations, 0 for only at the end.
        short_side: pixels of the shorter side at which pictures are validated and predicted.
        grouping: how the trained model's peaks become people; a lone peak is taken for noise.
    """

    model: str
    sources: tuple[Source, ...]
    phases: tuple[Phase, ...]
    skeleton: str | Skeleton = "coco17"
    pictures: tuple[PictureSet, ...] = ()
    pictures_share: float = 0.5
    num_classes: int = 0
    class_names: tuple[str, ...] = ()
    init: Path | None = None
    init_backbone: Path | None = None
    frozen: tuple[str, ...] = ()
    teacher: TeacherSettings | None = None
    elastic: ElasticSettings | None = None
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    seed: int = 0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    threads: int = 0
    workers: int = 1
    cache_mb: int = 1024
    log_every_steps: int = 50
    checkpoint_every_s: float = 120.0
    validation: tuple[ValidationSet, ...] = ()
    validation_pictures: tuple[PictureSet, ...] = ()
    best_by: str = ""
    validate_every_s: float = 1200.0
    short_side: int = 256
    grouping: GroupingSettings = field(default_factory=lambda: GroupingSettings(min_keypoints=3))

    def __post_init__(self) -> None:
        if not self.phases:
            raise ConfigError("a run needs at least one phase")
        _require(0 < self.pictures_share < 1, "pictures_share", "between 0 and 1", self.pictures_share)
        _require(self.num_classes >= 0, "num_classes", "at least 0", self.num_classes)
        _require(0 <= self.seed < 2**63, "seed", "from 0 to below 2**63", self.seed)
        _require(0 <= self.threads <= _MOST_THREADS, "threads", f"from 0 to {_MOST_THREADS}", self.threads)
        _require(self.checkpoint_every_s >= 0, "checkpoint_every_s", "at least 0", self.checkpoint_every_s)
        _require(self.workers >= 0, "workers", "at least 0", self.workers)
        _require(self.cache_mb >= 0, "cache_mb", "at least 0", self.cache_mb)
        _require(self.log_every_steps >= 1, "log_every_steps", "at least 1", self.log_every_steps)
        _require(self.validate_every_s >= 0, "validate_every_s", "at least 0", self.validate_every_s)
        _require(self.short_side >= 1, "short_side", "at least 1", self.short_side)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of all phases."""
        return sum(phase.steps for phase in self.phases)


def read_config(path: Path) -> TrainConfig:
    """Read settings from a YAML file, such as the `config.yaml` of an earlier run.

    Raises:
        ConfigError: the file is missing or malformed, or a setting is unknown or of the wrong type.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the settings {path}: {' '.join(str(error).split())}") from error
    return from_plain(TrainConfig, data, where=f"settings {path}")


def self_contained(config: TrainConfig) -> TrainConfig:
    """Put keypoints of the user's own in the place of the file that describes them.

    What a run leaves can then be used where that file is not.

    Raises:
        ConfigError: the skeleton's name is unknown, or its file is missing or malformed.
    """
    if isinstance(config.skeleton, Skeleton) or config.skeleton in SKELETONS:
        return config
    return replace(config, skeleton=load_skeleton(config.skeleton))


def changed_settings(before: Mapping[str, Any], after: TrainConfig) -> dict[str, tuple[object, object]]:
    """Compare the settings that a checkpoint keeps with those of the run that goes on from it.

    Returns:
        Dotted name → (before, after) of every setting that differs; None stands for one that is not there.
    """
    try:  # settings that were added to this package since then have their defaults
        before = to_plain(self_contained(from_plain(TrainConfig, before)))
    except ConfigError:
        before = dict(before)
    old, new = dict(_flat(before)), dict(_flat(to_plain(after)))
    return {name: (old.get(name), new.get(name)) for name in old | new if old.get(name) != new.get(name)}


def _flat(plain: Any, name: str = "") -> Iterator[tuple[str, object]]:  # noqa: ANN401 - any plain data
    if not isinstance(plain, Mapping | list):
        yield name, plain
        return
    for key, value in plain.items() if isinstance(plain, Mapping) else enumerate(plain):
        yield from _flat(value, f"{name}.{key}".lstrip("."))


def _are_weights(values: Iterable[float]) -> bool:
    return all(0 <= value < math.inf for value in values)


def _require(is_met: bool, name: str, expected: str, got: object) -> None:  # noqa: FBT001 - a condition
    if not is_met:
        raise ConfigError(f"{name} must be {expected}, got {got}")

"""Teachers: networks whose heatmaps a student learns beside its labels.

A teacher is one of our networks, from a training run or a model file, which gives heatmaps; or a tflite file
of EfficientPose's or MoveNet's kind, which names one person's keypoints: for those, heatmaps are drawn as for
labels, as high as the teacher is sure. Keypoints are matched by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from fleetpose.codecs.description import METADATA_KEY, ModelDescription
from fleetpose.codecs.efficientpose import EFFICIENTPOSE_KEYPOINTS, SINGLE_PERSON
from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.codecs.top_down import TopDownCodec
from fleetpose.errors import CheckpointError, ConfigError, ShapeError, require
from fleetpose.geometry import IMAGE_MEAN, IMAGE_STD, fit_box, invert, transform_points, warp
from fleetpose.losses import distillation_loss, taught_location_loss
from fleetpose.models import PoseNetwork
from fleetpose.models.checkpoints import load_strictly
from fleetpose.settings import from_plain
from fleetpose.skeletons import COCO, Skeleton, load_skeleton
from fleetpose.train.checkpoint import load_checkpoint
from fleetpose.train.config import TeacherSettings, TrainConfig
from fleetpose.train.networks import build_network
from fleetpose.train.stream import Labels
from fleetpose.train.tasks import task_of

#: What published networks' pictures are padded with; grey nearly doubles EfficientPose's median error.
BLACK = (0, 0, 0)

#: By field name: heatmaps `[B, K, h, w]`, and masks that fit them.
Lesson: TypeAlias = tuple[dict[str, Tensor], dict[str, Tensor]]
#: Images `[B, H, W, 3]` uint8, the same normalised `[B, 3, H, W]`, and labels → what the teacher says.
Teacher: TypeAlias = Callable[[Tensor, Tensor, Labels], Lesson]


def open_teacher(config: TrainConfig, codec: object, *, has_chances: bool = False) -> Teacher | None:
    """Load the teacher of a run, if it has one.

    Args:
        config: settings of the student.
        codec: of the student.
        has_chances: whether the student's heatmaps are chances, whose places can be taught.

    Raises:
        ConfigError: the file is of no known kind, or there is nothing that it could teach the student.
        CheckpointError: the file cannot be read.
        MissingExtraError: what runs such a file is not installed.
    """
    settings = config.teacher
    if settings is None:
        return None
    heatmaps = _heatmaps(getattr(codec, "fields", ()))
    if not heatmaps:
        raise ConfigError(f"a teacher gives heatmaps, but {config.model} has none")
    if settings.location and not has_chances:
        raise ConfigError(
            f"teacher.location compares chances, but the heatmaps of {config.model} are none; "
            "set loss.presence above 0, or teacher.location to 0"
        )
    names = channel_names(codec, load_skeleton(config.skeleton))
    path = settings.path
    if path.suffix == ".tflite":
        if not isinstance(codec, TopDownCodec):
            raise ConfigError(f"{path} knows one person per picture, so it can teach top-down networks only")
        return KeypointTeacher(LiteRtModel(path), codec=codec, names=names)
    if path.suffix not in {".pt", ".onnx"}:
        raise ConfigError(f"a teacher must be a .pt, .onnx or .tflite file, got {path}")
    source: HeatmapSource = NetworkSource(path) if path.suffix == ".pt" else OnnxSource(path)
    _check_source(source, path, config, codec)
    return HeatmapTeacher(source, heatmaps=heatmaps, names=names, size=settings.size)


def with_lesson(
    losses: Mapping[str, Tensor], predicted: Mapping[str, Tensor], lesson: Lesson, settings: TeacherSettings
) -> dict[str, Tensor]:
    """Add what a teacher says to the parts of a loss: `teacher` and, if asked for, `teacher_location`.

    Both are unweighted; `total` is that of the labels and of the teacher together.
    """
    taught, masks = lesson
    parts = {"teacher": distillation_loss(predicted, taught, masks)}
    total = settings.labels * losses["total"] + settings.weight * parts["teacher"]
    if settings.location:
        parts["teacher_location"] = taught_location_loss(predicted, taught, masks)
        total = total + settings.location * parts["teacher_location"]
    return {**losses, **parts, "total": total}


def _check_source(source: HeatmapSource, path: Path, config: TrainConfig, codec: object) -> None:
    """Raise a ConfigError unless the teacher looks at pictures as the student does, of the sizes it gets."""
    if source.is_single and not _is_single(codec):
        raise ConfigError(
            f"{path} looks at one person per picture, so it can teach networks of one person only, "
            f"not {config.model}"
        )
    try:
        for size in _sizes_seen(config):
            source.check_size(size)
    except (ConfigError, ShapeError) as error:
        raise ConfigError(f"the teacher {path} cannot look; set teacher.size: {error}") from error


def _is_single(codec: object) -> bool:
    """Whether a codec's network looks at one person per picture."""
    settings: Callable[[], dict[str, Any]] | None = getattr(codec, "settings", None)
    return settings is not None and settings()["type"] in SINGLE_PERSON


def _sizes_seen(config: TrainConfig) -> list[tuple[int, int]]:
    """Sizes (h, w) of the pictures that the teacher of a run gets."""
    if config.teacher is not None and config.teacher.size is not None:
        return [config.teacher.size]
    sizes = [phase.size for phase in config.phases]
    return sizes if config.elastic is None else [one for size in sizes for one in config.elastic.sizes(size)]


def channel_names(codec: object, skeleton: Skeleton) -> tuple[str, ...]:
    """Keypoints of a network's heatmaps: its codec's own, else the skeleton's."""
    return tuple(getattr(codec, "keypoints", skeleton.keypoints))


def _heatmaps(fields: Sequence[Field]) -> tuple[Field, ...]:
    return tuple(field for field in fields if field.kind is FieldKind.HEATMAPS)


@dataclass(frozen=True, slots=True)
class _Match:
    """Which of the teacher's channels stand for which of the student's."""

    student: list[int]
    teacher: list[int]

    @classmethod
    def of(cls, student: Sequence[str], teacher: Sequence[str]) -> _Match:
        shared = [name for name in student if name in teacher]
        if not shared:
            raise ConfigError(
                f"the teacher knows {', '.join(teacher)}, none of which the student is to learn"
            )
        return cls([student.index(name) for name in shared], [teacher.index(name) for name in shared])

    def place(self, maps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's maps, of the size of `like` and in its channels, and which of those it knows."""
        resized = functional.interpolate(
            maps[:, self.teacher].float(), size=like.shape[2:], mode="bilinear", align_corners=False
        )
        taught = torch.zeros_like(like, dtype=torch.float32)
        taught[:, self.student] = resized.to(like.device)
        known = torch.zeros(1, like.shape[1], 1, 1, device=like.device)
        known[:, self.student] = 1
        return taught, known


class HeatmapSource(Protocol):
    """A network with heatmaps of named keypoints; `is_single` if it looks at one person per picture."""

    names: tuple[str, ...]
    heatmaps: tuple[Field, ...]
    is_single: bool

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise a ConfigError or ShapeError unless the network takes pictures of `size` (h, w)."""
        ...

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images `[B, 3, H, W]` → heatmaps `[B, K, h, w]` by field name."""
        ...


class HeatmapTeacher:
    """Teaches by the heatmaps of another network."""

    def __init__(
        self,
        source: HeatmapSource,
        *,
        heatmaps: Sequence[Field],
        names: Sequence[str],
        size: tuple[int, int] | None,
    ) -> None:
        self._source = source
        self._size = size
        self._match = _Match.of(names, source.names)
        # The field of the same stride, else the finest.
        finest = min(source.heatmaps, key=lambda field: field.stride)
        by_stride = {field.stride: field for field in source.heatmaps}
        self._fields = {field.name: by_stride.get(field.stride, finest).name for field in heatmaps}

    def __call__(self, images: Tensor, normalised: Tensor, labels: Labels) -> Lesson:
        """Run the teacher on the same pictures."""
        del images
        seen = normalised
        if self._size is not None:
            seen = functional.interpolate(
                seen, size=self._size, mode="bilinear", align_corners=False, antialias=True
            )
        maps = self._source.run(seen)
        taught, masks = {}, {}
        for name, source in self._fields.items():
            taught[name], known = self._match.place(maps[source], labels["targets"][name])
            mask = labels.get("masks", {}).get(name)
            masks[name] = known if mask is None else known * mask
        return taught, masks


class NetworkSource:
    """The averaged network of one of our training runs."""

    def __init__(self, path: Path) -> None:
        state = load_checkpoint(path)
        config = from_plain(TrainConfig, state["config"], where=f"settings in {path}")
        self._network: PoseNetwork = build_network(config)
        load_strictly(self._network, state["ema"])
        self._network.eval().requires_grad_(requires_grad=False)
        codec = task_of(self._network, config).codec
        self.names = channel_names(codec, load_skeleton(config.skeleton))
        self.is_single = _is_single(codec)
        self.heatmaps = _heatmaps(self._network.fields)
        if not self.heatmaps:
            raise ConfigError(f"{path} holds {config.model}, which has no heatmaps to teach")

    def check_size(self, size: tuple[int, int]) -> None:
        """See `HeatmapSource`."""
        if not self._network.takes_any_size:
            self._network.check_size(size)

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """See `HeatmapSource`."""
        self._network.to(images.device)
        with torch.no_grad():
            return dict(self._network(images.contiguous(memory_format=torch.channels_last)))


class OnnxSource:
    """A model file that `fleetpose export` wrote."""

    def __init__(self, path: Path) -> None:
        runtime = require("onnxruntime", extra="train")
        reasons = require("onnxruntime.capi.onnxruntime_pybind11_state", extra="train")
        if not path.is_file():
            raise CheckpointError(f"there is no model file {path}")
        try:
            self._session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except (
            *(reasons.Fail, reasons.InvalidArgument, reasons.InvalidGraph, reasons.InvalidProtobuf),
            *(reasons.NotImplemented, reasons.RuntimeException),
        ) as error:
            raise CheckpointError(f"{path} is no ONNX file: {' '.join(str(error).split())}") from error
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if text is None:
            raise CheckpointError(
                f"{path} does not say what its outputs mean; it was not written by fleetpose"
            )
        described = ModelDescription.from_json(text)
        self.names = tuple(described.codec.get("keypoints", described.skeleton.keypoints))
        self.heatmaps = _heatmaps(described.fields)
        if not self.heatmaps:
            raise ConfigError(f"{path} has no heatmaps to teach")
        self.is_single = described.codec["type"] in SINGLE_PERSON
        self._multiple = described.input.multiple
        described_input = (described.input.mean, described.input.std)
        self._mean, self._std = (torch.tensor(values).view(3, 1, 1) for values in described_input)

    def check_size(self, size: tuple[int, int]) -> None:
        """See `HeatmapSource`; a file may have been made for one size."""
        free = all(side % self._multiple == 0 for side in size)
        fixed = [side for side in self._session.get_inputs()[0].shape[2:] if isinstance(side, int)]
        if not free or (len(fixed) == len(size) and tuple(fixed) != size):
            wanted = (
                f"{fixed[0]} x {fixed[1]}" if len(fixed) == len(size) else f"multiples of {self._multiple}"
            )
            raise ConfigError(f"it takes pictures of {wanted} pixels, got {size[0]} x {size[1]}")

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """See `HeatmapSource`; files take one picture at a time."""
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
        inputs = ((images.float().cpu() * std + mean - self._mean) / self._std).numpy()
        wanted = [field.name for field in self.heatmaps]
        entry = self._session.get_inputs()[0].name
        rows = [self._session.run(wanted, {entry: np.ascontiguousarray(image[None])}) for image in inputs]
        return {
            name: torch.from_numpy(np.concatenate([row[number] for row in rows])).to(images.device)
            for number, name in enumerate(wanted)
        }


class KeypointSource(Protocol):
    """A network that names the keypoints of the one person in a picture."""

    names: tuple[str, ...]

    def find(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.floating]:
        """Picture `[H, W, 3]` → keypoints `[K, 3]` (x, y, score) in its pixels."""
        ...


class KeypointTeacher:
    """Teaches by heatmaps drawn at the keypoints that another network finds, as high as its scores."""

    def __init__(self, source: KeypointSource, *, codec: TopDownCodec, names: Sequence[str]) -> None:
        self._source = source
        self._codec = codec
        self._match = _Match.of(names, source.names)

    def __call__(self, images: Tensor, normalised: Tensor, labels: Labels) -> Lesson:
        """Run the teacher on the same crops."""
        del normalised
        (field,) = self._codec.fields
        like = labels["targets"][field.name]
        maps = np.zeros(like.shape, np.float32)
        for number, image in enumerate(images.cpu().numpy()):
            found = self._source.find(image)[self._match.teacher]
            keypoints = np.zeros((like.shape[1], 3), np.float32)
            keypoints[self._match.student] = np.column_stack([found[:, :2], np.full(len(found), 2)])
            drawn = self._codec.encode(keypoints, size=image.shape[:2])[field.name]
            maps[number, self._match.student] = drawn[self._match.student] * found[:, 2, None, None]
        known = torch.zeros(1, like.shape[1], 1, 1, device=like.device)
        known[:, self._match.student] = 1
        return {field.name: torch.from_numpy(maps).to(like.device)}, {field.name: known}


class LiteRtModel:
    """A tflite file of EfficientPose's kind (maps of MPII's keypoints) or MoveNet's (COCO's keypoints)."""

    def __init__(self, path: Path) -> None:
        runtime = _litert()
        if not path.is_file():
            raise CheckpointError(f"there is no model file {path}")
        try:
            self._interpreter = runtime.Interpreter(model_path=str(path), num_threads=1)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"{path} is no tflite file: {' '.join(str(error).split())}") from error
        (self._input,) = self._interpreter.get_input_details()
        outputs = [item for item in self._interpreter.get_output_details() if len(item["shape"]) == 4]
        self._side = int(self._input["shape"][1])
        sizes = [int(np.prod(item["shape"])) for item in outputs]
        self._output = outputs[int(np.argmax(sizes))] if outputs else {"shape": ()}
        shape = tuple(int(length) for length in self._output["shape"])
        self._is_movenet = shape == (1, 1, len(COCO), 3)
        if not self._is_movenet and (not shape or shape[3] != len(EFFICIENTPOSE_KEYPOINTS)):
            raise ConfigError(
                f"{path} must return 17 keypoints as MoveNet or 16 maps as EfficientPose, but its largest "
                f"output is {list(shape)}"
            )
        self.names = COCO.keypoints if self._is_movenet else EFFICIENTPOSE_KEYPOINTS

    def find(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.floating]:
        """See `KeypointSource`; the picture is padded to a square."""
        h, w = image.shape[:2]
        whole = np.array([-0.5, -0.5, w - 0.5, h - 0.5], np.float32)
        affine = fit_box(whole, (self._side, self._side), padding=1.0)
        canvas = warp(image, affine, (self._side, self._side), fill=BLACK)
        found = self._movenet(canvas) if self._is_movenet else self._efficientpose(canvas)
        return np.asarray(transform_points(found, invert(affine)))

    def _movenet(self, canvas: npt.NDArray[np.uint8]) -> npt.NDArray[np.floating]:
        y, x, score = self._run(canvas.astype(self._input["dtype"]))[0, 0].T
        return np.stack([x * self._side - 0.5, y * self._side - 0.5, score], axis=1)

    def _efficientpose(self, canvas: npt.NDArray[np.uint8]) -> npt.NDArray[np.floating]:
        maps = self._run(((canvas - np.array(IMAGE_MEAN)) / IMAGE_STD).astype(np.float32))[0]
        h, w, channels = maps.shape
        y, x = np.divmod(maps.reshape(-1, channels).argmax(axis=0), w)
        scores = np.clip(maps.max(axis=(0, 1)), 0, 1)
        pixels = np.array([self._side / w, self._side / h])
        return np.column_stack([(np.stack([x, y], axis=1) + 0.5) * pixels - 0.5, scores])

    def _run(self, tensor: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        self._interpreter.set_tensor(self._input["index"], tensor[None])
        self._interpreter.invoke()
        return np.asarray(self._interpreter.get_tensor(self._output["index"]), np.float32)


def _litert() -> Any:  # noqa: ANN401 - an optional module
    try:
        return require("ai_edge_litert.interpreter", extra="train")
    except ImportError as error:
        raise ConfigError("a teacher in a .tflite file needs: pip install ai-edge-litert") from error

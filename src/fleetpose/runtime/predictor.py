"""From a picture or a video to the people in it, by whichever way of finding them the model has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast, overload

import numpy as np
import numpy.typing as npt

from fleetpose.codecs import associative_embedding, candidates, efficientpose, part_affinity, top_down
from fleetpose.codecs.description import ModelDescription
from fleetpose.codecs.top_down import TopDownCodec
from fleetpose.errors import CheckpointError, ConfigError, UnknownNameError
from fleetpose.media.images import ColorOrder, as_rgb, read_image
from fleetpose.media.video import Frame, one_source, open_video
from fleetpose.results import PoseResult
from fleetpose.runtime import DEFAULT_THRESHOLD
from fleetpose.runtime.bottom_up import BottomUp, BottomUpSettings, Codec
from fleetpose.runtime.canvas import Network, normalise
from fleetpose.runtime.cascade import (
    NO_BOXES,
    SAME_REFINED,
    WHOLE,
    WITHIN_REFINED,
    Boxed,
    BoxSource,
    Cascade,
    Finder,
    check_combination,
    is_top_down,
)
from fleetpose.runtime.choice import AUTO, open_session
from fleetpose.runtime.sizes import SeveralSizes
from fleetpose.runtime.timing import Stopwatch
from fleetpose.runtime.top_down import TopDown, TopDownSettings
from fleetpose.weights import DEFAULT_SHORT_SIDES, default_refiner

__all__ = ["Network", "Picture", "Predictor", "load", "normalise"]


class PilImage(Protocol):
    """What is asked of a PIL image."""

    mode: str

    def convert(self, mode: str) -> Any:  # noqa: ANN401 - Pillow is no dependency
        """Return the picture in another mode."""


Picture: TypeAlias = str | Path | npt.NDArray[np.uint8] | PilImage

#: What builds the codec that a bottom-up model asks for, by the name that its file gives.
CODECS: Mapping[str, Callable[[ModelDescription], Codec]] = {
    associative_embedding.CODEC_TYPE: associative_embedding.AssociativeEmbeddingCodec.from_description,
    candidates.CODEC_TYPE: candidates.CandidateCodec.from_description,
    part_affinity.CODEC_TYPE: part_affinity.PartAffinityCodec.from_description,
    efficientpose.CODEC_TYPE: efficientpose.EfficientPoseCodec.from_description,
}


def load(
    model: str | Path | None = None,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    short_side: int | Sequence[int] | None = None,
    threads: int | None = None,
    has_flip_test: bool = False,
    has_closer_look: bool | None = None,
    bottom_up: BottomUpSettings | None = None,
    boxes: BoxSource | None = None,
    refine: str | Path | None = None,
    runtime: str = AUTO,
    precision: str = "f32",
    max_ms: float | None = None,
) -> Predictor:
    """Load a model, ready to predict.

    Args:
        model: name of a bundled model, path of an `.onnx` file, of OpenVINO's `.xml` or ncnn's `.param`, or
            of a folder that `fleetpose export` wrote; None for the default, which is a bundled model and a
            second one that refines its people.
        threshold: people below this score, 0 to 1, are left out.
        short_side: pixels to which a picture's shorter side is brought; None for what the model was trained
            for, and for several sizes with the default models. More finds smaller people and takes longer.
            Several numbers let the model look in each size, and put together who is found.
        threads: processor threads of the network; None for one per core.
        has_flip_test: look at the mirrored picture too and average: better and half as fast.
        has_closer_look: look once more at the people of a top-down model, framed by their keypoints and
            mirrored, and average: better, and takes about a tenth longer with a second model, twice as long
            in given boxes. None does so with a second model and for the whole picture, not in given boxes.
        bottom_up: scales, resize rule and second looks of a bottom-up model; None for one plain look.
        boxes: where a top-down model's boxes come from: an array `[N, 4]` (x1, y1, x2, y2) in pixels, or
            `[N, 5]` with a score; a callable from a picture to one, such as a person detector; or "whole",
            the default, which takes the whole picture for one person.
        refine: a top-down model, named as `model` is, that looks once more at each person whom the bottom-up
            `model` found.
        runtime: `onnx`, `openvino` or `ncnn` to pin one; `auto` takes the fastest that is installed, see
            `fleetpose.runtime.choice`.
        precision: `bf16` allows 16-bit arithmetic where it is faster; keypoints may move a little.
        max_ms: take the most accurate models, or the largest size of the one that is named, that need no more
            milliseconds from a decoded picture to people; measured once on this machine.

    Raises:
        UnknownNameError: no bundled model, runtime or precision has this name.
        CheckpointError: the file is no model of FleetPose.
        ConfigError: the runtime cannot run this model so, models and settings do not go together, or
            nothing is as fast as `max_ms`.
        MissingExtraError: the runtime is not installed.
    """
    if max_ms is not None:
        from fleetpose.runtime.budget import choose  # noqa: PLC0415 - it measures predictors

        if short_side is not None:
            raise ConfigError("short_side and max_ms both set the size of the input; give one of them")
        chosen = choose(
            max_ms, model=model, refine=refine, runtime=runtime, precision=precision, threads=threads
        )
        model, short_side, refine = chosen.model, chosen.short_side, chosen.refine
    if model is None and boxes is None:
        refine = refine or default_refiner()
        if short_side is None and bottom_up is None:
            short_side = DEFAULT_SHORT_SIDES
    refiner = None
    if refine is not None:
        refiner = open_session(refine, runtime=runtime, precision=precision, threads=threads)
    return Predictor(
        open_session(model, runtime=runtime, precision=precision, threads=threads),
        threshold=threshold,
        short_side=short_side,
        has_flip_test=has_flip_test,
        has_closer_look=has_closer_look,
        bottom_up=bottom_up,
        boxes=boxes,
        refiner=refiner,
    )


class Predictor:
    """Find people in pictures and videos.

    Attributes:
        description: what the model says about itself, its card included; of two models, that of the one whose
            keypoints are the result.
        skeleton: names of the keypoints that it finds.
        name: of the model, or of both.
    """

    def __init__(
        self,
        network: Network,
        *,
        threshold: float = DEFAULT_THRESHOLD,
        short_side: int | Sequence[int] | None = None,
        has_flip_test: bool = False,
        has_closer_look: bool | None = None,
        bottom_up: BottomUpSettings | None = None,
        boxes: BoxSource | None = None,
        refiner: Network | None = None,
    ) -> None:
        """Take a loaded network, and one that refines its people; see `load` for the settings.

        Raises:
            ConfigError: networks, boxes and settings that do not go together.
        """
        check_combination(
            network.description,
            refiner=None if refiner is None else refiner.description,
            has_boxes=boxes is not None,
            has_bottom_up_settings=short_side is not None or bottom_up is not None,
            has_closer_look=bool(has_closer_look),
        )
        settings = TopDownSettings(has_closer_look=has_closer_look)
        self._threshold = threshold
        self._top_down: TopDown | None = None
        self._finder: Finder
        if is_top_down(network.description):
            self._top_down = _top_down(network, has_flip_test=has_flip_test, settings=settings)
            self._finder = Boxed(self._top_down, WHOLE if boxes is None else boxes, threshold=threshold)
        else:
            codec = _codec(network.description)
            finders = [
                BottomUp(
                    network,
                    codec,
                    threshold=threshold,
                    short_side=side,
                    has_flip_test=has_flip_test,
                    settings=bottom_up,
                )
                for side in (short_side if isinstance(short_side, Sequence) else (short_side,))
            ]
            if not finders:
                raise ConfigError("short_side must be a number of pixels, or several, got none")
            self._finder = SeveralSizes(finders) if len(finders) > 1 else finders[0]
        if refiner is not None:
            settings = replace(settings, redundancy=SAME_REFINED, within_share=WITHIN_REFINED)
            second = _top_down(refiner, has_flip_test=has_flip_test, settings=settings)
            self._finder = Cascade(self._finder, second, threshold=threshold)
        self.name = self._first_name = network.description.name
        if refiner is not None:
            self.name += f" + {refiner.description.name}"
        self.description = self._finder.description
        self.skeleton = self.description.skeleton

    @overload  # a path is a sequence too, of letters, and is taken for one picture
    def __call__(  # type: ignore[overload-overlap]
        self, source: Picture, *, color: ColorOrder = "rgb", boxes: BoxSource | None = None
    ) -> PoseResult: ...

    @overload
    def __call__(
        self, source: Sequence[Picture], *, color: ColorOrder = "rgb", boxes: BoxSource | None = None
    ) -> list[PoseResult]: ...

    def __call__(
        self,
        source: Picture | Sequence[Picture],
        *,
        color: ColorOrder = "rgb",
        boxes: BoxSource | None = None,
    ) -> PoseResult | list[PoseResult]:
        """Find the people in one picture, or in each of a list.

        Args:
            source: path, array uint8 `[H, W]`, `[H, W, 1]`, `[H, W, 3]` or `[H, W, 4]`, PIL image, or a list.
            color: order of an array's channels.
            boxes: of this call, for a top-down model; as in `load`. Of a list, all pictures have the same.

        Raises:
            MediaError: a file is no picture.
            ShapeError: an array is no picture, or the boxes are none.
            ConfigError: the model takes no boxes.
        """
        finder = self._finder if boxes is None else self._with_boxes(boxes)
        if isinstance(source, list | tuple):
            return [self._find_in(one, finder, color) for one in source]
        return self._find_in(cast("Picture", source), finder, color)

    @property
    def needs_boxes(self) -> bool:
        """Whether the model sees one person at a time, in boxes that something else must find."""
        return self._top_down is not None

    def _with_boxes(self, boxes: BoxSource) -> Finder:
        if self._top_down is None:
            raise ConfigError(NO_BOXES.format(name=self._first_name))
        return Boxed(self._top_down, boxes, threshold=self._threshold)

    def find_as_stored(self, path: Path) -> PoseResult:
        """Find the people in a file's pixels as they are stored, which labels of data sets refer to.

        Raises:
            MediaError: the file is no picture.
        """
        return self._find_in(path, self._finder, "rgb", is_as_stored=True)

    @staticmethod
    def _find_in(
        source: Picture, finder: Finder, color: ColorOrder, *, is_as_stored: bool = False
    ) -> PoseResult:
        watch = Stopwatch()
        if isinstance(source, str | Path):
            image, name = read_image(source, is_as_stored=is_as_stored), str(source)
        else:
            image, name = as_rgb(source, color=color), None
        watch.lap("decode")
        return replace(finder.find(image, watch, name=name), source=name)

    def stream(self, source: str | Path | int) -> Iterator[PoseResult]:
        """Yield one result per frame of a video, a camera (by its number) or a network address.

        Memory stays constant however long the video is. A file's next frame is decoded while the last one is
        being looked at, so that its `decode` is the time spent waiting for it.

        Raises:
            MediaError: the source cannot be opened; or, after the last good frame, is damaged.
        """
        found = one_source(source)
        video = open_video(found, reads_ahead=True)
        try:
            for _, result in self.follow(video, name=found.label):
                yield result
        finally:
            video.close()

    def follow(
        self, frames: Iterable[Frame], *, name: str | None = None
    ) -> Iterator[tuple[Frame, PoseResult]]:
        """Yield each frame with its result, which bears the frame's index and time and the `name`."""
        remaining = iter(frames)
        while True:
            watch = Stopwatch()
            frame = next(remaining, None)
            if frame is None:
                return
            watch.lap("decode")
            result = self._finder.find(frame.image, watch, name=name)
            yield (
                frame,
                replace(result, frame_index=frame.index, timestamp_s=frame.timestamp_s, source=name),
            )


def _top_down(network: Network, *, has_flip_test: bool, settings: TopDownSettings) -> TopDown:
    codec = TopDownCodec.from_description(network.description)
    return TopDown(network, codec, has_flip_test=has_flip_test, settings=settings)


def _codec(description: ModelDescription) -> Codec:
    kind = description.codec["type"]
    if kind == "classes":
        raise CheckpointError(
            f"model {description.name!r} names classes and finds nobody; give a model of poses, "
            "or run its file with ONNX Runtime"
        )
    if kind not in CODECS:
        raise UnknownNameError(f"codec of model {description.name!r}", kind, [*CODECS, top_down.CODEC_TYPE])
    return CODECS[kind](description)

"""Prediction of people whose boxes are given by labels: validation of top-down networks while they train."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fleetpose.codecs import efficientpose, top_down
from fleetpose.codecs.description import ModelDescription
from fleetpose.codecs.efficientpose import EfficientPoseCodec
from fleetpose.codecs.top_down import TopDownCodec
from fleetpose.data.annotations import Picture
from fleetpose.data.samples import load_sample
from fleetpose.geometry import PADDING, fit_box, invert, transform_points, warp
from fleetpose.results import PoseResult
from fleetpose.runtime.torch_session import TorchSession

#: Codecs of networks that see one person at a time, and how to build them.
CODECS: Mapping[str, Callable[[ModelDescription], TopDownCodec | EfficientPoseCodec]] = {
    top_down.CODEC_TYPE: TopDownCodec.from_description,
    efficientpose.CODEC_TYPE: EfficientPoseCodec.from_description,
}
#: EfficientPose's input is a square around a person with this much room.
SQUARE_PADDING = 1.25


class LabelledBoxPredictor:
    """Finds the keypoints of each labelled person; call it with the path of a picture."""

    def __init__(self, session: TorchSession, pictures: Sequence[Picture]) -> None:
        """Take a network for single persons and the pictures that it will be asked for."""
        self._session = session
        self._codec = CODECS[session.description.codec["type"]](session.description)
        self._pictures = {picture.path: picture for picture in pictures}

    def __call__(self, path: Path) -> PoseResult:
        """Return the people in the picture in the order of their labels."""
        sample = load_sample(self._pictures[path])
        skeleton = self._session.description.skeleton
        found = [self._keypoints(sample.image, box) for box in sample.boxes]
        keypoints = np.array(found, np.float32).reshape(-1, len(skeleton), 3)
        return PoseResult(
            keypoints=keypoints,
            boxes=sample.boxes,
            scores=keypoints[..., 2].mean(axis=1),
            image_size=(sample.image.shape[0], sample.image.shape[1]),
            skeleton=skeleton,
        )

    def _keypoints(
        self, image: npt.NDArray[np.uint8], box: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.floating]:
        """One person's keypoints `[K, 3]` (x, y, score) in pixels of the picture."""
        codec, described = self._codec, self._session.description.input
        if isinstance(codec, TopDownCodec):
            size, padding = codec.input_size, codec.box_padding
        else:
            size, padding = (described.short_side, described.short_side), SQUARE_PADDING
        affine = fit_box(box, size, padding=padding)
        crop = warp(image, affine, size, fill=PADDING)
        normalised = ((crop - np.array(described.mean)) / described.std).astype(np.float32)
        maps = self._session.run(normalised.transpose(2, 0, 1)[None])
        return transform_points(_person(codec, maps), invert(affine))


def _person(
    codec: TopDownCodec | EfficientPoseCodec, maps: dict[str, npt.NDArray[np.float32]]
) -> npt.NDArray[np.floating]:
    """The one person's keypoints `[K, 3]` in pixels of the crop, all 0 if nobody was found."""
    if isinstance(codec, TopDownCodec):
        return codec.decode(maps)
    people, _ = codec.decode(maps)
    return people[0] if len(people) else np.zeros((len(codec.skeleton), 3), np.float32)

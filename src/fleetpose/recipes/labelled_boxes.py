"""Prediction of people whose boxes are given by labels: validation of top-down networks while they train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fleetpose.codecs import top_down
from fleetpose.codecs.top_down import TopDownCodec
from fleetpose.data.annotations import Picture
from fleetpose.geometry import PADDING, Image, fit_box, invert, transform_points, warp
from fleetpose.media.images import read_image
from fleetpose.results import PoseResult
from fleetpose.runtime.predictor import Predictor
from fleetpose.runtime.timing import Stopwatch
from fleetpose.runtime.top_down import TopDown, check_boxes
from fleetpose.runtime.torch_session import TorchSession

#: EfficientPose's input is a square around a person with this much room.
SQUARE_PADDING = 1.25

#: RGB picture and boxes `[N, 4]` → the people in them.
FindInBoxes = Callable[[Image, npt.NDArray[np.float32]], PoseResult]


class LabelledBoxPredictor:
    """Finds the keypoints of each labelled person; call it with the path of a picture."""

    def __init__(self, session: TorchSession, pictures: Sequence[Picture]) -> None:
        """Take a network for single persons and the pictures that it will be asked for."""
        is_top_down = session.description.codec["type"] == top_down.CODEC_TYPE
        self._find = _in_boxes(session) if is_top_down else _in_squares(session)
        self._boxes = {picture.path: picture.boxes for picture in pictures}

    def __call__(self, path: Path) -> PoseResult:
        """Return the people in the picture, in pixels of the file as stored."""
        return self._find(read_image(path, is_as_stored=True), self._boxes[path])


def _in_boxes(session: TorchSession) -> FindInBoxes:
    finder = TopDown(session, TopDownCodec.from_description(session.description))
    return lambda image, boxes: finder.find(image, check_boxes(boxes), Stopwatch())


def _in_squares(session: TorchSession) -> FindInBoxes:
    """A network that takes a whole picture for one person is shown a square around each."""
    predictor = Predictor(session, threshold=0.0)
    side, skeleton = session.description.input.short_side, session.description.skeleton

    def find(image: Image, boxes: npt.NDArray[np.float32]) -> PoseResult:
        keypoints = np.zeros((len(boxes), len(skeleton), 3), np.float32)
        for number, box in enumerate(boxes):
            affine = fit_box(box, (side, side), padding=SQUARE_PADDING)
            found = predictor(warp(image, affine, (side, side), fill=PADDING))
            if len(found.keypoints):
                keypoints[number] = transform_points(found.keypoints[0], invert(affine))
        return PoseResult(
            keypoints=keypoints,
            boxes=boxes,
            scores=keypoints[..., 2].mean(axis=1),
            image_size=(image.shape[0], image.shape[1]),
            skeleton=skeleton,
        )

    return find

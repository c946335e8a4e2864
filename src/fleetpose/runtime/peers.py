"""Published single-person networks in TensorFlow Lite's format, to be measured beside ours.

They see the whole picture, made square with black borders, and take it for one person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.errors import CheckpointError, UnknownNameError, require
from fleetpose.geometry import (
    IMAGE_MEAN,
    IMAGE_STD,
    Image,
    cells_to_pixels,
    fit_box,
    invert,
    keypoint_boxes,
    transform_points,
    warp,
)
from fleetpose.media.images import read_image
from fleetpose.media.video import Frame
from fleetpose.results import PoseResult
from fleetpose.runtime.timing import Stopwatch
from fleetpose.skeletons import COCO

Array = npt.NDArray[Any]

#: EfficientPose's keypoints by COCO's names; those of head and trunk have none.
EFFICIENTPOSE_ORDER = {
    "right_shoulder": 2,
    "right_elbow": 3,
    "right_wrist": 4,
    "left_shoulder": 6,
    "left_elbow": 7,
    "left_wrist": 8,
    "right_hip": 10,
    "right_knee": 11,
    "right_ankle": 12,
    "left_hip": 13,
    "left_knee": 14,
    "left_ankle": 15,
}


def movenet_input(square: Image) -> Array:
    """Square picture → MoveNet's tensor."""
    return square[None]


def movenet_keypoints(outputs: list[Array], side: int) -> Array:
    """MoveNet's output → keypoints `[17, 3]` (x, y, score) in pixels of the square."""
    y, x, score = outputs[0][0, 0].T.astype(float)
    return np.stack([cells_to_pixels(x * side - 0.5, 1), cells_to_pixels(y * side - 0.5, 1), score], axis=1)


def efficientpose_input(square: Image) -> Array:
    """Square picture → EfficientPose's tensor."""
    mean, std = np.array(IMAGE_MEAN, np.float32), np.array(IMAGE_STD, np.float32)
    return ((square.astype(np.float32) - mean) / std)[None]


def efficientpose_keypoints(outputs: list[Array], side: int) -> Array:
    """EfficientPose's largest output → keypoints `[17, 3]` (x, y, score), 0 where it knows none."""
    heatmaps = max(outputs, key=lambda one: one.size)[0]  # [h, w, K]
    keypoints = np.zeros((len(COCO), 3))
    for name, channel in EFFICIENTPOSE_ORDER.items():
        smooth = cv2.GaussianBlur(heatmaps[..., channel], (0, 0), 1.0)
        y, x = np.unravel_index(int(smooth.argmax()), smooth.shape)
        xy = cells_to_pixels(np.array([x, y], float), side / smooth.shape[0])
        keypoints[COCO.index(name)] = *xy, max(float(smooth[y, x]), 1e-6)
    return keypoints


#: By the name that the user gives: picture → tensor, and outputs → keypoints.
PEERS: Mapping[str, tuple[Callable[[Image], Array], Callable[[list[Array], int], Array]]] = {
    "movenet": (movenet_input, movenet_keypoints),
    "efficientpose": (efficientpose_input, efficientpose_keypoints),
}


class Peer:
    """A loaded peer; it finds one person in every picture.

    Attributes:
        path: of its file.
    """

    def __init__(self, kind: str, path: Path, *, threads: int | None = None) -> None:
        """Load the file `path` of a network of `kind`, one of `PEERS`.

        Raises:
            UnknownNameError: no such kind.
            CheckpointError: the file is missing or no network.
            MissingExtraError: the `peers` extra is not installed.
        """
        if kind not in PEERS:
            raise UnknownNameError("peer", kind, PEERS)
        if not path.is_file():
            raise CheckpointError(f"cannot read the peer {path}: no such file")
        interpreter = require("ai_edge_litert.interpreter", extra="peers").Interpreter
        try:
            self._interpreter: Any = interpreter(model_path=str(path), num_threads=threads)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"cannot read the peer {path}: {reason}") from error
        self._interpreter.allocate_tensors()
        self._prepare, self._read = PEERS[kind]
        self._entry = self._interpreter.get_input_details()[0]
        self._outputs = [one["index"] for one in self._interpreter.get_output_details()]
        self._side = int(self._entry["shape"][1])
        self.path = path

    def follow(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, PoseResult]]:
        """Yield each frame with its one person."""
        for frame in frames:
            yield frame, replace(self.find(frame.image), frame_index=frame.index)

    def find_as_stored(self, path: Path) -> PoseResult:
        """Find the one person in a file's pixels as they are stored."""
        return self.find(read_image(path, is_as_stored=True))

    def find(self, image: Image) -> PoseResult:
        """Find the one person in an RGB picture."""
        watch = Stopwatch()
        h, w = image.shape[:2]
        affine = fit_box(np.array([-0.5, -0.5, w - 0.5, h - 0.5]), (self._side, self._side))
        tensor = self._prepare(warp(image, affine, (self._side, self._side)))
        watch.lap("resize")
        self._interpreter.set_tensor(self._entry["index"], tensor.astype(self._entry["dtype"]))
        self._interpreter.invoke()
        outputs = [self._interpreter.get_tensor(index) for index in self._outputs]
        watch.lap("network")
        found = self._read(outputs, self._side)
        keypoints = np.zeros((1, len(COCO), 3), np.float32)
        keypoints[0] = transform_points(found, invert(affine)) * (found[:, 2:] > 0)
        keypoints[..., 2] = keypoints[..., 2].clip(0, 1)
        known = keypoints[0, :, 2][keypoints[0, :, 2] > 0]
        scores = np.array([known.mean() if len(known) else 0.0], np.float32)
        watch.lap("grouping")
        return PoseResult(
            keypoints=keypoints,
            boxes=keypoint_boxes(keypoints, (h, w)),
            scores=scores,
            image_size=(h, w),
            skeleton=COCO,
            timings_ms=watch.steps_ms,
        )

"""What a model found: one result type for every model family and runtime."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetpose.errors import ShapeError, require
from fleetpose.geometry import box_areas, boxes_to_coco
from fleetpose.skeletons import Skeleton

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PoseResult:
    """People found in one picture, in pixels of the original image.

    Attributes:
        keypoints: `[N, K, 3]` float32 (x, y, score); score in [0, 1], 0 where the keypoint was not found.
        boxes: `[N, 4]` float32 (x1, y1, x2, y2), x1 <= x2 and y1 <= y2.
        scores: `[N]` float32 in [0, 1], one per person.
        image_size: (h, w) of the picture.
        skeleton: names of the K keypoints.
        track_ids: `[N]` int64, the same number for the same person through a video, or None.
        masks: `[N, h, w]` bool, or None.
        frame_index: which frame of a video, 0 for a picture.
        timestamp_s: seconds from the start of the video, 0.0 for a picture.
        timings_ms: milliseconds spent per step, for those who want to know.
        source: file or camera that the picture came from, if known.
    """

    keypoints: Array
    boxes: Array
    scores: Array
    image_size: tuple[int, int]
    skeleton: Skeleton
    track_ids: npt.NDArray[np.int64] | None = None
    masks: npt.NDArray[np.bool_] | None = None
    frame_index: int = 0
    timestamp_s: float = 0.0
    timings_ms: dict[str, float] = field(default_factory=dict)
    source: str | None = None

    def __post_init__(self) -> None:
        people = _check("scores", self.scores, (None,), np.floating)
        _check("keypoints", self.keypoints, (people, len(self.skeleton), 3), np.floating)
        _check("boxes", self.boxes, (people, 4), np.floating)
        if self.track_ids is not None:
            _check("track_ids", self.track_ids, (people,), np.integer)
        if self.masks is not None:
            _check("masks", self.masks, (people, *self.image_size), np.bool_)
        for name, values in (("keypoints", self.keypoints), ("boxes", self.boxes), ("scores", self.scores)):
            if not np.isfinite(values).all():
                raise ShapeError(name, "finite numbers", "NaN or infinity")
        _check_share("scores", self.scores)
        _check_share("scores of keypoints", self.keypoints[..., 2])
        if (self.boxes[:, :2] > self.boxes[:, 2:]).any():
            raise ShapeError("boxes", "x1, y1, x2, y2 with x1 <= x2 and y1 <= y2", "one turned inside out")

    @classmethod
    def empty(cls, image_size: tuple[int, int], skeleton: Skeleton) -> PoseResult:
        """Return the result of a picture without people."""
        return cls(
            keypoints=np.zeros((0, len(skeleton), 3), np.float32),
            boxes=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            image_size=image_size,
            skeleton=skeleton,
        )

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, keypoint: str) -> Array:
        """Keypoint by name → `[N, 3]` (x, y, score), one row per person."""
        return self.keypoints[:, self.skeleton.index(keypoint)]

    def select(self, people: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> PoseResult:
        """Keep only some people, given as a boolean `[N]` or as indices."""
        return replace(
            self,
            keypoints=self.keypoints[people],
            boxes=self.boxes[people],
            scores=self.scores[people],
            track_ids=None if self.track_ids is None else self.track_ids[people],
            masks=None if self.masks is None else self.masks[people],
        )

    def to_coco(self, image_id: int = 0, *, category_id: int = 1) -> list[dict[str, Any]]:
        """People in COCO's results format, a row each: ids, `keypoints` `[3K]`, `score`, `bbox` xywh, `area`.

        COCO's keypoints name pixels, as ours do; its boxes start at the corner of the first pixel, half a
        pixel from its centre. The third number of a keypoint is its score.
        """
        rows = []
        for n in range(len(self)):
            box = boxes_to_coco(self.boxes[n].astype(float))
            row = {
                "image_id": image_id,
                "category_id": category_id,
                "keypoints": self.keypoints[n].astype(float).round(3).ravel().tolist(),
                "score": round(float(self.scores[n]), 5),
                "bbox": np.round(box, 2).tolist(),
                "area": round(float(box_areas(self.boxes[n])), 1),
            }
            if self.track_ids is not None:
                row["track_id"] = int(self.track_ids[n])
            rows.append(row)
        return rows

    def to_openpose(self) -> dict[str, Any]:
        """People as OpenPose writes them: `people[].pose_keypoints_2d` `[3K]` in this skeleton's order."""
        ids = [-1] * len(self) if self.track_ids is None else self.track_ids.tolist()
        people = [
            {
                "person_id": [ids[n]],
                "pose_keypoints_2d": self.keypoints[n].astype(float).round(3).ravel().tolist(),
            }
            for n in range(len(self))
        ]
        return {"version": 1.3, "people": people}

    def to_supervision(self) -> Any:  # noqa: ANN401 - the type lives in an optional package
        """People as `supervision.KeyPoints`, for its annotators.

        Raises:
            MissingExtraError: the `supervision` extra is not installed.
        """
        supervision = require("supervision", extra="supervision")
        if not len(self):
            return supervision.KeyPoints.empty()
        # By position, because the name of the third argument, the scores, differs between its versions.
        return supervision.KeyPoints(
            self.keypoints[..., :2].astype(np.float32),
            np.zeros(len(self), int),
            self.keypoints[..., 2].astype(np.float32),
        )

    def rows(self) -> Iterator[dict[str, str | int | float]]:
        """Tidy table: one row per found keypoint, in the order of people and keypoints."""
        for n in range(len(self)):
            for name, (x, y, score) in zip(self.skeleton.keypoints, self.keypoints[n].tolist(), strict=True):
                if score > 0:
                    yield {
                        "source": self.source or "",
                        "frame": self.frame_index,
                        "time_s": round(self.timestamp_s, 4),
                        "person": n,
                        "track_id": "" if self.track_ids is None else int(self.track_ids[n]),
                        "person_score": round(float(self.scores[n]), 4),
                        "keypoint": name,
                        "x": round(x, 2),
                        "y": round(y, 2),
                        "score": round(score, 4),
                    }


#: Columns of `PoseResult.rows`, also when there is no row.
TABLE_COLUMNS = (
    *("source", "frame", "time_s", "person", "track_id"),
    *("person_score", "keypoint", "x", "y", "score"),
)


def _check(name: str, array: object, shape: tuple[int | None, ...], kind: type[Any]) -> int:
    """Refuse another type or shape, in which None stands for any length; return the first length."""
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, kind):
        got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise ShapeError(name, f"an array of {kind.__name__}", got)
    is_fitting = array.ndim == len(shape) and all(
        want in (None, length) for want, length in zip(shape, array.shape, strict=True)
    )
    if not is_fitting:
        wanted = ", ".join("N" if want is None else str(want) for want in shape)
        raise ShapeError(name, f"of shape [{wanted}]", list(array.shape))
    return int(array.shape[0])


def _check_share(name: str, values: Array) -> None:
    if ((values < 0) | (values > 1)).any():
        raise ShapeError(name, "from 0 to 1", f"{values.min():g} to {values.max():g}")

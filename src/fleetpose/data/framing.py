"""What of a person a training picture shows: the whole, or only as far as an edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: What of a body reaches beyond its outermost keypoints, as a share of their greater extent.
BODY_MARGIN = 0.12
#: People with fewer labelled keypoints than this in view are left out: their box says little.
FEWEST_KEYPOINTS = 3
#: A part of a person is framed only if the whole has this many labelled keypoints.
FEWEST_FOR_PART = 8
#: Chances that a person is cut off above, below, on the left and on the right: most pictures keep the head.
CUT_CHANCES = (0.05, 0.71, 0.12, 0.12)
#: How much of a cut person's labelled keypoints is left, as a share of their extent: lowest, highest.
CUT_SHARE = (0.25, 0.85)


def around_keypoints(keypoints: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Boxes `[N, 4]` around the labelled keypoints `[N, K, 3]`, with room for head, hands and feet.

    Photos that were cut out around one person give a box of little meaning: often the whole photo.
    """
    is_labelled = keypoints[..., 2:] > 0
    low = np.where(is_labelled, keypoints[..., :2], np.inf).min(axis=1)
    high = np.where(is_labelled, keypoints[..., :2], -np.inf).max(axis=1)
    room = BODY_MARGIN * (high - low).max(axis=1, keepdims=True)
    return np.concatenate([low - room, high + room], axis=1).astype(np.float32)


def single_person_boxes(
    keypoints: npt.NDArray[np.float32], boxes: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Boxes around the labelled keypoints `[N, K, 3]`, and those that were given `[N, 4]` where they are few.

    A box around one keypoint would give away where it is, and one around none is no box.
    """
    has_enough = (keypoints[..., 2] > 0).sum(axis=1) >= FEWEST_KEYPOINTS
    return np.where(has_enough[:, None], around_keypoints(keypoints), boxes).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """An upright or level edge beyond which nothing is seen of a person.

    Attributes:
        axis: 0 for an edge at one x, 1 for one at one y.
        edge: that coordinate, in pixels of the picture.
        is_far_side: whether what is hidden lies at greater coordinates.
        box: `[4]` (x1, y1, x2, y2) around what is left of the person.
    """

    axis: int
    edge: float
    is_far_side: bool
    box: npt.NDArray[np.float32]

    def is_hidden(self, keypoints: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Say which of the keypoints `[K, 2+]` lie beyond the edge → `[K]`."""
        places = keypoints[:, self.axis]
        return np.asarray(places >= self.edge if self.is_far_side else places < self.edge)


def draw_cut(rng: np.random.Generator, keypoints: npt.NDArray[np.float32]) -> Cut | None:
    """Draw where a person with these keypoints `[K, 3]` is cut off.

    Returns:
        None if too little of the person is labelled, or would be left.
    """
    side = int(rng.choice(4, p=CUT_CHANCES))
    share = rng.uniform(*CUT_SHARE)
    axis, is_far_side = (1, 1, 0, 0)[side], side in {1, 3}
    labelled = keypoints[keypoints[:, 2] > 0]
    if len(labelled) < FEWEST_FOR_PART:
        return None
    low, high = labelled[:, axis].min(), labelled[:, axis].max()
    edge = float(low + share * (high - low) if is_far_side else high - share * (high - low))
    is_left = labelled[:, axis] < edge if is_far_side else labelled[:, axis] >= edge
    if is_left.sum() < FEWEST_KEYPOINTS:
        return None
    box = around_keypoints(labelled[None, is_left])[0]
    box[axis + 2 * is_far_side] = edge
    return Cut(axis=axis, edge=edge, is_far_side=is_far_side, box=box)

"""Whether left and right are labelled the right way round, seen from how people stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]

#: A pair tells a side if its keypoints lie at least this share of the person's extent apart, across the body.
CLEAR_SHARE = 0.05
#: Fewer people than this prove nothing.
MIN_PEOPLE = 20
#: A pair that agrees with the others for a smaller share of people is taken for swapped. Arms and legs cross,
#: but seldom more often than not.
SWAPPED_PAIR_SHARE = 0.35
#: Of people who face the camera, a larger share has its left on the picture's right.
FRONTAL_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class SideCount:
    """How many people show a pair, or a side, clearly, and which share of them lies as expected."""

    people: int
    share: float

    @property
    def is_swapped(self) -> bool:
        """Whether enough people disagree."""
        return self.people >= MIN_PEOPLE and self.share < SWAPPED_PAIR_SHARE


def sides(
    keypoints: Array, pairs: npt.NDArray[np.integer], *, trunk: tuple[npt.NDArray[np.integer], ...] = ()
) -> npt.NDArray[np.int64]:
    """Tell on which side of each other the keypoints of each pair lie.

    Args:
        keypoints: `[N, K, 3]` (x, y, v).
        pairs: for each pair the indices of left and right.
        trunk: indices of the shoulders and of the hips, whose middles say where a person's feet point;
            without them, or where they are not labelled, downwards.

    Returns:
        A row per person and a column per pair: 1 where left lies as it does for upright people who face the
        camera, on the picture's right; -1 where it lies opposite, 0 where that is not clear.
    """
    is_labelled = keypoints[..., 2] > 0
    low = np.where(is_labelled[..., None], keypoints[..., :2], np.inf).min(axis=1, initial=np.inf)
    high = np.where(is_labelled[..., None], keypoints[..., :2], -np.inf).max(axis=1, initial=-np.inf)
    extent = np.where(is_labelled.any(axis=1), np.max(high - low, axis=1), 1.0)
    down = _down(keypoints, trunk)
    left, right = keypoints[:, pairs[:, 0]], keypoints[:, pairs[:, 1]]
    across = left[..., :2] - right[..., :2]
    distance = across[..., 0] * down[:, None, 1] - across[..., 1] * down[:, None, 0]
    is_clear = (left[..., 2] > 0) & (right[..., 2] > 0)
    is_clear &= np.abs(distance) > CLEAR_SHARE * np.maximum(extent, 1.0)[:, None]
    return np.where(is_clear, np.sign(distance), 0).astype(np.int64)


def pair_agreement(found: npt.NDArray[np.int64]) -> list[SideCount]:
    """What `sides` returns → for each pair, how often it lies as most others of the same person do."""
    total = found.sum(axis=1)
    counts = []
    for pair in range(found.shape[1]):
        others = np.sign(total - found[:, pair])
        is_clear = (found[:, pair] != 0) & (others != 0)
        agreeing = (found[:, pair] == others)[is_clear]
        counts.append(SideCount(int(is_clear.sum()), float(agreeing.mean()) if agreeing.size else 1.0))
    return counts


def frontal_agreement(
    found: npt.NDArray[np.int64], is_frontal: npt.NDArray[np.bool_]
) -> tuple[SideCount, npt.NDArray[np.bool_]]:
    """How many who face the camera have their left on the picture's right, and who has not `[N]`."""
    total = found.sum(axis=1)
    is_clear = is_frontal & (total != 0)
    turned = is_clear & (total < 0)
    share = 1 - turned.sum() / max(int(is_clear.sum()), 1)
    return SideCount(int(is_clear.sum()), float(share)), turned


def _down(keypoints: Array, trunk: tuple[npt.NDArray[np.integer], ...]) -> Array:
    """Unit vectors `[N, 2]` from the shoulders to the hips, or down the picture."""
    down = np.tile([0.0, 1.0], (len(keypoints), 1))
    if len(trunk) == 2:
        shoulders, hips = (keypoints[:, indices] for indices in trunk)
        body = hips[..., :2].mean(axis=1) - shoulders[..., :2].mean(axis=1)
        length = np.hypot(body[:, 0], body[:, 1])
        is_known = (shoulders[..., 2] > 0).all(axis=1) & (hips[..., 2] > 0).all(axis=1) & (length > 1)
        down[is_known] = body[is_known] / length[is_known, None]
    return down

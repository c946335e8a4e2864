"""Keypoints of one skeleton found among those of another: by name, or by meaning where names mislead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fleetpose.skeletons import CROWDPOSE, MPII, SKELETONS, Skeleton

#: What a name means in one data set, in the words of the others: MPII's neck is the head's lower end, and
#: what the others call neck, between the shoulders, is its thorax; CrowdPose's head is the head's top.
_MEANING = {
    frozenset(MPII.keypoints): {"neck": "upper_neck", "thorax": "neck"},
    frozenset(CROWDPOSE.keypoints): {"head": "head_top"},
}
_BUILT_IN = {frozenset(skeleton.keypoints) for skeleton in SKELETONS.values()}


def match_keypoints(given: Sequence[str], skeleton: Skeleton) -> npt.NDArray[np.int64]:
    """Position in `given` of each keypoint of `skeleton` → `[K]`, -1 where there is none.

    Names decide. Between two built-in skeletons their meaning does; a user's own names always mean the same.

    >>> match_keypoints(["right_eye", "nose"], SKELETONS["coco17"])[:4].tolist()
    [1, -1, 0, -1]
    >>> from fleetpose.skeletons import LSP
    >>> int(match_keypoints(MPII.keypoints, LSP)[LSP.index("neck")]) == MPII.index("thorax")
    True
    """
    wanted, named = list(skeleton.keypoints), list(given)
    if frozenset(wanted) in _BUILT_IN and frozenset(named) in _BUILT_IN:
        wanted, named = _meanings(wanted), _meanings(named)
    return np.array([named.index(name) if name in named else -1 for name in wanted], np.int64)


def _meanings(names: Sequence[str]) -> list[str]:
    meaning = _MEANING.get(frozenset(names), {})
    return [meaning.get(name, name) for name in names]

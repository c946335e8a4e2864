"""Begin with the weights of a network for other keypoints: channels go by name, and others stay new."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fleetpose.codecs.fields import FieldKind
from fleetpose.data.matching import match_keypoints
from fleetpose.models import PoseNetwork
from fleetpose.models.checkpoints import load_strictly, require_fit
from fleetpose.models.layers import without_values
from fleetpose.skeletons import GUESSED_SIGMA, Skeleton

#: Makes the network of a run with new weights, for the keypoints of any skeleton.
Build = Callable[[Skeleton], PoseNetwork]


def take_weights(
    network: PoseNetwork,
    weights: Mapping[str, Tensor],
    *,
    build: Build,
    ours: Skeleton,
    theirs: Skeleton,
    source: Path,
) -> str:
    """Give a new network the weights of one that differs at most in its keypoints.

    Layers whose size follows from the number of keypoints stay new. Of those that predict a channel per
    keypoint, the channels of keypoints that both skeletons have are taken over, matched as labels are. Part
    affinity fields lie along limbs, so networks with such begin with all these layers new.

    Args:
        network: gets the weights.
        weights: entries by this package's names.
        build: makes the same network for another skeleton.
        ours: keypoints of `network`.
        theirs: keypoints that `weights` predict.
        source: where the weights come from, in words.

    Returns:
        What is new, in words; "" if everything was taken over as it is.

    Raises:
        CheckpointError: the weights differ in something else; the network is unchanged.
    """
    has_limbs = any(field.kind is FieldKind.PAFS for field in network.fields)
    if ours.keypoints == theirs.keypoints and (ours.limbs == theirs.limbs or not has_limbs):
        load_strictly(network, weights)
        return ""
    larger = _larger(ours)
    with without_values():
        require_fit(build(theirs), weights)
        probe = build(larger).state_dict()
    given = {name: own for name, own in network.state_dict().items() if own.shape != probe[name].shape}
    counts = len(ours), len(theirs), len(larger)
    of_channels = {
        name
        for name, own in given.items()
        if not has_limbs and _is_per_keypoint((own, weights[name], probe[name]), counts)
    }
    places = match_keypoints(theirs.keypoints, ours)
    for name in of_channels:
        given[name] = _with_channels(given[name], weights[name], places, len(theirs))
    load_strictly(network, {**weights, **given})
    shared = [name for name, place in zip(ours.keypoints, places, strict=True) if place >= 0]
    whole = of_channels if len(shared) == len(ours) else set()
    return _in_words(source, [name for name in given if name not in whole], shared if of_channels else [])


def _larger(skeleton: Skeleton) -> Skeleton:
    """Make a skeleton with more keypoints and more limbs: what is as large for it follows from neither."""
    names = tuple(f"keypoint_{k}" for k in range(len(skeleton) + len(skeleton.limbs) + 2))
    return Skeleton(
        name="larger",
        keypoints=names,
        limbs=tuple(pairwise(names)),
        flip_pairs=(),
        sigmas=(GUESSED_SIGMA,) * len(names),
    )


def _is_per_keypoint(tensors: tuple[Tensor, ...], counts: tuple[int, ...]) -> bool:
    """Whether the first axis is as many whole maps in all tensors, of `counts` channels each."""
    maps = {divmod(tensor.shape[0], count) for tensor, count in zip(tensors, counts, strict=True)}
    return len(maps) == 1 and maps.pop()[1] == 0 and len({tensor.shape[1:] for tensor in tensors}) == 1


def _with_channels(own: Tensor, given: Tensor, places: npt.NDArray[np.int64], count: int) -> Tensor:
    """Replace channels of `own` by those of `given`, in each map.

    Args:
        own: `[maps * K, ...]`.
        given: `[maps * count, ...]`.
        places: `[K]` channel of `given` for each of `own`, -1 for none.
        count: keypoints of `given`.
    """
    here = np.flatnonzero(places >= 0).tolist()
    result = own.clone(memory_format=torch.contiguous_format)  # so that the view below is of the same memory
    channels = given.reshape(-1, count, *given.shape[1:])[:, places[here].tolist()]
    result.view(-1, len(places), *own.shape[1:])[:, here] = channels.to(own.dtype)
    return result


def _in_words(source: Path, new: list[str], shared: list[str]) -> str:
    parts = [f"started from {source}"]
    if new:
        parts.append(f"new, since the keypoints differ: {', '.join(new)}")
    if shared:
        parts.append(f"channels taken over by name: {', '.join(shared)}")
    return "; ".join(parts)

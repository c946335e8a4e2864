"""Begin with the weights of a smaller or deeper network of the family, such as SlimDeconv-B1 with B0's.

What the smaller one has learnt is kept: the larger one computes the same at first. Its further channels begin
with weights of their own, but nothing that was there listens to them yet, and its further blocks add nothing;
training changes both. The idea is Net2Net's (Chen et al., arXiv:1511.05641), with zeros where that paper
copies channels.

The other way, a shallower network takes the first blocks of each stage, those that change the channels among
them. What the last ones added is lost: each only added to what came before it, and training makes up for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate

from torch import Tensor, nn

from fleetpose.errors import CheckpointError
from fleetpose.models import PoseNetwork
from fleetpose.models.checkpoints import load_strictly
from fleetpose.models.efficientnet import EfficientNetBackbone


def grow(network: PoseNetwork, smaller: PoseNetwork, weights: Mapping[str, Tensor]) -> None:
    """Give `network` the weights of one that is narrower, shallower or both.

    Where two maps are stacked and the first of them widens, the result is a start, but not the same function.

    Args:
        network: gets the weights.
        smaller: of the same family, for the same keypoints; its values are not read.
        weights: entries of `smaller` by this package's names.

    Raises:
        CheckpointError: `smaller` is of another make, or larger in something; `network` is unchanged.
    """
    given, idle = _at_their_places(network, smaller, weights)
    own = network.state_dict()
    unfit = [name for name in given if name not in own or not _holds(own[name], given[name])]
    unfit += [name for name in own if name not in given and not name.startswith(tuple(idle))]
    if unfit:
        raise CheckpointError(f"it is of another make, or larger: they differ in {unfit[0]}")
    inputs_first = {
        f"{name}.weight" for name, part in network.named_modules() if isinstance(part, nn.ConvTranspose2d)
    }
    grown = {
        name: _widened(own[name], tensor, is_input_first=name in inputs_first)
        for name, tensor in given.items()
    }
    load_strictly(network, {**own, **grown})
    for block in idle:
        nn.init.zeros_(network.get_parameter(f"{block}project.norm.weight"))


def is_deeper(other: PoseNetwork, network: PoseNetwork) -> bool:
    """Whether stages of `other`'s EfficientNets have more blocks than those of `network`'s."""
    return any(
        more > fewer
        for _, ours, theirs in _shared_backbones(network, other)
        for more, fewer in zip(theirs.depths, ours.depths, strict=True)
    )


def shorten(network: PoseNetwork, deeper: PoseNetwork, weights: Mapping[str, Tensor]) -> None:
    """Give `network` the weights of one whose stages have more blocks: the first ones of each stage.

    Args:
        network: gets the weights.
        deeper: of the same family and width, for the same keypoints; its values are not read.
        weights: entries of `deeper` by this package's names.

    Raises:
        CheckpointError: `deeper` is of another make or width, or shallower somewhere; `network` is unchanged.
    """
    kept = dict(weights)
    for name, backbone, other in _shared_backbones(network, deeper):
        if any(ours > theirs for ours, theirs in zip(backbone.depths, other.depths, strict=True)):
            raise CheckpointError(f"it is shallower: stages of {name} have {list(other.depths)} blocks")
        places = _places(backbone.depths, other.depths)
        blocks = {f"{name}.blocks.{old}.": f"{name}.blocks.{new}." for new, old in places.items()}
        kept = {
            _renamed(entry, blocks): tensor
            for entry, tensor in kept.items()
            if entry.startswith(tuple(blocks)) or not entry.startswith(f"{name}.blocks.")
        }
    own = network.state_dict()
    unfit = [name for name, tensor in kept.items() if name not in own or own[name].shape != tensor.shape]
    unfit += [name for name in own if name not in kept]
    if unfit:
        raise CheckpointError(f"it is of another make or width: they differ in {unfit[0]}")
    load_strictly(network, kept)


def _at_their_places(
    network: PoseNetwork, smaller: PoseNetwork, weights: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], set[str]]:
    """Name the weights as `network` does, which counts blocks through all stages.

    Returns:
        The weights, and what the names of further blocks begin with: the last ones of their stages.

    Raises:
        CheckpointError: a stage of `smaller` has more blocks.
    """
    given, idle = dict(weights), set()
    for name, backbone, other in _shared_backbones(network, smaller):
        if any(theirs > ours for theirs, ours in zip(other.depths, backbone.depths, strict=True)):
            raise CheckpointError(f"it is larger: stages of {name} have {list(other.depths)} blocks")
        places = _places(other.depths, backbone.depths)
        blocks = {f"{name}.blocks.{old}.": f"{name}.blocks.{new}." for old, new in places.items()}
        given = {_renamed(entry, blocks): tensor for entry, tensor in given.items()}
        further = set(range(sum(backbone.depths))) - set(places.values())
        idle |= {f"{name}.blocks.{place}." for place in further}
    return given, idle


def _shared_backbones(
    network: PoseNetwork, other: PoseNetwork
) -> Iterator[tuple[str, EfficientNetBackbone, EfficientNetBackbone]]:
    """EfficientNets that both have by the same name: the name, that of `network`, that of `other`."""
    parts = dict(other.named_modules())
    for name, ours in network.named_modules():
        theirs = parts.get(name)
        if isinstance(ours, EfficientNetBackbone) and isinstance(theirs, EfficientNetBackbone):
            yield name, ours, theirs


def _places(fewer: tuple[int, ...], more: tuple[int, ...]) -> dict[int, int]:
    """Index of each block in stages of `fewer` blocks → its index where stages have `more`."""
    starts = zip(accumulate(fewer, initial=0), accumulate(more, initial=0), fewer, strict=False)
    return {old + index: new + index for old, new, count in starts for index in range(count)}


def _renamed(entry: str, blocks: Mapping[str, str]) -> str:
    for old, new in blocks.items():
        if entry.startswith(old):
            return new + entry.removeprefix(old)
    return entry


def _holds(own: Tensor, given: Tensor) -> bool:
    """Whether `given` fits in, with kernels of the same size."""
    return (
        own.ndim == given.ndim
        and own.shape[2:] == given.shape[2:]
        and all(more >= fewer for more, fewer in zip(own.shape, given.shape, strict=True))
    )


def _widened(own: Tensor, given: Tensor, *, is_input_first: bool) -> Tensor:
    """Put `given` in the leading channels of `own`; from further inputs to those outputs leads nothing."""
    result = own.clone()
    if given.ndim < 2:
        result[tuple(map(slice, given.shape))] = given
        return result
    by_output = result.transpose(0, 1) if is_input_first else result
    leading = given.transpose(0, 1) if is_input_first else given
    outputs, inputs = leading.shape[:2]
    by_output[:outputs, :inputs] = leading
    by_output[:outputs, inputs:] = 0
    return result

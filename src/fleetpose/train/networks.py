"""The network of a run: built for its keypoints or classes, with the weights that the run begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fleetpose.codecs.efficientpose import EFFICIENTPOSE_KEYPOINTS, EFFICIENTPOSE_LIMBS
from fleetpose.codecs.part_affinity import OPENPOSE_KEYPOINTS, OPENPOSE_LIMBS
from fleetpose.codecs.part_affinity_channels import Pair
from fleetpose.errors import CheckpointError, ConfigError, ShapeError
from fleetpose.models import (
    PoseNetwork,
    build,
    efficientnet,
    efficientpose,
    lightweight_openpose,
    litepose,
)
from fleetpose.models.checkpoints import load_classification, load_strictly
from fleetpose.models.efficientnet import EfficientNet, EfficientNetBackbone
from fleetpose.models.efficientpose import EfficientPose
from fleetpose.models.layers import SIGMOID_SHARPNESS
from fleetpose.models.lightweight_openpose import LightweightOpenPose
from fleetpose.models.supernet import LitePoseSupernet
from fleetpose.settings import from_plain, to_plain
from fleetpose.skeletons import Skeleton, load_skeleton
from fleetpose.train.checkpoint import load_checkpoint, save_checkpoint
from fleetpose.train.config import TrainConfig
from fleetpose.train.growing import grow, is_deeper, shorten
from fleetpose.train.transfer import take_weights
from fleetpose.weights import bundled_models


def build_network(config: TrainConfig) -> PoseNetwork:
    """Make the network of a run, with new weights and outputs for the run's skeleton or classes.

    Raises:
        UnknownNameError: there is no such network.
        ConfigError: the skeleton does not suit it.
    """
    network = _with_new_weights(config)
    if config.loss.presence and not network.sharpness:
        network.sharpness = SIGMOID_SHARPNESS  # its loss is one of chances
    return network


def _with_new_weights(config: TrainConfig) -> PoseNetwork:
    name, skeleton = config.model, load_skeleton(config.skeleton)
    if name in efficientnet.VARIANTS and config.num_classes:
        return efficientnet.efficientnet(name, num_classes=config.num_classes)
    if name in efficientpose.VARIANTS:
        keypoints, limbs = efficientpose_channels(skeleton)
        # Chances are learnt, and read, where they are predicted: nothing is learnt in the upscaling.
        variant = replace(
            efficientpose.VARIANTS[name], limbs=len(limbs), is_upscaled=not config.loss.presence
        )
        return EfficientPose(config=variant, num_keypoints=len(keypoints))
    if name in lightweight_openpose.VARIANTS:
        keypoints, limbs = openpose_channels(skeleton)
        return LightweightOpenPose(
            refinements=lightweight_openpose.VARIANTS[name],
            num_keypoints=len(keypoints),
            num_limbs=len(limbs),
        )
    return build(name, num_keypoints=len(skeleton))


def check_sizes(network: PoseNetwork, config: TrainConfig) -> None:
    """Make sure that the network takes pictures of every size of a run.

    Raises:
        ConfigError: a side is no multiple of what the network needs.
    """
    sizes = {f"phases.{number}.size": phase.size for number, phase in enumerate(config.phases)}
    if config.elastic is not None:
        for phase in config.phases:
            for side, size in zip(config.elastic.resolutions, config.elastic.sizes(phase.size), strict=True):
                sizes[f"{side} of elastic.resolutions, that is {size[0]} x {size[1]},"] = size
    for name, size in sizes.items():
        _check_size(network, size, f"{name} does not suit {config.model}")


def _check_size(network: PoseNetwork, size: tuple[int, int], what: str) -> None:
    try:
        network.check_size(size)
    except ShapeError as error:
        raise ConfigError(f"{what}: {error}") from error


def check_batches(network: PoseNetwork, config: TrainConfig) -> None:
    """Make sure that normalisation in training always has more than one value per channel.

    Raises:
        ConfigError: a phase has a batch of 1 at so small a size that a layer sees a single cell.
    """
    learning = [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.training]
    alone: list[Tensor] = []

    def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        alone.extend(one for one in given if one[:, 0].numel() == 1)

    hooks = [layer.register_forward_pre_hook(note) for layer in learning]
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        for phase in config.phases:
            if phase.batch == 1:
                with torch.no_grad():
                    network(next(network.parameters()).new_zeros(1, 3, *phase.size))
            if alone:
                raise ConfigError(
                    f"a batch of 1 at size {list(phase.size)} leaves the normalisation of {config.model} a "
                    f"single value per channel; set a batch of at least 2 or a larger size in each phase"
                )
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode


def save_new_weights(config: TrainConfig, path: Path) -> Path:
    """Write new weights in the place of a run's: a checkpoint that others can begin with or learn from."""
    torch.manual_seed(config.seed)
    state = {"ema": build_network(config).state_dict(), "config": to_plain(config), "progress": {}}
    save_checkpoint(path, state)
    return path


def efficientpose_channels(skeleton: Skeleton) -> tuple[tuple[str, ...], tuple[Pair, ...]]:
    """Keypoints and limbs of EfficientPose's channels: the authors' for MPII, else the skeleton's own."""
    if set(skeleton.keypoints) == set(EFFICIENTPOSE_KEYPOINTS):
        return EFFICIENTPOSE_KEYPOINTS, EFFICIENTPOSE_LIMBS
    return _own_channels(skeleton)


def openpose_channels(skeleton: Skeleton) -> tuple[tuple[str, ...], tuple[Pair, ...]]:
    """Keypoints and limbs of OpenPose's channels: with a neck for COCO, else the skeleton's own."""
    if set(skeleton.keypoints) == set(OPENPOSE_KEYPOINTS) - {"neck"}:
        return OPENPOSE_KEYPOINTS, OPENPOSE_LIMBS
    return _own_channels(skeleton)


def _own_channels(skeleton: Skeleton) -> tuple[tuple[str, ...], tuple[Pair, ...]]:
    if not skeleton.limbs:
        raise ConfigError(f"part affinity fields lie along limbs, but skeleton {skeleton.name} has none")
    return skeleton.keypoints, skeleton.limbs


def take_starting_weights(network: PoseNetwork, config: TrainConfig) -> str:
    """Give a new network the weights that the settings name, if any.

    Weights of a network for other keypoints will do: see `fleetpose.train.transfer`.

    Returns:
        What stays new because the keypoints differ, in words; "" if nothing does.

    Raises:
        CheckpointError: they cannot be read or do not fit.
    """
    note = _take_whole(network, config, config.init) if config.init is not None else ""
    if config.init_backbone is not None:
        _take_backbone(network, config.init_backbone)
    return note


def _take_whole(network: PoseNetwork, config: TrainConfig, path: Path) -> str:
    """Take averaged weights of a run, a LitePose its part of a supernet's → what stays new, in words."""
    _refuse_model_file(path)
    state = load_checkpoint(path)
    weights = state["ema"]
    if state.get("config", {}).get("model", config.model) != config.model:
        weights = _of_another_variant(config, state, path)
    ours = load_skeleton(config.skeleton)
    return take_weights(
        network,
        weights,
        build=lambda skeleton: build_network(replace(config, skeleton=skeleton)),
        ours=ours,
        theirs=_skeleton_of(state) or ours,
        source=path,
    )


def _of_another_variant(config: TrainConfig, state: Mapping[str, Any], path: Path) -> Mapping[str, Tensor]:
    """Make weights of the run's network of those of a larger or smaller one, for the keypoints of that."""
    given = from_plain(TrainConfig, state["config"], where=f"settings in {path}")
    other = build_network(given)
    if isinstance(other, LitePoseSupernet) and config.model in litepose.VARIANTS:
        load_strictly(other, state["ema"])
        return other.extract(litepose.VARIANTS[config.model]).state_dict()
    network = build_network(replace(config, skeleton=given.skeleton))
    try:
        take = shorten if is_deeper(other, network) else grow
        take(network, other, state["ema"])
    except CheckpointError as error:
        raise CheckpointError(
            f"{path} has weights of {given.model}, which {config.model} cannot begin with: {error}"
        ) from error
    return network.state_dict()


def _refuse_model_file(path: Path) -> None:
    """Say where training can start from, given a model that only predicts."""
    is_exported = path.suffix == ".onnx"
    name = path.stem if is_exported else str(path)
    is_bundled = name in bundled_models()
    if is_exported or (is_bundled and not path.is_file()):
        wanted = f"checkpoints/{name}.pt" if is_bundled else "a file such as last.pt of a run"
        raise CheckpointError(
            f"training starts from a .pt checkpoint, but init is {path}, a model for predicting; give "
            f"{wanted} (those of the bundled models are in the folder checkpoints/ of the repository)"
        )


def _skeleton_of(state: Mapping[str, Any]) -> Skeleton | None:
    """Keypoints that a checkpoint's weights predict; None if it names none, or a file that is gone."""
    given = state.get("config", {}).get("skeleton")
    try:
        return Skeleton.from_dict(given) if isinstance(given, dict) else load_skeleton(given or "")
    except ConfigError:
        return None


def _take_backbone(network: PoseNetwork, path: Path) -> None:
    """Weights of a classifier: of a training run, else as published."""
    backbones = [part for part in network.modules() if isinstance(part, EfficientNetBackbone)]
    if not backbones:
        raise CheckpointError("init_backbone needs a network that is built on an EfficientNet")
    theirs = _classifier(path).backbone
    refusals = [_refusal(backbone, theirs) for backbone in backbones]
    if all(refusals):
        raise CheckpointError(f"{path}: no backbone can begin with its weights: {refusals[0]}")


def _refusal(backbone: EfficientNetBackbone, theirs: EfficientNetBackbone) -> str:
    """Let a backbone take weights → why it does not, "" if it does."""
    try:
        backbone.take_weights(theirs)
    except CheckpointError as error:
        return str(error)
    return ""


def _classifier(path: Path) -> EfficientNet:
    try:
        state = load_checkpoint(path)
    except CheckpointError:
        return _published_classifier(path)
    config = from_plain(TrainConfig, state["config"], where=f"settings in {path}")
    network = build_network(config)
    if not isinstance(network, EfficientNet):
        raise CheckpointError(f"{path} holds weights of {config.model}, which is no classifier")
    load_strictly(network, state["ema"])
    return network


def _published_classifier(path: Path) -> EfficientNet:
    """Read a published file as the first variant that it fits."""
    reason = ""
    for name in efficientnet.VARIANTS:
        network, problem = _as_variant(path, name)
        if network is not None:
            return network
        reason = reason or problem
    raise CheckpointError(f"{path} is neither a checkpoint of a run nor a classifier: {reason}")


def _as_variant(path: Path, name: str) -> tuple[EfficientNet | None, str]:
    try:
        return load_classification(path, name), ""
    except CheckpointError as error:
        return None, str(error)

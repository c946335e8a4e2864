"""Read the checkpoints that the authors of a family published, strictly and without running code in them."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from fleetpose.errors import CheckpointError, ConfigError, UnknownNameError
from fleetpose.models import MODELS, build, efficientnet
from fleetpose.models.efficientnet import EfficientNetBackbone
from fleetpose.models.layers import without_values

if TYPE_CHECKING:
    from fleetpose.models.contract import PoseNetwork
    from fleetpose.models.efficientnet import EfficientNet

# Training scripts put the weights under one of these; wrappers for several devices or a loss add a prefix.
_NESTS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "1.")
# What `torch.load` raises on files that it did not write, by where their bytes lead it astray.
_UNREADABLE = (
    pickle.UnpicklingError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
)


def load_official(
    source: str | Path | Mapping[str, Tensor], name: str, *, num_keypoints: int = 17
) -> PoseNetwork:
    """Build the network `name` with weights that its authors published.

    Args:
        source: a checkpoint file, or what it holds: entries by the authors' names.
        name: variant, such as "litepose-s".
        num_keypoints: how many keypoints the checkpoint predicts.

    Returns:
        The network, on the CPU, in evaluation mode. An EfficientPose lacks the heads that only serve
        training, because its authors published no weights for them.

    Raises:
        UnknownNameError: there is no such variant.
        CheckpointError: the file cannot be read, is no checkpoint, or holds weights of another network.
    """
    if name not in MODELS:
        raise UnknownNameError("model", name, MODELS)
    where, official = _named_weights(source)
    model = _build_published(name, num_keypoints)
    try:
        state = MODELS[name].convert_official_state_dict(official)
    except CheckpointError as error:
        raise CheckpointError(f"{where}: is not of {name}'s family: {error}") from error
    try:
        load_strictly(model, state)
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}{_remedy(state, name)}") from error
    return model.eval()


def load_classification(source: str | Path | Mapping[str, Tensor], name: str) -> EfficientNet:
    """Build the EfficientNet `name` with published weights for classification.

    The layouts of torchvision and of lukemelas/EfficientNet-PyTorch are told apart by their entries, and the
    network computes what the original does. `EfficientNetBackbone.take_weights` hands the weights on to the
    backbone of a pose network.

    Args:
        source: a checkpoint file, or what it holds.
        name: variant, such as "efficientnet-b0".

    Returns:
        The classifier, for as many classes as `source` has, on the CPU, in evaluation mode.

    Raises:
        UnknownNameError: there is no such variant.
        CheckpointError: the file cannot be read, is no checkpoint, or holds weights of another network.
    """
    where, official = _named_weights(source)
    try:
        classifier, state = efficientnet.from_published(name, official)
        load_strictly(classifier, state)
    except CheckpointError as error:
        raise CheckpointError(f"{where}: is no classifier {name}: {error}") from error
    return classifier.eval()


def load_backbone(
    source: str | Path | Mapping[str, Tensor], name: str, *, classifier: str, num_keypoints: int = 17
) -> PoseNetwork:
    """Build the network `name` with new weights, but for its EfficientNet, which gets a classifier's.

    Args:
        source: the classifier's checkpoint file, or what it holds.
        name: variant, such as "efficienthrnet-h0".
        classifier: which EfficientNet `source` holds, such as "efficientnet-b0". Where a network has two
            EfficientNets, those that fit take its weights.
        num_keypoints: how many keypoints the network is to predict.

    Raises:
        UnknownNameError: there is no such variant or classifier.
        CheckpointError: `source` is no such classifier, or the network has no backbone that it fits.
    """
    network = build(name, num_keypoints=num_keypoints)
    weights = load_classification(source, classifier).backbone
    backbones = [part for part in network.modules() if isinstance(part, EfficientNetBackbone)]
    refusals = [_refusal(backbone, weights) for backbone in backbones] or ["it is built on something else"]
    if all(refusals):
        raise CheckpointError(f"{name} cannot begin with the weights of {classifier}: {refusals[0]}")
    return network.eval()


def _refusal(backbone: EfficientNetBackbone, weights: EfficientNetBackbone) -> str:
    """Let `backbone` take the weights → nothing, or why it does not."""
    try:
        backbone.take_weights(weights)
    except CheckpointError as error:
        return str(error)
    return ""


def _named_weights(source: str | Path | Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """What to call `source` in messages, and its entries."""
    if isinstance(source, str | Path):
        return str(source), read_state_dict(source)
    return "checkpoint", _strip(_entries(source, "checkpoint"))


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the entries of a checkpoint file, without nests and prefixes that training scripts add.

    A file that ends in `.npz` is read as NumPy's archive of named arrays, anything else as PyTorch's.

    Raises:
        CheckpointError: the file cannot be read or is no checkpoint.
    """
    if Path(path).suffix == ".npz":
        return _strip(_entries(_read_arrays(path), str(path)))
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about pickle protocols: it will be read or it will not
        try:
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except _UNREADABLE as error:
            raise CheckpointError(
                f"{path}: is no PyTorch checkpoint, is cut short, or holds more than plain weights; "
                "download it again, or save only its state_dict"
            ) from error
    return _strip(_entries(content, str(path)))


def _read_arrays(path: str | Path) -> dict[str, Tensor]:
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays}
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, *_UNREADABLE) as error:
        raise CheckpointError(
            f"{path}: is no archive of arrays, or is cut short; download it again"
        ) from error


def load_strictly(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give `model` the weights in `state`, by this package's names.

    Raises:
        CheckpointError: an entry is missing, left over, or of another shape; the model is unchanged.
    """
    require_fit(model, state)
    model.load_state_dict(state)


def require_fit(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Compare the names and shapes of `state` with those of `model`, which may be without values.

    Raises:
        CheckpointError: an entry is missing, left over, or of another shape.
    """
    differences = _differences(model, state)
    if differences:
        raise CheckpointError(f"weights do not fit the model: {'; '.join(differences)}")


def _entries(content: object, where: str) -> dict[str, Tensor]:
    """Take the weights out of whatever nest they lie in."""
    for nest in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{where}: expected named weights, but got {_describe(content)}")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{where}: expected named weights, but {key!r} has {_describe(value)}")
    return dict(content)


def _describe(content: object) -> str:
    return "nothing" if isinstance(content, Mapping) and not content else f"type {type(content).__name__}"


def _strip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove wrappers' prefixes, as long as every entry has one."""
    for prefix in _PREFIXES:
        while all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _differences(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Say in a few phrases how `state` differs from what `model` needs."""
    own = model.state_dict()
    reshaped = [
        f"{key} is {list(state[key].shape)}, not {list(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    found = (
        ("missing", [key for key in own if key not in state]),
        ("unexpected", [key for key in state if key not in own]),
        ("of another shape", reshaped),
    )
    return [f"{len(keys)} {what} (such as {keys[0]})" for what, keys in found if keys]


def _remedy(state: Mapping[str, Tensor], name: str) -> str:
    """Name the variant and the number of keypoints that fit, if any in the family do."""
    for variant in (name, *(other for other in MODELS[name].variants if other != name)):
        keypoints = _keypoints_in(state, variant)
        if keypoints >= 1 and not _differences(_outline(variant, keypoints), state):
            return f"; these are weights of {variant} for {keypoints} keypoints, so ask for that"
    return ""


def _keypoints_in(state: Mapping[str, Tensor], variant: str) -> int:
    """How many keypoints a `state` of `variant` predicts, from the first width that depends on them; or 0."""
    one, two = (_outline(variant, keypoints).state_dict() for keypoints in (1, 2))
    for key, shape in ((key, value.shape) for key, value in one.items()):
        for axis, (length, longer) in enumerate(zip(shape, two[key].shape, strict=True)):
            if length != longer and key in state and state[key].ndim == len(shape):
                return 1 + int(state[key].shape[axis] - length) // int(longer - length)
    return 0


def _outline(variant: str, num_keypoints: int) -> PoseNetwork:
    """Build the network without memory for its weights, to look at its names and shapes."""
    with without_values():
        return _build_published(variant, num_keypoints)


def _build_published(variant: str, num_keypoints: int) -> PoseNetwork:
    """Build the network that official checkpoints of `variant` fill."""
    if num_keypoints < 1:
        raise ConfigError(f"num_keypoints must be at least 1, but got {num_keypoints}")
    family = MODELS[variant]
    return (family.build_published or family.build)(variant, num_keypoints=num_keypoints)

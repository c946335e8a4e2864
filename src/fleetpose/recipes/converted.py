"""From an authors' checkpoint, as `fleetpose convert` wrote it, to a model file that predicts.

Each family's weights expect the pictures and the decoding of its authors. `describe_converted` puts both into
words for the model file, so that the runtime needs to know no family.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetpose.codecs.associative_embedding import AssociativeEmbeddingCodec
from fleetpose.codecs.description import MAX_SIDE, InputDescription, ModelCard, ModelDescription
from fleetpose.codecs.efficientpose import EfficientPoseCodec
from fleetpose.codecs.fields import FieldKind
from fleetpose.codecs.part_affinity import OPENPOSE_KEYPOINTS, OPENPOSE_ORDER, PartAffinityCodec
from fleetpose.codecs.top_down import TopDownCodec
from fleetpose.errors import CheckpointError, ConfigError
from fleetpose.export.onnx_file import export_onnx
from fleetpose.geometry import IMAGE_MEAN, IMAGE_STD, PADDING
from fleetpose.models import MODELS, PoseNetwork
from fleetpose.models.counting import count
from fleetpose.models.efficientpose import VARIANTS, EfficientPose
from fleetpose.models.lightweight_openpose import LightweightOpenPose
from fleetpose.settings import override
from fleetpose.skeletons import COCO, CROWDPOSE, MPII, Skeleton
from fleetpose.train.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Skeleton by the number of keypoints; OpenPose's 18 are COCO's and the neck, which only helps to group.
SKELETONS = {len(COCO): COCO, len(OPENPOSE_KEYPOINTS): COCO, len(MPII): MPII, len(CROWDPOSE): CROWDPOSE}

#: Lightweight OpenPose sees (value - 128) / 256 for each of blue, green and red.
OPENPOSE_MEAN = (128.0, 128.0, 128.0)
OPENPOSE_STD = (256.0, 256.0, 256.0)


def is_converted(state: Mapping[str, Any]) -> bool:
    """Tell a checkpoint of `fleetpose convert` from one of a training run."""
    return "config" not in state and {"model", "num_keypoints"} <= state.keys()


def export_converted(
    checkpoint: Path,
    target: Path,
    *,
    card: ModelCard,
    overrides: Sequence[str] = (),
    has_half_weights: bool = False,
) -> float:
    """Write a converted checkpoint as a model file → largest difference, in deviations.

    Args:
        checkpoint: what `fleetpose convert` wrote.
        target: model file to write; its name without suffix becomes the model's.
        card: where the weights come from; parameters and multiply-adds are counted here.
        overrides: changed settings of the input, such as `short_side=192`.
        has_half_weights: see `export_onnx`.

    Raises:
        CheckpointError: the checkpoint holds other weights than it says.
        ConfigError: no skeleton has as many keypoints.
    """
    state = load_checkpoint(checkpoint)
    if not is_converted(state):
        raise CheckpointError(f"{checkpoint} was not written by `fleetpose convert`")
    network = converted_network(state)
    description = describe_converted(network, state["model"], state["num_keypoints"], name=target.stem)
    description = replace(description, input=override(description.input, overrides))
    cost = count(network, network.input_size)
    counted = replace(card, params=cost.params, macs=cost.operations)
    return export_onnx(network, replace(description, card=counted), target, has_half_weights=has_half_weights)


def converted_network(state: Mapping[str, Any]) -> PoseNetwork:
    """Build the network of a converted checkpoint, ready for RGB pictures, in evaluation mode.

    An EfficientPose comes without its upscaling, which the codec does where it matters.
    """
    name, num_keypoints = state["model"], state["num_keypoints"]
    family = MODELS[name]
    network = (family.build_published or family.build)(name, num_keypoints=num_keypoints)
    if isinstance(network, EfficientPose):
        config = replace(VARIANTS[name], has_training_heads=False, is_upscaled=False)
        network = EfficientPose(config=config, num_keypoints=num_keypoints)
    try:
        network.load_state_dict(state["ema"])
    except RuntimeError as error:
        raise CheckpointError(f"the weights do not fit {name} for {num_keypoints} keypoints") from error
    if isinstance(network, LightweightOpenPose):
        # Its author's pictures are BGR.
        weights = network.backbone.get_parameter("0.conv.weight")
        weights.data = weights.data.flip(1)
    return network.eval()


def describe_converted(
    network: PoseNetwork, model: str, num_keypoints: int, *, name: str
) -> ModelDescription:
    """Put into words what a network with its authors' weights takes and gives; its card is still empty.

    Raises:
        ConfigError: no skeleton has as many keypoints.
    """
    if num_keypoints not in SKELETONS:
        known = ", ".join(str(number) for number in sorted(SKELETONS))
        raise ConfigError(f"no skeleton has {num_keypoints} keypoints; known numbers: {known}")
    skeleton = SKELETONS[num_keypoints]
    is_efficientpose = isinstance(network, EfficientPose)
    is_openpose = isinstance(network, LightweightOpenPose)
    return ModelDescription(
        name=name,
        family=model.partition("-")[0],
        skeleton=skeleton,
        fields=network.fields,
        input=InputDescription(
            short_side=min(network.input_size),
            multiple=network.size_multiple,
            mean=OPENPOSE_MEAN if is_openpose else IMAGE_MEAN,
            std=OPENPOSE_STD if is_openpose else IMAGE_STD,
            # EfficientPose finds next to nothing unless a picture's longer side is brought to the network's
            # size and black fills the square, as in its training.
            max_side=max(network.input_size) if is_efficientpose else MAX_SIDE,
            min_side=max(network.input_size) if is_efficientpose else 1,
            padding=(0, 0, 0) if is_efficientpose else PADDING,
        ),
        card=ModelCard(
            licence="unknown",
            data=(),
            command="",
            commit="",
            hours=0.0,
            hardware="",
            metrics={},
            params=0,
            macs=0,
        ),
        codec=_codec_settings(network, skeleton),
    )


def _codec_settings(network: PoseNetwork, skeleton: Skeleton) -> dict[str, Any]:
    """Settings of the codec that fits what the network gives."""
    kinds = {item.kind for item in network.fields}
    if isinstance(network, EfficientPose):
        return EfficientPoseCodec(fields=network.fields, skeleton=skeleton).settings()
    if FieldKind.PAFS in kinds:
        return PartAffinityCodec(
            fields=network.fields, skeleton=skeleton, limb_order=OPENPOSE_ORDER
        ).settings()
    if FieldKind.TAGS in kinds:
        return AssociativeEmbeddingCodec(fields=network.fields).settings()
    if kinds == {FieldKind.HEATMAPS}:
        # Both families' codes put the middle of the first cell on that of the first pixel.
        return TopDownCodec(
            fields=network.fields, input_size=network.input_size, is_corner_aligned=True
        ).settings()
    names = ", ".join(item.name for item in network.fields)
    raise ConfigError(f"no codec finds people in {names}")

"""Authors' checkpoints become model files that know how their pictures and maps are meant."""

import numpy as np
import pytest
import torch

from fleetpose.codecs import associative_embedding, efficientpose, part_affinity, top_down
from fleetpose.errors import CheckpointError, ConfigError
from fleetpose.models import build
from fleetpose.models.efficientpose import efficientpose_for_inference
from fleetpose.recipes.converted import converted_network, describe_converted, is_converted
from fleetpose.skeletons import COCO, CROWDPOSE, MPII


def converted(name, num_keypoints, network=None):
    network = network or build(name, num_keypoints=num_keypoints)
    return {"model": name, "num_keypoints": num_keypoints, "ema": network.state_dict()}


@pytest.mark.parametrize(
    ("name", "num_keypoints", "skeleton", "codec"),
    [
        ("lightweight-openpose-r0", 18, COCO, part_affinity),
        ("litepose-xs", 14, CROWDPOSE, associative_embedding),
        ("simplebaseline-r50", 17, COCO, top_down),
    ],
)
def test_a_network_is_described_with_its_skeleton_and_a_codec_that_fits(name, num_keypoints, skeleton, codec):
    network = build(name, num_keypoints=num_keypoints)

    description = describe_converted(network, name, num_keypoints, name="mine")

    assert description.skeleton == skeleton
    assert description.codec["type"] == codec.CODEC_TYPE
    assert description.input.short_side == min(network.input_size)


def test_lightweight_openpose_takes_rgb_pictures_scaled_as_its_author_scales_them():
    original = build("lightweight-openpose-r0", num_keypoints=18).eval()
    state = converted("lightweight-openpose-r0", 18, original)
    pixels = torch.randint(0, 256, (1, 3, 32, 32), generator=torch.Generator().manual_seed(0)).float()

    network = converted_network(state)
    description = describe_converted(network, "lightweight-openpose-r0", 18, name="mine")
    mean, std = (
        torch.tensor(values)[None, :, None, None]
        for values in (description.input.mean, description.input.std)
    )
    with torch.inference_mode():
        ours = network((pixels - mean) / std)
        authors = original((pixels.flip(1) - 128) / 256)

    for name, values in authors.items():
        np.testing.assert_allclose(ours[name], values, atol=1e-5)


def test_efficientpose_leaves_the_upscaling_to_its_codec():
    state = converted("efficientpose-rt", 16, efficientpose_for_inference("efficientpose-rt"))

    network = converted_network(state)
    description = describe_converted(network, "efficientpose-rt", 16, name="mine")

    assert [item.name for item in network.fields] == ["heatmaps_s8_pass2"]
    assert description.skeleton == MPII
    assert description.codec["type"] == efficientpose.CODEC_TYPE
    # A black square of the network's size: with any other canvas its weights find next to nothing.
    given = description.input
    assert (given.short_side, given.min_side, given.max_side, given.padding) == (224, 224, 224, (0, 0, 0))


def test_weights_of_another_size_are_refused():
    state = converted("lightweight-openpose-r0", 18)

    with pytest.raises(CheckpointError, match="do not fit lightweight-openpose-r0 for 17 keypoints"):
        converted_network({**state, "num_keypoints": 17})


def test_a_number_of_keypoints_without_a_skeleton_is_refused():
    network = build("lightweight-openpose-r0", num_keypoints=3)

    with pytest.raises(ConfigError, match="no skeleton has 3 keypoints; known numbers: 14, 16, 17, 18"):
        describe_converted(network, "lightweight-openpose-r0", 3, name="mine")


def test_a_training_run_is_told_apart():
    assert is_converted({"model": "litepose-xs", "num_keypoints": 17, "ema": {}})
    assert not is_converted({"config": {}, "ema": {}})

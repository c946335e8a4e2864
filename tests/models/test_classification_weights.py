"""Published classification weights, in both common layouts, load exactly and pass on to backbones."""

import re

import pytest
import torch
from torch.nn import functional

from fleetpose.errors import CheckpointError, UnknownNameError
from fleetpose.models import build
from fleetpose.models.checkpoints import load_classification
from fleetpose.models.efficientnet import VARIANTS, EfficientNetBackbone, efficientnet

# How others name what we name otherwise; the inverse of what the package does.
LUKEMELAS_NAMES = [
    (r"backbone\.stem\.conv", "_conv_stem"),
    (r"backbone\.stem\.norm", "_bn0"),
    (r"backbone\.blocks\.", "_blocks."),
    (r"expand\.conv", "_expand_conv"),
    (r"expand\.norm", "_bn0"),
    (r"depthwise\.conv", "_depthwise_conv"),
    (r"depthwise\.norm", "_bn1"),
    (r"squeeze_excite\.reduce", "_se_reduce"),
    (r"squeeze_excite\.restore", "_se_expand"),
    (r"project\.conv", "_project_conv"),
    (r"project\.norm", "_bn2"),
    (r"head\.conv", "_conv_head"),
    (r"head\.norm", "_bn1"),
    (r"^classifier", "_fc"),
]
# Blocks of efficientnet-b0 by torchvision's stage and number in it.
B0_BLOCKS = [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), *((4, n) for n in range(3)), *((5, n) for n in range(3))]
B0_BLOCKS += [*((6, n) for n in range(4)), (7, 0)]


def lukemelas_name(name):
    for pattern, replacement in LUKEMELAS_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def torchvision_name(name):
    name = name.replace("backbone.stem.conv", "features.0.0").replace("backbone.stem.norm", "features.0.1")
    name = name.replace("head.conv", "features.8.0").replace("head.norm", "features.8.1")
    name = re.sub("^classifier", "classifier.1", name)
    match = re.match(r"backbone\.blocks\.(\d+)\.(\w+)\.(\w+)(\..*)", name)
    if not match:
        return name
    stage, index = B0_BLOCKS[int(match[1])]
    position = ["expand", "depthwise", "squeeze_excite", "project"].index(match[2]) - (stage == 1)
    part = {"conv": "0", "norm": "1", "reduce": "fc1", "restore": "fc2"}[match[3]]
    return f"features.{stage}.{index}.block.{position}.{part}{match[4]}"


@pytest.fixture(scope="module")
def original():
    torch.manual_seed(0)
    classifier = efficientnet("efficientnet-b0", num_classes=6)
    for layer in classifier.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.01, 0.1)
    return classifier.eval()


@pytest.mark.parametrize(
    ("rename", "some"),
    [
        (lukemelas_name, ["_blocks.0._se_reduce.bias", "_blocks.15._bn0.running_var", "_bn1.weight"]),
        (
            torchvision_name,
            ["features.1.0.block.2.1.bias", "features.7.0.block.2.fc1.bias", "features.8.1.weight"],
        ),
    ],
)
def test_weights_load_from_a_file_in_either_layout(tmp_path, original, rename, some):
    state = {rename(key): value for key, value in original.state_dict().items()}
    torch.save(state, tmp_path / "weights.pth")

    loaded = load_classification(tmp_path / "weights.pth", "efficientnet-b0")

    assert set(some) <= state.keys()
    assert not loaded.training
    for key, value in original.state_dict().items():
        if not key.endswith("running_var"):
            assert torch.equal(loaded.state_dict()[key], value), key


def test_the_epsilon_of_lukemelas_is_made_good_in_the_variances(original):
    state = {lukemelas_name(key): value for key, value in original.state_dict().items()}

    loaded = load_classification(state, "efficientnet-b0")

    ours, theirs = loaded.head.norm, original.head.norm
    torch.testing.assert_close(ours.running_var + ours.eps, theirs.running_var + 1e-3)


def test_torchvision_has_our_epsilon_up_to_b4(original):
    state = {torchvision_name(key): value for key, value in original.state_dict().items()}

    loaded = load_classification(state, "efficientnet-b0")

    assert torch.equal(loaded.head.norm.running_var, original.head.norm.running_var)


@pytest.mark.parametrize(
    ("rename", "border"), [(lukemelas_name, (0, 1, 0, 1)), (torchvision_name, (1, 1, 1, 1))]
)
def test_strided_convolutions_pad_as_where_the_weights_come_from(original, rename, border):
    state = {rename(key): value for key, value in original.state_dict().items()}
    images = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    stem = load_classification(state, "efficientnet-b0").backbone.stem.conv

    expected = functional.conv2d(functional.pad(images, border), original.backbone.stem.conv.weight, stride=2)
    torch.testing.assert_close(stem(images), expected[..., :4, :4])


def test_weights_of_another_size_are_refused(original):
    state = {lukemelas_name(key): value for key, value in original.state_dict().items()}

    with pytest.raises(CheckpointError, match=r"checkpoint: is no classifier efficientnet-b1: .*missing"):
        load_classification(state, "efficientnet-b1")


def test_another_layout_is_refused(original):
    with pytest.raises(CheckpointError, match="expected torchvision's or lukemelas's layout"):
        load_classification(original.state_dict(), "efficientnet-b0")


def test_an_entry_too_many_is_named(original):
    state = {lukemelas_name(key): value for key, value in original.state_dict().items()}
    state["_blocks.0._bn9.weight"] = torch.zeros(1)

    with pytest.raises(CheckpointError, match=r"entry '_blocks\.0\._bn9\.weight' is not known"):
        load_classification(state, "efficientnet-b0")


def test_an_unknown_name_is_answered_with_close_ones(original):
    state = {lukemelas_name(key): value for key, value in original.state_dict().items()}

    with pytest.raises(UnknownNameError, match="did you mean efficientnet-b0"):
        load_classification(state, "efficientnet-b00")


def test_a_pose_networks_backbone_takes_a_classifiers_weights(original):
    network = build("efficientpose-rt")  # whose backbone ends after three stages, with another epsilon

    network.high_level.take_weights(original.backbone)

    ours, theirs = network.high_level.blocks[3].project, original.backbone.blocks[3].project
    assert torch.equal(ours.conv.weight, theirs.conv.weight)
    torch.testing.assert_close(
        ours.norm.running_var + ours.norm.eps, theirs.norm.running_var + theirs.norm.eps
    )
    assert ours.norm.eps != theirs.norm.eps


def test_a_backbone_refuses_weights_of_another_width(original):
    backbone = EfficientNetBackbone(config=VARIANTS["efficientnet-bm4"])

    with pytest.raises(CheckpointError, match=r"has no stem\.conv\.weight of the same shape"):
        backbone.take_weights(original.backbone)

"""`init_backbone`: networks on an EfficientNet begin with a classifier's weights."""

import re
from dataclasses import replace

import pytest
import torch

from fleetpose.errors import CheckpointError
from fleetpose.models import build
from fleetpose.models.checkpoints import load_classification
from fleetpose.models.efficientnet import EfficientNetBackbone, efficientnet
from fleetpose.settings import to_plain
from fleetpose.train.checkpoint import save_checkpoint
from fleetpose.train.config import Phase, TrainConfig
from fleetpose.train.networks import build_network, take_starting_weights

#: Beginnings of names in a common layout of published weights, by ours.
PUBLISHED = {
    r"^backbone\.stem\.conv": "_conv_stem",
    r"^backbone\.stem\.norm": "_bn0",
    r"^backbone\.blocks": "_blocks",
    r"expand\.conv": "_expand_conv",
    r"expand\.norm": "_bn0",
    r"depthwise\.conv": "_depthwise_conv",
    r"depthwise\.norm": "_bn1",
    r"squeeze_excite\.reduce": "_se_reduce",
    r"squeeze_excite\.restore": "_se_expand",
    r"project\.conv": "_project_conv",
    r"project\.norm": "_bn2",
    r"^head\.conv": "_conv_head",
    r"^head\.norm": "_bn1",
    r"^classifier": "_fc",
}


def published_name(name):
    for ours, theirs in PUBLISHED.items():
        name = re.sub(ours, theirs, name)
    return name


@pytest.fixture(scope="module")
def classifier():
    """A classifier of three classes with weights and statistics of its own."""
    torch.manual_seed(5)
    network = efficientnet("efficientnet-bm4", num_classes=3)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture
def pose():
    """Settings of a pose network with the same backbone."""
    return TrainConfig(
        model="efficienthrnet-hm4", sources=(), phases=(Phase(size=(64, 64), batch=1, steps=1),)
    )


def save_run(network, path, *, model, num_classes=0):
    """Write what a training run would."""
    config = TrainConfig(
        model=model,
        sources=(),
        phases=(Phase(size=(64, 64), batch=1, steps=1),),
        num_classes=num_classes,
    )
    save_checkpoint(path, {"ema": network.state_dict(), "config": to_plain(config), "progress": {}})
    return path


def backbone_of(network):
    (found,) = (part for part in network.modules() if isinstance(part, EfficientNetBackbone))
    return found.eval()


@pytest.mark.parametrize("is_published", [False, True], ids=["of a run", "as published"])
def test_a_pose_network_begins_with_the_features_of_a_classifier(classifier, pose, tmp_path, is_published):
    path = tmp_path / "classifier.pt"
    if is_published:
        torch.save({published_name(name): value for name, value in classifier.state_dict().items()}, path)
        classifier = load_classification(path, "efficientnet-bm4")  # which normalises as the published do
    else:
        save_run(classifier, path, model="efficientnet-bm4", num_classes=3)
    network = build_network(pose)
    before = {name: value.clone() for name, value in network.state_dict().items()}

    take_starting_weights(network, replace(pose, init_backbone=path))

    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        ours, theirs = backbone_of(network)(images), classifier.backbone(images)
    for mine, other in zip(ours, theirs, strict=False):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-3)
    after = network.state_dict()
    heads = [name for name in after if "backbone" not in name]
    assert heads
    assert all(torch.equal(after[name], before[name]) for name in heads)


def test_a_classifier_of_another_width_is_refused(pose, tmp_path):
    other = efficientnet("efficientnet-b0", num_classes=3)
    path = save_run(other, tmp_path / "b0.pt", model="efficientnet-b0", num_classes=3)

    with pytest.raises(CheckpointError, match="no backbone can begin with its weights"):
        take_starting_weights(build_network(pose), replace(pose, init_backbone=path))


def test_a_run_that_trained_no_classifier_is_refused(pose, tmp_path):
    network = build("slimdeconv-plain")
    path = save_run(network, tmp_path / "pose.pt", model="slimdeconv-plain")

    with pytest.raises(CheckpointError, match="slimdeconv-plain, which is no classifier"):
        take_starting_weights(build_network(pose), replace(pose, init_backbone=path))


def test_a_network_without_such_a_backbone_is_refused(pose, tmp_path):
    config = replace(pose, model="slimdeconv-plain", init_backbone=tmp_path / "any.pt")

    with pytest.raises(CheckpointError, match="built on an EfficientNet"):
        take_starting_weights(build_network(config), config)

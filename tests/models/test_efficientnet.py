"""EfficientNets: sizes, taps for the networks above, the lite option, block dropping."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from fleetpose.errors import UnknownNameError
from fleetpose.models.efficientnet import (
    B0_STAGES,
    VARIANTS,
    DropBlock,
    EfficientNet,
    EfficientNetBackbone,
    EfficientNetConfig,
    MBConv,
    efficientnet,
)
from fleetpose.models.layers import Activation


@pytest.mark.parametrize(
    ("name", "imagenet", "cifar"),
    [
        ("efficientnet-b0", 5_288_548, 4_135_648),
        ("efficientnet-b1", 7_794_184, 6_641_284),
        ("efficientnet-b2", 9_109_994, 7_841_894),
        ("efficientnet-b3", 12_233_232, 10_849_932),
        ("efficientnet-b4", 19_341_616, 17_727_916),
        ("efficientnet-b5", 30_389_784, 28_545_684),
        ("efficientnet-b6", 43_040_704, 40_966_204),
        ("efficientnet-b7", 66_347_960, 64_043_060),
        ("efficientnet-bm1", 4_548_152, 3_503_252),
        ("efficientnet-bm2", 3_463_750, 2_512_450),
        ("efficientnet-bm3", 2_795_998, 1_931_098),
        ("efficientnet-bm4", 2_056_282, 1_270_582),
    ],
)
def test_parameter_counts_are_those_published(name, imagenet, cifar):
    with torch.device("meta"):
        classifiers = [efficientnet(name, num_classes=classes) for classes in (1000, 100)]

    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in classifiers]

    assert counts == [imagenet, cifar]


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("efficientnet-b0", (16, 24, 40, 112, 320)),
        ("efficientnet-bm1", (16, 24, 40, 104, 288)),
        ("efficientnet-bm2", (16, 24, 32, 96, 264)),
        ("efficientnet-bm3", (16, 24, 32, 88, 240)),
        ("efficientnet-bm4", (16, 16, 32, 80, 216)),
    ],
)
def test_taps_are_the_last_maps_of_each_resolution(name, channels):
    backbone = EfficientNetBackbone(config=VARIANTS[name]).eval()

    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, 64, 96))

    assert tuple(tap.channels for tap in backbone.taps) == channels
    assert tuple(tap.stride for tap in backbone.taps) == (2, 4, 8, 16, 32)
    assert [x.shape for x in features] == [
        (1, tap.channels, 64 // tap.stride, 96 // tap.stride) for tap in backbone.taps
    ]


def test_a_backbone_can_be_cut_short():
    backbone = EfficientNetBackbone(config=EfficientNetConfig(stages=B0_STAGES[:5]))

    assert [(tap.channels, tap.stride) for tap in backbone.taps] == [(16, 2), (24, 4), (40, 8), (112, 16)]


def test_the_classifier_gives_one_logit_per_class():
    classifier = efficientnet("efficientnet-bm4", num_classes=7).eval()

    with torch.no_grad():
        (logits,) = classifier(torch.zeros(2, 3, 128, 128)).values()

    assert logits.shape == (2, 7, 1, 1)
    assert classifier.input_size == (128, 128)


def test_an_unknown_name_is_answered_with_close_ones():
    with pytest.raises(UnknownNameError, match="did you mean efficientnet-b"):
        efficientnet("efficientnet-b8")


@pytest.mark.parametrize("activation", [Activation.RELU6, Activation.HARDSWISH])
def test_the_lite_option_leaves_out_gates_and_swish(activation):
    config = VARIANTS["efficientnet-bm4"].as_lite(activation)

    lite = EfficientNet(config=config)

    kinds = {type(module) for module in lite.modules()}
    assert type(activation.module()) in kinds
    assert nn.SiLU not in kinds
    assert not any("squeeze_excite" in key for key in lite.state_dict())
    (scores,) = lite.eval()(torch.zeros(1, 3, 64, 64)).values()
    assert scores.shape == (1, 1000, 1, 1)


def test_the_lite_option_uses_relu6_unless_told_otherwise():
    assert EfficientNetConfig().as_lite().activation is Activation.RELU6


def test_gates_are_sigmoids_of_what_the_whole_image_says():
    block = MBConv(4, 4, row=B0_STAGES[1], stride=1, config=EfficientNetConfig())
    gate = block.squeeze_excite
    nn.init.zeros_(gate.restore.weight)
    nn.init.constant_(gate.restore.bias, 2.0)

    out = gate(torch.full((1, 24, 2, 2), 3.0))

    torch.testing.assert_close(out, torch.full((1, 24, 2, 2), 3 / (1 + math.exp(-2))))


def test_a_fifth_of_the_blocks_is_dropped_unless_told_otherwise():
    backbone = EfficientNetBackbone(config=VARIANTS["efficientnet-bm4"])

    assert {block.drop.probability for block in backbone.blocks} == {0.2}


def residual_block(probability):
    """Return a block whose residual branch gives exactly 1 everywhere."""
    config = EfficientNetConfig(drop_block=probability)
    block = MBConv(8, 8, row=B0_STAGES[1], stride=1, config=config)
    nn.init.zeros_(block.project.norm.weight)
    nn.init.ones_(block.project.norm.bias)
    return block


def test_blocks_are_dropped_per_image_and_the_rest_scaled_up_in_training():
    torch.manual_seed(0)
    block = residual_block(0.25).train()

    branch = block(torch.zeros(2000, 8, 2, 2))

    per_image = branch.flatten(1)
    assert per_image.eq(per_image[:, :1]).all()
    assert branch.unique().tolist() == pytest.approx([0, 4 / 3])
    assert branch.mean().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("probability", "training"), [(0.25, False), (0.0, True)])
def test_blocks_are_kept_in_evaluation_and_when_not_asked_to_drop(probability, training):
    block = residual_block(probability).train(training)

    assert block(torch.zeros(50, 8, 2, 2)).eq(1).all()


def test_dropping_keeps_half_precise_maps_half_precise():
    dropped = DropBlock(0.5).train()(torch.ones(64, 2, 3, 3, dtype=torch.bfloat16))

    assert dropped.dtype == torch.bfloat16
    assert set(dropped.unique().tolist()) == {0.0, 2.0}


def test_a_block_that_changes_shape_has_no_residual_to_drop():
    block = MBConv(8, 16, row=B0_STAGES[1], stride=1, config=replace(EfficientNetConfig(), drop_block=1.0))

    out = block.train()(torch.randn(4, 8, 4, 4))

    assert out.isfinite().all()
    assert out.any()

"""SlimDeconv: the papers' figures, its options, and the rules of FPGAs."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.errors import CheckpointError, ConfigError
from fleetpose.export.onnx_file import export_onnx
from fleetpose.models import PoseNetwork, build, efficientnet
from fleetpose.models.checkpoints import load_official
from fleetpose.models.counting import count, count_as_hrnet_summary
from fleetpose.models.layers import without_values
from fleetpose.models.published import is_printed_as
from fleetpose.models.resnet import ResNetConfig
from fleetpose.models.slimdeconv import (
    VARIANTS,
    FpgaRules,
    Skip,
    SlimDeconv,
    SlimDeconvConfig,
    Violation,
    check_fpga_rules,
)

GIBI = 1024**3
B1 = VARIANTS["slimdeconv-b1"]


def outline(config):
    with without_values():
        return SlimDeconv(config=config)


@pytest.mark.parametrize(
    ("name", "params", "giga", "paper"),
    [
        ("slimdeconv-b0", 3_662_269, 0.376, 0.40),
        ("slimdeconv-b1", 6_167_905, 0.556, 0.56),
        ("slimdeconv-b2", 7_270_723, 0.639, 0.64),
        pytest.param("slimdeconv-b3", 10_172_777, 0.932, 0.92, marks=pytest.mark.slow),
        pytest.param("slimdeconv-b4", 16_814_217, 1.452, 1.40, marks=pytest.mark.slow),
        pytest.param("slimdeconv-b5", 27_362_673, 2.276, 2.17, marks=pytest.mark.slow),
        pytest.param("slimdeconv-b6", 39_481_113, 3.245, 3.07, marks=pytest.mark.slow),
        ("slimdeconv-r18", 11_472_177, 1.807, 1.76),
        pytest.param("slimdeconv-r34", 21_580_337, 3.618, 3.45, marks=pytest.mark.slow),
        ("slimdeconv-r50", 24_590_129, 4.071, 3.98),
    ],
)
def test_costs_are_true_and_by_the_papers_count_those_of_table_4(name, params, giga, paper):
    network = outline(VARIANTS[name])

    cost, by_paper = (how(network, (256, 192)) for how in (count, count_as_hrnet_summary))

    assert network.input_size == (256, 192)
    assert cost.params == params
    assert cost.operations / 1e9 == pytest.approx(giga, abs=5e-4)
    assert by_paper.operations / GIBI == pytest.approx(paper, abs=0.005)


def test_parameters_by_the_papers_count_are_those_of_its_text():
    assert count_as_hrnet_summary(outline(B1), (256, 192)).params == 12_268_001


@pytest.mark.parametrize(
    ("size", "paper"),
    [
        ((128, 96), 0.14),
        ((160, 128), 0.24),
        ((192, 160), 0.35),
        ((224, 160), 0.41),
        ((384, 288), 1.27),
    ],
)
def test_costs_at_other_sizes_are_those_of_table_3(size, paper):
    cost = count_as_hrnet_summary(outline(B1), size)

    assert cost.operations / GIBI == pytest.approx(paper, abs=0.005)


@pytest.mark.parametrize(("levels", "paper", "stride"), [(2, 0.37, 4), (3, 0.56, 4), (4, 0.75, 2)])
def test_other_numbers_of_levels_cost_what_table_5_says(levels, paper, stride):
    network = outline(B1.with_levels(levels))

    cost = count_as_hrnet_summary(network, (256, 192))

    assert network.fields == (Field(FieldKind.HEATMAPS, 17, stride=stride),)
    assert int(cost.operations / GIBI * 100) / 100 == paper  # this table cuts, the others round


@pytest.mark.parametrize(
    ("head", "width", "paper"),
    [(320, 256, 4.50), (160, 128, 1.50), (80, 64, 0.75), (20, 16, 0.52), (10, 8, 0.50)],
)
def test_other_widths_cost_what_table_6_says(head, width, paper):
    network = outline(replace(B1, head=head, deconv=(width,) * 3))

    cost = count_as_hrnet_summary(network, (256, 192))

    assert cost.operations / GIBI == pytest.approx(paper, abs=0.006)


@pytest.mark.parametrize(
    ("depth", "width", "paper"),
    [(18, 16, 1.69), (18, 64, 1.99), (18, 128, 2.79), (18, 256, 5.79), (50, 256, 8.99)],
)
def test_other_widths_on_resnets_cost_what_table_4_says(depth, width, paper):
    network = outline(replace(VARIANTS[f"slimdeconv-r{depth}"], deconv=(width,) * 3))

    cost = count_as_hrnet_summary(network, (256, 192))

    assert cost.operations / GIBI == pytest.approx(paper, abs=0.005)


@pytest.mark.parametrize("skip", list(Skip))
def test_connections_to_the_encoder_cost_what_table_7_says(skip):
    network = outline(replace(B1, skip=skip))

    assert is_printed_as(count_as_hrnet_summary(network, (256, 192)).operations / GIBI, "0.56")


@pytest.mark.parametrize("skip", [Skip.SUM, Skip.CONCAT])
@pytest.mark.parametrize("stride", [8, 16])
def test_connections_hand_the_encoders_maps_on(images, draw_weights, skip, stride):
    encoder = ResNetConfig((1, 1, 1, 1), is_bottleneck=False)
    network = draw_weights(SlimDeconv(config=SlimDeconvConfig(encoder=encoder, skip=skip)), 0.5)
    before = network(images)["heatmaps_s4"]

    network.joins[{16: 0, 8: 1}[stride]].mix.norm.bias.data += 1

    assert (network(images)["heatmaps_s4"] - before).abs().mean() > 1e-3


def test_other_levels_keep_the_encoders_make():
    config = VARIANTS["slimdeconv-fpga"].with_levels(4)

    assert config.encoder == VARIANTS["slimdeconv-fpga"].encoder
    assert config.deconv == (32, 32, 32, 32)


@pytest.mark.parametrize(
    ("name", "levels"), [("slimdeconv-b1", 1), ("slimdeconv-b1", 5), ("slimdeconv-r18", 2)]
)
def test_levels_that_the_paper_does_not_know_are_refused(name, levels):
    with pytest.raises(ConfigError, match=f"levels must be 2, 3 or 4, on an EfficientNet; got {levels}"):
        VARIANTS[name].with_levels(levels)


@pytest.mark.parametrize("options", [{"deconv": ()}, {"deconv": (32, 0, 32)}, {"head": 0}])
def test_layers_without_channels_are_refused(options):
    with pytest.raises(ConfigError, match="must be positive numbers of channels"):
        replace(B1, **options)


def test_a_new_network_begins_with_almost_empty_heatmaps(images):
    torch.manual_seed(0)

    heatmaps = build("slimdeconv-fpga", num_keypoints=3)(images)["heatmaps_s4"]

    assert heatmaps.abs().mean() < 0.2


def test_a_checkpoint_is_refused_because_none_was_published():
    with pytest.raises(CheckpointError, match="its authors published no checkpoint"):
        load_official({"conv1.weight": torch.zeros(1)}, "slimdeconv-b0")


@pytest.mark.parametrize("rules", [None, FpgaRules(channels_3x3=1816, channels_5x5=648)])
def test_the_network_for_fpgas_keeps_the_rules_in_either_reading(rules):
    assert check_fpga_rules(outline(VARIANTS["slimdeconv-fpga"]), rules) == []


def test_what_makes_an_efficientnet_unfit_for_fpgas_is_named_layer_by_layer():
    violations = check_fpga_rules(build("slimdeconv-b1"))

    assert violations[0] == Violation("encoder.stem.activation", "SiLU is not available")
    assert {
        Violation("encoder.blocks.0.squeeze_excite", "sigmoid is not available"),
        Violation("encoder.blocks.0.squeeze_excite", "mul is not available"),
        Violation("encoder.blocks.2.squeeze_excite.reduce", "4 channels are no multiple of 8"),
        Violation(
            "encoder.blocks.22.depthwise.conv",
            "1920 channels are more than 648, the most with kernel 3 x 3",
        ),
        Violation("head.activation", "SiLU is not available"),
    } <= set(violations)


def test_a_lite_encoder_alone_is_still_too_wide():
    encoder = efficientnet.VARIANTS["efficientnet-b1"].as_lite(efficientnet.Activation.RELU)

    layers = [violation.layer for violation in check_fpga_rules(outline(SlimDeconvConfig(encoder=encoder)))]

    assert layers == ["encoder.blocks.21.depthwise.conv", "encoder.blocks.22.depthwise.conv"]


def test_checking_leaves_the_network_in_its_mode():
    network = outline(VARIANTS["slimdeconv-fpga"])

    check_fpga_rules(network.train())

    assert network.training


class OneLayer(PoseNetwork):
    """A layer between two that keep all rules."""

    def __init__(self, layer, channels):
        super().__init__()
        self.fields = (Field(FieldKind.HEATMAPS, 17, stride=1),)
        self.before = nn.Conv2d(3, channels, 1)
        self.layer = layer
        self.after = nn.Conv2d(8, 17, 1)

    def forward(self, images):
        return self.named(self.after(self.layer(self.before(images))))


@pytest.mark.parametrize(
    ("layer", "rules"),
    [
        (nn.Conv2d(8, 8, 3, padding=1), []),
        (nn.Conv2d(8, 8, 1), []),
        (nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1), []),
        (nn.MaxPool2d(3), []),
        (nn.Softmax(dim=1), []),
        (nn.Hardswish(), ["Hardswish is not available"]),
        (nn.Upsample(scale_factor=2), ["Upsample is not available"]),
        (nn.Conv2d(8, 8, 7), ["kernel 7 x 7 is not available"]),
        (nn.Conv2d(8, 8, 3, dilation=2), ["dilation 2 is not available"]),
        (
            nn.Conv2d(656, 8, 3),
            ["656 channels are more than 648, the most with kernel 3 x 3"],
        ),
        (nn.Conv2d(656, 8, 5), []),
        (
            nn.Conv2d(1824, 8, 5),
            ["1824 channels are more than 1816, the most with kernel 5 x 5"],
        ),
        (nn.Conv2d(4096, 8, 1), []),
    ],
)
def test_each_rule_is_checked_on_its_own(layer, rules):
    violations = check_fpga_rules(OneLayer(layer, getattr(layer, "in_channels", 8)))

    assert violations == [Violation("layer", rule) for rule in rules]


def test_channels_between_layers_must_be_multiples_of_eight():
    violations = check_fpga_rules(OneLayer(nn.Conv2d(12, 8, 1), 12))

    assert [str(violation) for violation in violations] == [
        "before: 12 channels are no multiple of 8",
        "layer: 12 channels are no multiple of 8",
    ]


@pytest.mark.parametrize("name", ["slimdeconv-r18", pytest.param("slimdeconv-fpga", marks=pytest.mark.slow)])
def test_onnx_runtime_computes_the_same(tmp_path, fake_description, drawn_network, name):
    network = drawn_network(name)
    description = replace(fake_description, name=name, fields=network.fields, codec={"type": "heatmaps"})

    assert export_onnx(network, description, tmp_path / "slimdeconv.onnx") < 1e-4

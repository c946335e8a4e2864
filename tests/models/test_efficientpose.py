"""EfficientPose: equal to the authors' networks, with the paper's ablations, and true at odd sizes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from fleetpose.errors import CheckpointError, ConfigError
from fleetpose.export.onnx_file import export_onnx
from fleetpose.models import build
from fleetpose.models.checkpoints import load_official, read_state_dict
from fleetpose.models.counting import count, count_as_tensorflow
from fleetpose.models.efficientpose import (
    VARIANTS,
    EfficientPose,
    EfficientPoseConfig,
    convert_official_state_dict,
    efficientpose_for_inference,
)
from fleetpose.models.layers import Activation, BilinearUpscale, Padding, SameConv2d


def outline(config, num_keypoints=16):
    with torch.device("meta"):
        return EfficientPose(config=config, num_keypoints=num_keypoints)


@pytest.mark.parametrize(
    ("name", "size", "published", "giga", "keras_total"),
    [
        ("efficientpose-rt", 224, 435_676, 0.3609, 465_608),
        ("efficientpose-i", 256, 689_880, 0.7325, 726_116),
        ("efficientpose-ii", 368, 1_684_464, 3.6025, 1_740_380),
        pytest.param("efficientpose-iii", 480, 3_157_612, 11.182, 3_238_264, marks=pytest.mark.slow),
        pytest.param("efficientpose-iv", 600, 6_448_266, 35.486, 6_571_542, marks=pytest.mark.slow),
    ],
)
def test_costs_are_those_of_the_authors_networks(name, size, published, giga, keras_total):
    with torch.device("meta"):
        inference = efficientpose_for_inference(name, num_keypoints=16)
        training = build(name, num_keypoints=16)

    without_upscaling = outline(replace(VARIANTS[name], has_training_heads=False, is_upscaled=False))
    dense_upscaling = 16 * 16 * 4 * 4 + 16
    assert training.input_size == (size, size)
    assert count(inference, (size, size)).params == published
    assert count(without_upscaling, (size, size)).operations == pytest.approx(giga * 1e9, rel=2e-4)
    # Keras holds three upscaling kernels; `count_as_tensorflow` counts one, as the paper's figures do.
    assert count_as_tensorflow(training, (size, size)).params + 2 * dense_upscaling == keras_total


@pytest.mark.parametrize(
    ("name", "options", "mega", "giga"),
    [
        ("efficientpose-rt", {}, 0.457, 0.87),
        ("efficientpose-i", {}, 0.718, 1.67),
        pytest.param("efficientpose-ii", {}, 1.732, 7.70, marks=pytest.mark.slow),
        pytest.param("efficientpose-iii", {}, 3.230, 23.35, marks=pytest.mark.slow),
        pytest.param("efficientpose-iv", {}, 6.563, 72.89, marks=pytest.mark.slow),
        ("efficientpose-i", {"low_level": None}, 0.68, 1.58),
        pytest.param("efficientpose-ii", {"low_level": None}, 1.69, 7.50, marks=pytest.mark.slow),
        ("efficientpose-i", {"detection_passes": 1}, 0.52, 1.33),
        ("efficientpose-i", {"detection_passes": 3}, 0.92, 2.02),
        pytest.param("efficientpose-ii", {"detection_passes": 1}, 1.24, 5.92, marks=pytest.mark.slow),
        pytest.param("efficientpose-ii", {"detection_passes": 3}, 2.22, 9.49, marks=pytest.mark.slow),
        ("efficientpose-i", {"is_upscaled": False}, 0.71, 1.52),
        pytest.param("efficientpose-ii", {"is_upscaled": False}, 1.73, 7.37, marks=pytest.mark.slow),
    ],
)
def test_papers_figures_follow_by_the_papers_count(name, options, mega, giga):
    """Tables 3 and 6 to 9; the profiler's operations include element-wise ones, which we leave out."""
    network = outline(replace(VARIANTS[name], **options))

    cost = count_as_tensorflow(network, network.input_size)

    assert cost.params / 1e6 == pytest.approx(mega, abs=0.007)  # some figures are cut, not rounded
    assert 0.97 < cost.operations / (giga * 1e9) < 1.0


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["pafs_s8", "heatmaps_s8_pass1", "heatmaps_s8_pass2", "heatmaps_s1"]),
        ({"has_skeleton_pass": False}, ["heatmaps_s8_pass1", "heatmaps_s8_pass2", "heatmaps_s1"]),
        ({"detection_passes": 1, "is_upscaled": False}, ["pafs_s8", "heatmaps_s8_pass1"]),
        (
            {"detection_passes": 3},
            ["pafs_s8", "heatmaps_s8_pass1", "heatmaps_s8_pass2", "heatmaps_s8_pass3", "heatmaps_s1"],
        ),
        ({"has_training_heads": False}, ["heatmaps_s1"]),
        ({"has_training_heads": False, "is_upscaled": False}, ["heatmaps_s8_pass2"]),
    ],
)
def test_ablations_give_the_maps_of_their_passes(options, names):
    network = EfficientPose(config=replace(VARIANTS["efficientpose-rt"], **options), num_keypoints=5).eval()

    with torch.no_grad():
        outputs = network(torch.zeros(1, 3, 32, 24))

    assert list(outputs) == names
    assert [(maps.shape[2], maps.shape[3]) for maps in outputs.values()] == [
        (32 // field.stride, 24 // field.stride) for field in network.fields
    ]


@pytest.mark.parametrize("passes", [0, 4])
def test_the_paper_knows_one_to_three_detection_passes(passes):
    with pytest.raises(ConfigError, match=f"detection_passes must be 1, 2 or 3, but got {passes}"):
        replace(VARIANTS["efficientpose-rt"], detection_passes=passes)


def test_options_begin_as_the_papers_networks_have_them():
    config = EfficientPoseConfig((8, 8), VARIANTS["efficientpose-rt"].high_level, None, blocks=1)

    assert config == replace(VARIANTS["efficientpose-rt"], input_size=(8, 8))


def test_upscaling_is_bilinear_with_zeros_beyond_the_border():
    maps = torch.arange(12.0).reshape(1, 2, 2, 3) + 1
    framed = functional.pad(maps, (1, 1, 1, 1))
    expected = functional.interpolate(framed, scale_factor=2, mode="bilinear")[..., 2:-2, 2:-2]

    upscaled = BilinearUpscale(2)(maps)

    torch.testing.assert_close(upscaled, expected)


def test_upscaling_keeps_its_kernel_when_weights_are_drawn_anew():
    network = build("efficientpose-rt", num_keypoints=2)
    before = network.upscale.weight.clone()

    network.init_weights()

    assert torch.equal(network.upscale.weight, before)
    assert not any("upscale" in key for key in network.state_dict())


def test_a_new_network_begins_with_almost_empty_heatmaps(images):
    torch.manual_seed(0)
    network = build("efficientpose-rt", num_keypoints=16)

    assert network(images)["heatmaps_s1"].abs().mean() < 0.2


@pytest.mark.parametrize("name", ["efficientpose-rt", "efficientpose-i"])
@pytest.mark.parametrize("size", [(41, 50), (47, 33), (44, 36)])
def test_odd_sizes_give_maps_rounded_up_as_in_tensorflow(name, size):
    network = build(name, num_keypoints=2).eval()

    with torch.no_grad():
        outputs = network(torch.zeros(1, 3, *size))

    assert outputs["pafs_s8"].shape[2:] == (-(-size[0] // 8), -(-size[1] // 8))


@pytest.mark.parametrize("kernel", [3, 5])
def test_strided_convolutions_pad_odd_lengths_evenly_and_even_ones_more_at_the_end(kernel):
    conv = SameConv2d(1, 1, kernel=kernel, stride=2, padding=Padding.TENSORFLOW)
    images = torch.randn(1, 1, 7, 10, generator=torch.Generator().manual_seed(0))
    half = kernel // 2
    framed = functional.pad(images, (half - 1, half, half, half))

    out = conv(images)

    torch.testing.assert_close(out, functional.conv2d(framed, conv.weight, stride=2))
    assert out.shape[2:] == (4, 5)


def test_normalisation_is_kerass():
    network = build("efficientpose-i")

    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]

    assert {(layer.eps, layer.momentum) for layer in layers} == {(1e-3, 0.01)}


def test_eswish_is_a_quarter_more_than_swish():
    x = torch.tensor([-1.0, 0.0, 2.0])

    torch.testing.assert_close(Activation.ESWISH.module()(x), 1.25 * x / (1 + torch.exp(-x)))


def test_the_low_level_branch_leaves_out_its_last_residual():
    network = build("efficientpose-i", num_keypoints=2)

    assert [block.residual for block in network.low_level.blocks] == [False, False, False]
    assert [block.residual for block in network.high_level.blocks][-1]


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_official_checkpoint_entries_are_ours_by_other_names(official_shapes, name):
    shapes = official_shapes(f"efficientpose_{name.split('-')[1].upper()}")
    entries = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}

    ours = convert_official_state_dict(entries)

    with torch.device("meta"):
        expected = efficientpose_for_inference(name, num_keypoints=16).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in expected.items()
    }


@pytest.mark.parametrize(
    ("official", "scale", "name"),
    [("efficientpose_RT", 1.0, "efficientpose-rt"), ("efficientpose_II", 0.5, "efficientpose-ii")],
)
def test_outputs_equal_those_of_the_authors_code(golden, official, scale, name):
    run = golden(official, scale)
    network = load_official(run.state, name, num_keypoints=16)

    with torch.no_grad():
        heatmaps = network(run.images)["heatmaps_s1"].numpy()

    assert np.abs(heatmaps - run.outputs[0]).max() < 1e-4 * run.outputs[0].std()


def test_the_released_weights_give_the_authors_heatmaps(shared):
    folder = shared / "golden"
    network = load_official(
        folder / "efficientpose_RT_realweights.weights.npz", "efficientpose-rt", num_keypoints=16
    )
    with np.load(folder / "efficientpose_RT_realweights.npz") as run:
        shape, theirs = run["input_shape"], run["out0"]

    images = torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    with torch.no_grad():
        heatmaps = network(images)["heatmaps_s1"].numpy()

    assert np.abs(heatmaps - theirs).max() < 1e-4 * theirs.std()


def test_the_released_weights_fill_all_but_the_heads_that_serve_training(shared):
    path = shared / "golden" / "efficientpose_I_realweights.weights.npz"
    published = load_official(path, "efficientpose-i", num_keypoints=16)
    network = build("efficientpose-i", num_keypoints=16)

    fresh = network.load_state_dict(published.state_dict(), strict=False)

    assert not published.training
    assert fresh.unexpected_keys == []
    assert fresh.missing_keys == [
        "heads.pafs.weight",
        "heads.pafs.bias",
        "heads.pass1.weight",
        "heads.pass1.bias",
    ]


def test_released_weights_asked_for_by_the_wrong_name_are_answered_with_the_right_one(shared):
    path = shared / "golden" / "efficientpose_I_realweights.weights.npz"

    with pytest.raises(CheckpointError, match="weights of efficientpose-i for 16 keypoints, so ask for that"):
        load_official(path, "efficientpose-rt", num_keypoints=17)


def test_weights_for_no_keypoints_are_refused():
    with pytest.raises(ConfigError, match="num_keypoints must be at least 1, but got 0"):
        load_official(
            {"stem_conv_res1_convolution.weight": torch.zeros(1)}, "efficientpose-rt", num_keypoints=0
        )


@pytest.mark.parametrize("part", [0.0, 0.5, 0.95])
def test_an_archive_that_is_cut_short_is_refused_in_one_line(tmp_path, part):
    path = tmp_path / "weights.npz"
    np.savez_compressed(path, weight=np.random.default_rng(0).standard_normal(1000))
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])

    with pytest.raises(CheckpointError, match=r"^[^\n]*weights\.npz: is no archive of arrays[^\n]*$"):
        read_state_dict(path)


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.npz: cannot be read: No such file"):
        read_state_dict(tmp_path / "nowhere.npz")


def test_an_archive_of_pickled_objects_is_refused_without_running_their_code(tmp_path):
    np.savez(tmp_path / "objects.npz", weight=np.array([{}], dtype=object), allow_pickle=True)

    with pytest.raises(CheckpointError, match="is no archive of arrays"):
        read_state_dict(tmp_path / "objects.npz")


@pytest.mark.parametrize(
    "name", ["efficientpose-rt", pytest.param("efficientpose-i", marks=pytest.mark.slow)]
)
def test_onnx_runtime_computes_the_same(tmp_path, fake_description, drawn_network, name):
    network = drawn_network(name)
    description = replace(fake_description, name=name, fields=network.fields, codec={"type": "heatmaps"})

    assert export_onnx(network, description, tmp_path / "efficientpose.onnx") < 1e-4

"""What every pose network keeps to, whatever its family."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fleetpose.errors import ConfigError, ShapeError, UnknownNameError
from fleetpose.models import FAMILIES, MODELS, _by_variant, build
from fleetpose.models.layers import without_values

RECORDED = Path(__file__).parent / "recorded_outputs.json"

#: Left out of the default run: the same code as a sibling's, at many times the cost.
HEAVY = {
    *("higherhrnet-w24", "higherhrnet-w32", "higherhrnet-w48", "higherhrnet-c2", "hrnet-w48"),
    *("simplebaseline-r101", "simplebaseline-r152"),
    *("lightweight-openpose-r0", "lightweight-openpose-r2", "lightweight-openpose-r3"),
    *(
        f"efficienthrnet-{size}-{make}"
        for size in ("h0", "hm1", "hm2", "hm3")
        for make in ("seg", "seg-v2", "pose-seg")
    ),
    "efficienthrnet-h0-seg-small",
    *(f"efficienthrnet-h{phi}" for phi in range(1, 8)),
    *(name for name in MODELS if "-lite" in name and name != "efficienthrnet-hm4-lite"),
    *(name for name in MODELS if name.startswith("efficientnet-") and name != "efficientnet-bm4"),
}
#: Too large to hold beside their gradients; H3 has all their code.
HUGE = {name for name in MODELS if name.startswith(tuple(f"efficienthrnet-h{phi}" for phi in range(4, 8)))}
every_model = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in HEAVY)) for name in sorted(MODELS.keys() - HUGE)],
)


#: One of each family, built without values.
every_family = pytest.mark.parametrize("name", [family.variants[0] for family in FAMILIES])


@every_model
def test_outputs_are_the_declared_fields(drawn_network, images, name):
    network = drawn_network(name)

    with torch.no_grad():
        outputs = network(images)

    assert [(key, *maps.shape) for key, maps in outputs.items()] == declared_shapes(network, images)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HUGE))
def test_shapes_of_huge_networks_are_the_declared_ones(name):
    with without_values():
        network = build(name).eval()
        images = torch.empty(2, 3, 96, 64)

    outputs = network(images)

    assert [(key, *maps.shape) for key, maps in outputs.items()] == declared_shapes(network, images)


def declared_shapes(network, images):
    """A cell as large as the image or larger, as a classifier's is, is the only one."""
    batch, _, *size = images.shape
    return [
        (field.name, batch, field.channels, *(max(1, length // field.stride) for length in size))
        for field in network.fields
    ]


@every_model
def test_gradient_reaches_every_parameter(drawn_network, images, name):
    network = drawn_network(name)

    loss = sum(maps.square().mean() for maps in network(images).values())
    gradients = torch.autograd.grad(loss, list(network.parameters()))

    without = [
        key for (key, _), grad in zip(network.named_parameters(), gradients, strict=True) if not grad.any()
    ]
    assert without == []


@every_model
def test_a_batch_equals_its_images_one_by_one(drawn_network, images, name):
    network = drawn_network(name)

    with torch.no_grad():
        together = network(images)
        apart = [network(image[None]) for image in images]

    for key, maps in together.items():
        expected = torch.cat([single[key] for single in apart])
        assert (maps - expected).abs().max() < 1e-4 * expected.std()


@every_model
def test_memory_format_of_the_images_does_not_matter(drawn_network, images, name):
    network = drawn_network(name)

    with torch.no_grad():
        plain = network(images)
        channels_last = network(images.to(memory_format=torch.channels_last))

    for key, maps in plain.items():
        assert (maps - channels_last[key]).abs().max() < 1e-4 * maps.std()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in HEAVY))
        for name in sorted(json.loads(RECORDED.read_text()))
    ],
)
def test_outputs_are_as_recorded(drawn_network, images, name):
    """The recorded values come from networks that equal the authors' code in test_goldens.py."""
    with torch.no_grad():
        outputs = drawn_network(name)(images)
    samples = {
        key: maps.flatten()[torch.linspace(0, maps.numel() - 1, 32).long()].tolist()
        for key, maps in outputs.items()
    }
    recorded = json.loads(RECORDED.read_text())
    if os.environ.get("FLEETPOSE_RECORD"):
        recorded[name] = {key: [float(f"{v:.7g}") for v in values] for key, values in samples.items()}
        RECORDED.write_text(json.dumps(dict(sorted(recorded.items())), indent=0) + "\n")

    hint = "if test_goldens.py passes and the change is meant, run this test once with FLEETPOSE_RECORD=1"
    assert samples.keys() == recorded[name].keys(), hint
    for key, values in samples.items():
        expected = np.array(recorded[name][key])
        assert np.abs(values - expected).max() < 1e-3 * expected.std(), hint


@pytest.mark.parametrize(
    ("name", "crowdpose", "coco"),
    [
        ("litepose-xs", 1_675_552, 1_675_912),
        ("litepose-s", 2_731_240, 2_731_624),
        ("litepose-m", 3_533_808, 3_534_336),
        ("litepose-l", 5_738_120, 5_738_672),
        ("efficienthrnet-h0", 19_721_990, 19_725_359),
        ("efficienthrnet-hm1", 13_001_707, 13_004_446),
        ("efficienthrnet-hm2", 8_261_281, 8_263_495),
        ("efficienthrnet-hm3", 5_358_596, 5_360_390),
        ("efficienthrnet-hm4", 2_763_227, 2_764_706),
        ("higherhrnet-w16", 7_205_194, 7_208_467),
        ("higherhrnet-w24", 16_110_074, 16_113_395),
        ("higherhrnet-w32", 28_641_962, 28_645_331),
        ("higherhrnet-w48", 63_822_090, 63_827_139),
        ("higherhrnet-c2", 6_713_546, 6_716_819),
        ("higherhrnet-c3", 7_621_334, 7_624_619),
        ("higherhrnet-c4", 7_375_166, 7_378_451),
        ("hrnet-w32", 28_536_014, 28_536_113),
        ("hrnet-w48", 63_595_598, 63_595_745),
        ("simplebaseline-r50", 33_998_926, 33_999_697),
        ("simplebaseline-r101", 52_991_054, 52_991_825),
        ("simplebaseline-r152", 68_634_702, 68_635_473),
        ("litepose-supernet", 5_812_744, 5_813_392),
    ],
)
def test_parameter_counts_are_those_of_the_papers_networks(name, crowdpose, coco):
    with torch.device("meta"):
        networks = [build(name, num_keypoints=keypoints) for keypoints in (14, 17)]

    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in networks]

    assert counts == [crowdpose, coco]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("litepose-xs", 256),
        ("litepose-s", 448),
        ("litepose-m", 448),
        ("litepose-l", 512),
        ("efficienthrnet-h0", 512),
        ("efficienthrnet-hm1", 480),
        ("efficienthrnet-hm2", 448),
        ("efficienthrnet-hm3", 416),
        ("efficienthrnet-hm4", 384),
        ("higherhrnet-w32", 512),
        ("higherhrnet-w48", 640),
        ("higherhrnet-w16", 512),
        ("higherhrnet-c4", 512),
        ("hrnet-w32", (256, 192)),
    ],
)
def test_input_sizes_are_those_of_the_papers(name, size):
    with torch.device("meta"):
        network = build(name)

    assert network.input_size == (size if isinstance(size, tuple) else (size, size))
    network.check_size(network.input_size)


@pytest.mark.parametrize("name", ["litepose-xs", "efficienthrnet-hm4"])
def test_new_networks_begin_with_almost_empty_heatmaps_and_different_tags(images, name):
    torch.manual_seed(0)
    network = build(name)

    outputs = network(images)

    for key in ("heatmaps_s4", "heatmaps_s2"):
        assert outputs[key].abs().mean() < 0.2
    assert outputs["tags_s4"].std() > 0.01


@every_family
def test_images_of_a_size_that_does_not_fit_are_refused_in_one_line(name):
    with without_values():
        network = build(name).eval()
        multiple = network.size_multiple
        images = torch.empty(1, 3, 64, 68)
    if network.takes_any_size:
        network(images)
        return

    with pytest.raises(ShapeError) as caught:
        network(images)

    assert str(caught.value) == (
        f"images must be of shape [B, 3, H, W] with H and W in multiples of {multiple} pixels, "
        "but got [1, 3, 64, 68]"
    )


@every_family
def test_a_size_that_does_not_fit_is_refused_before_there_are_images(name):
    with without_values():
        network = build(name)
    multiple = network.size_multiple

    with pytest.raises(ShapeError, match="positive"):
        network.check_size((0, multiple))
    if multiple > 1:
        with pytest.raises(ShapeError, match=f"multiples of {multiple} pixels"):
            network.check_size((multiple, multiple + 1))


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (64, 64, 3)])
def test_what_is_no_batch_of_color_images_is_refused(shape):
    with without_values():
        network = build("litepose-xs")
        images = torch.empty(shape)

    with pytest.raises(ShapeError, match=r"images must be of shape \[B, 3, H, W\]"):
        network(images)


@pytest.mark.parametrize("name", ["litepose-xs", "efficienthrnet-hm4"])
def test_the_smallest_size_runs(drawn_network, name):
    network = drawn_network(name)
    size = network.size_multiple

    with torch.no_grad():
        outputs = network(torch.zeros(1, 3, size, size))

    assert outputs["heatmaps_s2"].shape == (1, 17, size // 2, size // 2)


def test_an_unknown_name_is_answered_with_close_ones():
    with pytest.raises(UnknownNameError, match="unknown model 'litepose_xs'; did you mean litepose-xs"):
        build("litepose_xs")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.variants[0])
def test_a_familys_own_builder_answers_an_unknown_name_with_close_ones(family):
    with pytest.raises(UnknownNameError, match=f"did you mean .*{family.variants[0]}"):
        family.build(family.variants[0] + "x", num_keypoints=17)


def test_a_network_without_keypoints_is_refused():
    with pytest.raises(ConfigError, match="num_keypoints must be at least 1, but got 0"):
        build("litepose-xs", num_keypoints=0)


def test_without_torch_the_missing_extra_is_named():
    code = "import sys; sys.modules['torch'] = None; import fleetpose.models"

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "MissingExtraError: torch is not installed; run: pip install 'fleetpose[train]'" in run.stderr


def test_two_families_cannot_share_a_variants_name():
    with pytest.raises(ConfigError, match="two families call a variant"):
        _by_variant((FAMILIES[0], FAMILIES[0]))

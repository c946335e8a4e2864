"""LitePose's supernet: every setting is a network made of its leading channels."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from fleetpose.errors import ConfigError
from fleetpose.models import litepose
from fleetpose.models.checkpoints import load_official
from fleetpose.models.supernet import ELASTIC

SMALL = litepose.VARIANTS["litepose-xs"]


def test_as_litepose_s_it_equals_the_authors_supernet(shared, official_shapes, draw_state, draw_images):
    state = draw_state(official_shapes("litepose_supernet_crowdpose"), 1.0)
    network = load_official(state, "litepose-supernet", num_keypoints=14)
    with np.load(shared / "golden" / "supernet" / "litepose_supernet_as_S.npz") as stored:
        expected = [stored["out0"], stored["out1"]]

    with torch.no_grad():
        heatmaps, tags, fine = network(draw_images(1, 3, 128, 128), litepose.VARIANTS["litepose-s"]).values()

    for ours, theirs in zip((np.hstack([heatmaps, tags]), fine.numpy()), expected, strict=True):
        assert np.abs(ours - theirs).max() < 1e-4 * theirs.std()


@pytest.mark.parametrize("seed", [0, 1])
def test_an_extracted_network_equals_the_supernet_at_that_setting(drawn_network, draw_images, seed):
    network = drawn_network("litepose-supernet")
    setting = ELASTIC.sample(random.Random(seed))
    images = draw_images(1, 3, 64, 48)

    extracted = network.extract(setting)

    with torch.no_grad():
        inside, alone = network(images, setting), extracted(images)
    assert extracted.input_size == setting.input_size
    assert all(torch.equal(inside[key], alone[key]) for key in alone)


def test_an_extracted_network_has_weights_of_its_own(drawn_network):
    network = drawn_network("litepose-supernet")
    before = network.stem[0].conv.weight.clone()

    torch.nn.init.zeros_(network.extract(SMALL).stem[0].conv.weight)

    assert torch.equal(network.stem[0].conv.weight, before)


def test_training_at_a_setting_reaches_its_channels_and_no_others(draw_images):
    network = litepose_supernet()
    images = draw_images(2, 3, 64, 64)

    sum(maps.square().mean() for maps in network(images, SMALL).values()).backward()

    gradient = network.stages[3][0].project.conv.weight.grad  # 160 of 576, of which XS has 80 of 288
    assert gradient[:80, :288].any()
    assert not gradient[80:].any()
    assert not gradient[:, 288:].any()
    mean = network.stages[3][0].project.norm.running_mean
    assert mean[:80].any()
    assert not mean[80:].any()


def test_at_a_setting_too_the_heatmaps_are_chances_where_they_are_trained_so(draw_images):
    network = litepose_supernet().eval()
    network.sharpness = 1.0
    images = draw_images(1, 3, 64, 64)

    whole, same = network(images), network(images, network.space.largest)
    part, extracted = network(images, SMALL), network.extract(SMALL)(images)

    for name in whole:
        torch.testing.assert_close(same[name], whole[name])
        torch.testing.assert_close(extracted[name], part[name])
    heatmaps = [name for name in whole if name.startswith("heatmaps")]
    assert all(0 < part[name].min() <= part[name].max() < 1 for name in heatmaps)


def test_frozen_parts_keep_their_statistics_at_a_setting(draw_images):
    network = litepose_supernet().train()
    network.stem.eval()
    before = {name: value.clone() for name, value in network.named_buffers()}

    network(draw_images(2, 3, 64, 64), SMALL)

    moved = {name for name, value in network.named_buffers() if not torch.equal(value, before[name])}
    assert moved
    assert not [name for name in moved if name.startswith("stem")]


def litepose_supernet():
    from fleetpose.models import build

    torch.manual_seed(0)
    return build("litepose-supernet", num_keypoints=3)


def test_widths_are_the_ratios_in_eights():
    assert ELASTIC.widths(24) == (24, 16, 8)
    assert ELASTIC.widths(160) == (160, 120, 80, 40)
    assert ELASTIC.widths(48) == (48, 40, 24, 16)


def test_settings_are_drawn_from_all_choices_and_by_the_seed_alone():
    rng = random.Random(0)
    drawn = [ELASTIC.sample(rng) for _ in range(200)]

    assert {setting.input_size[0] for setting in drawn} == set(ELASTIC.resolutions)
    assert {setting.stem for setting in drawn} == {24, 16, 8}
    assert {setting.stages[3].channels for setting in drawn} == {160, 120, 80, 40}
    assert {setting.deconv[0] for setting in drawn} == {64, 48, 32, 16}
    assert drawn[0] == ELASTIC.sample(random.Random(0))
    for setting in drawn:
        ELASTIC.check(setting)


@pytest.mark.parametrize("name", ["litepose-xs", "litepose-s", "litepose-m", "litepose-l"])
def test_the_papers_networks_are_settings(name):
    ELASTIC.check(litepose.VARIANTS[name])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (replace(SMALL, stem=32), "stem has 1 to 24 channels, but got 32"),
        (replace(SMALL, deconv=(16, 24, 40)), "deconv 3 has 1 to 32 channels, but got 40"),
        (replace(SMALL, deconv=(0, 24, 24)), "deconv 1 has 1 to 64 channels, but got 0"),
        (replace(SMALL, stages=(*SMALL.stages[:3], replace(SMALL.stages[3], blocks=4))), "only widths vary"),
    ],
)
def test_what_is_no_part_of_the_supernet_is_refused(drawn_network, setting, message):
    with pytest.raises(ConfigError, match=message):
        drawn_network("litepose-supernet").extract(setting)

"""What networks with limbs are trained on, and which parts of a supernet are."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fleetpose.codecs.associative_embedding import TAG_CELLS
from fleetpose.data.crops import Crop
from fleetpose.data.scenes import Source
from fleetpose.errors import ConfigError
from fleetpose.models import build
from fleetpose.models.supernet import LitePoseSupernet
from fleetpose.recipes.tiny import draw_people
from fleetpose.skeletons import COCO, MPII
from fleetpose.train.config import ElasticSettings, LossSettings, Phase, TrainConfig
from fleetpose.train.networks import build_network
from fleetpose.train.tasks import task_of
from fleetpose.train.tasks.supernet import resized


@pytest.fixture
def limbs(tmp_path):
    """Function: network, skeleton → settings of a run on drawn people."""

    def make(model, skeleton):
        images, labels = draw_people(tmp_path / skeleton.name, skeleton)
        return TrainConfig(
            model=model,
            skeleton=skeleton.name,
            sources=(Source(images=images, annotations=labels),),
            phases=(Phase(size=(64, 64), batch=1, steps=1),),
            short_side=64,
        )

    return make


def test_efficientpose_learns_the_limbs_of_whatever_skeleton(limbs):
    config = limbs("efficientpose-rt", COCO)

    network = build_network(config)
    task = task_of(network, config)

    assert task.codec.keypoints == COCO.keypoints
    assert [field.channels for field in network.fields] == [2 * len(COCO.limbs), 17, 17, 17]


def test_efficientpose_may_learn_chances_and_is_then_read_as_a_top_down_network(limbs):
    config = replace(
        limbs("efficientpose-rt", COCO), loss=LossSettings(presence=1.0, location=1.0, sigma_cells=(1.0,))
    )
    network = build_network(config).eval()
    with torch.no_grad():
        for head in network.heads.values():
            head.weight.mul_(100)
        images = torch.randn(2, 3, 64, 48)
        whole, last = network(images), network.for_prediction()(images)

    assert list(whole) == ["pafs_s8", "heatmaps_s8_pass1", "heatmaps_s8_pass2"]
    assert whole["pafs_s8"].min() < 0
    assert all(
        0 <= whole[f"heatmaps_s8_pass{k}"].min() < whole[f"heatmaps_s8_pass{k}"].max() <= 1 for k in (1, 2)
    )
    assert list(last) == ["heatmaps_s8_pass2"]
    torch.testing.assert_close(last["heatmaps_s8_pass2"], whole["heatmaps_s8_pass2"])
    codec = task_of(network.for_prediction(), config).codec
    assert (codec.decoding, codec.input_size) == ("expected_oks", (64, 64))


def test_without_chances_nothing_of_efficientpose_is_left_out(limbs):
    network = build_network(limbs("efficientpose-rt", COCO))

    assert network.for_prediction() is network


def test_a_keypoint_without_a_label_counts_neither_in_its_map_nor_in_its_limbs(limbs, monkeypatch):
    config = limbs("efficientpose-rt", MPII)
    task = task_of(build_network(config), config)
    dataset = task.datasets()[0]
    points = np.full((16, 3), (20, 30, 2), np.float32)
    points[MPII.index("left_wrist")] = 0
    crop = Crop(image=np.zeros((64, 64, 3), np.uint8), keypoints=points)
    monkeypatch.setattr(type(dataset.maker), "make", lambda *_: crop)

    _, labels = dataset[0]

    missing = np.flatnonzero(labels["masks"]["heatmaps_s1"].flatten() == 0)
    assert [task.codec.keypoints[k] for k in missing] == ["left_wrist"]
    dark = np.flatnonzero(labels["masks"]["pafs_s8"].flatten() == 0) // 2
    assert {task.codec.limbs[limb] for limb in dark} == {("left_elbow", "left_wrist")}


def test_targets_of_a_later_phase_are_narrower(limbs):
    config = limbs("efficientpose-rt", MPII)
    phase = config.phases[0]
    config = replace(
        config, phases=(phase, replace(phase, sigma_scale=0.5)), loss=LossSettings(sigma_px=16.0)
    )

    wide, narrow = task_of(build_network(config), config).datasets()

    assert (wide.codec.sigma_px, narrow.codec.sigma_px) == (16.0, 8.0)
    assert narrow[0][1]["targets"]["heatmaps_s1"].sum() < wide[0][1]["targets"]["heatmaps_s1"].sum()


def test_openpose_learns_a_neck_and_a_background_that_nobody_labels(limbs):
    config = limbs("lightweight-openpose-r0", COCO)
    task = task_of(build_network(config), config)

    _, labels = task.datasets()[0][0]

    assert "neck" in task.codec.keypoints
    assert labels["targets"]["heatmaps_s8_stage0"].shape == (19, 8, 8)
    assert labels["masks"]["heatmaps_s8_stage0"].shape[1:] == (8, 8)


def test_a_region_to_ignore_counts_only_where_something_is_labelled(limbs, monkeypatch):
    config = limbs("lightweight-openpose-r0", COCO)
    dataset = task_of(build_network(config), config).datasets()[0]
    sample = dataset.maker.make(np.random.default_rng(0), (64, 64))
    ignored = replace(
        sample,
        counts=np.zeros((64, 64), np.uint8),
        keypoints=np.zeros((0, 17, 3), np.float32),
        is_known=np.ones((0, 17), bool),
        boxes=np.zeros((0, 4), np.float32),
    )
    monkeypatch.setattr(type(dataset.maker), "make", lambda *_: ignored)

    _, labels = dataset[0]

    assert float(labels["masks"]["pafs_s8_stage0"].max()) == 0


def test_only_a_supernet_can_be_trained_by_its_parts(limbs):
    config = replace(limbs("slimdeconv-plain", COCO), elastic=ElasticSettings())

    with pytest.raises(ConfigError, match="needs a supernet"):
        task_of(build("slimdeconv-plain"), config)


def test_every_step_trains_another_part_that_the_seed_alone_decides(limbs):
    config = replace(
        limbs("litepose-supernet", COCO), elastic=ElasticSettings(resolutions=(64, 48), ratios=(1.0, 0.25))
    )
    torch.manual_seed(0)
    network = LitePoseSupernet().train()
    task = task_of(network, config)
    image, labels = task.datasets()[0][0]
    labels = {group: {name: value[None] for name, value in maps.items()} for group, maps in labels.items()}
    images = image.permute(2, 0, 1)[None].float()

    parts = []
    for seed in (1, 1, 2, 3, 4, 5, 6, 7):
        seen, targets = task.prepare(network, images, labels, seed=seed)
        maps = network(seen)
        parts.append(task._part)
        assert maps["heatmaps_s2"].shape == targets["targets"]["heatmaps_s2"].shape

    assert parts[0] == parts[1]
    assert len(set(parts)) >= 4
    assert {part.input_size for part in parts} == {(64, 64), (48, 48)}


def test_tags_follow_their_cells_when_a_batch_is_resized():
    heatmaps = torch.zeros(1, 2, 8, 8)
    heatmaps[0, 0, 6, 2] = heatmaps[0, 1, 1, 5] = 1
    labels = {
        "targets": {"heatmaps_s4": heatmaps, TAG_CELLS: torch.tensor([[[6 * 8 + 2, 1 * 8 + 5], [-1, -1]]])},
        "masks": {"heatmaps_s4": torch.ones(1, 2, 8, 8)},
    }

    images, small = resized(torch.zeros(1, 3, 32, 32), labels, "heatmaps_s4", 0.5)

    assert images.shape == (1, 3, 16, 16)
    assert small["masks"]["heatmaps_s4"].shape == (1, 2, 4, 4)
    assert small["targets"][TAG_CELLS].tolist() == [[[3 * 4 + 1, 0 * 4 + 2], [-1, -1]]]
    assert labels["targets"][TAG_CELLS].tolist()[0][0] == [50, 13]

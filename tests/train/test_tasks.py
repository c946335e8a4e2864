"""What a network declares to return decides how it is trained."""

import json
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from fleetpose.codecs.associative_embedding import TAG_CELLS
from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.data.crops import CropSettings
from fleetpose.data.paste import PasteSettings
from fleetpose.data.scenes import SceneSettings
from fleetpose.errors import ConfigError, DatasetError
from fleetpose.models import build
from fleetpose.recipes.shipping import load_trained
from fleetpose.recipes.tiny import draw_segments
from fleetpose.train.checkpoint import load_checkpoint
from fleetpose.train.config import LossSettings, OptimiserSettings, Phase, PictureCropSettings, PictureSet
from fleetpose.train.networks import build_network
from fleetpose.train.tasks import check_use, task_of
from fleetpose.train.tasks.classes import read_classified
from fleetpose.train.tasks.numbered import crop_makers, scene_makers


@pytest.fixture
def top_down(config):
    """Settings of a short run on crops of single people."""
    calm = CropSettings(turn_chance=0, part_chance=0, cutout_chance=0, light=0, scale=(0.9, 1.1))
    return replace(
        config,
        model="slimdeconv-plain",
        phases=(Phase(size=(64, 32), batch=4, steps=4), Phase(size=(64, 64), batch=4, steps=5, crops=calm)),
        loss=LossSettings(location=1.0, presence=1.0, sigma_cells=(1.0,)),
        optimiser=OptimiserSettings(lr=2e-3, warmup_steps=2, ema_decay=0.9),
        validate_every_s=1e-9,
    )


def test_heatmaps_with_tags_are_trained_bottom_up_and_heatmaps_alone_top_down(config):
    kinds = [
        task_of(build(model), replace(config, model=model, loss=LossSettings())).codec.settings()["type"]
        for model in ("litepose-xs", "slimdeconv-plain", "slimdeconv-b0")
    ]

    assert kinds == ["associative_embedding", "top_down", "top_down"]


@pytest.mark.parametrize(("keypoints", "asked", "fewest"), [(2, 3, 2), (17, 3, 3), (2, 1, 1)])
def test_people_need_not_show_more_keypoints_than_there_are(config, keypoints, asked, fewest):
    settings = replace(config, loss=LossSettings(), grouping=replace(config.grouping, min_keypoints=asked))

    task = task_of(build("litepose-xs", num_keypoints=keypoints), replace(settings, model="litepose-xs"))

    assert task.codec.settings()["grouping"]["min_keypoints"] == fewest


def test_the_hinge_of_the_tags_is_a_setting(config):
    network = build("litepose-xs")
    heatmaps = {"heatmaps_s4": torch.zeros(1, 17, 1, 2), "heatmaps_s2": torch.zeros(1, 17, 2, 4)}
    predicted = {**heatmaps, "tags_s4": torch.tensor([0.0, 1.5]).expand(1, 17, 1, 2)}
    cells = torch.tensor([0, 1])[None, :, None].expand(1, 2, 17)
    labels = {"targets": {**heatmaps, TAG_CELLS: cells}, "masks": {}}

    plain, hinged = (
        task_of(network, replace(config, model="litepose-xs", loss=LossSettings(has_tag_hinge=has_hinge)))
        .losses(predicted, labels)["push"]
        .item()
        for has_hinge in (False, True)
    )

    assert plain > 0.05
    assert hinged == 0


def test_people_are_pasted_in_the_phases_that_say_so(config, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("fleetpose.data.paste.MIN_EXTENT", 10)
    (source,) = config.sources
    labels = json.loads(source.annotations.read_text())
    for annotation in labels["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    outlined = tmp_path / "outlined.json"
    outlined.write_text(json.dumps(labels))
    pasting = replace(tiny.CALM, paste=PasteSettings(chance=1, most=1, hidden=1))
    phases = [Phase(size=(64, 64), batch=1, steps=1, scenes=scenes) for scenes in (tiny.CALM, pasting)]
    settings = replace(config, sources=(replace(source, annotations=outlined),), phases=tuple(phases))

    makers = scene_makers(settings)

    people = [
        {len(maker.make(np.random.default_rng(seed), (64, 64)).keypoints) for seed in range(8)}
        for maker in makers
    ]
    assert people[0] == {2}
    assert max(people[1]) == 3


@pytest.mark.parametrize("makers_of", [scene_makers, crop_makers])
@pytest.mark.parametrize("cache_mb", [0, 1])
def test_pictures_are_kept_decoded_as_the_run_says(tiny, tmp_path, makers_of, cache_mb):
    tiny.draw_data(tmp_path)
    settings = replace(tiny.settings(tmp_path), cache_mb=cache_mb)
    makers = makers_of(settings)

    def draw(maker):
        for seed in range(30):
            maker.make(np.random.default_rng(seed), (64, 64))

    draw(makers[0])
    for picture in tmp_path.rglob("*.png"):
        picture.unlink()

    if cache_mb:
        draw(makers[-1])
    else:
        with pytest.raises(DatasetError, match="cannot read the picture"):
            draw(makers[-1])


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["ab", "ab"], None),
        (["ab", "ac"], r"1 must have the classes of .*0, in the same order; class 1 is c instead of b"),
        (["ab", "abc"], "class 2 is c instead of nothing"),
        (["abc", "ab"], "tells 2 classes, but the data have 3; set num_classes"),
        ([], "tells 2 classes, but the data have none; set num_classes"),
    ],
)
def test_pictures_for_classification_share_their_classes(config, tmp_path, folders, message):
    for number, classes in enumerate(folders):
        for name in classes:
            (tmp_path / str(number) / name).mkdir(parents=True)
            (tmp_path / str(number) / name / "1.png").touch()
    sets = tuple(PictureSet("image_folder", tmp_path / str(n), split="") for n in range(len(folders)))
    settings = replace(config, model="efficientnet-bm4", pictures=sets, num_classes=2)
    task = task_of(build_network(settings), settings)

    if message is None:
        assert len(task.datasets()) == len(settings.phases)
    else:
        with pytest.raises(DatasetError, match=message):
            task.datasets()


def test_a_classifier_keeps_the_names_of_its_classes(config, train, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "data" / name / "1.png"), np.full((32, 32, 3), 90, np.uint8))
    pictures = (PictureSet("image_folder", tmp_path / "data", split=""),)
    phases = (Phase(size=(64, 64), batch=2, steps=1),)
    settings = replace(config, model="efficientnet-bm4", pictures=pictures, num_classes=2, phases=phases)

    train(settings, tmp_path / "run")

    network, kept, _ = load_trained(tmp_path / "run/last.pt")
    assert task_of(network, kept).codec.settings()["names"] == ["cat", "dog"]
    train(settings, tmp_path / "run", is_resumed=True)
    assert not (tmp_path / "run/changes.yaml").exists()


def test_the_class_255_of_a_picture_is_learnt(config):
    settings = replace(config, model="efficientnet-bm4", num_classes=1000)
    task = task_of(build_network(settings), settings)
    (name,) = (field.name for field in build_network(settings).fields)
    scores = {name: torch.zeros(1, 1000, 1, 1)}

    losses = task.losses(scores, {"targets": {"classes": torch.full((1, 1, 1), 255)}})

    assert losses["total"] == pytest.approx(math.log(1000))


def test_streets_of_other_classes_cannot_be_mixed(config, tmp_path):
    draw_segments(tmp_path / "streets")
    for part in ("train", "train_labels"):
        (tmp_path / "camvid" / part).mkdir(parents=True)
    pixels = np.zeros((64, 64), np.uint8)
    cv2.imwrite(str(tmp_path / "camvid/train/a.png"), np.dstack([pixels] * 3))
    cv2.imwrite(str(tmp_path / "camvid/train_labels/a.png"), pixels)
    streets = PictureSet("cityscapes", tmp_path / "streets", "train")
    camvid = PictureSet("camvid", tmp_path / "camvid", "train")
    settings = replace(config, model="efficienthrnet-hm4-seg")
    one, both = (replace(settings, pictures=some) for some in ((streets,), (streets, camvid)))
    network = build_network(one)
    assert task_of(network, one).datasets()

    with pytest.raises(
        DatasetError, match="must have the classes of the network, in the same order; class 0"
    ):
        task_of(network, both).datasets()


def test_a_split_that_cifar_100_has_not_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="must be train or test, got 'val'"):
        read_classified(PictureSet("cifar100", tmp_path, "val"))


@pytest.mark.parametrize(
    ("model", "changes", "name"),
    [
        ("slimdeconv-plain", {"scenes": SceneSettings(zoom=(1, 2))}, r"phases\.0\.scenes"),
        ("efficientpose-rt", {"scenes": SceneSettings(zoom=(1, 2))}, r"phases\.0\.scenes"),
        ("litepose-xs", {"crops": CropSettings(shift=0.3)}, r"phases\.0\.crops"),
        ("litepose-xs", {"pictures": PictureCropSettings(padding=4)}, r"phases\.0\.pictures"),
        ("efficientnet-bm4", {"crops": CropSettings(shift=0.3)}, r"phases\.0\.crops"),
        ("litepose-xs", {}, "loss.hard_keypoints"),
        ("efficientpose-rt", {}, "loss.hard_keypoints"),
    ],
)
def test_what_training_would_not_read_is_refused(config, model, changes, name):
    phases = (Phase(size=(64, 64), batch=2, steps=1),)
    settings = replace(config, model=model, loss=LossSettings(), phases=phases, skeleton="coco17")
    network = build_network(settings)
    check_use(task_of(network, settings), settings)
    hard = replace(settings, loss=LossSettings(hard_keypoints=3))
    phases = (replace(settings.phases[0], **changes),)
    settings = replace(settings, phases=phases) if changes else hard

    with pytest.raises(ConfigError, match=f"^{name} would change nothing: {model} learns from"):
        check_use(task_of(network, settings), settings)


def test_a_network_without_losses_is_refused_with_what_it_returns(config):
    network = build("slimdeconv-plain")
    network.fields = (Field(FieldKind.TAGS, 17, stride=4),)

    with pytest.raises(ConfigError, match=r"returns tags_s4, which the trainer knows no losses"):
        task_of(network, config)


def test_a_top_down_network_has_one_field_of_heatmaps(config):
    network = build("slimdeconv-plain")
    network.fields = (*network.fields, Field(FieldKind.HEATMAPS, 17, stride=2))

    with pytest.raises(ConfigError, match="one field of heatmaps, but tiny-dropout has 2"):
        task_of(network, config)


def test_the_codec_has_the_spread_padding_and_size_of_training(top_down):
    last = replace(top_down.phases[-1], crops=CropSettings(padding=1.5))

    settings = task_of(
        build("slimdeconv-plain", num_keypoints=3), replace(top_down, phases=(last,))
    ).codec.settings()

    assert (settings["sigma_cells"], settings["box_padding"]) == (1.0, 1.5)
    assert settings["input_size"] == [64, 64]
    assert settings["kernel_cells"] == 5


@pytest.mark.parametrize(
    ("location", "presence", "decoding", "sigmas"),
    [(1.0, 1.0, "expected_oks", 3), (0.0, 1.0, "dark", 0), (0.1, 0.0, "dark", 0)],
)
def test_maps_trained_as_chances_of_places_decode_by_expected_similarity(
    top_down, location, presence, decoding, sigmas
):
    loss = LossSettings(location=location, presence=presence, sigma_cells=(1.0,))

    codec = task_of(build("slimdeconv-plain", num_keypoints=3), replace(top_down, loss=loss)).codec

    assert (codec.decoding, len(codec.sigmas)) == (decoding, sigmas)


@pytest.mark.parametrize("name", ["slimdeconv-b0", "litepose-xs", "efficienthrnet-hm4"])
def test_networks_of_the_papers_give_chances_where_the_loss_is_one_of_chances(config, name):
    torch.manual_seed(0)
    plain = build_network(replace(config, model=name, loss=LossSettings())).eval()
    chances = build_network(replace(config, model=name, loss=LossSettings(presence=1.0))).eval()
    chances.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 64, 64)

    with torch.inference_mode():
        heights, found = plain(images), chances(images)

    for field in plain.fields:
        expected = heights[field.name]
        if field.kind is FieldKind.HEATMAPS:
            expected = torch.sigmoid(10 * (expected - 0.4))
        torch.testing.assert_close(found[field.name], expected)


def test_crops_learn_two_people_by_heart(top_down, train, tmp_path):
    phase = replace(top_down.phases[1], steps=60, batch=8)

    train(replace(top_down, phases=(phase,), validate_every_s=0), tmp_path)

    task = task_of(build("slimdeconv-plain", num_keypoints=3), replace(top_down, phases=(phase,)))
    network = build("slimdeconv-plain", num_keypoints=3)
    network.load_state_dict(load_checkpoint(tmp_path / "last.pt")["ema"])
    network.eval()
    errors = []
    for number in range(20):
        dataset = task.datasets()[0]
        crop = dataset.maker.make(np.random.default_rng([0, number]), (64, 64))
        image = torch.from_numpy(crop.image).float()
        normalised = (image - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375])
        with torch.inference_mode():
            outputs = network(normalised.permute(2, 0, 1)[None])
        found = task.codec.decode({name: maps[0].numpy() for name, maps in outputs.items()})
        errors.append(np.abs(found[:, :2] - crop.keypoints[:, :2]).max(axis=1))
    assert np.median(errors) < 3


def test_keypoints_outside_a_crop_count_as_absent_and_unlabelled_ones_not_at_all(top_down, monkeypatch):
    task = task_of(build("slimdeconv-plain", num_keypoints=3), top_down)
    dataset = task.datasets()[0]
    crop = dataset.maker.make(np.random.default_rng(0), (64, 32))
    moved = crop.keypoints.copy()
    moved[0] = (500, 10, 2)
    moved[1] = (0, 0, 0)
    monkeypatch.setattr(type(dataset.maker), "make", lambda *_: replace(crop, keypoints=moved))

    _, labels = dataset[0]

    assert labels["targets"]["keypoint_weights"].tolist() == [1, 0, 1]
    assert float(labels["targets"]["heatmaps_s4"][0].max()) == 0


@pytest.mark.parametrize("step", [2, 4, 7])
def test_an_interrupted_top_down_run_goes_on_as_if_it_had_not_been(top_down, train, acts, tmp_path, step):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(top_down, whole, validate=acts.watch())

    train(top_down, parts, validate=acts.interrupt(step))
    train(top_down, parts, validate=acts.watch(), is_resumed=True)

    first, second = (load_checkpoint(folder / "last.pt") for folder in (whole, parts))
    for key in ("network", "ema", "optimiser"):
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=0)

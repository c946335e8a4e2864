"""Recipes give settings for data in any folder, and a card says where weights come from."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fleetpose.codecs.description import ModelDescription
from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.codecs.top_down import TopDownCodec
from fleetpose.data.scenes import Source
from fleetpose.errors import ConfigError, UnknownNameError
from fleetpose.models import MODELS, PoseNetwork, build
from fleetpose.models.counting import count
from fleetpose.recipes import RECIPES, find_recipe
from fleetpose.recipes.scores import validator
from fleetpose.recipes.shipping import UNKNOWN_CARD, export_checkpoint, read_card
from fleetpose.settings import from_plain, to_plain
from fleetpose.skeletons import COCO, Skeleton
from fleetpose.train.checkpoint import save_checkpoint
from fleetpose.train.config import TrainConfig, ValidationSet


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_survives_being_written_to_a_file(name, tmp_path):
    config = find_recipe(name, tmp_path)

    assert from_plain(TrainConfig, to_plain(config)) == config
    assert config.model in MODELS


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_never_trains_on_what_it_is_judged_by(name, tmp_path):
    config = find_recipe(name, tmp_path)

    trained = {source.annotations: source.held_out_every for source in config.sources}
    for judged in config.validation:
        held_out = trained.get(judged.annotations)
        assert held_out is None or (held_out > 0 and judged.every % held_out == 0), judged.name


def test_an_unknown_recipe_offers_the_closest(tmp_path):
    with pytest.raises(UnknownNameError, match="first-weights"):
        find_recipe("first-weight", tmp_path)


@pytest.mark.parametrize("folder", [None, Path("no/such/folder")])
def test_a_recipe_without_its_data_says_how_to_give_it(folder):
    with pytest.raises(ConfigError, match="--data"):
        find_recipe("first-weights", folder)


def test_a_card_is_read_from_yaml(tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text(
        "licence: Apache-2.0\ndata: [drawn people]\ncommand: train\ncommit: abc\nhours: 2\n"
        "hardware: two cores\nmetrics: {coco_dev/AP: 1.5}\n"
    )

    card = read_card(path)

    assert card.data == ("drawn people",)
    assert card.hours == 2.0
    assert card.metrics == {"coco_dev/AP": 1.5}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("licence: MIT", "lacks data"),
        ("licenze: MIT", "licenze"),
        ("[1", "cannot read"),
        ("3", "must be a mapping"),
    ],
)
def test_a_card_that_lacks_something_is_refused_by_name(text, problem, tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=problem):
        read_card(path)


@pytest.fixture
def top_down_run(tmp_path):
    """Settings of a top-down run on one picture of a red, a green and a blue dot."""
    pytest.importorskip("lightning")
    folder = tmp_path / "images"
    folder.mkdir()
    image = np.zeros((80, 120, 3), np.uint8)
    points = [(30, 40), (60, 24), (84, 60)]
    for (x, y), colour in zip(points, np.eye(3), strict=True):
        cv2.circle(image, (x, y), 4, (255 * colour[::-1]).tolist(), cv2.FILLED)
    cv2.imwrite(str(folder / "1.png"), image)
    labels = tmp_path / "labels.json"
    person = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [20, 14, 74, 56],
        "area": 4000,
        "iscrowd": 0,
        "keypoints": [*(value for x, y in points for value in (x, y, 2)), *[0] * (3 * 14)],
    }
    categories = [{"id": 1, "keypoints": list(COCO.keypoints)}]
    record = {"id": 1, "file_name": "1.png", "height": 80, "width": 120}
    labels.write_text(json.dumps({"images": [record], "annotations": [person], "categories": categories}))
    return replace(
        find_recipe("first-top-down", tmp_path),
        sources=(Source(images=folder, annotations=labels),),
        validation=(ValidationSet(name="dots", annotations=labels, images=folder),),
    )


class DotNetwork(PoseNetwork):
    """The first three heatmaps are the colours of the picture, at a quarter of its size."""

    size_multiple = 32
    input_size = (128, 96)
    fields = (Field(FieldKind.HEATMAPS, 17, stride=4),)

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, images):
        colours = torch.nn.functional.avg_pool2d(images, 4).clamp(min=0) * self.scale
        return self.named(torch.nn.functional.pad(colours, (0, 0, 0, 0, 0, 14)))


class EyeNetwork(DotNetwork):
    """The same for three keypoints in another order: blue for the right eye, which COCO has third."""

    fields = (Field(FieldKind.HEATMAPS, 3, stride=4),)

    def forward(self, images):
        colours = torch.nn.functional.avg_pool2d(images, 4).clamp(min=0) * self.scale
        return self.named(colours.flip(1))


def test_a_top_down_network_is_scored_on_labelled_boxes(top_down_run):
    scores = validator(top_down_run)(DotNetwork().eval())

    assert scores["dots/AP"] == pytest.approx(100)


def test_who_shows_none_of_the_wanted_keypoints_does_not_end_a_validation(top_down_run):
    (dots,) = top_down_run.validation
    data = json.loads(dots.annotations.read_text())
    other = {"id": 2, "bbox": [100, 60, 15, 15], "keypoints": [0] * 48 + [110, 70, 2]}
    data["annotations"].append({**data["annotations"][0], **other})
    dots.annotations.write_text(json.dumps(data))
    eyes = Skeleton(
        name="eyes",
        keypoints=("right_eye", "left_eye", "nose"),
        limbs=(),
        flip_pairs=(("left_eye", "right_eye"),),
        sigmas=(0.025, 0.025, 0.026),
    )
    (source,) = top_down_run.sources
    config = replace(top_down_run, skeleton=eyes, sources=(replace(source, is_single_person=True),))

    scores = validator(config)(EyeNetwork().eval())

    assert scores["dots/AP"] == pytest.approx(100)


def test_a_top_down_checkpoint_is_exported_with_its_codec(top_down_run, tmp_path):
    pytest.importorskip("onnxscript")
    network = build("slimdeconv-plain")
    for name, weight in network.named_parameters():
        if name.endswith("second.norm.weight"):  # drawn at random, so many blocks drive chances to 0 or 1,
            torch.nn.init.zeros_(weight)  # where rounding differs by more than a trained network's
    checkpoint = tmp_path / "last.pt"
    save_checkpoint(
        checkpoint, {"ema": network.state_dict(), "config": to_plain(top_down_run), "progress": {}}
    )

    export_checkpoint(checkpoint, tmp_path / "dots.onnx", card=UNKNOWN_CARD)

    onnx = pytest.importorskip("onnx")
    properties = {item.key: item.value for item in onnx.load(tmp_path / "dots.onnx").metadata_props}
    description = ModelDescription.from_json(properties["fleetpose"])
    codec = TopDownCodec.from_description(description)
    assert (codec.input_size, codec.sigma_cells, codec.box_padding) == ((192, 128), 1.0, 1.1)
    assert description.input.short_side == 128
    assert description.card.macs == count(network, (192, 128)).operations

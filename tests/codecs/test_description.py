import json
from dataclasses import replace

import pytest

from fleetpose.codecs.description import InputDescription, ModelCard, ModelDescription
from fleetpose.codecs.fields import associative_embedding_fields
from fleetpose.errors import CheckpointError
from fleetpose.skeletons import COCO

DESCRIPTION = ModelDescription(
    name="tiny",
    family="test",
    skeleton=COCO,
    fields=associative_embedding_fields(17),
    codec={"type": "associative_embedding", "max_people": 30},
    input=InputDescription(short_side=256, multiple=32, mean=(123.5, 116.0, 103.5), std=(58.0, 57.0, 57.5)),
    card=ModelCard(
        licence="Apache-2.0",
        data=("drawn people, CC0",),
        command="fleetpose train tiny",
        commit="abc123",
        hours=1.5,
        hardware="two cores",
        metrics={"coco_dev/AP": 12.5},
        params=1000,
        macs=2_000_000,
    ),
)


def _changed(section, key, value):
    data = json.loads(DESCRIPTION.to_json())
    target = data[section] if section else data
    target[key] = value
    return json.dumps(data)


def test_a_description_survives_the_way_through_json():
    assert ModelDescription.from_json(DESCRIPTION.to_json()) == DESCRIPTION


@pytest.mark.parametrize("section", [None, "input", "card"])
def test_an_unknown_key_is_refused_by_name(section):
    with pytest.raises(CheckpointError, match="unknown key 'colour'"):
        ModelDescription.from_json(_changed(section, "colour", "red"))


@pytest.mark.parametrize(
    ("section", "key"), [(None, "family"), ("input", "std"), ("card", "licence"), ("codec", "type")]
)
def test_a_missing_key_is_named(section, key):
    data = json.loads(DESCRIPTION.to_json())
    del (data[section] if section else data)[key]

    with pytest.raises(CheckpointError, match=f"lacks the key '{key}'"):
        ModelDescription.from_json(json.dumps(data))


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        (None, "format", 2, "format 2, expected 1"),
        (None, "name", 7, "name must be a str, got 7"),
        (None, "fields", [{"kind": "smells", "channels": 1, "stride": 4, "label": ""}], "smells"),
        (None, "skeleton", {"name": "x", "keypoints": ["nose"]}, "sigmas"),
        (None, "skeleton", {"keypoints": [], "limbs": [], "sigmas": [1]}, "at least one keypoint"),
        ("input", "mean", [1, 2], "mean must be 3 numbers"),
        ("input", "std", [1, 0, 1], "std must be positive"),
        ("input", "short_side", 0, "short_side, multiple and max_side must be positive"),
        ("card", "params", True, "params must be a int"),
        ("card", "data", [1], "list of lines"),
        ("card", "metrics", {"AP": "good"}, "metrics must be numbers"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(section, key, value, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        ModelDescription.from_json(_changed(section, key, value))

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_text_that_is_no_description_is_refused(text):
    with pytest.raises(CheckpointError, match="model description"):
        ModelDescription.from_json(text)


def test_numbers_of_a_codec_reach_the_reader_unchanged():
    odd = replace(DESCRIPTION, codec={"type": "x", "threshold": 0.1, "order": [3, 1, 2]})

    assert ModelDescription.from_json(odd.to_json()).codec == odd.codec


def test_a_file_from_before_there_was_a_longest_side_has_the_usual_one(fake_description):
    plain = json.loads(fake_description.to_json())
    del plain["input"]["max_side"]

    description = ModelDescription.from_json(json.dumps(plain))

    assert description.input.max_side == 2048


def test_outputs_are_the_fields_unless_the_codec_reads_others(fake_description):
    tailed = replace(fake_description, codec={"type": "x", "outputs": ["cells"]})

    assert fake_description.outputs == ("heatmaps_s4", "tags_s4", "heatmaps_s2")
    assert tailed.outputs == ("cells",)

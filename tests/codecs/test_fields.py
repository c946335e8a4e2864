import json

import pytest

from fleetpose.codecs.fields import Field, FieldKind, associative_embedding_fields
from fleetpose.errors import ConfigError


def test_a_field_is_named_by_kind_and_pixels_per_cell():
    assert Field(FieldKind.HEATMAPS, 17, stride=4).name == "heatmaps_s4"


def test_a_label_tells_two_passes_apart():
    assert Field(FieldKind.PAFS, 38, stride=8, label="pass2").name == "pafs_s8_pass2"


def test_associative_embedding_has_heatmaps_at_a_quarter_and_a_half_and_tags_at_a_quarter():
    fields = associative_embedding_fields(14)

    assert [(field.name, field.channels) for field in fields] == [
        ("heatmaps_s4", 14),
        ("tags_s4", 14),
        ("heatmaps_s2", 14),
    ]


@pytest.mark.parametrize("field", [*associative_embedding_fields(17), Field(FieldKind.PAFS, 4, 8, "second")])
def test_a_field_survives_the_way_through_json(field):
    assert Field.from_dict(json.loads(json.dumps(field.to_dict()))) == field


@pytest.mark.parametrize(
    ("kind", "channels", "stride", "message"),
    [
        (FieldKind.HEATMAPS, 0, 4, "field heatmaps_s4 must have at least one channel"),
        (FieldKind.TAGS, 17, 0, "a stride of at least one pixel, got 17 and 0"),
        (FieldKind.PAFS, 37, 8, "field pafs_s8 must have two channels per limb, got 37"),
    ],
)
def test_a_map_that_cannot_be_is_refused(kind, channels, stride, message):
    with pytest.raises(ConfigError, match=message):
        Field(kind, channels, stride)

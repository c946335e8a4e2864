"""Scores of a network while it trains: which there are is known before."""

import pytest

pytest.importorskip("torch")

from dataclasses import replace

from fleetpose.errors import ConfigError
from fleetpose.recipes.scores import validator
from fleetpose.recipes.top_down_first import recipe
from fleetpose.train.config import PictureSet, ValidationSet


@pytest.fixture
def config(tmp_path):
    """Settings with a validation set whose files are there."""
    labels = tmp_path / "labels.json"
    labels.write_text("{}")
    mine = ValidationSet(name="mine", annotations=labels, images=tmp_path)
    return replace(recipe(tmp_path), validation=(mine,))


def test_a_best_by_that_is_no_score_is_refused_before_training(config):
    with pytest.raises(ConfigError, match="best_by must be one of mine/AP, mine/AP50, mine/PCK, got coco/AP"):
        validator(replace(config, best_by="coco/AP"))


@pytest.mark.parametrize("best_by", ["", "mine/PCK", "image_folder/top1", "synth/mIoU"])
def test_a_best_by_that_is_a_score_is_taken(config, tmp_path, best_by):
    pictures = (PictureSet("image_folder", tmp_path), PictureSet("synth", tmp_path))

    assert validator(replace(config, best_by=best_by, validation_pictures=pictures)) is not None

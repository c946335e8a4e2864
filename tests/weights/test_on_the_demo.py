"""What the bundled weights find in the bundled picture of four people; the numbers are far from the edge."""

import numpy as np
import pytest

from fleetpose.cli.demo import PICTURE
from fleetpose.runtime.cascade import is_top_down
from fleetpose.runtime.predictor import load
from fleetpose.runtime.session import read_description
from fleetpose.weights import DEFAULT_REFINER, DEFAULT_SHORT_SIDES, bundled_models

PEOPLE = 4
#: COCO's share of a box that a person fills, on the average.
FILLED = 0.53


@pytest.fixture(scope="module")
def whole():
    """What both default models find together."""
    return load()(PICTURE)


def similarities(result, reference):
    """Object keypoint similarity of each person of the reference to the likest one of the result."""
    spreads = 2 * np.array(reference.skeleton.sigmas)
    areas = FILLED * np.prod(reference.boxes[:, 2:] - reference.boxes[:, :2], axis=1)
    distances = np.square(result.keypoints[:, None, :, :2] - reference.keypoints[None, :, :, :2]).sum(axis=3)
    per_keypoint = np.exp(-distances / (2 * areas[:, None] * spreads**2))
    is_seen = reference.keypoints[..., 2] > 0.1
    return ((per_keypoint * is_seen).sum(axis=2) / is_seen.sum(axis=1)).max(axis=0, initial=0)


def test_the_default_finds_everybody(whole):
    assert len(whole) == PEOPLE
    assert whole.scores.min() > 0.2


@pytest.mark.parametrize(
    "name", [name for name, path in bundled_models().items() if is_top_down(read_description(path))]
)
def test_models_for_one_person_see_the_same_in_the_same_boxes(name, whole):
    found = load(name, boxes=whole.boxes, threshold=0.0)(PICTURE)

    assert similarities(found, whole).min() > 0.5


@pytest.mark.parametrize(
    "name", [name for name, path in bundled_models().items() if not is_top_down(read_description(path))]
)
def test_models_for_several_people_find_them_for_the_second_model(name, whole):
    found = load(name, refine=DEFAULT_REFINER, short_side=DEFAULT_SHORT_SIDES)(PICTURE)

    assert (similarities(found, whole) > 0.7).sum() >= PEOPLE - 1

"""EfficientHRNet for segmentation, and for segmentation and pose at once."""

import pytest
import torch

from fleetpose.errors import CheckpointError
from fleetpose.models import MODELS, build
from fleetpose.models.counting import count, count_as_hrnet_summary
from fleetpose.models.segmentation import VARIANTS, EfficientHRNetSegmentation


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("efficienthrnet-hm4-seg", ["classes_s2"]),
        ("efficienthrnet-hm4-pose-seg", ["heatmaps_s4", "tags_s4", "heatmaps_s2", "classes_s2"]),
    ],
)
def test_classes_come_alone_or_after_the_maps_of_poses(name, fields):
    with torch.device("meta"):
        network = build(name, num_keypoints=5)

    assert [field.name for field in network.fields] == fields
    assert network.fields[-1].channels == 19
    assert all(field.channels == 5 for field in network.fields[:-1])


def test_another_number_of_classes_is_an_argument_away():
    with torch.device("meta"):
        network = EfficientHRNetSegmentation(config=VARIANTS["efficienthrnet-hm4-seg"], num_classes=3)

    assert network.fields[0].channels == 3


def test_beside_classes_the_poses_are_those_of_efficienthrnet(drawn_network, images):
    """The branches that only segmentation needs change nothing in the finest one."""
    pose = drawn_network("efficienthrnet-hm4")
    both = build("efficienthrnet-hm4-pose-seg").eval()
    missing, unexpected = both.load_state_dict(pose.state_dict(), strict=False)

    with torch.no_grad():
        alone, together = pose(images), both(images)

    assert not unexpected
    assert all(key.startswith(("classes.", "trunk.stages.2.exchanges.1.fuse.")) for key in missing)
    assert all(torch.equal(alone[key], together[key]) for key in alone)


@pytest.mark.parametrize(
    ("name", "millions", "paper_millions", "giga"),
    [
        ("efficienthrnet-h0-seg-small", 15.65, 19.25, 21.82),
        pytest.param("efficienthrnet-h0-seg", 20.50, 24.10, 53.56, marks=pytest.mark.slow),
        pytest.param("efficienthrnet-h0-seg-v2", 20.66, 24.26, 74.19, marks=pytest.mark.slow),
    ],
)
def test_costs_are_those_of_this_reading_of_the_thesis(name, millions, paper_millions, giga):
    with torch.device("meta"):
        network = build(name)

    true, by_the_thesis = (f(network, network.input_size) for f in (count, count_as_hrnet_summary))

    assert round(true.params / 1e6, 2) == millions
    assert round(by_the_thesis.params / 1e6, 2) == paper_millions
    assert round(true.operations / 1e9, 2) == giga


def test_there_is_no_checkpoint_to_convert():
    with pytest.raises(CheckpointError, match="nobody published weights"):
        MODELS["efficienthrnet-h0-seg"].convert_official_state_dict({})

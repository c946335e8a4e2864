"""What `litepose-plain` adds to the papers' network."""

import torch

from fleetpose.models import build


def test_tags_of_a_new_network_differ_between_places_and_hardly_within_one():
    torch.manual_seed(0)
    network = build("litepose-plain").eval()

    with torch.no_grad():
        tags = network(torch.zeros(1, 3, 64, 160))["tags_s4"][0]

    # 16 pixels to the right, or 32 down, are one unit: the distance at which grouping takes two people.
    assert abs(float((tags[:, 8, 36] - tags[:, 8, 4]).mean()) - 128 / 16) < 0.5
    assert abs(float((tags[:, 14, 20] - tags[:, 2, 20]).mean()) - 48 / 32) < 0.5
    assert float(tags[:, 8, 20].std()) < 0.5


def test_the_published_networks_have_no_ramp():
    torch.manual_seed(0)
    network = build("litepose-xs").eval()

    with torch.no_grad():
        tags = network(torch.zeros(1, 3, 64, 160))["tags_s4"][0]

    assert abs(float((tags[:, 8, 36] - tags[:, 8, 4]).mean())) < 0.5

"""Our networks compute what the authors' code computes, from the weights of their checkpoints."""

import numpy as np
import pytest
import torch

from fleetpose.models import MODELS, build
from fleetpose.models.checkpoints import load_official

OFFICIAL_CHECKPOINTS = [
    *((f"litepose_{size}_crowdpose", f"litepose-{size.lower()}", 14) for size in ("XS", "S", "M", "L")),
    *((f"litepose_{size}_coco", f"litepose-{size.lower()}", 17) for size in ("XS", "S", "M", "L")),
    ("efficienthrnet_H0", "efficienthrnet-h0", 17),
    ("efficienthrnet_H-1", "efficienthrnet-hm1", 17),
    ("efficienthrnet_H-2", "efficienthrnet-hm2", 17),
    ("efficienthrnet_H-3", "efficienthrnet-hm3", 17),
    ("efficienthrnet_H-4", "efficienthrnet-hm4", 17),
    ("higherhrnet_w32", "higherhrnet-w32", 17),
    ("higherhrnet_w48", "higherhrnet-w48", 17),
    ("higherhrnet_w16_litepose", "higherhrnet-w16", 14),
    ("higherhrnet_w24_litepose", "higherhrnet-w24", 14),
    ("higherhrnet_shrink_C2", "higherhrnet-c2", 14),
    ("higherhrnet_shrink_C3", "higherhrnet-c3", 14),
    ("higherhrnet_shrink_C4", "higherhrnet-c4", 14),
    ("hrnet_w32_256x192", "hrnet-w32", 17),
    ("hrnet_w32_mpii", "hrnet-w32", 16),
    ("hrnet_w48_256x192", "hrnet-w48", 17),
    ("lightweight_openpose", "lightweight-openpose", 18),
    ("lightweight_openpose_2refine", "lightweight-openpose-r2", 18),
    ("litepose_supernet_crowdpose", "litepose-supernet", 14),
    ("simplebaseline_r50_256x192", "simplebaseline-r50", 17),
]


@pytest.mark.parametrize(("official", "name", "num_keypoints"), OFFICIAL_CHECKPOINTS)
def test_official_checkpoint_entries_are_ours_by_other_names(official_shapes, official, name, num_keypoints):
    entries = {key: torch.empty(shape, device="meta") for key, shape in official_shapes(official).items()}

    ours = MODELS[name].convert_official_state_dict(entries)

    with torch.device("meta"):
        expected = build(name, num_keypoints=num_keypoints).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in expected.items()
    }


@pytest.mark.parametrize(
    ("official", "scale", "name", "num_keypoints"),
    [
        ("litepose_XS_coco", 1.0, "litepose-xs", 17),
        ("litepose_S_crowdpose", 1.0, "litepose-s", 14),
        ("efficienthrnet_H-2", 0.5, "efficienthrnet-hm2", 17),
        ("efficienthrnet_H0", 0.5, "efficienthrnet-h0", 17),
        pytest.param("higherhrnet_w32", 0.5, "higherhrnet-w32", 17, marks=pytest.mark.slow),
        ("higherhrnet_w16_litepose", 0.5, "higherhrnet-w16", 14),
        ("higherhrnet_shrink_C3", 0.5, "higherhrnet-c3", 14),
        pytest.param("hrnet_w32_256x192", 0.5, "hrnet-w32", 17, marks=pytest.mark.slow),
        ("lightweight_openpose", 1.0, "lightweight-openpose", 18),
        pytest.param("simplebaseline_r50_256x192", 0.5, "simplebaseline-r50", 17, marks=pytest.mark.slow),
    ],
)
def test_outputs_equal_those_of_the_authors_code(golden, official, scale, name, num_keypoints):
    run = golden(official, scale)
    network = load_official(run.state, name, num_keypoints=num_keypoints)

    with torch.no_grad():
        outputs = {key: maps.numpy() for key, maps in network(run.images).items()}

    ours = _in_the_authors_order(outputs)
    for mine, theirs in zip(ours, run.outputs, strict=True):
        assert np.abs(mine - theirs).max() < 1e-4 * theirs.std()


def _in_the_authors_order(outputs):
    """The authors stack the heatmaps and tags of one resolution."""
    if "tags_s4" in outputs:
        return np.hstack([outputs["heatmaps_s4"], outputs["tags_s4"]]), outputs["heatmaps_s2"]
    return tuple(outputs.values())

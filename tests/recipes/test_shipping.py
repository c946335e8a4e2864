"""Checkpoints on their way to model files."""

import pytest

pytest.importorskip("torch")

from fleetpose.errors import CheckpointError
from fleetpose.models import build
from fleetpose.recipes.shipping import load_trained
from fleetpose.recipes.top_down_first import recipe
from fleetpose.settings import to_plain


def test_a_checkpoint_of_another_shape_of_the_network_is_named_in_one_line(tmp_path):
    import torch

    state = build("slimdeconv-plain").state_dict()
    del state["predict.bias"]
    checkpoint = tmp_path / "old.pt"
    torch.save({"format": 1, "ema": state, "config": to_plain(recipe(tmp_path)), "progress": {}}, checkpoint)

    with pytest.raises(CheckpointError) as caught:
        load_trained(checkpoint)

    assert str(caught.value) == (
        f"{checkpoint} is not of slimdeconv-plain as this version builds it: weights do not fit the model: "
        "1 missing (such as predict.bias)"
    )

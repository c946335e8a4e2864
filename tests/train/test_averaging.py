import pytest
import torch

from fleetpose.errors import CheckpointError, ConfigError
from fleetpose.train.averaging import average_checkpoints
from fleetpose.train.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    """Function that writes a checkpoint of these weights → its path."""

    def write(name, **weights):
        path = tmp_path / name
        save_checkpoint(path, {"ema": weights, "config": {"model": name}, "progress": {}})
        return path

    return write


def test_weights_become_their_mean_and_counters_stay(checkpoint, tmp_path):
    paths = [
        checkpoint(str(number), weight=torch.tensor([value, 1.0]), batches=torch.tensor(number))
        for number, value in enumerate((1.0, 2.0, 6.0))
    ]

    average_checkpoints(paths, tmp_path / "mean.pt")

    state = load_checkpoint(tmp_path / "mean.pt")
    assert state["ema"]["weight"].tolist() == [3.0, 1.0]
    assert state["ema"]["weight"].dtype == torch.float32
    assert state["ema"]["batches"] == 2
    assert state["config"] == {"model": "2"}


def test_one_checkpoint_has_no_mean(checkpoint, tmp_path):
    with pytest.raises(ConfigError, match="at least two checkpoints, got 1"):
        average_checkpoints([checkpoint("a", weight=torch.ones(1))], tmp_path / "mean.pt")


def test_networks_that_differ_have_no_mean(checkpoint, tmp_path):
    paths = [checkpoint("a", weight=torch.ones(1)), checkpoint("b", weight=torch.ones(2))]

    with pytest.raises(CheckpointError, match="b is of another network"):
        average_checkpoints(paths, tmp_path / "mean.pt")

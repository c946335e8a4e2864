import pickle

import pytest
import torch

from fleetpose.errors import CheckpointError
from fleetpose.train.checkpoint import load_checkpoint, save_checkpoint

STATE = {"ema": {"weight": torch.arange(5000.0)}, "progress": {"step": 3}}


def test_what_is_saved_is_loaded(tmp_path):
    save_checkpoint(tmp_path / "run" / "last.pt", STATE)

    state = load_checkpoint(tmp_path / "run" / "last.pt")

    torch.testing.assert_close(state["ema"], STATE["ema"])
    assert state["progress"] == {"step": 3}
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["last.pt"]


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_off_is_refused_in_one_line(tmp_path, share):
    path = tmp_path / "last.pt"
    save_checkpoint(path, STATE)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])

    with pytest.raises(CheckpointError, match="no readable checkpoint; it may be cut off") as caught:
        load_checkpoint(path)

    assert "\n" not in str(caught.value)


def test_a_save_that_fails_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, STATE)

    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        save_checkpoint(path, {"ema": {}, "unsaveable": (number for number in range(3))})

    assert load_checkpoint(path)["progress"] == {"step": 3}


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(CheckpointError, match=r"cannot write the checkpoint .*last\.pt"):
        save_checkpoint(tmp_path / "file" / "last.pt", STATE)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"state_dict": {}}, path)

    with pytest.raises(CheckpointError, match="is no checkpoint of this toolkit"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "missing.pt")
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        load_checkpoint(tmp_path)


class Mischief:
    def __reduce__(self):
        return exec, ("raise SystemExit",)


def test_code_in_a_file_is_not_run(tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"format": 1, "ema": Mischief()}, path)

    with pytest.raises(CheckpointError, match="no readable checkpoint"):
        load_checkpoint(path)

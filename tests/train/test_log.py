import sys
from types import ModuleType

import pytest

from fleetpose.train.log import Table, TensorBoard


@pytest.fixture
def path(tmp_path):
    return tmp_path / "train.csv"


def test_rows_are_in_the_file_at_once(path):
    table = Table(path, keep_up_to_step=0)

    table.add({"step": 1, "loss": 0.123456789})

    assert path.read_text().split() == ["step,loss", "1,0.123457"]


def test_a_restart_drops_rows_that_will_come_again(path):
    table = Table(path, keep_up_to_step=0)
    for step in (10, 20, 30):
        table.add({"step": step, "loss": 1.0 / step})

    Table(path, keep_up_to_step=20).add({"step": 25, "loss": 0.5})

    assert path.read_text().split() == ["step,loss", "10,0.1", "20,0.05", "25,0.5"]


def test_a_row_that_was_cut_off_is_dropped(path):
    path.write_text("step,loss\n10,0.5\n20,0.12")

    Table(path, keep_up_to_step=20).add({"step": 20, "loss": 0.125})

    assert path.read_text().split() == ["step,loss", "10,0.5", "20,0.125"]


def test_a_new_column_is_added_for_all_rows_once(path):
    table = Table(path, keep_up_to_step=0)
    table.add({"step": 1, "loss": 1.0})
    table.add({"step": 2, "loss": 1.0, "ap": 3.0})
    before = path.stat().st_ino

    table.add({"step": 3, "loss": 1.0, "ap": 4.0})

    assert path.read_text().split() == ["step,loss,ap", "1,1,", "2,1,3", "3,1,4"]
    assert path.stat().st_ino == before  # appended, not written anew


def test_the_last_step_is_known_after_a_restart(path):
    table = Table(path, keep_up_to_step=0)
    assert table.last_step == -1
    table.add({"step": 7})

    assert Table(path, keep_up_to_step=9).last_step == 7


class Writer:
    """Stands in for TensorBoard's."""

    def __init__(self, folder, *, purge_step):
        self.opened = (folder, purge_step)
        self.scalars = set()
        self.flushes = 0
        Writer.last = self

    def add_scalar(self, name, value, step):
        self.scalars.add((name, value, step))

    def flush(self):
        self.flushes += 1


def test_rows_go_to_tensorboard_at_their_step_and_what_comes_again_is_hidden(tmp_path, monkeypatch):
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "tensorboard" or None)

    TensorBoard(tmp_path, purge_step=20).add("train", {"step": 25, "total": 0.5, "lr": 1e-3})

    assert Writer.last.opened == (str(tmp_path / "tensorboard"), 21)
    assert Writer.last.scalars == {("train/total", 0.5, 25), ("train/lr", 1e-3, 25)}
    assert Writer.last.flushes == 1


def test_without_tensorboard_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    TensorBoard(tmp_path, purge_step=0).add("train", {"step": 1, "total": 0.5})

    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorBoard's own
def test_tensorboard_reads_what_was_written(tmp_path):
    pytest.importorskip("tensorboard")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    board = TensorBoard(tmp_path, purge_step=0)
    for step in (1, 2):
        board.add("validation", {"step": step, "coco/AP": 10.0 * step})

    read = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    events = read.Scalars("validation/coco/AP")
    assert [(one.step, one.value) for one in events] == [(1, 10.0), (2, 20.0)]

import pytest

from fleetpose.train.log import Table


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

import cv2
import numpy as np
import pytest

from fleetpose.train.curves import draw_curves
from fleetpose.train.log import Table

BLUE = np.array([31, 119, 180])


@pytest.fixture
def draw(tmp_path):
    """Function that draws tables, given as lists of rows by title → picture `[H, W, 3]` RGB."""

    def draw_rows(**tables):
        paths = {}
        for title, rows in tables.items():
            paths[title] = tmp_path / f"{title}.csv"
            table = Table(paths[title], keep_up_to_step=0)
            for row in rows:
                table.add(row)
        draw_curves(paths, tmp_path / "curves.png")
        return cv2.cvtColor(cv2.imread(str(tmp_path / "curves.png")), cv2.COLOR_BGR2RGB)

    return draw_rows


def test_every_column_but_those_of_the_clock_gets_a_panel(draw):
    train = [{"step": step, "scenes": 2 * step, "seconds": 0.1, "loss": 1.0, "lr": 0.1} for step in (1, 2)]

    one_line = draw(train=train, validation=[{"step": 2, "seconds": 0.1, "ap": 3.0}])
    two_lines = draw(train=[{"step": 1, **{f"part{number}": 1.0 for number in range(5)}}])

    assert one_line.shape == (260, 3 * 400, 3)
    assert two_lines.shape == (2 * 260, 4 * 400, 3)


def test_a_falling_loss_falls_in_the_picture(draw):
    image = draw(train=[{"step": step, "loss": 1 - step / 100} for step in range(100)])

    rows, columns = np.nonzero(np.abs(image.astype(int) - BLUE).sum(axis=2) < 60)
    assert np.corrcoef(rows, columns)[0, 1] > 0.99  # rows count downwards


@pytest.mark.parametrize(
    "values", [[0.0], [3.0, 3.0], [float("nan"), 1.0], [1e-9, 2e-9], [1e12, -1e12]], ids=str
)
def test_odd_numbers_do_no_harm(draw, values):
    image = draw(train=[{"step": step, "loss": value} for step, value in enumerate(values, start=1)])

    assert (np.abs(image.astype(int) - BLUE).sum(axis=2) < 60).any()


def test_long_tables_are_drawn_to_their_last_row(draw):
    rows = [{"step": step, "loss": 0.0} for step in range(1, 5001)] + [{"step": 5001, "loss": 1.0}]

    image = draw(train=rows).astype(int)

    ys, xs = np.nonzero(image[..., 2] - image[..., 0] > 30)  # the pale curve too
    assert xs[ys.argmin()] > 370  # the jump at the very end


def test_without_rows_there_are_no_curves(tmp_path):
    draw_curves({"train": tmp_path / "train.csv"}, tmp_path / "curves.png")

    assert not (tmp_path / "curves.png").exists()


def _blue(image):
    """Rows and columns of what is drawn in the colour of curves."""
    return np.nonzero(np.abs(image.astype(int) - BLUE).sum(axis=2) < 60)


def test_scores_stand_below_the_steps_that_gave_them(draw):
    train = [{"step": step, "loss": float(step)} for step in range(101)]

    image = draw(train=train, validation=[{"step": step, "ap": 1.0} for step in (50, 100)])

    _, columns = _blue(image[40:, 400:])
    assert columns.min() == pytest.approx((64 + 384) / 2, abs=5)
    assert columns.max() == pytest.approx(384, abs=5)


def test_of_a_noisy_loss_the_trend_is_plain(draw):
    image = draw(train=[{"step": step, "loss": -step / 100 + 2 * (step % 2)} for step in range(200)])

    rows, columns = _blue(image)
    assert np.corrcoef(rows, columns)[0, 1] > 0.95
    assert np.ptp(rows) < 0.7 * 200  # the noise fills the panel, its mean does not

"""The record of a run: CSV tables that survive a restart, and their curves as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from fleetpose.errors import require

#: More points of a curve than these nobody can see.
_MAX_POINTS = 2000
#: Columns that say when, not how well.
_NO_CURVE = frozenset({"step", "scenes", "seconds"})


class Table:
    """A CSV file of numbers that grows row by row; its column `step` orders the rows."""

    def __init__(self, path: Path, *, keep_up_to_step: int) -> None:
        """Open `path`, dropping rows after `keep_up_to_step`, which a resumed run will write again."""
        self.path = path
        self.rows = [row for row in _read(path) if int(row["step"]) <= keep_up_to_step]
        self._columns = list(dict.fromkeys(name for row in self.rows for name in row))
        if path.exists():
            self._write_all()

    @property
    def last_step(self) -> int:
        """Step of the last row, -1 without any."""
        return int(self.rows[-1]["step"]) if self.rows else -1

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row at once, so that nothing is lost when the run is stopped."""
        texts = {
            name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in row.items()
        }
        self.rows.append(texts)
        new = [name for name in texts if name not in self._columns]
        if new:
            self._columns += new
            self._write_all()
            return
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(texts)

    def _write_all(self) -> None:
        partial = self.path.with_suffix(".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            if self._columns:
                writer.writeheader()
            writer.writerows(self.rows)
        partial.replace(self.path)


def _read(path: Path) -> list[dict[str, str]]:
    """Rows of a table; one that was cut off in the middle is left out."""
    if not path.exists():
        return []
    text = path.read_bytes().decode("utf-8")
    lines = io.StringIO(text[: text.rfind("\n") + 1], newline="")
    return [dict(row) for row in csv.DictReader(lines) if row.get("step")]


def draw_curves(tables: Mapping[str, Path], picture: Path) -> None:
    """Draw the columns of the given CSV tables over `step`, one panel each, into a PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figures = require("matplotlib.figure", extra="train")
    panels = [
        (f"{title}: {column}", rows, column)
        for title, path in tables.items()
        if (rows := _thin(_read(path)))
        for column in rows[-1]
        if column not in _NO_CURVE
    ]
    if not panels:
        return
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    figure = figures.Figure(figsize=(4 * columns, 2.6 * lines), layout="constrained")
    for position, (title, rows, column) in enumerate(panels):
        axes = figure.add_subplot(lines, columns, position + 1)
        points = [(int(row["step"]), float(row[column])) for row in rows if row.get(column)]
        axes.plot(*zip(*points, strict=True), linewidth=1, marker="." if len(points) < 20 else None)
        axes.set_title(title, fontsize=8)
        axes.tick_params(labelsize=7)
    figure.savefig(picture, dpi=110)


def _thin(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Every n-th row, the last one included, so that no more than `_MAX_POINTS` are left."""
    return rows[:: -max(1, -(-len(rows) // _MAX_POINTS))][::-1]

"""The record of a run: CSV tables that survive a restart, and their curves as a picture."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from fleetpose.errors import require


class Table:
    """A CSV file that grows row by row; its first column `step` orders the rows."""

    def __init__(self, path: Path, *, keep_up_to_step: int) -> None:
        """Open `path`, dropping rows after `keep_up_to_step`, which a resumed run will write again."""
        self.path = path
        self.rows = [row for row in _read(path) if int(row["step"]) <= keep_up_to_step]
        if path.exists():
            self._write_all()

    def add(self, row: Mapping[str, float | int | str]) -> None:
        """Append a row at once, so that nothing is lost when the run is stopped."""
        texts = {
            name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in row.items()
        }
        self.rows.append(texts)
        if len(self.rows) == 1 or set(texts) - set(self.rows[0]):
            self._write_all()
            return
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns()).writerow(texts)

    def _columns(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def _write_all(self) -> None:
        with self.path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns())
            writer.writeheader()
            writer.writerows(self.rows)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [dict(row) for row in csv.DictReader(file) if row.get("step")]


def draw_curves(tables: Mapping[str, Path], picture: Path) -> None:
    """Draw every numeric column of the given CSV tables over `step`, one panel each, into a PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    matplotlib = require("matplotlib", extra="train")
    matplotlib.use("Agg")
    figures = require("matplotlib.figure", extra="train")
    panels = [
        (f"{title}: {column}", rows, column)
        for title, path in tables.items()
        if (rows := _read(path))
        for column in rows[-1]
        if column not in {"step", "phase"}
    ]
    if not panels:
        return
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    figure = figures.Figure(figsize=(4 * columns, 2.6 * lines), layout="constrained")
    for position, (title, rows, column) in enumerate(panels):
        axes = figure.add_subplot(lines, columns, position + 1)
        points = [(int(row["step"]), float(row[column])) for row in rows if row.get(column)]
        axes.plot(*zip(*points, strict=True), linewidth=1)
        axes.set_title(title, fontsize=8)
        axes.tick_params(labelsize=7)
    figure.savefig(picture, dpi=110)

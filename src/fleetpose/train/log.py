"""The record of a run: CSV tables that survive a restart."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path


class Table:
    """A CSV file of numbers that grows row by row; its column `step` orders the rows."""

    def __init__(self, path: Path, *, keep_up_to_step: int) -> None:
        """Open `path`, dropping rows after `keep_up_to_step`, which a resumed run will write again."""
        self.path = path
        self.rows = [row for row in read_rows(path) if int(row["step"]) <= keep_up_to_step]
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


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table, none if it is not there; one that was cut off in the middle is left out."""
    if not path.exists():
        return []
    text = path.read_bytes().decode("utf-8")
    lines = io.StringIO(text[: text.rfind("\n") + 1], newline="")
    return [dict(row) for row in csv.DictReader(lines) if row.get("step")]

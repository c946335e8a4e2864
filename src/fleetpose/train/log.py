"""The record of a run: CSV tables that survive a restart."""

from __future__ import annotations

import csv
import importlib.util
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleetpose.train.config import TrainConfig


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


class TensorBoard:
    """The same rows for TensorBoard, where that is installed; else nothing."""

    def __init__(self, folder: Path, *, purge_step: int) -> None:
        """Write to `folder`, hiding what an earlier run wrote after `purge_step`."""
        self._writer: Any = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - needs TensorBoard

            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=purge_step + 1)

    def add(self, group: str, row: Mapping[str, float]) -> None:
        """Add the numbers of a row, which is at its `step`."""
        if self._writer is None:
            return
        for name in row.keys() - {"step"}:
            self._writer.add_scalar(f"{group}/{name}", row[name], int(row["step"]))
        self._writer.flush()


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table, none if it is not there; one that was cut off in the middle is left out."""
    if not path.exists():
        return []
    text = path.read_bytes().decode("utf-8")
    lines = io.StringIO(text[: text.rfind("\n") + 1], newline="")
    return [dict(row) for row in csv.DictReader(lines) if row.get("step")]


def remaining_scenes(config: TrainConfig, step: int, world: int) -> int:
    """Scenes still to come, weighted by their area relative to the present phase's."""
    remaining, area = 0.0, 0
    for phase in config.phases:
        left = min(phase.steps, max(phase.steps - step, 0))
        step = max(step - phase.steps, 0)
        if left:
            area = area or math.prod(phase.size)
            each = phase.batch * world * config.optimiser.accumulate
            remaining += left * each * math.prod(phase.size) / area
    return round(remaining)

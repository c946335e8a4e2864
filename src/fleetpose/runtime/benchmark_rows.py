"""What a benchmark found, a row per candidate: which are worth having, and tables of all."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleetpose.runtime.energy import NOT_READABLE

#: Steps in the order of the work.
STEPS = ("decode", "resize", "network", "grouping", "draw", "encode")
#: Those from a decoded picture to people.
FINDING = ("resize", "network", "grouping")


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one candidate; milliseconds are of one picture."""

    label: str
    model: str
    runtime: str
    frames: int
    median_ms: float  # all steps
    p95_ms: float
    find_ms: float  # median from a decoded picture to people
    frames_per_second: float
    steps_ms: dict[str, float]  # median per step
    gflops: float | None  # achieved by the network, in 10^9 operations per second, two per multiply-add
    megabytes: float  # of the model's files
    memory_mb: float  # by which the process grew on loading and warming up
    accuracy: float | None  # in percent; measured, or as `accuracy_of` has it
    people: float  # found per picture
    peak_gflops: float | None = None  # of the machine in the same runtime and arithmetic
    joules: float | None = None  # per picture, all steps; None where no counter is readable
    watts: float | None = None  # given, or what the counters say

    @property
    def peak_share(self) -> float | None:
        """Share of the machine's peak that the network achieves."""
        return None if self.gflops is None or not self.peak_gflops else self.gflops / self.peak_gflops

    @property
    def efficiency(self) -> float | None:
        """The papers' accuracy x efficiency: AP x pictures per second / W."""
        if self.accuracy is None or not self.watts:
            return None
        return self.accuracy * self.frames_per_second / self.watts


def fitting(rows: Sequence[Row], *, budget_ms: float) -> Row | None:
    """Most accurate row that finds people within the budget, the faster of equals; None if none does."""
    fit = [row for row in rows if row.find_ms <= budget_ms]
    return max(
        fit, key=lambda row: (-math.inf if row.accuracy is None else row.accuracy, -row.find_ms), default=None
    )


def pareto(rows: Sequence[Row]) -> list[Row]:
    """Rows that no other one beats in both speed and accuracy, fastest first."""
    best, front = -math.inf, []
    for row in sorted(rows, key=lambda row: (row.find_ms, -(row.accuracy or 0.0))):
        if row.accuracy is not None and row.accuracy > best:
            best = row.accuracy
            front.append(row)
    return front


#: Columns of the tables: heading, and what stands below it.
COLUMNS: Mapping[str, Callable[[Row], Any]] = {
    "model": lambda row: row.label,
    "median ms": lambda row: f"{row.median_ms:.2f}",
    "p95 ms": lambda row: f"{row.p95_ms:.2f}",
    "pictures/s": lambda row: f"{row.frames_per_second:.1f}",
    "find ms": lambda row: f"{row.find_ms:.2f}",
    **{step: lambda row, step=step: f"{row.steps_ms[step]:.2f}" for step in STEPS},  # type: ignore[misc]
    "GFLOP/s": lambda row: "" if row.gflops is None else f"{row.gflops:.1f}",
    "of peak": lambda row: "" if row.peak_share is None else f"{100 * row.peak_share:.0f} %",
    "MB": lambda row: f"{row.megabytes:.2f}",
    "memory MB": lambda row: f"{row.memory_mb:.0f}",
    "J": lambda row: NOT_READABLE if row.joules is None else f"{row.joules:.3f}",
    "AP": lambda row: "" if row.accuracy is None else f"{round(row.accuracy, 2):g}",
    "AP x FPS / W": lambda row: "" if row.efficiency is None else f"{row.efficiency:.1f}",
    "people": lambda row: f"{row.people:.1f}",
}


def to_markdown(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    lines = [list(COLUMNS), ["---", *["---:"] * (len(COLUMNS) - 1)]]
    lines += [[str(cell(row)) for cell in COLUMNS.values()] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([cell(row) for cell in COLUMNS.values()] for row in rows)
    return text.getvalue()

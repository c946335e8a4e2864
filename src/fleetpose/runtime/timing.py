"""How long each step of the work takes."""

from __future__ import annotations

import time
from collections.abc import Mapping


class Stopwatch:
    """Milliseconds per named step of one picture.

    >>> watch = Stopwatch()
    >>> watch.lap("resize")
    >>> list(watch.steps_ms)
    ['resize']
    """

    def __init__(self) -> None:
        """Start the first step."""
        self.steps_ms: dict[str, float] = {}
        self._last_s = time.perf_counter()

    def lap(self, step: str) -> None:
        """End a step, and start the next; a step that comes again adds up."""
        now_s = time.perf_counter()
        self.steps_ms[step] = self.steps_ms.get(step, 0.0) + (now_s - self._last_s) * 1e3
        self._last_s = now_s


class StepTotals:
    """Mean milliseconds per step over many pictures, in constant memory.

    >>> totals = StepTotals()
    >>> totals.add({"network": 4.0})
    >>> totals.add({"network": 6.0, "draw": 1.0})
    >>> totals.means_ms()
    {'network': 5.0, 'draw': 0.5}
    """

    def __init__(self) -> None:
        """Start with no picture."""
        self.count = 0
        self._sums_ms: dict[str, float] = {}

    def add(self, steps_ms: Mapping[str, float]) -> None:
        """Count one picture's steps."""
        self.count += 1
        for step, milliseconds in steps_ms.items():
            self._sums_ms[step] = self._sums_ms.get(step, 0.0) + milliseconds

    def means_ms(self) -> dict[str, float]:
        """Mean per step over all pictures, in the order in which the steps first came."""
        return {step: total / max(self.count, 1) for step, total in self._sums_ms.items()}

"""Energy that the processor took: RAPL's counters, where the system has them and lets one read them."""

from __future__ import annotations

import re
from pathlib import Path

#: One folder per processor, by the kernel's name for it; those of its parts have a second number.
_ROOT = Path("/sys/class/powercap")
_PACKAGE = re.compile(r"intel-rapl:\d+")
NOT_READABLE = "not readable"


class EnergyMeter:
    """Joules of all processors since the meter was made, whatever they worked on.

    Attributes:
        is_readable: whether there is a counter that this process may read.
    """

    def __init__(self, root: Path = _ROOT) -> None:
        """Look for counters below `root`."""
        found = sorted(path for path in root.glob("*") if _PACKAGE.fullmatch(path.name))
        self._last: dict[Path, int] = {}
        for path in found:
            microjoules = _read(path / "energy_uj")
            if microjoules is not None:
                self._last[path] = microjoules
        self.is_readable = bool(self._last)

    def joules(self) -> float:
        """Joules since the last call, or since the meter was made; 0 where no counter is readable."""
        total = 0
        for path, before in self._last.items():
            now = _read(path / "energy_uj")
            if now is None:
                continue
            # The counter starts over at its largest value.
            total += now - before if now >= before else now - before + (_read(path / _RANGE) or 0)
            self._last[path] = now
        return total / 1e6


_RANGE = "max_energy_range_uj"


def _read(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None

"""What a measurement depends on: the processor, its cores, and where its results are kept."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

#: Folder of the cache instead of the system's usual one.
CACHE_VARIABLE = "FLEETPOSE_CACHE"


def processor() -> str:
    """Name of the processor, as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def usable_cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cache_folder() -> Path:
    """Folder for what can be measured again: `FLEETPOSE_CACHE`, else the user's cache folder."""
    wanted = os.environ.get(CACHE_VARIABLE)
    if wanted:
        return Path(wanted)
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "fleetpose"

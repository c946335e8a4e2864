"""What was measured on this machine, kept in the user's cache folder for the next time."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleetpose.runtime.machine import cache_folder

logger = logging.getLogger(__name__)

#: What a file may hold; the oldest go first.
MAX_KEPT = 200


def read_measurements(kind: str) -> dict[str, Any]:
    """Measurements of a kind by their keys; none where the file is missing or damaged."""
    try:
        kept = json.loads(_file(kind).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def write_measurements(kind: str, new: Mapping[str, Any]) -> None:
    """Keep measurements beside the earlier ones; where that cannot be, say so in the log and go on."""
    if not new:
        return
    path = _file(kind)
    kept = dict(list({**read_measurements(kind), **new}.items())[-MAX_KEPT:])
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        partial.replace(path)  # in one step, so that nobody reads half a file
    except OSError as error:
        logger.warning("%s will be measured again next time: cannot write %s: %s", kind, path, error)


def _file(kind: str) -> Path:
    return cache_folder() / f"{kind}.json"

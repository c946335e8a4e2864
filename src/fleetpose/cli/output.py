"""What the commands print: results on stdout, complaints and progress on stderr."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from fleetpose.results import PoseResult

#: Steps in the order of the work, where a picture went through them.
STEPS = ("decode", "resize", "network", "grouping", "draw", "encode", "write")


def say(text: str) -> None:
    """Print a line on stdout as it stands: not wrapped, no mark-up."""
    Console(soft_wrap=True).print(text, markup=False, highlight=False)


def warn(text: str) -> None:
    """Print a complaint as one line on stderr."""
    Console(stderr=True, soft_wrap=True).print(
        f"error: {' '.join(text.split())}", markup=False, highlight=False
    )


def say_json(data: object) -> None:
    """Print plain data as JSON on stdout."""
    say(json.dumps(data, indent=2, ensure_ascii=False))


def say_table(table: Table) -> None:
    """Print a table on stdout, wide enough for a file where stdout is no terminal."""
    console = Console()
    Console(width=None if console.is_terminal else 160).print(table)


def people_in_words(result: PoseResult) -> str:
    """How many people were found, and how sure and complete each is."""
    people = [
        f"score {score:.2f} with {int(found)} keypoints"
        for score, found in zip(result.scores, (result.keypoints[..., 2] > 0).sum(axis=1), strict=True)
    ]
    count = "1 person" if len(people) == 1 else f"{len(people)} people"
    return f"{count}: {'; '.join(people)}" if people else count


def steps_in_words(steps_ms: Mapping[str, float]) -> str:
    """Times per step and their sum, in one line.

    >>> steps_in_words({"network": 7.0, "resize": 1.0, "draw": 2.0})
    'resize 1.0 + network 7.0 + draw 2.0 = 10.0 ms per picture, 100 pictures/s'
    """
    total = sum(steps_ms.values())
    parts = " + ".join(f"{step} {steps_ms[step]:.1f}" for step in STEPS if step in steps_ms)
    rate = 1000 / total if total else 0.0
    return f"{parts} = {total:.1f} ms per picture, {rate:.{0 if rate >= 10 else 1}f} pictures/s"

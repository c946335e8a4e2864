"""What a recipe is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleetpose.train.config import TrainConfig


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to reproduce one published result, or to make weights of our own.

    Attributes:
        summary: what is trained on what, in one line.
        expected: the result to expect, and who reports it.
        settled: what the source leaves open, and how it is settled here.
        config: folder of the data → settings.
    """

    summary: str
    expected: str
    settled: str
    config: Callable[[Path], TrainConfig]

    @staticmethod
    def command(name: str) -> str:
        """Command that runs the recipe called `name`."""
        return f"fleetpose train {name} --data DIR"

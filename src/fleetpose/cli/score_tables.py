"""Tables of scores and of errors, for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from rich.table import Table

from fleetpose.metrics.breakdown import KINDS, SIZES, Breakdown
from fleetpose.runtime.evaluation import Evaluation
from fleetpose.runtime.picture_scores import PictureScores

#: What the kinds of errors of `Breakdown.ap_if_mended` mean.
MEANINGS = {
    "jitter": "keypoints near their place, but not on it",
    "inversion": "left and right of one person mixed up",
    "swap": "keypoints of one person put on another",
    "miss": "keypoints somewhere else, or not found",
    "duplicates": "one person found twice",
    "background": "people found where nobody is",
    "not found": "people not found",
    "scores": "better people with lower scores than worse ones",
}


def score_table(name: str, evaluation: Evaluation) -> Table:
    """Scores in percent, one column each."""
    table = Table(
        title=f"{name}: {evaluation.num_people} people in {evaluation.num_images} pictures, "
        f"{evaluation.metric}"
    )
    for column in evaluation.scores:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_row(*(percent(score) for score in evaluation.scores.values()))
    return table


def picture_table(name: str, result: PictureScores) -> Table:
    """Scores of whole pictures in percent, one row each."""
    title = f"{name}: {result.num_images} pictures, {result.metric}"
    table = Table(title=title, min_width=len(title))
    table.add_column("score")
    table.add_column("percent", justify="right")
    for score, share in result.scores.items():
        table.add_row(score, percent(share))
    return table


def breakdown_tables(breakdown: Breakdown) -> Iterator[Table]:
    """What each error costs; who was found, by size; and kinds of errors by size, visibility and keypoint."""
    yield _costs(breakdown)
    yield _people(breakdown)
    rows = {**breakdown.per_size, **breakdown.per_visibility, **breakdown.per_keypoint}
    yield _kinds(rows, sections=(len(SIZES), len(SIZES) + len(breakdown.per_visibility)))


def percent(share: float) -> str:
    """Share in percent with one decimal; a dash where nobody was labelled.

    >>> percent(0.1234), percent(-1.0), percent(float("nan"))
    ('12.3', '-', '-')
    """
    return "-" if math.isnan(share) or share < 0 else f"{100 * share:.1f}"


def _costs(breakdown: Breakdown) -> Table:
    """Kinds of errors, the costliest first."""
    table = Table(title=f"AP is {percent(breakdown.ap)}; without one kind of error it would be")
    table.add_column("error")
    table.add_column("AP", justify="right")
    table.add_column("won", justify="right")
    table.add_column("meaning")
    for kind, ap in sorted(breakdown.ap_if_mended.items(), key=lambda item: -item[1]):
        won = "-" if breakdown.ap < 0 else f"{100 * (ap - breakdown.ap):+.1f}"
        table.add_row(kind, percent(ap), won, MEANINGS[kind])
    return table


def _people(breakdown: Breakdown) -> Table:
    table = Table(title="people by size (small below 32², large from 96² square pixels)")
    columns = ("labelled", "found", "not found", "not found %", "found twice", "background")
    for column in ("size", *columns):
        table.add_column(column, justify="left" if column == "size" else "right")
    for size in SIZES:
        labelled, found = breakdown.labelled[size], breakdown.found[size]
        share = (labelled - found) / labelled if labelled else math.nan
        counts = (labelled, found, labelled - found)
        others = (breakdown.duplicates[size], breakdown.background[size])
        table.add_row(size, *map(str, counts), percent(share), *map(str, others))
    return table


def _kinds(rows: Mapping[str, Mapping[str, int]], *, sections: tuple[int, ...]) -> Table:
    """Shares of kinds per row, with a line before the rows at `sections`."""
    table = Table(title="labelled keypoints of people who were found, in percent")
    table.add_column("")
    for column in ("labelled", *KINDS):
        table.add_column(column, justify="right")
    for number, (name, counts) in enumerate(rows.items(), start=1):
        total = sum(counts.values())
        shares = (percent(counts[kind] / total if total else math.nan) for kind in KINDS)
        table.add_row(name, str(total), *shares, end_section=number in sections)
    return table

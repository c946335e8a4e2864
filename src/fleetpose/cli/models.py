"""`fleetpose models`: what is bundled, how large and how good it is, and what one may do with it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from rich.table import Table

    from fleetpose.models.published import CostRow


def models(
    *,
    is_json: Annotated[bool, Parameter(name="--json", negative="", show_default=False)] = False,
    is_table: Annotated[bool, Parameter(name="--table", negative="", show_default=False)] = False,
) -> None:
    """List the bundled models: size, speed, licence, data, accuracy.

    Args:
        is_json: print everything that the model files say about themselves, as JSON.
        is_table: list instead every network that can be built, with its parameters and multiply-adds beside
            what its paper says.
    """
    if is_table:
        _say_costs(is_json=is_json)
        return
    from fleetpose.cli.output import say, say_json, say_table  # noqa: PLC0415 - help must not wait for it
    from fleetpose.weights import DEFAULT_MODEL, DEFAULT_REFINER, bundled_models  # noqa: PLC0415 - same

    rows = [_row(name, path) for name, path in bundled_models().items()]
    if is_json:
        say_json(rows)
    elif not rows:
        say("no model is bundled with this installation; name an .onnx file with --model")
    else:
        data = list(dict.fromkeys(source for row in rows for source in row["data"]))
        say_table(_table(rows, data, defaults=(DEFAULT_MODEL, DEFAULT_REFINER)))
        say("Trained on:")
        for number, source in enumerate(data, start=1):
            say(f"  {number}. {source}")


def _row(name: str, path: Path) -> dict[str, Any]:
    from fleetpose.runtime.session import read_description  # noqa: PLC0415 - help must not wait for it

    description = read_description(path)
    return {
        "name": name,
        "family": description.family,
        "keypoints": len(description.skeleton),
        "skeleton": description.skeleton.name,
        "input": description.input.short_side,
        "megabytes": round(path.stat().st_size / 1e6, 2),
        **asdict(description.card),
    }


def _table(rows: list[dict[str, Any]], data: list[str], *, defaults: tuple[str, ...]) -> Table:
    """Make a table of models, in which `data` goes by its numbers."""
    from rich.table import Table  # noqa: PLC0415 - help must not wait for it

    table = Table(title="Bundled models (* together are the default)")
    for column in ("model", "params", "MACs", "input", "keypoints", "size"):
        table.add_column(column, no_wrap=True)
    for column in ("licence", "trained on", "measured"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(
            f"{row['name']}{' *' if row['name'] in defaults else ''}",
            f"{row['params'] / 1e6:.2f} M",
            f"{row['macs'] / 1e9:.2f} G",
            f"{row['input']}",
            f"{row['keypoints']} ({row['skeleton']})",
            f"{row['megabytes']} MB",
            row["licence"],
            ", ".join(str(number) for number, source in enumerate(data, start=1) if source in row["data"]),
            "\n".join(f"{metric} {value:g}" for metric, value in row["metrics"].items()),
        )
    return table


def _say_costs(*, is_json: bool) -> None:
    """Print what every network costs, and which of the papers' figures cannot be had."""
    from fleetpose.cli.output import say, say_json, say_table  # noqa: PLC0415 - help must not wait for it
    from fleetpose.models.published import cost_rows, why_not  # noqa: PLC0415 - same

    rows = cost_rows()
    if is_json:
        say_json([_cost(row) for row in rows])
        return
    say_table(_cost_table(rows))
    say("-lite and -lite-hardswish: without squeeze-and-excitation, with ReLU6 or hard swish.")
    unlike = [row for row in rows if row.not_reproduced]
    if unlike:
        say("Figures of the papers that their own way of counting does not give:")
    for row in unlike:
        for figure in row.not_reproduced:
            say(f"  {figure} ({why_not(row.name)})")


def _cost(row: CostRow) -> dict[str, Any]:
    counted, published = row.counted, row.published
    return {
        "name": row.name,
        "input_size": list(row.input_size),
        "keypoints": row.num_keypoints,
        "params": row.true.params,
        "macs": row.true.operations,
        "counted_as": published and published.convention.label,
        "counted_params": counted and counted.params,
        "counted_operations": counted and counted.operations,
        "paper_params_m": published and published.params,
        "paper_operations_g": published and published.operations,
        "not_reproduced": list(row.not_reproduced),
    }


def _cost_table(rows: list[CostRow]) -> Table:
    from rich.table import Table  # noqa: PLC0415 - help must not wait for it

    table = Table(title="Every network: what it costs, and what its paper says")
    for column in (
        "model",
        "input",
        "keypoints",
        "params",
        "MACs",
        "as the paper counts",
        "paper",
        "counted by",
    ):
        table.add_column(column, no_wrap=True)
    for row in rows:
        height, width = row.input_size
        table.add_row(
            f"{row.name}{' !' if row.not_reproduced else ''}",
            f"{height} x {width}",
            f"{row.num_keypoints}",
            f"{row.true.params:,}",
            f"{row.true.operations / 1e9:.3f} G",
            *_paper_cells(row),
        )
    return table


def _paper_cells(row: CostRow) -> tuple[str, str, str]:
    if row.counted is None or row.published is None:
        return "", "", ""
    giga = row.counted.operations / row.published.convention.giga
    return (
        f"{row.counted.params / 1e6:.3f} M, {giga:.3f} G",
        f"{row.published.params or '-'} M, {row.published.operations or '-'} G",
        row.published.convention.label,
    )

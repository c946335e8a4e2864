"""`fleetpose models`: what is bundled, how large and how good it is, and what one may do with it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from rich.table import Table


def models(
    *, is_json: Annotated[bool, Parameter(name="--json", negative="", show_default=False)] = False
) -> None:
    """List the bundled models: size, speed, licence, data, accuracy.

    Args:
        is_json: print everything that the model files say about themselves, as JSON.
    """
    from fleetpose.cli.output import say, say_json, say_table  # noqa: PLC0415 - help must not wait for it
    from fleetpose.weights import DEFAULT_MODEL, bundled_models  # noqa: PLC0415 - same

    rows = [_row(name, path) for name, path in bundled_models().items()]
    if is_json:
        say_json(rows)
    elif not rows:
        say("no model is bundled with this installation; name an .onnx file with --model")
    else:
        say_table(_table(rows, default=DEFAULT_MODEL))


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


def _table(rows: list[dict[str, Any]], *, default: str) -> Table:
    from rich.table import Table  # noqa: PLC0415 - help must not wait for it

    table = Table(title="Bundled models (* is the default)")
    for column in ("model", "params", "MACs", "input", "keypoints", "size"):
        table.add_column(column, no_wrap=True)
    for column in ("licence", "trained on", "measured"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(
            f"{row['name']}{' *' if row['name'] == default else ''}",
            f"{row['params'] / 1e6:.2f} M",
            f"{row['macs'] / 1e9:.2f} G",
            f"{row['input']}",
            f"{row['keypoints']} ({row['skeleton']})",
            f"{row['megabytes']} MB",
            row["licence"],
            "\n".join(row["data"]),
            "\n".join(f"{metric} {value:g}" for metric, value in row["metrics"].items()),
        )
    return table

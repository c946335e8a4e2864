"""`fleetpose export`: write a trained model as one ONNX file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fleetpose.cli.exit_codes import EXIT_OK


def export(
    checkpoint: Path,
    target: Path,
    *,
    card: Path | None = None,
    overrides: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    half_weights: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Write a trained model as one ONNX file that describes itself and runs without PyTorch.

    The file is run once beside the network; it is not written if the two differ by more than rounding.

    Args:
        checkpoint: last.pt of a training run.
        target: file to write, ending in .onnx; its name becomes the model's.
        card: YAML file that says where the weights come from: licence, data, command, commit, hours,
            hardware, metrics.
        overrides: change a setting of the run that matters to prediction, such as --set short_side=192 or
            --set grouping.detection_threshold=0.2; may be given several times.
        half_weights: store weights as float16, which halves the file.
    """
    # Imports stand here so that help need not wait for PyTorch.
    from fleetpose.recipes.shipping import UNKNOWN_CARD, export_checkpoint, read_card  # noqa: PLC0415

    difference = export_checkpoint(
        checkpoint,
        target,
        card=UNKNOWN_CARD if card is None else read_card(card),
        overrides=overrides,
        has_half_weights=half_weights,
    )
    size = target.stat().st_size / 1e6
    sys.stdout.write(f"{target}: {size:.2f} MB, at most {difference:.1e} standard deviations from PyTorch\n")
    return EXIT_OK

"""Write an ONNX file as OpenVINO's own format, description included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fleetpose.codecs.description import METADATA_KEY, ModelDescription
from fleetpose.errors import require


def write_openvino(
    source: Path, target: Path, description: ModelDescription, *, has_half_weights: bool = False
) -> None:
    """Convert the ONNX file `source` to `target`, ending in `.xml`, and a `.bin` of weights beside it.

    Quantised layers of the ONNX file stay quantised.

    Args:
        source: file that `export_onnx` wrote, or one made of it.
        target: replaced if it exists.
        description: what the file says about itself.
        has_half_weights: store weights as float16; the arithmetic stays what the runtime is told.

    Raises:
        MissingExtraError: the `openvino` extra is not installed.
    """
    openvino = require("openvino", extra="openvino")
    model = openvino.Core().read_model(str(source))
    save_openvino(model, target, description, has_half_weights=has_half_weights)


def save_openvino(
    model: Any,  # noqa: ANN401 - an optional package
    target: Path,
    description: ModelDescription,
    *,
    has_half_weights: bool = False,
) -> None:
    """Write an `openvino.Model`, which gets the description; see `write_openvino`."""
    openvino = require("openvino", extra="openvino")
    model.set_rt_info(description.to_json(), METADATA_KEY)
    openvino.save_model(model, str(target), compress_to_fp16=has_half_weights)

"""Formats that a model can be delivered in: their files, what proves them, and how they are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fleetpose.errors import ConfigError, UnknownNameError
from fleetpose.export.artefact import DESCRIPTION_FILE, STEM
from fleetpose.export.ncnn import SUFFIXES, write_ncnn
from fleetpose.export.openvino import write_openvino
from fleetpose.export.ramps import ramps_as_sums
from fleetpose.export.rewrite import halve_weights
from fleetpose.export.tensorrt import check_tensorrt, write_note
from fleetpose.export.web import write_web

if TYPE_CHECKING:
    from onnx import ModelProto

    from fleetpose.codecs.description import ModelDescription

#: How weights are stored: as they are, as 16-bit floats, or with 8-bit arithmetic.
PRECISIONS = ("fp32", "fp16", "int8")


class _Write(Protocol):
    def __call__(
        self, model: ModelProto, path: Path, description: ModelDescription, *, has_half_weights: bool = False
    ) -> None:
        """Write a model to a path."""


@dataclass(frozen=True, slots=True)
class Target:
    """A format.

    Attributes:
        file: model file within the folder.
        runtime: runs it for the proof.
        write: writes the model, and what its runtime needs beside it.
        precisions: ways of storing weights that it has.
        explain: writes, in the end, what a user of the format has to know.
    """

    file: str
    runtime: str
    write: _Write
    precisions: tuple[str, ...] = PRECISIONS
    explain: Callable[[Path, ModelDescription], None] | None = None


def check_targets(names: list[str], precision: str) -> None:
    """Refuse unknown formats and precisions, and those that do not go together.

    Raises:
        UnknownNameError: a format or the precision is unknown.
        ConfigError: none is named, or one has no such precision.
    """
    if not names:
        raise ConfigError(f"name at least one format to export to: {', '.join(TARGETS)}")
    for name in names:
        if name not in TARGETS:
            raise UnknownNameError("format to export to", name, TARGETS)
    if precision == "bf16":
        raise ConfigError(
            "bf16 is no way to store a model; load any model with precision bf16 and it computes so"
        )
    if precision not in PRECISIONS:
        raise UnknownNameError("precision", precision, PRECISIONS)
    for name in names:
        if precision not in TARGETS[name].precisions:
            known = " or ".join(TARGETS[name].precisions)
            raise ConfigError(f"format {name} has no precision {precision}; use {known}, or another format")


def _write_onnx(
    model: ModelProto,
    path: Path,
    description: ModelDescription,  # noqa: ARG001 - in the model's metadata already
    *,
    has_half_weights: bool = False,
) -> None:
    written = type(model).FromString(model.SerializeToString())
    if has_half_weights:
        halve_weights(written)
    path.write_bytes(written.SerializeToString())


def _write_openvino(
    model: ModelProto, path: Path, description: ModelDescription, *, has_half_weights: bool = False
) -> None:
    # OpenVINO stores halves by itself, and reads floats from a file that does not outlast this.
    source = path.with_name("source.onnx")
    source.write_bytes(model.SerializeToString())
    write_openvino(source, path, description, has_half_weights=has_half_weights)
    source.unlink()


def _write_ncnn(
    model: ModelProto, path: Path, description: ModelDescription, *, has_half_weights: bool = False
) -> None:
    write_ncnn(model, path, description, has_half_weights=has_half_weights)
    path.with_name(DESCRIPTION_FILE).write_text(description.to_json(), encoding="utf-8")


def _write_tensorrt(
    model: ModelProto, path: Path, description: ModelDescription, *, has_half_weights: bool = False
) -> None:
    rewritten = type(model).FromString(model.SerializeToString())
    ramps_as_sums(rewritten)
    check_tensorrt(rewritten, description)
    _write_onnx(rewritten, path, description, has_half_weights=has_half_weights)


#: Formats by name.
TARGETS: Mapping[str, Target] = {
    "onnx": Target(f"{STEM}.onnx", "onnx", _write_onnx),
    "openvino": Target(f"{STEM}.xml", "openvino", _write_openvino),
    "ncnn": Target(f"{STEM}{SUFFIXES[0]}", "ncnn", _write_ncnn, ("fp32", "fp16")),
    "tensorrt": Target(f"tensorrt/{STEM}.onnx", "onnx", _write_tensorrt, ("fp32", "fp16"), write_note),
    "web": Target(f"web/{STEM}.onnx", "onnx", write_web),
}

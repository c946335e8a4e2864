"""Write a model as ncnn's pair of files, by way of the converter that comes with ncnn (the `pnnx` package).

The converter is a program of its own, so that PyTorch is not needed, though its package asks for it.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fleetpose.codecs.description import ModelDescription
from fleetpose.errors import CheckpointError, MissingExtraError
from fleetpose.export.ramps import ramps_as_sums

if TYPE_CHECKING:
    from onnx import ModelProto

#: Both files begin alike; the network is in `.param`, its weights are in `.bin`.
SUFFIXES = (".ncnn.param", ".ncnn.bin")
INPUT_NAME = "image"
#: Name and value of a whole number among the converter's notes.
_AXIS = re.compile(r"^pnnx\.Expression\s+(\S+)\s+0 1 \S+ expr=(\d+)", re.MULTILINE)
#: The converter needs two sizes to see that height and width are free.
_SIZES = ((4, 6), (6, 4))
#: Longest the converter may take, in seconds; it needs a few.
_PATIENCE_S = 600


def write_ncnn(
    model: ModelProto, target: Path, description: ModelDescription, *, has_half_weights: bool = False
) -> None:
    """Convert an ONNX model to `target`, ending in `.ncnn.param`, and a `.ncnn.bin` beside it.

    Args:
        model: with weights in floats.
        target: replaced if it exists.
        description: what the model says about itself; ncnn's files hold no such text.
        has_half_weights: store weights as float16; the arithmetic stays float32.

    Raises:
        CheckpointError: the model has a layer that ncnn lacks, or the converter fails.
        MissingExtraError: the converter is not installed.
    """
    converter = _converter()
    prepared = type(model).FromString(model.SerializeToString())
    ramps_as_sums(prepared)
    with TemporaryDirectory() as place:
        source = Path(place) / "model.onnx"
        source.write_bytes(prepared.SerializeToString())
        sizes = [[side * description.input.multiple for side in size] for size in _SIZES]
        _run(
            converter,
            source,
            *(f"inputshape{n or ''}=[1,3,{h},{w}]" for n, (h, w) in zip((0, 2), sizes, strict=True)),
            f"fp16={int(has_half_weights)}",
        )
        network, weights = (source.with_name(f"model{suffix}") for suffix in SUFFIXES)
        if not network.is_file() or not weights.is_file():
            raise CheckpointError(f"ncnn's converter gave no model for {description.name}")
        # The converter's own notes hold constants that it left out of ncnn's file.
        notes = source.with_name("model.pnnx.param").read_text(encoding="utf-8")
        text = _named(_with_sums(network.read_text(encoding="utf-8"), notes), description)
        target.write_text(text, encoding="utf-8")
        weights_of(target).write_bytes(weights.read_bytes())


def weights_of(network: Path) -> Path:
    """File of the weights that belong to a `.ncnn.param` file."""
    return network.with_name(network.name.removesuffix(SUFFIXES[0]) + SUFFIXES[1])


def _converter() -> Path:
    """Path of the converter's program; its package is not imported, because that would import PyTorch."""
    found = importlib.util.find_spec("pnnx")
    for folder in (found and found.submodule_search_locations) or ():
        program = Path(folder) / ("pnnx.exe" if sys.platform == "win32" else "pnnx")
        if program.is_file():
            return program
    raise MissingExtraError("pnnx is not installed; run: pip install 'fleetpose[export-ncnn]'")


def _run(program: Path, source: Path, *settings: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - the converter's own path
            [program, source.name, *settings],
            cwd=source.parent,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_PATIENCE_S,
        )
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(f"ncnn's converter took more than {_PATIENCE_S} seconds") from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise CheckpointError(f"ncnn's converter failed with {done.returncode}: {last}")


def _with_sums(text: str, notes: str) -> str:
    """Put ncnn's own layer for running sums where the converter, which does not know it, left ONNX's."""
    axes = {name: int(axis) for name, axis in _AXIS.findall(notes)}
    magic, _, *layers = text.splitlines()
    lines = [line.split() for line in layers]
    axis_of = {words[4]: axes[words[1]] for words in lines if words[1] in axes and words[2:4] == ["0", "1"]}
    kept = []
    for words in lines:
        if words[0] == "CumSum" and words[5] in axis_of:
            # Without the batch's axis.
            kept.append(
                ["CumulativeSum", words[1], "1", "1", words[4], words[6], f"0={axis_of[words[5]] - 1}"]
            )
        elif words[1] not in axes or words[2:4] != ["0", "1"]:
            kept.append(words)
    blobs = sum(int(words[3]) for words in kept)
    return "\n".join([magic, f"{len(kept)} {blobs}", *(" ".join(words) for words in kept)]) + "\n"


def _named(text: str, description: ModelDescription) -> str:
    """Give input and outputs their names, after a look for layers that the converter could not express."""
    magic, counts, *layers = text.splitlines()
    unknown = sorted({line.split()[0] for line in layers if "." in line.split()[0]})
    if unknown:
        raise CheckpointError(
            f"{description.name} cannot become an ncnn model: ncnn lacks {', '.join(unknown)}; "
            "export to onnx or openvino"
        )
    names = {"in0": INPUT_NAME} | {f"out{n}": name for n, name in enumerate(description.outputs)}
    renamed = [_renamed(line.split(), names) for line in layers]
    return "\n".join([magic, counts, *renamed]) + "\n"


def _renamed(words: list[str], names: dict[str, str]) -> str:
    """A layer's line: kind, name, numbers of inputs and outputs, their names, settings."""
    last = 4 + int(words[2]) + int(words[3])
    blobs = [names.get(word, word) for word in words[4:last]]
    return " ".join([*words[:4], *blobs, *words[last:]])

"""What TensorRT needs to make its engine of our ONNX file, and what of it can be checked without TensorRT.

An engine holds for one GPU and one version of TensorRT, so that it has to be made where it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetpose.codecs import top_down
from fleetpose.errors import CheckpointError

if TYPE_CHECKING:
    from onnx import ModelProto

    from fleetpose.codecs.description import ModelDescription

NOTE_FILE = "README.md"
#: Opsets that the parser of TensorRT 10.15 reads.
OPSETS = range(9, 25)
#: Operators of our graphs that this parser's list (onnx-tensorrt, docs/operators.md) says are supported. Not
#: `Range`: older parsers, as of TensorRT 8.4, do not count floats up to a size that is still free.
OPERATORS = frozenset(
    {
        *("Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Conv"),
        *("ConvTranspose", "CumSum", "Div", "Elu", "Exp", "Expand", "Floor", "Gather", "GatherElements"),
        *("Gemm", "GlobalAveragePool", "GreaterOrEqual", "HardSigmoid", "Identity", "LeakyRelu", "Log"),
        *("MatMul", "Max", "MaxPool", "Min", "Mul", "Pad", "Pow", "PRelu", "ReduceMean", "ReduceSum"),
        *("Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Slice", "Softmax", "Split", "Sqrt", "Squeeze"),
        *("Sub", "Sum", "Tanh", "Transpose", "Unsqueeze", "Where"),
    }
)
#: Least and greatest sizes of the engine, in shares of the model's own.
_SHARES = (0.5, 1.0, 2.0)


def check_tensorrt(model: ModelProto, description: ModelDescription) -> None:
    """Check opset, operators and input of a model against what TensorRT's parser says that it reads.

    Raises:
        CheckpointError: one of them is not among it.
    """
    opset = next((one.version for one in model.opset_import if one.domain in {"", "ai.onnx"}), 0)
    if opset not in OPSETS:
        raise CheckpointError(
            f"{description.name} is of ONNX opset {opset}, TensorRT reads {OPSETS[0]} to {OPSETS[-1]}"
        )
    unknown = sorted({node.op_type for node in model.graph.node if node.op_type not in OPERATORS})
    foreign = sorted({node.domain for node in model.graph.node if node.domain not in {"", "ai.onnx"}})
    if unknown or foreign:
        raise CheckpointError(
            f"{description.name} has what TensorRT is not known to read: {', '.join(unknown + foreign)}"
        )


def trtexec_line(description: ModelDescription, *, stem: str = "model") -> str:
    """Command that makes an engine: of a crop's size for top-down models, else of a range of sizes."""
    sizes = [
        f"--{kind}Shapes=image:1x3x{h}x{w}"
        for kind, (h, w) in zip(("min", "opt", "max"), _sizes(description), strict=True)
    ]
    return " ".join(["trtexec", f"--onnx={stem}.onnx", f"--saveEngine={stem}.plan", "--fp16", *sizes])


def write_note(folder: Path, description: ModelDescription) -> None:
    """Write the command and what was checked beside the model."""
    line = trtexec_line(description).replace(" --min", " \\\n    --min")
    sides = f"H and W in multiples of {description.input.multiple}"
    text = f"""# {description.name} on TensorRT

```bash
{line}
```

The engine holds for the GPU and the TensorRT that made it. Its input `image` is `[1, 3, H, W]` float32,
(rgb - mean) / std as `../description.json` says, {sides}.
Its outputs are {", ".join(description.outputs)}; `../decode.py` turns them into keypoints.

Checked when this folder was written: the ONNX file finds the same people as its source in ONNX Runtime
(`../parity.json`), the parser of TensorRT 10.15 reads its opset, every operator is on that parser's list of
supported ones, and height and width are free. TensorRT itself was not run. `--fp16` computes in 16 bits:
leave it out if keypoints move.
"""
    (folder / "tensorrt" / NOTE_FILE).write_text(text, encoding="utf-8")


def _sizes(description: ModelDescription) -> list[tuple[int, int]]:
    """Least, usual and greatest (h, w) of the input."""
    settings: dict[str, Any] = description.codec
    if settings["type"] == top_down.CODEC_TYPE:
        height, width = settings.get("input_size", (256, 192))
        return [(int(height), int(width))] * len(_SHARES)
    multiple, least = description.input.multiple, description.input.min_side
    sides = [
        max(multiple, least, round(description.input.short_side * share / multiple) * multiple)
        for share in _SHARES
    ]
    return [(side, side) for side in sides]

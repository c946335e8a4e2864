"""Count the columns and rows of a map without `Range`, for runtimes that have none of a size yet unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fleetpose.errors import require

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def ramps_as_sums(model: ModelProto) -> int:
    """Count columns and rows of a map by running sums over ones, in place → how often.

    ncnn has no `Range`, and older TensorRT none over floats up to a free size. LitePose's plain variant adds
    to its tags how far right and down each cell lies.
    """
    onnx = require("onnx", extra="export")
    graph = model.graph
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    nodes: list[NodeProto] = []
    count = 0
    for node in graph.node:
        ramp = _ramp(node, producers, constants)
        if ramp is None:
            nodes.append(node)
            continue
        nodes.extend(_running_sum(onnx, graph, node.output[0], *ramp))
        count += 1
    if count:
        kept = _reached(nodes, {output.name for output in graph.output})
        del graph.node[:]
        graph.node.extend(kept)
        del graph.value_info[:]
    return count


def _ramp(
    node: NodeProto, producers: dict[str, NodeProto], constants: dict[str, Any]
) -> tuple[str, int] | None:
    """Map and axis that `Unsqueeze(Range(0, its size, 1))` counts, as `[1, w]` or `[h, 1]`; None if other."""
    steps = producers.get(node.input[0]) if node.op_type == "Unsqueeze" else None
    if steps is None or steps.op_type != "Range":
        return None
    first, end, step = steps.input
    if float(constants.get(first, 1)) != 0 or float(constants.get(step, 0)) != 1:
        return None
    shape = producers.get(end)
    while shape is not None and shape.op_type in {"Cast", "Squeeze"}:
        shape = producers.get(shape.input[0])
    if shape is None or shape.op_type != "Shape":
        return None
    axis = next(one.i for one in shape.attribute if one.name == "start")
    is_row = int(constants[node.input[1]].ravel()[0]) == 0
    return (shape.input[0], axis) if axis == (3 if is_row else 2) else None


def _running_sum(onnx: Any, graph: Any, name: str, source: str, axis: int) -> list[NodeProto]:  # noqa: ANN401 - an optional module
    """Nodes that give `[1, 1, h, w]` under the name of a ramp, which broadcasts as the ramp does."""

    def constant(key: str, values: Any) -> str:  # noqa: ANN401 - anything that NumPy takes
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values), f"{name}_{key}"))
        return f"{name}_{key}"

    make = onnx.helper.make_node
    channel = [constant("first", [0]), constant("second", [1]), constant("channels", [1])]
    zero, one = constant("zero", np.float32(0)), constant("one", np.float32(1))
    return [
        make("Slice", [source, *channel], [f"{name}_map"]),
        make("Mul", [f"{name}_map", zero], [f"{name}_zeros"]),
        make("Add", [f"{name}_zeros", one], [f"{name}_ones"]),
        make("CumSum", [f"{name}_ones", constant("axis", np.int64(axis))], [f"{name}_counts"]),
        make("Sub", [f"{name}_counts", one], [name]),
    ]


def _reached(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Nodes that some output needs."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]

"""Make an exported graph cheaper to run without changing what it computes, beyond rounding.

Exporters and runtimes fold what every graph has: normalisations into convolutions, borders into their
padding. These rewrites are for what our families have beside that, each tested for equality and measured in
`benchmarks/rewrites.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fleetpose.errors import require

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Array = npt.NDArray[np.float32]

#: Weights smaller than this stay float32: they are biases and constants of the graph.
HALVED_FROM_ELEMENTS = 64
#: Weights of a bilinear doubling along one direction, as a 4-tap transposed convolution of stride 2.
_BILINEAR = np.outer([0.25, 0.75, 0.75, 0.25], [0.25, 0.75, 0.75, 0.25]).astype(np.float32)


def simplify(model: ModelProto) -> dict[str, int]:
    """Apply, in place, all rewrites that pay on every runtime → how often each was applied."""
    counts = {rewrite.__name__: rewrite(model) for rewrite in REWRITES}
    return {name: count for name, count in counts.items() if count}


def merge_deconvs(model: ModelProto) -> int:
    """Turn sums of two transposed convolutions into one over the concatenated inputs → how many.

    LitePose adds a transposed convolution of the refined path to one of the trunk's map. They differ in
    nothing but their inputs, so one kernel with both's input channels gives the sum.
    """
    graph = _Graph(model)
    count = 0
    for node in graph.nodes("Add"):
        pair = [graph.producer(name) for name in node.input]
        if not all(one is not None and graph.is_only_for(one, node) for one in pair) or pair[0] is pair[1]:
            continue
        first, second = (one for one in pair if one is not None)
        if not _are_addable(graph, first, second):
            continue
        weight = np.concatenate([graph.constants[one.input[1]] for one in (first, second)], axis=0)
        biases = [graph.constants[one.input[2]] for one in (first, second) if len(one.input) > 2]
        joined = f"{node.output[0]}_inputs"
        inputs = [joined, graph.add_constant(f"{node.output[0]}_weight", weight)]
        if biases:
            inputs.append(graph.add_constant(f"{node.output[0]}_bias", np.sum(biases, axis=0)))
        merged = graph.copy(first, inputs, list(node.output))
        graph.replace(
            [first, second, node],
            [graph.make("Concat", [first.input[0], second.input[0]], [joined], axis=1), merged],
        )
        count += 1
    graph.finish()
    return count


def fold_normalisations(model: ModelProto) -> int:
    """Fold batch normalisations into the transposed convolutions before them → how many.

    Runtimes do so behind convolutions only.
    """
    graph = _Graph(model)
    count = 0
    for node in graph.nodes("BatchNormalization"):
        deconv = graph.producer(node.input[0])
        if deconv is None or deconv.op_type != "ConvTranspose" or not graph.is_only_for(deconv, node):
            continue
        if not graph.has_constants([*node.input[1:], *deconv.input[1:]]) or _groups(deconv) != 1:
            continue
        gain, shift, mean, variance = (graph.constants[name].astype(np.float64) for name in node.input[1:5])
        scale = gain / np.sqrt(variance + _attribute(node, "epsilon", 1e-5))
        weight = graph.constants[deconv.input[1]] * scale[None, :, None, None]
        bias = graph.constants[deconv.input[2]] if len(deconv.input) > 2 else 0.0
        inputs = [
            deconv.input[0],
            graph.add_constant(f"{node.output[0]}_weight", weight),
            graph.add_constant(f"{node.output[0]}_bias", (bias - mean) * scale + shift),
        ]
        graph.replace([deconv, node], [graph.copy(deconv, inputs, [node.output[0]])])
        count += 1
    graph.finish()
    return count


def fold_scales(model: ModelProto) -> int:
    """Fold multiplications by a constant into the convolution behind them → how many.

    E-swish, EfficientPose's activation, is Swish times 1.25; where a convolution follows, its weights take
    the factor, and what remains is Swish.
    """
    graph = _Graph(model)
    count = 0
    for node in graph.nodes("Mul"):
        factors = [name for name in node.input if name in graph.constants and graph.constants[name].size == 1]
        inputs = [name for name in node.input if name not in graph.constants]
        consumers = graph.consumers(node.output[0])
        if len(factors) != 1 or len(inputs) != 1 or len(consumers) != 1:
            continue
        conv = consumers[0]
        if conv.op_type != "Conv" or not graph.has_constants(conv.input[1:]):
            continue
        weight = graph.constants[conv.input[1]] * graph.constants[factors[0]].reshape(())
        scaled = graph.add_constant(f"{conv.output[0]}_weight", weight)
        graph.replace(
            [node, conv],
            [graph.copy(conv, [inputs[0], scaled, *conv.input[2:]], list(conv.output))],
        )
        count += 1
    graph.finish()
    return count


def resize_instead_of_deconvs(model: ModelProto) -> int:
    """Turn transposed convolutions that only interpolate into `Resize` → how many.

    They see zeros beyond the border, so the map gets a border of zeros first and loses its double after. Not
    among `REWRITES`: whether it pays depends on the runtime.
    """
    graph = _Graph(model)
    count = 0
    for node in graph.nodes("ConvTranspose"):
        if not _is_bilinear(graph, node):
            continue
        name = node.output[0]
        constants: dict[str, npt.NDArray[Any]] = {
            "border": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
            "scales": np.array([1, 1, 2, 2], np.float32),
            "starts": np.array([2, 2], np.int64),
            "ends": np.array([-2, -2], np.int64),
            "axes": np.array([2, 3], np.int64),
        }
        border, scales, starts, ends, axes = (
            graph.add_constant(f"{name}_{key}", values) for key, values in constants.items()
        )
        graph.replace(
            [node],
            [
                graph.make("Pad", [node.input[0], border], [f"{name}_padded"], mode="constant"),
                graph.make(
                    "Resize",
                    [f"{name}_padded", "", scales],
                    [f"{name}_doubled"],
                    mode="linear",
                    coordinate_transformation_mode="half_pixel",
                ),
                graph.make("Slice", [f"{name}_doubled", starts, ends, axes], [name]),
            ],
        )
        count += 1
    graph.finish()
    return count


def halve_weights(model: ModelProto) -> None:
    """Store large float32 weights as float16, each behind a cast that runtimes fold on loading."""
    onnx = require("onnx", extra="export")
    casts = []
    for weights in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype != np.float32 or values.size < HALVED_FROM_ELEMENTS:
            continue
        name = weights.name
        halved = onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}_half")
        weights.CopyFrom(halved)
        casts.append(onnx.helper.make_node("Cast", [halved.name], [name], to=onnx.TensorProto.FLOAT))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)


#: In the order in which they help one another.
REWRITES: tuple[Callable[[Any], int], ...] = (merge_deconvs, fold_normalisations, fold_scales)


class _Graph:
    """A model's graph, looked up by names, and changed at the end."""

    def __init__(self, model: ModelProto) -> None:
        self._onnx = require("onnx", extra="export")
        self._graph = model.graph
        self.constants: dict[str, npt.NDArray[Any]] = {}
        for weights in model.graph.initializer:
            self.constants[weights.name] = self._onnx.numpy_helper.to_array(weights)
        for node in model.graph.node:
            # Weights that are stored as float16 come through a cast.
            if node.op_type == "Cast" and node.input[0] in self.constants:
                kind = self._onnx.helper.tensor_dtype_to_np_dtype(_attribute(node, "to", 1))
                self.constants[node.output[0]] = self.constants[node.input[0]].astype(kind)
        self._producers = {name: node for node in model.graph.node for name in node.output}
        self._outputs = {output.name for output in model.graph.output}
        self._replaced: dict[int, list[NodeProto]] = {}

    def nodes(self, kind: str) -> Iterator[NodeProto]:
        """Nodes of a kind that no rewrite has touched."""
        for node in list(self._graph.node):
            if node.op_type == kind and id(node) not in self._replaced:
                yield node

    def producer(self, name: str) -> NodeProto | None:
        node = self._producers.get(name)
        return None if node is None or id(node) in self._replaced else node

    def consumers(self, name: str) -> list[NodeProto]:
        """Nodes that read a value; none if it is an output of the model too."""
        if name in self._outputs:
            return []
        return [node for node in self._graph.node if name in node.input]

    def is_only_for(self, node: NodeProto, reader: NodeProto) -> bool:
        consumers = self.consumers(node.output[0])
        return len(consumers) == 1 and consumers[0] is reader

    def has_constants(self, names: Any) -> bool:  # noqa: ANN401 - a protobuf list
        return all(name in self.constants for name in names)

    def add_constant(self, name: str, values: npt.NDArray[Any]) -> str:
        kind = np.float32 if values.dtype.kind == "f" else values.dtype
        self._graph.initializer.append(self._onnx.numpy_helper.from_array(values.astype(kind), name))
        self.constants[name] = values.astype(kind)
        return name

    def make(self, kind: str, inputs: list[str], outputs: list[str], **attributes: object) -> NodeProto:
        node: NodeProto = self._onnx.helper.make_node(kind, inputs, outputs, **attributes)
        return node

    def copy(self, node: NodeProto, inputs: list[str], outputs: list[str]) -> NodeProto:
        """Node with the attributes of another."""
        made = self.make(node.op_type, inputs, outputs)
        made.attribute.extend(node.attribute)
        return made

    def replace(self, old: list[NodeProto], new: list[NodeProto]) -> None:
        """Put new nodes in the place of the last old one."""
        for node in old:
            self._replaced[id(node)] = []
        self._replaced[id(old[-1])] = new

    def finish(self) -> None:
        """Write the changes into the model and drop what nobody reads any more."""
        nodes = [new for node in self._graph.node for new in self._replaced.get(id(node), [node])]
        read = Counter(name for node in nodes for name in node.input)
        kept = [node for node in nodes if any(name in read or name in self._outputs for name in node.output)]
        read = Counter(name for node in kept for name in node.input)
        weights = [one for one in self._graph.initializer if one.name in read or one.name in self._outputs]
        values = {name for node in kept for name in node.output}
        shapes = [one for one in self._graph.value_info if one.name in values]
        # Protobuf lists copy what is put in, so new lists are made before the old ones are emptied.
        for field, items in (("node", kept), ("initializer", weights), ("value_info", shapes)):
            copies = [type(item).FromString(item.SerializeToString()) for item in items]
            self._graph.ClearField(field)
            getattr(self._graph, field).extend(copies)


def _are_addable(graph: _Graph, first: NodeProto, second: NodeProto) -> bool:
    if first.op_type != "ConvTranspose" or second.op_type != "ConvTranspose":
        return False
    if len(first.input) != len(second.input) or _groups(first) != 1:
        return False
    if not graph.has_constants([*first.input[1:], *second.input[1:]]):
        return False
    same_settings = sorted(one.SerializeToString() for one in first.attribute) == sorted(
        one.SerializeToString() for one in second.attribute
    )
    same_kernels = graph.constants[first.input[1]].shape[1:] == graph.constants[second.input[1]].shape[1:]
    return same_settings and same_kernels


def _is_bilinear(graph: _Graph, node: NodeProto) -> bool:
    if len(node.input) != 2 or node.input[1] not in graph.constants:
        return False
    weight = graph.constants[node.input[1]]
    is_depthwise = weight.shape[1:] == (1, 4, 4) and _groups(node) == weight.shape[0]
    is_doubling = list(_attribute(node, "strides", [])) == [2, 2] and (
        list(_attribute(node, "pads", [])) == [1, 1, 1, 1]
    )
    return is_depthwise and is_doubling and bool(np.abs(weight - _BILINEAR).max() < 1e-6)


def _groups(node: NodeProto) -> int:
    return int(_attribute(node, "group", 1))


def _attribute(node: NodeProto, name: str, default: Any) -> Any:  # noqa: ANN401 - of any kind
    onnx = require("onnx", extra="export")
    return next((onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)

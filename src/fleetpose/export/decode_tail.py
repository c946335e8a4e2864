"""Append to a bottom-up network what finds the candidates in its maps, so that only they leave it.

The tail is plain ONNX of opset 18: max-pooling for local maxima, top-k, and gathering of the cells around
them. What it gives, `codecs/candidates.py` reads.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetpose.codecs.associative_embedding import CODEC_TYPE as MAPS_CODEC
from fleetpose.codecs.associative_embedding import AssociativeEmbeddingCodec
from fleetpose.codecs.candidates import (
    CELLS,
    GRID,
    HEIGHT_REACH,
    HEIGHTS,
    OUTPUTS,
    TAG_REACH,
    TAGS,
    CandidateCodec,
)
from fleetpose.codecs.description import METADATA_KEY, ModelDescription
from fleetpose.errors import CheckpointError, require

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

#: Before the names of the tail's own values.
PREFIX = "decode_"


def add_decode_tail(path: Path, target: Path | None = None) -> None:
    """Read a model file and write it with a decoding tail.

    Args:
        path: model file that gives maps.
        target: where to write; None to replace `path`.

    Raises:
        CheckpointError: the model is not bottom-up, or has a tail already.
        MissingExtraError: the `export` extra is not installed.
    """
    onnx = require("onnx", extra="export")
    model = onnx.load(str(path))
    texts = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in texts:
        raise CheckpointError(f"{path} does not describe itself; write it with `fleetpose export`")
    description = append_tail(model, ModelDescription.from_json(texts[METADATA_KEY]), onnx)
    onnx.helper.set_model_props(model, texts | {METADATA_KEY: description.to_json()})
    onnx.checker.check_model(model)
    (target or path).write_bytes(model.SerializeToString())


def append_tail(model: ModelProto, description: ModelDescription, onnx: Any) -> ModelDescription:  # noqa: ANN401 - an optional module
    """Put the tail behind a network's outputs, in place → what the model then says about itself."""
    if description.codec["type"] != MAPS_CODEC:
        raise CheckpointError(
            f"a decoding tail is for models that decode by {MAPS_CODEC}; {description.name} decodes by "
            f"{description.codec['type']}"
        )
    codec = AssociativeEmbeddingCodec.from_description(description)
    candidates = CandidateCodec(fields=description.fields, grouping=codec.grouping)
    tail = _Tail(onnx)
    tail.build(codec, candidates)
    graph = model.graph
    graph.node.extend(tail.nodes)
    graph.initializer.extend(tail.constants)
    del graph.output[:]
    graph.output.extend(tail.outputs(graph_keypoints=codec.tag_field.channels))
    del graph.value_info[:]
    return replace(description, codec=candidates.settings())


class _Tail:
    """Nodes and constants of a tail in the making; each method returns the name of a value."""

    def __init__(self, onnx: Any) -> None:  # noqa: ANN401 - an optional module
        self._onnx = onnx
        self.nodes: list[NodeProto] = []
        self.constants: list[Any] = []

    def build(self, codec: AssociativeEmbeddingCodec, candidates: CandidateCodec) -> None:
        """Write the whole tail."""
        heatmaps = self._averaged([item.name for item in codec.heatmap_fields], codec)
        size = self._node("Shape", [heatmaps], start=2, end=4)
        self._node("Reshape", [size, self._constant(np.array([1, 2]))], GRID)
        height, width = (
            self._node("Gather", [size, self._constant(np.array(axis))], axis=0) for axis in (0, 1)
        )
        pooled = self._node("MaxPool", [heatmaps], kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1])
        # No height is above its neighbourhood's, so that this is equality.
        is_highest = self._node("GreaterOrEqual", [heatmaps, pooled])
        maxima = self._node("Where", [is_highest, heatmaps, self._constant(np.float32(-math.inf))])
        rows = self._node("Reshape", [maxima, self._constant(np.array([0, 0, -1]))])
        wanted = self._constant(np.array([candidates.grouping.weak_limit]))
        area = self._node("Mul", [height, width])
        count = self._node("Min", [wanted, self._node("Reshape", [area, self._constant(np.array([1]))])])
        self._node("TopK", [rows, count], self._name(), CELLS, axis=2, largest=1, sorted=1)
        row, column = self._node("Div", [CELLS, width]), self._node("Mod", [CELLS, width])
        self._gathered(heatmaps, row, column, HEIGHTS, reach=HEIGHT_REACH, fill=-math.inf)
        ratio = self._constant(np.array(candidates.tag_ratio))
        tag_row, tag_column = (self._node("Div", [place, ratio]) for place in (row, column))
        self._gathered(codec.tag_field.name, tag_row, tag_column, TAGS, reach=TAG_REACH, fill=None)

    def outputs(self, *, graph_keypoints: int) -> list[Any]:
        """Describe the tail's outputs."""
        kinds = self._onnx.TensorProto
        table = {
            CELLS: (kinds.INT64, [1, graph_keypoints, "candidates"]),
            HEIGHTS: (kinds.FLOAT, [1, graph_keypoints, "candidates", 5, 5]),
            TAGS: (kinds.FLOAT, [1, graph_keypoints, "candidates", 3, 3]),
            GRID: (kinds.INT64, [1, 2]),
        }
        return [self._onnx.helper.make_tensor_value_info(name, *table[name]) for name in OUTPUTS]

    def _averaged(self, names: list[str], codec: AssociativeEmbeddingCodec) -> str:
        """Mean of the heatmaps of all strides on the finest grid."""
        finest = min(codec.heatmap_fields, key=lambda item: item.stride)
        size = self._node("Shape", [finest.name])
        resized = [
            name
            if name == finest.name
            else self._node(
                "Resize",
                [name, "", "", size],
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            )
            for name in names
        ]
        if len(resized) == 1:
            return resized[0]
        total = self._node("Sum", resized)
        return self._node("Mul", [total, self._constant(np.float32(1 / len(resized)))])

    def _gathered(
        self, maps: str, row: str, column: str, target: str, *, reach: int, fill: float | None
    ) -> None:
        """Gather cells around each place into `target` `[1, K, n, side, side]`; None repeats the border."""
        side = 2 * reach + 1
        margins = self._constant(np.array([0, 0, reach, reach, 0, 0, reach, reach]))
        if fill is None:
            padded = self._node("Pad", [maps, margins], mode="edge")
        else:
            padded = self._node("Pad", [maps, margins, self._constant(np.float32(fill))])
        width = self._node("Shape", [padded], start=3, end=4)
        cells = self._node("Reshape", [padded, self._constant(np.array([0, 0, -1]))])
        steps = np.arange(side)
        corner = self._node("Add", [self._node("Mul", [row, width]), column])
        lines = self._node("Mul", [self._constant(steps[:, None]), width])
        window = self._node("Add", [lines, self._constant(steps[None])])  # [side, side]
        corners = self._node("Unsqueeze", [corner, self._constant(np.array([3, 4]))])
        places = self._node("Add", [corners, window])
        flat = self._node("Reshape", [places, self._constant(np.array([0, 0, -1]))])
        found = self._node("GatherElements", [cells, flat], axis=2)
        self._node("Reshape", [found, self._constant(np.array([0, 0, -1, side, side]))], target)

    def _name(self) -> str:
        return f"{PREFIX}{len(self.nodes)}_{len(self.constants)}"

    def _constant(self, values: Any) -> str:  # noqa: ANN401 - anything that NumPy takes
        array = np.asarray(values)
        name = f"{PREFIX}constant_{len(self.constants)}"
        if array.dtype.kind == "i":
            array = array.astype(np.int64)
        self.constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def _node(self, kind: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:  # noqa: ANN401 - ONNX's own
        names = list(outputs) or [f"{PREFIX}{kind.lower()}_{len(self.nodes)}"]
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, names, **attributes))
        return names[-1]

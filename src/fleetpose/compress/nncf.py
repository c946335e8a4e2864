"""Post-training quantisation by NNCF, for OpenVINO alone; it also quantises transposed convolutions."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fleetpose.errors import require
from fleetpose.runtime.session import INPUT_NAME

if TYPE_CHECKING:
    from onnx import ModelProto

Array = npt.NDArray[np.float32]

#: What OpenVINO calls convolutions; the last is the transposed one.
_CONVOLUTIONS = {"Convolution", "GroupConvolution", "ConvolutionBackpropData"}
#: OpenVINO reads a convolution with a bias as two operators, of which the first bears this behind its name.
_BARE = "/WithoutBiases"


def quantise_with_nncf(model: ModelProto, inputs: Sequence[Array], *, spared: Collection[str] = ()) -> Any:  # noqa: ANN401 - an optional package
    """Quantise all but the named convolutions, and but what shapes the maps behind the last one.

    Args:
        model: graph in floats, with names for its nodes.
        inputs: pictures as the network sees them, each `[1, 3, H, W]`.
        spared: names of convolutions that stay in floats.

    Returns:
        An `openvino.Model`.

    Raises:
        MissingExtraError: the `nncf` extra is not installed.
    """
    nncf = require("nncf", extra="nncf")
    openvino = require("openvino", extra="nncf")
    nncf.set_log_level(logging.ERROR)
    graph = openvino.Core().read_model(model.SerializeToString())
    wanted = set(spared)
    ignored = {
        node.get_friendly_name()
        for node in graph.get_ordered_ops()
        if node.get_friendly_name().removesuffix(_BARE) in wanted
    }
    return nncf.quantize(
        graph,
        nncf.Dataset([{INPUT_NAME: image} for image in inputs]),
        subset_size=len(inputs),
        preset=nncf.QuantizationPreset.MIXED,
        # Not all that is behind the last convolution is an operator in NNCF's eyes.
        ignored_scope=nncf.IgnoredScope(names=sorted(ignored | _behind_convolutions(graph)), validate=False),
    )


def _behind_convolutions(graph: Any) -> set[str]:  # noqa: ANN401 - an optional package
    """Names of the operators from which no way leads to a convolution; convolutions are none of them."""
    names = set()
    leading: set[str] = set()
    for node in reversed(graph.get_ordered_ops()):
        name = node.get_friendly_name()
        if node.get_type_name() in _CONVOLUTIONS or name in leading:
            leading.update(one.get_source_output().get_node().get_friendly_name() for one in node.inputs())
        if node.get_type_name() not in _CONVOLUTIONS and name not in leading:
            names.add(name)
    return names

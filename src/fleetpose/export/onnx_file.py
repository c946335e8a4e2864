"""Write a network as an ONNX file, prove that it computes the same, and halve its size."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fleetpose.codecs.description import METADATA_KEY, ModelDescription
from fleetpose.codecs.top_down import CODEC_TYPE as TOP_DOWN
from fleetpose.errors import CheckpointError, require
from fleetpose.export.rewrite import halve_weights, simplify
from fleetpose.models.contract import PoseNetwork

if TYPE_CHECKING:
    from onnx import ModelProto

#: Name of the input tensor.
INPUT_NAME = "image"
#: Largest difference allowed between the file and the network, in standard deviations of the output.
FLOAT32_TOLERANCE = 1e-3
FLOAT16_WEIGHTS_TOLERANCE = 5e-2
#: Smallest side of a file's input, in multiples that the network asks for, and where it asks for none.
FEWEST_MULTIPLES, FEWEST_PIXELS = 2, 32
#: Most crops that a batch is promised to hold.
MOST_CROPS = 1024


def export_onnx(
    network: PoseNetwork, description: ModelDescription, path: Path, *, has_half_weights: bool = False
) -> float:
    """Write `network` to `path`, after checking that ONNX Runtime computes the same from it.

    Height and width of the input are free multiples of `network.size_multiple`; outputs bear the names of
    their fields. Top-down networks take any number of crops at once, others one picture.

    Args:
        network: in any mode; it is put into evaluation mode and back.
        description: what the file says about itself.
        path: ends in `.onnx`; replaced if it exists.
        has_half_weights: store weights as float16, which halves the file; the arithmetic stays float32.

    Returns:
        Largest difference from the network's own outputs, in standard deviations of the output.

    Raises:
        CheckpointError: the difference is larger than rounding explains; nothing is written.
        MissingExtraError: the `export` extra is not installed.
    """
    onnx = require("onnx", extra="export")
    require("onnxscript", extra="export")
    has_batches = description.codec["type"] == TOP_DOWN
    was_training = network.training
    network.eval()
    try:
        model = traced(network, has_batches=has_batches)
        simplify(model)
        if has_half_weights:
            halve_weights(model)
        onnx.helper.set_model_props(model, {METADATA_KEY: description.to_json()})
        content = model.SerializeToString()
        difference = _largest_difference(network, content, has_batches=has_batches)
    finally:
        network.train(was_training)
    tolerance = FLOAT16_WEIGHTS_TOLERANCE if has_half_weights else FLOAT32_TOLERANCE
    if not difference <= tolerance:
        raise CheckpointError(
            f"the exported {description.name} differs from the network by {difference:.2g} standard "
            f"deviations, at most {tolerance:g} is allowed; {path} was not written"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return difference


def traced(network: PoseNetwork, *, has_batches: bool = False) -> ModelProto:
    """Trace a network in evaluation mode into a graph with free height, width and, if asked for, batch."""
    multiple = network.size_multiple
    fewest = _fewest(network)
    height, width = (torch.export.Dim(name, min=fewest, max=128 * fewest) for name in ("rows", "columns"))
    axes = {2: multiple * height, 3: multiple * width}
    if has_batches:
        axes[0] = torch.export.Dim("crops", min=1, max=MOST_CROPS)
    # The tracer takes an axis of 1 for a fixed one.
    example = torch.randn(2 if has_batches else 1, 3, 2 * fewest * multiple, 3 * fewest * multiple)
    with _quiet():
        program = torch.onnx.export(
            network,
            (example,),
            input_names=[INPUT_NAME],
            output_names=[field.name for field in network.fields],
            dynamic_shapes=(axes,),
            dynamo=True,
            optimize=True,
            verbose=False,
        )
        if program is None:
            raise CheckpointError("the network could not be traced for ONNX")
    model: ModelProto = program.model_proto
    del model.metadata_props[:]
    for node in model.graph.node:  # the tracer's notes name source files of the machine it ran on
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        del value.metadata_props[:]
    return model


def _fewest(network: PoseNetwork) -> int:
    """Smallest side of a file's input, in multiples of `network.size_multiple`."""
    return FEWEST_PIXELS if network.size_multiple == 1 else FEWEST_MULTIPLES


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tracer's own chatter from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _largest_difference(network: PoseNetwork, content: bytes, *, has_batches: bool) -> float:
    """Largest difference between file and network over all outputs, in standard deviations of the output."""
    onnxruntime = require("onnxruntime", extra="export")
    multiple, fewest = network.size_multiple, _fewest(network)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    worst = 0.0
    shapes = (
        (1, 3, 2 * fewest * multiple, 2 * fewest * multiple),
        (3 if has_batches else 1, 3, 5 * fewest // 2 * multiple, 7 * fewest // 2 * multiple),
    )
    for seed, shape in enumerate(shapes):
        image = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        with torch.inference_mode():
            expected = network(image)
        got = session.run([field.name for field in network.fields], {INPUT_NAME: image.numpy()})
        for field, values in zip(network.fields, got, strict=True):
            reference = expected[field.name].numpy()
            worst = max(worst, float(np.abs(values - reference).max() / reference.std()))
    return worst

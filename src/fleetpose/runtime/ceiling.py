"""How fast this machine multiplies at best: one large convolution, run by the runtime itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fleetpose.errors import MissingExtraError, require

#: Channels, and rows and columns of the map: large enough to be at the ceiling, small enough for the cache.
_CHANNELS, _SIDE = 256, 32
#: Runs of which the fastest counts, after one that warms up.
_ROUNDS = 12
_OPERATIONS = 2 * 9 * _CHANNELS**2 * _SIDE**2


def peak_gflops(
    runtime: str, precision: str = "f32", *, threads: int | None = None, has_int8: bool = False
) -> float | None:
    """Most operations per second, in 10^9, two per multiply-add, of a 3 x 3 convolution with 256 channels.

    Args:
        runtime: `onnx`, `openvino` or `torch`.
        precision: arithmetic, as an engine has it.
        threads: processor threads; None for one per core.
        has_int8: multiply in 8 bits, as quantised models do.

    Returns:
        None where the package that writes the convolution down is not installed.
    """
    try:
        if runtime == "torch":
            call = _of_torch(threads)
        else:
            call = _of_file(runtime, precision, threads, has_int8=has_int8)
    except MissingExtraError:
        return None
    call()
    times = []
    for _ in range(_ROUNDS):
        start_s = time.perf_counter()
        call()
        times.append(time.perf_counter() - start_s)
    return _OPERATIONS / min(times) / 1e9


def has_int8_layers(path: Path) -> bool:
    """Whether a model file, `.onnx` or `.xml`, multiplies in 8 bits."""
    content = path.read_bytes()
    return b"QuantizeLinear" in content or b"FakeQuantize" in content


def _of_torch(threads: int | None) -> Callable[[], object]:
    torch = require("torch", extra="train")
    if threads is not None:
        torch.set_num_threads(threads)
    convolution = torch.nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1)
    image = torch.zeros(1, _CHANNELS, _SIDE, _SIDE)

    def run() -> object:
        with torch.inference_mode():
            return convolution(image)

    return run


def _of_file(runtime: str, precision: str, threads: int | None, *, has_int8: bool) -> Callable[[], object]:
    content = _convolution(has_int8=has_int8)
    image = np.zeros((1, _CHANNELS, _SIDE, _SIDE), np.float32)
    if runtime == "openvino":
        openvino = require("openvino", extra="openvino")
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        request = core.compile_model(core.read_model(content), "CPU", settings).create_infer_request()
        return lambda: request.infer({"x": image}, share_inputs=True, share_outputs=True)
    onnxruntime = require("onnxruntime", extra="export")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": image})


def _convolution(*, has_int8: bool) -> bytes:
    onnx = require("onnx", extra="export")
    make, constant = onnx.helper.make_node, onnx.numpy_helper.from_array
    weights = np.random.default_rng(0).standard_normal((_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32) / 48
    conv = {"pads": [1] * 4}
    if has_int8:
        nodes = [
            make("QuantizeLinear", ["x", "step", "zero"], ["x8"]),
            make("DequantizeLinear", ["x8", "step", "zero"], ["xf"]),
            make("DequantizeLinear", ["w8", "step", "zero"], ["wf"]),
            make("Conv", ["xf", "wf"], ["y"], **conv),
            make("QuantizeLinear", ["y", "step", "zero"], ["y8"]),
            make("DequantizeLinear", ["y8", "step", "zero"], ["out"]),
        ]
        constants = [
            constant(np.float32(0.02), "step"),
            constant(np.int8(0), "zero"),
            constant(np.rint(weights * 50).clip(-127, 127).astype(np.int8), "w8"),
        ]
    else:
        nodes, constants = [make("Conv", ["x", "w"], ["out"], **conv)], [constant(weights, "w")]
    shape = [1, _CHANNELS, _SIDE, _SIDE]
    x, out = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "out")
    )
    graph = onnx.helper.make_graph(nodes, "ceiling", [x], [out], constants)
    opsets = [onnx.helper.make_opsetid("", 17)]
    content: bytes = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return content

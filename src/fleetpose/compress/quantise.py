"""Post-training quantisation: 8-bit weights and activations, calibrated on pictures, sparing what it hurts.

Static quantisation in the QDQ format (arXiv:1712.05877), which ONNX Runtime and OpenVINO both run: weights
per output channel, symmetric; activations per tensor, between the extremes that calibration pictures show.
Transposed convolutions, which neither runtime multiplies in 8 bits, keep their arithmetic and store their
weights in 8 bits.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fleetpose.codecs.description import ModelDescription
from fleetpose.errors import ConfigError, require
from fleetpose.export.packing import pack_float_weights
from fleetpose.export.rewrite import halve_weights
from fleetpose.media.images import IMAGE_SUFFIXES
from fleetpose.runtime.canvas import Network
from fleetpose.runtime.cascade import BoxTable
from fleetpose.runtime.predictor import Predictor
from fleetpose.runtime.session import INPUT_NAME

if TYPE_CHECKING:
    from onnx import ModelProto

Array = npt.NDArray[np.float32]

#: More calibration pictures than these change the extremes little.
MAX_PICTURES = 64
#: Pictures on which each layer's harm is measured.
PROBES = 4
#: What is quantised along with convolutions, so that no map goes back to floats between two of them.
_COMPANIONS = ("Add", "Concat", "Relu", "Clip")
#: Transposed convolutions with fewer weights store them as float16.
_PACKED_FROM_ELEMENTS = 4096


@dataclass(frozen=True, slots=True)
class LayerHarm:
    """What quantising one convolution alone does to the network's outputs."""

    name: str
    weights: int
    error: float  # root mean square over all outputs in their standard deviations, see `_error`
    shift_px: float | None = None  # by which keypoints move in the middle; None where nobody looked


def pictures_in(folder: Path, *, limit: int, what: str) -> list[Path]:
    """Files of at most `limit` pictures of a folder, evenly picked, by name.

    Args:
        folder: folder of pictures.
        limit: of many pictures, so many are picked.
        what: needs them, for the message.

    Raises:
        ConfigError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"{what} needs a folder of pictures, but there is no folder {folder}")
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not pictures:
        raise ConfigError(f"{what} needs a folder of pictures, but {folder} holds none")
    chosen = np.linspace(0, len(pictures) - 1, min(limit, len(pictures))).round().astype(int)
    return [pictures[index] for index in chosen.tolist()]


def as_inputs(pictures: Sequence[Path], network: Network, *, boxes: BoxTable | None = None) -> list[Array]:
    """Pictures as the predictor shows them to a network, each `[1, 3, H, W]`.

    Args:
        pictures: files.
        network: what will be quantised.
        boxes: people of the pictures, for a top-down network; of pictures that these do not name it sees all.

    Raises:
        MediaError: a file is no picture.
    """
    listener = _Listener(network)
    predictor = Predictor(listener, has_closer_look=False)
    for path in pictures:
        predictor(path, boxes=boxes if boxes is not None and path.name in boxes else None)
    return listener.heard


class _Listener:
    """A network that keeps what it is shown."""

    def __init__(self, network: Network) -> None:
        self.description: ModelDescription = network.description
        self.heard: list[Array] = []
        self._network = network

    def run(self, image: Array) -> dict[str, Array]:
        self.heard.append(image.copy())
        return self._network.run(image)


class Quantiser:
    """A model, calibrated once, from which versions with different layers quantised are made."""

    def __init__(self, model: ModelProto, inputs: Sequence[Array]) -> None:
        """Calibrate.

        Args:
            model: graph in floats; it is not changed.
            inputs: pictures as the network sees them, each `[1, 3, H, W]`.

        Raises:
            ConfigError: there is no picture.
            MissingExtraError: the `export` extra is not installed.
        """
        if not inputs:
            raise ConfigError("calibration needs at least one picture")
        self._onnx = require("onnx", extra="export")
        self._inputs = list(inputs)
        self._model = _copy(model)
        _unpack_weights(self._model, self._onnx)
        for number, node in enumerate(self._model.graph.node):
            node.name = f"{node.op_type}_{number}_{node.output[0]}"
        inner = _leading_to_convolutions(self._model)
        self._companions = [
            node.name for node in self._model.graph.node if node.op_type in _COMPANIONS and node.name in inner
        ]
        self._ranges = self._calibrate()

    @property
    def float_model(self) -> ModelProto:
        """The graph in floats, with nodes named as in `layers`."""
        return self._model

    @property
    def layers(self) -> list[str]:
        """Names of all convolutions, in the order of the graph."""
        return [node.name for node in self._model.graph.node if node.op_type == "Conv"]

    def quantised(self, *, layers: Collection[str] | None = None) -> ModelProto:
        """Make a version with only the given convolutions quantised; None for all.

        Raises:
            ConfigError: the model has no such convolution.
        """
        chosen = set(self.layers if layers is None else layers)
        unknown = chosen - set(self.layers)
        if unknown:
            raise ConfigError(f"the model has no convolution {min(unknown)!r}")
        qdq = require("onnxruntime.quantization.qdq_quantizer", extra="export")
        kinds = require("onnxruntime.quantization", extra="export").QuantType
        quantiser = qdq.QDQQuantizer(
            _copy(self._model),
            per_channel=True,
            reduce_range=False,
            weight_qType=kinds.QInt8,
            activation_qType=kinds.QUInt8,
            tensors_range=self._ranges,
            # A single layer is quantised to see what it alone does.
            nodes_to_quantize=[*sorted(chosen), *(self._companions if len(chosen) > 1 else [])],
            nodes_to_exclude=[],
            op_types_to_quantize=["Conv", *_COMPANIONS],
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
        )
        quantiser.quantize_model()
        model: ModelProto = quantiser.model.model
        pack_float_weights(model, kinds=("ConvTranspose",), from_elements=_PACKED_FROM_ELEMENTS)
        halve_weights(model)
        del model.metadata_props[:]
        model.metadata_props.extend(self._model.metadata_props)
        return model

    def harms(self, *, shift_of: Callable[[ModelProto], float] | None = None) -> list[LayerHarm]:
        """Quantise each convolution alone → what that does, worst first.

        Args:
            shift_of: tells by how many pixels a version of the model moves keypoints; None to leave that out.
        """
        probes = self._inputs[:: max(1, len(self._inputs) // PROBES)][:PROBES]
        expected = _outputs(self._model, probes)
        sizes = {one.name: int(np.prod(one.dims)) for one in self._model.graph.initializer}
        harms = []
        for node in self._model.graph.node:
            if node.op_type != "Conv":
                continue
            alone = self.quantised(layers=[node.name])
            found = _outputs(alone, probes)
            errors = [_error(maps, truth) for maps, truth in zip(found, expected, strict=True)]
            error = float(np.sqrt(np.mean(np.square(errors))))
            shift_px = None if shift_of is None else shift_of(alone)
            harms.append(LayerHarm(node.name, sizes.get(node.input[1], 0), error, shift_px))
        return sorted(harms, key=lambda harm: -harm.error)

    def _calibrate(self) -> Any:  # noqa: ANN401 - the package has no types
        quantization = require("onnxruntime.quantization", extra="export")
        calibrate = require("onnxruntime.quantization.calibrate", extra="export")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "float.onnx"
            path.write_bytes(self._model.SerializeToString())
            calibrator = calibrate.create_calibrator(
                str(path),
                ["Conv", *_COMPANIONS],
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=quantization.CalibrationMethod.MinMax,
            )
            calibrator.collect_data(_Reader(self._inputs))
            return calibrator.compute_data()


class _Reader:
    """Hands the pictures out one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, inputs: Sequence[Array]) -> None:
        self._remaining: Iterator[Array] = iter(inputs)

    def get_next(self) -> dict[str, Array] | None:
        image = next(self._remaining, None)
        return None if image is None else {INPUT_NAME: image}


def _copy(model: ModelProto) -> ModelProto:
    return type(model).FromString(model.SerializeToString())


def _unpack_weights(model: ModelProto, onnx: Any) -> None:  # noqa: ANN401 - an optional package
    """Turn weights that are stored as float16, or in 8 bits with a scale, back to float32."""
    constants = {one.name: one for one in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type not in {"Cast", "Mul"} or not all(name in constants for name in node.input):
            continue
        # Initializers are folded only, so a product of two of them is one of weights and scale.
        factors = [onnx.numpy_helper.to_array(constants[name]).astype(np.float32) for name in node.input]
        product = factors[0] if node.op_type == "Cast" else factors[0] * factors[1]
        constants[node.output[0]] = onnx.numpy_helper.from_array(product, node.output[0])
        model.graph.node.remove(node)
    read = {name for node in model.graph.node for name in node.input}
    del model.graph.initializer[:]
    model.graph.initializer.extend(one for name, one in constants.items() if name in read)


def _leading_to_convolutions(model: ModelProto) -> set[str]:
    """Names of the nodes on a way to a convolution; those behind the last one shape the output maps.

    Tags may range over a hundred, and 8 bits of that would not tell people apart.
    """
    wanted: set[str] = set()
    names = set()
    for node in reversed(model.graph.node):
        is_leading = bool(wanted.intersection(node.output))
        if is_leading:
            names.add(node.name)
        if is_leading or node.op_type in {"Conv", "ConvTranspose"}:
            wanted.update(node.input)
    return names


def _outputs(model: ModelProto, inputs: Sequence[Array]) -> list[list[Array]]:
    onnxruntime = require("onnxruntime", extra="export")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [session.run(None, {INPUT_NAME: image}) for image in inputs]


def _error(maps: Sequence[Array], expected: Sequence[Array]) -> float:
    """Root mean square difference over all outputs, each in its own standard deviations or in ones.

    Tags may lie along a ramp over the whole picture, but those of two people differ by about one.
    """
    shares = [
        float(np.mean(np.square(got - want))) / float(np.clip(want.var(axis=(2, 3)).mean(), 1e-12, 1))
        for got, want in zip(maps, expected, strict=True)
    ]
    return float(np.sqrt(np.mean(shares)))

"""A model file on ONNX Runtime: tensor in, named maps out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from fleetpose.codecs.description import METADATA_KEY, ModelDescription
from fleetpose.errors import CheckpointError, ConfigError, ShapeError

Array = npt.NDArray[np.float32]

INPUT_NAME = "image"
#: Beside models whose format has no room for it.
DESCRIPTION_FILE = "description.json"

#: ONNX Runtime's errors share no base class.
_LOAD_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


class OnnxSession:
    """A loaded model file.

    Attributes:
        description: what the file says about itself.
        takes_batches: whether the file's input has a free first axis.
    """

    description: ModelDescription
    takes_batches: bool

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        """Load the model file `path`; `threads` limits its processor threads, None for one per core.

        Raises:
            CheckpointError: the file is missing, no ONNX model, or one that FleetPose did not write.
        """
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, got {threads}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only: warnings are about the exporter, not for users
        # Waiting threads would spin and take the cores from reading, drawing and writing.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = _open(Path(path), options)
        self.description = _describe(self._session, Path(path))
        self._outputs = list(self.description.outputs)
        # A free axis has a name in place of a number.
        self.takes_batches = not isinstance(self._session.get_inputs()[0].shape[0], int)
        found = [output.name for output in self._session.get_outputs()]
        if found != self._outputs:
            raise CheckpointError(
                f"model {path} has the outputs {', '.join(found)}, but describes {', '.join(self._outputs)}"
            )

    def run(self, image: Array) -> dict[str, Array]:
        """Input tensor `[1, 3, H, W]`, normalised → maps `[C, h, w]` by field name."""
        check_image(image, self.description)
        return {name: values[0] for name, values in self._maps(image).items()}

    def run_batch(self, images: Array) -> dict[str, Array]:
        """Input tensor `[B, 3, H, W]`, normalised → maps `[B, C, h, w]` by field name."""
        check_image(images[:1], self.description)
        return self._maps(images)

    def _maps(self, images: Array) -> dict[str, Array]:
        maps = self._session.run(self._outputs, {INPUT_NAME: images})
        return dict(zip(self._outputs, maps, strict=True))


def check_image(image: Array, description: ModelDescription) -> None:
    """Say in a line what is wrong with an input tensor, before the network's own library says it in many.

    Raises:
        ShapeError: it is not `[1, 3, H, W]` with H and W in multiples that the network takes.
    """
    multiple = description.input.multiple
    shape = image.shape
    if len(shape) != 4 or shape[:2] != (1, 3) or any(side < 1 or side % multiple for side in shape[2:]):
        expected = f"of shape [1, 3, H, W] with H and W in multiples of {multiple} pixels"
        raise ShapeError("image", expected, list(shape))


def read_description(path: str | Path) -> ModelDescription:
    """Read what a model file says about itself, without preparing it to run.

    Raises:
        CheckpointError: the file is missing, no ONNX model, or one that FleetPose did not write.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return _describe(_open(Path(path), options), Path(path))


def read_description_beside(path: str | Path) -> ModelDescription:
    """Read the description in the folder of a model whose format holds none.

    Raises:
        CheckpointError: it is missing or wrong.
    """
    file = Path(path).with_name(DESCRIPTION_FILE)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"model {path} is not described: cannot read {file}; `fleetpose export` writes it"
        ) from error
    try:
        return ModelDescription.from_json(text)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error


def _open(path: Path, options: Any) -> Any:  # noqa: ANN401 - the package has no types
    if not path.is_file():
        raise CheckpointError(f"cannot read the model {path}: no such file")
    if path.suffix == ".pt":
        raise CheckpointError(
            f"{path} is a checkpoint of training, not a model file; make one with: "
            f"fleetpose export {path} {path.stem}.onnx"
        )
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _LOAD_ERRORS as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"cannot read the model {path}: {reason}") from error


def _describe(session: Any, path: Path) -> ModelDescription:  # noqa: ANN401 - the package has no types
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise CheckpointError(
            f"model {path} does not describe itself: it lacks the metadata {METADATA_KEY!r}; "
            "write it with `fleetpose export`"
        )
    try:
        return ModelDescription.from_json(text)
    except CheckpointError as error:
        raise CheckpointError(f"model {path}: {error}") from error

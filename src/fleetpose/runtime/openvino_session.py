"""A model file on OpenVINO: tensor in, named maps out; counterpart of `OnnxSession`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from fleetpose.codecs.description import METADATA_KEY, ModelDescription
from fleetpose.errors import CheckpointError, ConfigError, UnknownNameError, require
from fleetpose.runtime.session import INPUT_NAME, check_image, read_description

Array = npt.NDArray[np.float32]

#: Arithmetic of the network: 32-bit floats, or 16-bit ones with 8 bits of mantissa, about twice as fast.
Precision: TypeAlias = Literal["f32", "bf16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

#: Suffix of OpenVINO's own files; the weights lie beside it, ending in `.bin`.
SUFFIX = ".xml"


class OpenVinoSession:
    """A loaded model file, `.onnx` or OpenVINO's own `.xml`.

    Attributes:
        description: what the file says about itself.
        takes_batches: whether the file's input has a free first axis.
    """

    description: ModelDescription
    takes_batches: bool

    def __init__(
        self, path: str | Path, *, threads: int | None = None, precision: Precision | str = "f32"
    ) -> None:
        """Load the model file `path`.

        Args:
            path: file that `fleetpose export` wrote.
            threads: processor threads, None for one per core.
            precision: one of `PRECISIONS`. OpenVINO left alone would take the fastest that the processor has.

        Raises:
            CheckpointError: the file is missing, no model, or one that FleetPose did not write.
            ConfigError: the precision is unknown, or the processor does not have it.
            MissingExtraError: the `openvino` extra is not installed.
        """
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, got {threads}")
        if precision not in PRECISIONS:
            raise UnknownNameError("precision", precision, PRECISIONS)
        openvino = require("openvino", extra="openvino")
        core = openvino.Core()
        if precision == "bf16" and not has_bf16(core):
            raise ConfigError("precision bf16 needs a processor with bfloat16 arithmetic; use precision f32")
        model = _read(core, Path(path))
        self.description = _describe(model, Path(path))
        self._outputs = list(self.description.outputs)
        self.takes_batches = bool(model.input().get_partial_shape()[0].is_dynamic)
        found = [output.get_any_name() for output in model.outputs]
        if sorted(found) != sorted(self._outputs):
            raise CheckpointError(
                f"model {path} has the outputs {', '.join(found)}, but describes {', '.join(self._outputs)}"
            )
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            # Threads tied to cores would wait for whoever else uses these.
            "ENABLE_CPU_PINNING": False,
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(self, image: Array) -> dict[str, Array]:
        """Input tensor `[1, 3, H, W]`, normalised → maps `[C, h, w]` by field name."""
        check_image(image, self.description)
        return {name: values[0] for name, values in self._maps(image).items()}

    def run_batch(self, images: Array) -> dict[str, Array]:
        """Input tensor `[B, 3, H, W]`, normalised → maps `[B, C, h, w]` by field name."""
        check_image(images[:1], self.description)
        return self._maps(images)

    def _maps(self, images: Array) -> dict[str, Array]:
        # Outputs are copied, because the next call writes into the same memory.
        maps = self._request.infer({INPUT_NAME: images}, share_inputs=True, share_outputs=False)
        return {name: maps[name] for name in self._outputs}


def has_bf16(core: Any) -> bool:  # noqa: ANN401 - an optional package
    """Whether the processor computes with bfloat16, asked of an `openvino.Core`."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _read(core: Any, path: Path) -> Any:  # noqa: ANN401 - an optional package
    if not path.is_file():
        raise CheckpointError(f"cannot read the model {path}: no such file")
    if path.suffix == ".pt":
        raise CheckpointError(
            f"{path} is a checkpoint of training, not a model file; make one with: "
            f"fleetpose export {path} {path.stem}.onnx"
        )
    try:
        return core.read_model(str(path))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"cannot read the model {path}: {reason}") from error


def _describe(model: Any, path: Path) -> ModelDescription:  # noqa: ANN401 - an optional package
    if path.suffix != SUFFIX:
        return read_description(path)
    if not model.has_rt_info(METADATA_KEY):
        raise CheckpointError(
            f"model {path} does not describe itself: it lacks the runtime information {METADATA_KEY!r}; "
            "write it with `fleetpose export`"
        )
    try:
        return ModelDescription.from_json(model.get_rt_info(METADATA_KEY).astype(str))
    except CheckpointError as error:
        raise CheckpointError(f"model {path}: {error}") from error

"""A model on ncnn: tensor in, named maps out; counterpart of `OnnxSession`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from fleetpose.codecs.description import ModelDescription
from fleetpose.errors import CheckpointError, ConfigError, require
from fleetpose.runtime.machine import usable_cores
from fleetpose.runtime.session import INPUT_NAME, check_image, read_description_beside

Array = npt.NDArray[np.float32]

#: Suffixes of the network's file, and of that of its weights, which lies beside it.
SUFFIX, WEIGHTS_SUFFIX = ".ncnn.param", ".ncnn.bin"


class NcnnSession:
    """A loaded pair of `.ncnn.param` and `.ncnn.bin`, with `description.json` beside them.

    Attributes:
        description: what the folder says about the model.
    """

    description: ModelDescription

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        """Load the network file `path`; `threads` limits its processor threads, None for one per core.

        Raises:
            CheckpointError: a file is missing, or is none of ncnn's.
            MissingExtraError: the `ncnn` extra is not installed.
        """
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, got {threads}")
        ncnn = require("ncnn", extra="ncnn")
        self.description = read_description_beside(path)
        self._net = ncnn.Net()
        settings = self._net.opt
        settings.num_threads = threads or usable_cores()
        settings.use_vulkan_compute = False
        # Left alone, ncnn takes 16-bit arithmetic where the processor has it.
        settings.use_fp16_packed = settings.use_fp16_storage = settings.use_fp16_arithmetic = False
        settings.use_bf16_storage = False
        self._mat = ncnn.Mat
        network = Path(path)
        weights = network.with_name(network.name.removesuffix(SUFFIX) + WEIGHTS_SUFFIX)
        for file, load in ((network, self._net.load_param), (weights, self._net.load_model)):
            if not file.is_file():
                raise CheckpointError(f"cannot read the model {file}: no such file")
            if load(str(file)) != 0:
                raise CheckpointError(f"cannot read the model {file}: it is no file of ncnn's, or damaged")
        found = self._net.output_names()
        if sorted(found) != sorted(self.description.outputs):
            raise CheckpointError(
                f"model {path} has the outputs {', '.join(found)}, but its description names "
                f"{', '.join(self.description.outputs)}"
            )

    def run(self, image: Array) -> dict[str, Array]:
        """Input tensor `[1, 3, H, W]`, normalised → maps `[C, h, w]` by field name."""
        check_image(image, self.description)
        extractor = self._net.create_extractor()
        # A copy, because ncnn wants each channel to begin at a multiple of 16 bytes.
        extractor.input(INPUT_NAME, self._mat(np.ascontiguousarray(image[0])).clone())
        maps = {}
        for name in self.description.outputs:
            failed, values = extractor.extract(name)
            if failed:
                raise CheckpointError(f"ncnn cannot compute {name} of {self.description.name}")
            maps[name] = np.array(values, np.float32)
        return maps

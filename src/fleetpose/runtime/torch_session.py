"""A network in PyTorch, run like a model file: for validation while it trains."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from fleetpose.codecs.description import ModelDescription
from fleetpose.models.contract import PoseNetwork

Array = npt.NDArray[np.float32]


class TorchSession:
    """A network and the description that its model file would have; counterpart of `OnnxSession`."""

    takes_batches = True

    def __init__(
        self,
        network: PoseNetwork,
        description: ModelDescription,
        *,
        has_channels_last: bool = True,
        threads: int | None = None,
    ) -> None:
        """Take a network in evaluation mode.

        Args:
            network: in evaluation mode.
            description: what its model file says.
            has_channels_last: let pictures have PyTorch's faster memory layout; without, it runs as it comes.
            threads: processor threads, from now on of all networks in PyTorch; None to leave them.
        """
        self.description = description
        self._format = torch.channels_last if has_channels_last else torch.contiguous_format
        if threads is not None:
            torch.set_num_threads(threads)
        self._network = network
        self._device = next(network.parameters()).device

    def run(self, image: Array) -> dict[str, Array]:
        """Input tensor `[1, 3, H, W]`, normalised → maps `[C, h, w]` by field name."""
        return {name: values[0] for name, values in self.run_batch(image).items()}

    def run_batch(self, images: Array) -> dict[str, Array]:
        """Input tensor `[B, 3, H, W]`, normalised → maps `[B, C, h, w]` by field name."""
        tensor = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
        with torch.inference_mode():
            maps = self._network(tensor.contiguous(memory_format=self._format))
        return {name: values.float().cpu().numpy() for name, values in maps.items()}

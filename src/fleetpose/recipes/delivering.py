"""From a checkpoint to an artefact folder that is proved against the network in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fleetpose.codecs.description import ModelCard
from fleetpose.compress.delivery import Delivery, Proof, deliver
from fleetpose.models import PoseNetwork
from fleetpose.recipes.converted import converted_network, export_converted, is_converted
from fleetpose.recipes.shipping import UNKNOWN_CARD, export_checkpoint, load_trained
from fleetpose.runtime.session import read_description
from fleetpose.runtime.torch_session import TorchSession
from fleetpose.train.checkpoint import load_checkpoint


def deliver_checkpoint(
    checkpoint: Path,
    folder: Path,
    *,
    targets: Sequence[str],
    proof: Proof,
    precision: str = "fp32",
    calibration: Sequence[Path] = (),
    card: ModelCard = UNKNOWN_CARD,
    overrides: Sequence[str] = (),
    has_nncf: bool = False,
) -> Delivery:
    """Write a checkpoint's network as an artefact folder, compared with itself in PyTorch.

    Args:
        checkpoint: `last.pt` of a training run, or what `fleetpose convert` wrote.
        folder: a new or empty one; its name becomes the model's.
        targets: see `deliver`, as for the next three.
        proof: what the written models are compared on.
        precision: how weights are stored.
        calibration: pictures for int8.
        card: where the weights come from.
        overrides: changed settings of the run that matter to prediction.
        has_nncf: see `deliver`.
    """
    with TemporaryDirectory() as place:
        source = Path(place) / f"{folder.name}.onnx"
        network = _write(checkpoint, source, card=card, overrides=overrides)
        return deliver(
            source,
            folder,
            targets=targets,
            proof=proof,
            precision=precision,
            calibration=calibration,
            reference=TorchSession(network, read_description(source)),
            has_nncf=has_nncf,
        )


def _write(checkpoint: Path, target: Path, *, card: ModelCard, overrides: Sequence[str]) -> PoseNetwork:
    state = load_checkpoint(checkpoint)
    if is_converted(state):
        export_converted(checkpoint, target, card=card, overrides=overrides)
        return converted_network(state)
    export_checkpoint(checkpoint, target, card=card, overrides=overrides)
    return load_trained(checkpoint)[0]

"""From a checkpoint to an artefact folder that is proved against the network in PyTorch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fleetpose.codecs.description import ModelCard
from fleetpose.compress.delivery import Delivery, Proof, check_request, deliver
from fleetpose.compress.quantise import as_inputs
from fleetpose.compress.tuning import tune_for_int8
from fleetpose.errors import ConfigError
from fleetpose.export.onnx_file import export_onnx
from fleetpose.models import PoseNetwork
from fleetpose.recipes.converted import converted_network, export_converted, is_converted
from fleetpose.recipes.shipping import UNKNOWN_CARD, export_checkpoint, load_trained
from fleetpose.runtime.session import read_description
from fleetpose.runtime.torch_session import TorchSession
from fleetpose.train.checkpoint import load_checkpoint

logger = logging.getLogger(__name__)


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
    tuning_steps: int = 0,
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
        tuning_steps: so many pictures of the calibration teach an int8 model to live with 8 bits; 0 for none.

    Raises:
        ConfigError: tuning was asked for without int8 and pictures to calibrate on.
    """
    if tuning_steps and (precision != "int8" or not calibration):
        raise ConfigError("tuning is for int8 models and learns from --calibration: give both")
    check_request(folder, targets=targets, precision=precision, calibration=calibration, has_nncf=has_nncf)
    with TemporaryDirectory() as place:
        source = Path(place) / f"{folder.name}.onnx"
        network = _write(checkpoint, source, card=card, overrides=overrides)
        description = read_description(source)
        reference = TorchSession(network, description)
        if tuning_steps:
            tuned = tune_for_int8(network, as_inputs(calibration, reference), steps=tuning_steps)
            logger.info("tuning: error in 8 bits from %.4f to %.4f", tuned.error_before, tuned.error_after)
            export_onnx(tuned.network, description, source)
        return deliver(
            source,
            folder,
            targets=targets,
            proof=proof,
            precision=precision,
            calibration=calibration,
            reference=reference,
            has_nncf=has_nncf,
        )


def _write(checkpoint: Path, target: Path, *, card: ModelCard, overrides: Sequence[str]) -> PoseNetwork:
    state = load_checkpoint(checkpoint)
    if is_converted(state):
        export_converted(checkpoint, target, card=card, overrides=overrides)
        return converted_network(state)
    export_checkpoint(checkpoint, target, card=card, overrides=overrides)
    return load_trained(checkpoint)[0]

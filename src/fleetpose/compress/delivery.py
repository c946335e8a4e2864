"""From a model file to an artefact folder: rewrite, quantise, convert, prove, and only then write."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from fleetpose.compress.quantise import LayerHarm, Quantiser, as_inputs
from fleetpose.errors import CheckpointError, ConfigError, UnknownNameError, require
from fleetpose.export.artefact import STEM, draft_of, write_companions
from fleetpose.export.openvino import write_openvino
from fleetpose.export.parity import Parity, compare, look
from fleetpose.export.rewrite import halve_weights, simplify
from fleetpose.runtime.canvas import Network
from fleetpose.runtime.choice import Engine, start
from fleetpose.runtime.predictor import Predictor
from fleetpose.runtime.session import OnnxSession, read_description

if TYPE_CHECKING:
    from onnx import ModelProto

    from fleetpose.codecs.description import ModelDescription
    from fleetpose.results import PoseResult

logger = logging.getLogger(__name__)

#: Formats by the runtime's name → suffix of the model file.
TARGETS = {"onnx": ".onnx", "openvino": ".xml"}
#: How weights are stored: as they are, as 16-bit floats, or with 8-bit arithmetic.
PRECISIONS = ("fp32", "fp16", "int8")
#: Points of average precision that an artefact may lose.
MAX_DROP = 1.0
#: So many of the most harmful layers stay floats, in one trial after the other, until the loss is small.
_SPARED = (0, 1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class Proof:
    """What an artefact is compared on.

    Attributes:
        pictures: files of pictures.
        labels: COCO annotations of them; None to take the people whom the reference finds.
        max_drop: points of average precision that may be lost.
    """

    pictures: tuple[Path, ...]
    labels: dict[str, Any] | None = None
    max_drop: float = MAX_DROP


@dataclass(slots=True)
class Delivery:
    """What was written.

    Attributes:
        parity: per format, how far it strays from the reference.
        rewrites: how often each rewrite of the graph was applied.
        harms: with int8, what quantising each layer alone does, worst first.
        spared: layers that stayed in floats.
    """

    parity: dict[str, Parity] = field(default_factory=dict)
    rewrites: dict[str, int] = field(default_factory=dict)
    harms: list[LayerHarm] = field(default_factory=list)
    spared: list[str] = field(default_factory=list)


def deliver(
    source: Path,
    folder: Path,
    *,
    targets: Sequence[str],
    proof: Proof,
    precision: str = "fp32",
    calibration: Sequence[Path] = (),
    reference: Network | None = None,
    max_spared: int = _SPARED[-1],
) -> Delivery:
    """Write a model as an artefact folder, unless it loses more than it may.

    Args:
        source: model file in ONNX format, with weights in floats.
        folder: a new or empty one.
        targets: some of `TARGETS`.
        proof: what the written models are compared on, and how much they may lose.
        precision: one of `PRECISIONS`.
        calibration: pictures that show an int8 model the range of its maps.
        reference: the network that `source` came from; None for the file itself.
        max_spared: at most so many layers of an int8 model stay in floats.

    Raises:
        UnknownNameError: a target or the precision is unknown.
        ConfigError: the folder is not empty, or int8 has no pictures to calibrate on.
        CheckpointError: the file is no model, or an artefact lost too much; nothing was written.
        MissingExtraError: a format's package is not installed.
    """
    _check(targets, precision, calibration)
    onnx = require("onnx", extra="export")
    description = read_description(source)
    delivery = Delivery()
    original = reference or OnnxSession(source)
    prove = _Prover(original, proof)
    with draft_of(folder) as draft:
        model = onnx.load(str(source))
        delivery.rewrites = simplify(model)
        if precision == "int8":

            def drop_of(candidate: ModelProto) -> float:
                """Loss on the runtime that loses most: they do not round alike."""
                with TemporaryDirectory() as place:
                    paths = {target: Path(place) / f"{STEM}{TARGETS[target]}" for target in targets}
                    for target, path in paths.items():
                        _write(target, candidate, path, description)
                    return max(prove(start(Engine(target), paths)).drop for target in targets)

            model = _quantised(
                model,
                as_inputs(calibration, original),
                delivery,
                drop_of,
                max_spared=max_spared,
                max_drop=proof.max_drop,
            )
        for target in targets:
            path = draft / f"{STEM}{TARGETS[target]}"
            _write(target, model, path, description, has_half_weights=precision == "fp16")
            parity = prove(start(Engine(target), {target: path}))
            _refuse_losses(f"{target} {precision}", parity, proof.max_drop)
            delivery.parity[f"{target} {precision}"] = parity
        write_companions(
            draft, description, {name: parity.to_dict() for name, parity in delivery.parity.items()}
        )
    return delivery


class _Prover:
    """Compares networks with the reference, whose people are looked for once."""

    def __init__(self, reference: Network, proof: Proof) -> None:
        self._proof = proof
        self._expected = self._look(reference)

    def __call__(self, network: Network) -> Parity:
        return compare(
            self._expected,
            self._look(network),
            labels=self._proof.labels,
            names=[path.name for path in self._proof.pictures],
        )

    def _look(self, network: Network) -> list[PoseResult]:
        return look(Predictor(network, threshold=0.0), self._proof.pictures)


def _check(targets: Sequence[str], precision: str, calibration: Sequence[Path]) -> None:
    if not targets:
        raise ConfigError(f"name at least one format to export to: {', '.join(TARGETS)}")
    for target in targets:
        if target not in TARGETS:
            raise UnknownNameError("format to export to", target, TARGETS)
    if precision == "bf16":
        raise ConfigError(
            "bf16 is no way to store a model; load any model with precision bf16 and it computes so"
        )
    if precision not in PRECISIONS:
        raise UnknownNameError("precision", precision, PRECISIONS)
    if precision == "int8" and not calibration:
        raise ConfigError("int8 needs pictures to calibrate on: give a folder of them with --calibration")


def _write(
    target: str,
    model: ModelProto,
    path: Path,
    description: ModelDescription,
    *,
    has_half_weights: bool = False,
) -> None:
    if target == "openvino":
        # OpenVINO stores halves by itself, and reads floats from a file that does not outlast this.
        source = path.with_name("source.onnx")
        source.write_bytes(model.SerializeToString())
        write_openvino(source, path, description, has_half_weights=has_half_weights)
        source.unlink()
        return
    written = type(model).FromString(model.SerializeToString())
    if has_half_weights:
        halve_weights(written)
    path.write_bytes(written.SerializeToString())


def _quantised(
    model: ModelProto,
    inputs: Sequence[Any],
    delivery: Delivery,
    drop_of: Callable[[ModelProto], float],
    *,
    max_spared: int,
    max_drop: float,
) -> ModelProto:
    """Quantise as many layers as the loss allows, sparing the most harmful ones."""
    quantiser = Quantiser(model, inputs)
    delivery.harms = quantiser.harms()
    worst_first = [harm.name for harm in delivery.harms]
    best: tuple[float, ModelProto, list[str]] | None = None
    for count in [count for count in _SPARED if count <= min(max_spared, len(worst_first))]:
        spared = worst_first[:count]
        candidate = quantiser.quantised(layers=set(worst_first) - set(spared))
        drop = drop_of(candidate)
        logger.info("int8 with %d layers in floats: drop %.2f", count, drop)
        if best is None or drop < best[0]:
            best = (drop, candidate, spared)
        # Half of what may be lost: other pictures will lose more than these.
        if drop <= max_drop / 2:
            break
    assert best is not None  # noqa: S101 - no spared layer is always tried
    delivery.spared = best[2]
    return best[1]


def _refuse_losses(name: str, parity: Parity, max_drop: float) -> None:
    if parity.drop <= max_drop:
        return
    raise CheckpointError(
        f"{name} falls by {parity.drop:.1f} points of average precision, from {parity.reference_ap:.1f} to "
        f"{parity.ap:.1f} on {parity.pictures} pictures, at most {max_drop:g} may be lost; keypoints move by "
        f"{parity.median_shift_px:.1f} pixels in the middle and {parity.largest_shift_px:.1f} at most, "
        f"{parity.lost} of {parity.people} people are lost; nothing was written"
    )

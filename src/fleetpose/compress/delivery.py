"""From a model file to an artefact folder: rewrite, quantise, convert, prove, and only then write."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

from fleetpose.compress.nncf import quantise_with_nncf
from fleetpose.compress.quantise import PROBES, LayerHarm, Quantiser, as_inputs
from fleetpose.errors import CheckpointError, ConfigError, require
from fleetpose.export.artefact import STEM, check_folder, draft_of, write_companions
from fleetpose.export.openvino import save_openvino
from fleetpose.export.parity import Parity, compare, look
from fleetpose.export.rewrite import simplify
from fleetpose.export.targets import TARGETS, check_targets
from fleetpose.runtime.canvas import Network
from fleetpose.runtime.cascade import BoxTable, coco_boxes, is_top_down
from fleetpose.runtime.choice import Engine, start
from fleetpose.runtime.predictor import Predictor
from fleetpose.runtime.session import OnnxSession, read_description

if TYPE_CHECKING:
    from onnx import ModelProto

    from fleetpose.codecs.description import ModelDescription
    from fleetpose.results import PoseResult

logger = logging.getLogger(__name__)

#: Points of average precision that an artefact may lose.
MAX_DROP = 1.0
#: So many of the most harmful layers stay floats, in one trial after the other, until the loss is small.
_SPARED = (0, 1, 2, 4, 8, 16, 32)
#: File of an int8 folder that says what quantising each layer alone does, and which stayed in floats.
LAYERS_FILE = "layers.json"


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
        spared: per format, layers that stayed in floats.
    """

    parity: dict[str, Parity] = field(default_factory=dict)
    rewrites: dict[str, int] = field(default_factory=dict)
    harms: list[LayerHarm] = field(default_factory=list)
    spared: dict[str, list[str]] = field(default_factory=dict)

    def layers_to_dict(self) -> list[dict[str, Any]]:
        """Plain data for the report on layers, worst first."""
        return [
            {
                "layer": harm.name,
                "weights": harm.weights,
                "error_in_deviations": round(harm.error, 5),
                "shift_px": None if harm.shift_px is None else round(harm.shift_px, 3),
                "floats_in": [name for name, spared in self.spared.items() if harm.name in spared],
            }
            for harm in self.harms
        ]


#: Writes a version of the model for a target to a path.
_Writer: TypeAlias = Callable[[str, Path], None]


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
    has_nncf: bool = False,
) -> Delivery:
    """Write a model as an artefact folder, unless it loses more than it may.

    Args:
        source: model file in ONNX format, with weights in floats.
        folder: a new or empty one.
        targets: some of `TARGETS`.
        proof: what the written models are compared on, and how much they may lose.
        precision: one of `fleetpose.export.targets.PRECISIONS`.
        calibration: pictures that show an int8 model the range of its maps.
        reference: the network that `source` came from; None for the file itself.
        max_spared: at most so many layers of an int8 model stay in floats.
        has_nncf: let NNCF quantise the model for OpenVINO, rather than take over the other formats' one.

    Raises:
        UnknownNameError: a target or the precision is unknown.
        ConfigError: the folder is not empty, int8 has no pictures to calibrate on, or NNCF nothing to do.
        CheckpointError: the file is no model, or an artefact lost too much; nothing was written.
        MissingExtraError: a format's package is not installed.
    """
    check_request(folder, targets=targets, precision=precision, calibration=calibration, has_nncf=has_nncf)
    onnx = require("onnx", extra="export")
    description = read_description(source)
    delivery = Delivery()
    original = reference or OnnxSession(source)
    prove = _Prover(original, proof)
    with draft_of(folder) as draft:
        model = onnx.load(str(source))
        delivery.rewrites = simplify(model)
        writers: dict[str, _Writer] = dict.fromkeys(
            targets, _writer(model, description, has_half_weights=precision == "fp16")
        )
        if precision == "int8":
            inputs = as_inputs(calibration, original, boxes=prove.boxes)
            search = _Search(Quantiser(model, inputs), prove, proof.max_drop, max_spared)
            delivery.harms = search.harms()
            plans = _plans(targets, search.quantiser, inputs, description, has_nncf=has_nncf)
            for some, write_sparing in plans:
                write, spared = search(some, write_sparing)
                writers.update(dict.fromkeys(some, write))
                delivery.spared.update({f"{target} {precision}": spared for target in some})
        for target in targets:
            path = draft / TARGETS[target].file
            path.parent.mkdir(exist_ok=True)
            writers[target](target, path)
            parity = prove(_started(target, path))
            _refuse_losses(f"{target} {precision}", parity, proof.max_drop)
            delivery.parity[f"{target} {precision}"] = parity
        if delivery.harms:
            text = json.dumps(delivery.layers_to_dict(), indent=1) + "\n"
            (draft / LAYERS_FILE).write_text(text, encoding="utf-8")
        for target in targets:
            explain = TARGETS[target].explain
            if explain is not None:
                explain(draft, description)
        write_companions(
            draft, description, {name: parity.to_dict() for name, parity in delivery.parity.items()}
        )
    return delivery


class _Prover:
    """Compares networks with the reference, whose people are looked for once.

    Attributes:
        boxes: labelled people, for a top-down network.
    """

    def __init__(self, reference: Network, proof: Proof) -> None:
        self._proof = proof
        self.boxes: BoxTable | None = None
        if proof.labels is not None and is_top_down(reference.description):
            self.boxes = coco_boxes(proof.labels, source="the labels")
        self._expected = self._look(reference, proof.pictures)

    def __call__(self, network: Network) -> Parity:
        return compare(
            self._expected,
            self._look(network, self._proof.pictures),
            labels=self._proof.labels,
            names=[path.name for path in self._proof.pictures],
        )

    def shift_px(self, network: Network) -> float:
        """Median shift of keypoints on a few of the pictures."""
        few = self._proof.pictures[:PROBES]
        return compare(self._expected[: len(few)], self._look(network, few)).median_shift_px

    def _look(self, network: Network, pictures: Sequence[Path]) -> list[PoseResult]:
        return look(Predictor(network, threshold=0.0, boxes=self.boxes), pictures)


class _Search:
    """Looks for as many quantised layers as the loss allows, sparing the most harmful ones."""

    def __init__(self, quantiser: Quantiser, prove: _Prover, max_drop: float, max_spared: int) -> None:
        self.quantiser = quantiser
        self._prove = prove
        self._max_drop = max_drop
        self._max_spared = max_spared
        self._worst_first: list[str] = []

    def harms(self) -> list[LayerHarm]:
        """What quantising each layer alone does, worst first."""
        with TemporaryDirectory() as place:
            path = Path(place) / f"{STEM}.onnx"

            def shift_of(model: ModelProto) -> float:
                path.write_bytes(model.SerializeToString())
                return self._prove.shift_px(OnnxSession(path))

            harms = self.quantiser.harms(shift_of=shift_of)
        self._worst_first = [harm.name for harm in harms]
        return harms

    def __call__(
        self, targets: Sequence[str], write_sparing: Callable[[list[str]], _Writer]
    ) -> tuple[_Writer, list[str]]:
        """Try versions with ever more layers in floats → what writes the best one, and its spared layers."""
        tried: list[tuple[float, _Writer, list[str]]] = []
        for count in [count for count in _SPARED if count <= min(self._max_spared, len(self._worst_first))]:
            spared = self._worst_first[:count]
            write = write_sparing(spared)
            drop = max(self._drop(write, target) for target in targets)
            logger.info("int8 for %s with %d layers in floats: drop %.2f", targets, count, drop)
            tried.append((drop, write, spared))
            # Half of what may be lost: other pictures will lose more than these.
            if drop <= self._max_drop / 2:
                break
        _, write, spared = min(tried, key=lambda one: one[0])
        return write, spared

    def _drop(self, write: _Writer, target: str) -> float:
        with TemporaryDirectory() as place:
            path = Path(place) / Path(TARGETS[target].file).name
            write(target, path)
            return self._prove(_started(target, path)).drop


def _plans(
    targets: Sequence[str],
    quantiser: Quantiser,
    inputs: Sequence[Any],
    description: ModelDescription,
    *,
    has_nncf: bool,
) -> list[tuple[list[str], Callable[[list[str]], _Writer]]]:
    """Targets that share a quantised model, and what makes a version of it that spares some layers."""

    def with_qdq(spared: list[str]) -> _Writer:
        model = quantiser.quantised(layers=set(quantiser.layers) - set(spared))
        return _writer(model, description)

    def with_nncf(spared: list[str]) -> _Writer:
        model = quantise_with_nncf(quantiser.float_model, inputs, spared=spared)
        return lambda _, path: save_openvino(model, path, description)

    own = ["openvino"] if has_nncf else []
    shared = [target for target in targets if target not in own]
    return [plan for plan in ((shared, with_qdq), (own, with_nncf)) if plan[0]]


def _writer(model: ModelProto, description: ModelDescription, *, has_half_weights: bool = False) -> _Writer:
    return lambda target, path: TARGETS[target].write(
        model, path, description, has_half_weights=has_half_weights
    )


def check_request(
    folder: Path,
    *,
    targets: Sequence[str],
    precision: str,
    calibration: Sequence[Path],
    has_nncf: bool = False,
) -> None:
    """Refuse what `deliver` would refuse, before any work.

    Raises:
        UnknownNameError: a target or the precision is unknown.
        ConfigError: the folder is not empty, int8 has no pictures to calibrate on, or NNCF nothing to do.
        MissingExtraError: NNCF is not installed.
    """
    check_folder(folder)
    check_targets(list(targets), precision)
    if precision == "int8" and not calibration:
        raise ConfigError("int8 needs pictures to calibrate on: give a folder of them with --calibration")
    if has_nncf:
        _check_nncf(targets, precision)


def _check_nncf(targets: Sequence[str], precision: str) -> None:
    if precision != "int8" or "openvino" not in targets:
        raise ConfigError("NNCF makes int8 models for OpenVINO: ask for precision int8 and format openvino")
    require("nncf", extra="nncf")


def _started(target: str, path: Path) -> Network:
    """Load what was written for a target, to prove it."""
    runtime = TARGETS[target].runtime
    return start(Engine(runtime), {runtime: path})


def _refuse_losses(name: str, parity: Parity, max_drop: float) -> None:
    if parity.drop <= max_drop:
        return
    raise CheckpointError(
        f"{name} falls by {parity.drop:.1f} points of average precision, from {parity.reference_ap:.1f} to "
        f"{parity.ap:.1f} on {parity.pictures} pictures, at most {max_drop:g} may be lost; keypoints move by "
        f"{parity.median_shift_px:.1f} pixels in the middle and {parity.largest_shift_px:.1f} at most, "
        f"{parity.lost} of {parity.people} people are lost; nothing was written"
    )

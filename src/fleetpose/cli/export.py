"""`fleetpose export`: write a trained model as one ONNX file, or as a folder of formats with proof."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from cyclopts import Parameter

from fleetpose.cli.exit_codes import EXIT_OK
from fleetpose.errors import ConfigError

if TYPE_CHECKING:
    from fleetpose.compress.delivery import Delivery, Proof

#: How the weights of a single file are stored.
_Storage: TypeAlias = Literal["float32", "float16", "packed"]
#: Harmful layers that are named.
_NAMED_LAYERS = 10
#: Pictures of a proof, and points of average precision that may be lost, unless told otherwise.
_PROOF_PICTURES = 50
_MAX_DROP = 1.0


def export(
    source: Path,
    target: Path,
    *,
    to: str | None = None,
    precision: str = "fp32",
    pictures: Path | None = None,
    labels: Path | None = None,
    number: int = _PROOF_PICTURES,
    max_drop: float = _MAX_DROP,
    calibration: Path | None = None,
    nncf: Annotated[bool, Parameter(negative="")] = False,
    tune: int = 0,
    card: Path | None = None,
    overrides: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    half_weights: Annotated[bool, Parameter(negative="")] = False,
    packed_weights: Annotated[bool, Parameter(negative="")] = False,
    with_decode: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Write a trained model as one ONNX file, or with --to as a folder that comes with proof.

    An ONNX file describes itself and runs without PyTorch. It is run once beside the network and not written
    if the two differ by more than rounding.

    A folder holds the model in each format, its description, a decoder that needs NumPy only, and a report:
    how far keypoints move and how much average precision changes on pictures. It is not written if more is
    lost than --max-drop.

    Args:
        source: last.pt of a training run, or a file that `fleetpose convert` wrote; with --to also a bundled
            model's name or an .onnx file.
        target: file to write, ending in .onnx, or with --to a new folder; its name becomes the model's.
        to: formats of the folder with commas between them, some of onnx, openvino, ncnn, tensorrt (an ONNX
            file with the command that makes its engine) and web (a page that runs in a browser).
        precision: fp32; fp16, which halves the weights; or int8, which needs --calibration and is for onnx,
            openvino and web.
        pictures: folder of pictures for the proof; the demo's picture if left out.
        labels: COCO annotations of these pictures; without, the people whom the source finds count as true.
        number: at most so many pictures for the proof, and for the calibration.
        max_drop: points of average precision that may be lost.
        calibration: folder of pictures that show an int8 model the range of its maps.
        nncf: let NNCF make the int8 model for OpenVINO, rather than take over ONNX Runtime's.
        tune: let a checkpoint's int8 model learn to live with 8 bits on so many pictures, drawn from
            --calibration; a few hundred bring most.
        card: YAML file that says where the weights come from: licence, data, command, commit, hours,
            hardware, metrics.
        overrides: change a setting of the run that matters to prediction, such as --set short_side=192 or
            --set grouping.detection_threshold=0.2; may be given several times.
        half_weights: store the weights of a single ONNX file as float16, which halves it.
        packed_weights: store its large weights as 8-bit integers and the others as float16: about a quarter
            of the file, and still the arithmetic of float32.
        with_decode: let a single ONNX file of a bottom-up network find the candidates for keypoints too, so
            that only they leave it; such a file cannot be run with a flip test.
    """
    if to is None:
        given = {
            "--precision": precision != "fp32",
            "--pictures": pictures is not None,
            "--labels": labels is not None,
            "--number": number != _PROOF_PICTURES,
            "--max-drop": max_drop != _MAX_DROP,
            "--calibration": calibration is not None,
            "--nncf": nncf,
            "--tune": tune != 0,
        }
        _refuse_unused([name for name, is_given in given.items() if is_given])
        return _export_file(
            source,
            target,
            card=card,
            overrides=overrides,
            storage=_storage(half=half_weights, packed=packed_weights),
            with_decode=with_decode,
        )
    if half_weights or packed_weights or with_decode:
        raise ConfigError(
            "--half-weights, --packed-weights and --with-decode are for a single file: leave them out "
            "with --to, whose --precision says how weights are stored"
        )
    # Imports stand here so that help need not wait for the runtime.
    from fleetpose.compress.delivery import deliver  # noqa: PLC0415
    from fleetpose.compress.quantise import pictures_in  # noqa: PLC0415
    from fleetpose.runtime.choice import model_files  # noqa: PLC0415

    targets = [name.strip() for name in to.split(",") if name.strip()]
    proof = _proof(pictures, labels, number=number, max_drop=max_drop)
    shown = [] if calibration is None else pictures_in(calibration, limit=number, what="calibration")
    if source.suffix == ".pt":
        from fleetpose.recipes.delivering import deliver_checkpoint  # noqa: PLC0415 - needs PyTorch
        from fleetpose.recipes.shipping import UNKNOWN_CARD, read_card  # noqa: PLC0415 - same

        delivery = deliver_checkpoint(
            source,
            target,
            targets=targets,
            proof=proof,
            precision=precision,
            calibration=shown,
            card=UNKNOWN_CARD if card is None else read_card(card),
            overrides=overrides,
            has_nncf=nncf,
            tuning_steps=tune,
        )
    else:
        if card is not None or overrides or tune:
            raise ConfigError("--card, --set and --tune are for checkpoints; a model file keeps its own")
        path = model_files(str(source))["onnx"]
        delivery = deliver(
            path,
            target,
            targets=targets,
            proof=proof,
            precision=precision,
            calibration=shown,
            has_nncf=nncf,
        )
    _report(target, delivery)
    return EXIT_OK


def _refuse_unused(names: Sequence[str]) -> None:
    if names:
        raise ConfigError(
            f"{', '.join(names)} would change nothing in a single file, which has no proof; add --to onnx "
            "for a folder that has one, or store the weights with --half-weights or --packed-weights"
        )


def _storage(*, half: bool, packed: bool) -> _Storage:
    if half and packed:
        raise ConfigError("--half-weights and --packed-weights exclude each other: give one of them")
    return "packed" if packed else "float16" if half else "float32"


def _export_file(
    checkpoint: Path,
    target: Path,
    *,
    card: Path | None,
    overrides: tuple[str, ...],
    storage: _Storage,
    with_decode: bool,
) -> int:
    from fleetpose.export.decode_tail import add_decode_tail  # noqa: PLC0415 - needs the export extra
    from fleetpose.export.packing import pack_weights  # noqa: PLC0415 - same
    from fleetpose.recipes.converted import export_converted, is_converted  # noqa: PLC0415 - needs PyTorch
    from fleetpose.recipes.shipping import UNKNOWN_CARD, export_checkpoint, read_card  # noqa: PLC0415 - same
    from fleetpose.train.checkpoint import load_checkpoint  # noqa: PLC0415 - same

    model_card = UNKNOWN_CARD if card is None else read_card(card)
    write = export_converted if is_converted(load_checkpoint(checkpoint)) else export_checkpoint
    # What lies there stays until all that was asked for is done; the model's name is the file's.
    with _folder_beside(target) as place:
        draft = Path(place) / target.name
        difference = write(
            checkpoint, draft, card=model_card, overrides=overrides, has_half_weights=storage == "float16"
        )
        if storage == "packed":
            difference += pack_weights(draft)
        if with_decode:
            add_decode_tail(draft)
        draft.replace(target)
    size = target.stat().st_size / 1e6
    sys.stdout.write(f"{target}: {size:.2f} MB, at most {difference:.1e} standard deviations from PyTorch\n")
    return EXIT_OK


def _folder_beside(target: Path) -> TemporaryDirectory[str]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return TemporaryDirectory(prefix=f".{target.stem}.", dir=target.parent)
    except OSError as error:
        raise ConfigError(
            f"cannot write {target}: {error.strerror or error}; choose another place"
        ) from error


def _proof(pictures: Path | None, labels: Path | None, *, number: int, max_drop: float) -> Proof:
    from fleetpose.cli.demo import PICTURE  # noqa: PLC0415 - help must not wait for it
    from fleetpose.compress.delivery import Proof  # noqa: PLC0415 - same
    from fleetpose.compress.quantise import pictures_in  # noqa: PLC0415 - same
    from fleetpose.export.parity import read_labels  # noqa: PLC0415 - same

    if labels is not None and pictures is None:
        raise ConfigError("--labels are of pictures: name their folder with --pictures")
    files = [PICTURE] if pictures is None else pictures_in(pictures, limit=number, what="the proof")
    return Proof(tuple(files), None if labels is None else read_labels(labels), max_drop)


def _report(folder: Path, delivery: Delivery) -> None:
    """Print what was written and how far it strays."""
    from fleetpose.cli.output import say  # noqa: PLC0415 - help must not wait for it
    from fleetpose.compress.delivery import LAYERS_FILE  # noqa: PLC0415 - same

    for rewrite, count in delivery.rewrites.items():
        say(f"graph: {rewrite.replace('_', ' ')}: {count}")
    if delivery.harms:
        say(f"layers that 8 bits harm most, each quantised alone ({LAYERS_FILE} has all): error of the")
        say("outputs in standard deviations, pixels by which keypoints move, formats that keep it in floats:")
    for layer in delivery.layers_to_dict()[:_NAMED_LAYERS]:
        formats = ", ".join(layer["floats_in"]) or "-"
        say(f"  {layer['error_in_deviations']:.4f}  {layer['shift_px']:6.3f}  {formats}  {layer['layer']}")
    for name, parity in delivery.parity.items():
        say(
            f"{name}: AP {parity.ap:.1f}, from {parity.reference_ap:.1f} ({parity.labels}, {parity.pictures} "
            f"pictures); keypoints move by {parity.median_shift_px:.2f} px in the middle, "
            f"{parity.largest_shift_px:.2f} px at most; {parity.lost} of {parity.people} people lost"
        )
        if not parity.reference_ap:
            say("  the model itself scores 0 on these labels, so nothing could be lost: take other pictures")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        say(f"{path}: {path.stat().st_size / 1e6:.2f} MB")

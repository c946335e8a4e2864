"""The models that come with the package: every `.onnx` file of this folder, called by its file's name.

A model file describes itself, card included (`fleetpose.codecs.description`), so nothing is listed here.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fleetpose.errors import CheckpointError, UnknownNameError

#: What `fleetpose.load()` loads: the first finds people, the second looks once more at each.
DEFAULT_MODEL = "litepose-plain"
DEFAULT_REFINER = "slimdeconv-plain"
#: Sizes in which the first looks: half of the people in photos are small, see the training log.
DEFAULT_SHORT_SIDES = (96, 160, 256, 416)
#: The same and quicker choices for both models together, the most accurate first; the card has their scores.
SHORT_SIDES_BY_ACCURACY: tuple[tuple[int, ...], ...] = (DEFAULT_SHORT_SIDES, (64, 128, 256), (128,))
FOLDER = Path(str(resources.files(__name__)))


def bundled_models() -> dict[str, Path]:
    """Names of the bundled models → their files, sorted by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.onnx"))}


def default_refiner() -> Path | None:
    """File of the model that refines the people of the default one; None if none is bundled."""
    return bundled_models().get(DEFAULT_REFINER)


def find_model(model: str | Path | None = None) -> Path:
    """File of a model given by its name or its path; None for the default.

    Raises:
        UnknownNameError: no bundled model has the name; close matches are offered.
        CheckpointError: the path leads nowhere, or no model is bundled.
    """
    name = DEFAULT_MODEL if model is None else str(model)
    bundled = bundled_models()
    if name in bundled:
        return bundled[name]
    path = Path(name)
    if path.is_file():
        return path
    if isinstance(model, Path) or path.suffix == ".onnx":
        raise CheckpointError(f"cannot read the model {path}: no such file")
    if not bundled:
        raise CheckpointError(
            f"no model {name!r}: this installation bundles none; give the path of an .onnx file"
        )
    raise UnknownNameError("model", name, bundled)

"""Artefact folders: a model in one or more formats, with all that is needed to run and to trust it.

model.onnx, model.xml   the network; `fleetpose.load(folder)` takes whichever is faster
description.json        skeleton, input, output maps, decoder's settings and card, as in the model's metadata
decode.py               decodes the maps with NumPy alone
parity.json             how far each format strays from the network that it came from
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fleetpose.codecs import associative_embedding, candidates, efficientpose, part_affinity, top_down
from fleetpose.codecs.description import ModelDescription
from fleetpose.errors import ConfigError

STEM = "model"
DESCRIPTION_FILE = "description.json"
DECODER_FILE = "decode.py"
PARITY_FILE = "parity.json"

#: Decoders that need NumPy only, by the codec whose maps they read.
DECODERS = {
    kind: Path(__file__).with_name("decoders") / f"{kind}.py"
    for kind in (associative_embedding.CODEC_TYPE, top_down.CODEC_TYPE, efficientpose.CODEC_TYPE)
}
#: What reads a codec's settings and gives all of them.
_SETTINGS: Mapping[str, Callable[[ModelDescription], dict[str, Any]]] = {
    associative_embedding.CODEC_TYPE: lambda about: (
        associative_embedding.AssociativeEmbeddingCodec.from_description(about).settings()
    ),
    candidates.CODEC_TYPE: lambda about: candidates.CandidateCodec.from_description(about).settings(),
    efficientpose.CODEC_TYPE: lambda about: efficientpose.EfficientPoseCodec.from_description(
        about
    ).settings(),
    part_affinity.CODEC_TYPE: lambda about: part_affinity.PartAffinityCodec.from_description(
        about
    ).settings(),
    top_down.CODEC_TYPE: lambda about: top_down.TopDownCodec.from_description(about).settings(),
}


def completed(description: ModelDescription) -> ModelDescription:
    """Add the settings that a description leaves at their defaults, for decoders that know none."""
    return replace(description, codec=_SETTINGS[description.codec["type"]](description))


@contextmanager
def draft_of(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` if the block ends without an error, and vanishes otherwise.

    Raises:
        ConfigError: the folder exists and is not empty, or cannot be made.
    """
    check_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that it can be moved there in one step.
        holder = TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent)
    except OSError as error:
        raise ConfigError(f"cannot write into {folder.parent}: {error.strerror or error}") from error
    with holder as place:
        draft = Path(place) / STEM
        draft.mkdir()
        yield draft
        if folder.exists():
            folder.rmdir()
        draft.rename(folder)


def check_folder(folder: Path) -> None:
    """Make sure that an artefact can become `folder`.

    Raises:
        ConfigError: it exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not empty; name a new folder for the artefact")


def write_companions(
    folder: Path, description: ModelDescription, parity: Mapping[str, Mapping[str, Any]]
) -> list[Path]:
    """Write all but the models themselves → the files.

    A codec without a NumPy decoder gets none.
    """
    texts = {
        DESCRIPTION_FILE: completed(description).to_json(indent=1) + "\n",
        PARITY_FILE: json.dumps(parity, indent=1) + "\n",
    }
    decoder = DECODERS.get(description.codec["type"])
    if decoder is not None:
        texts[DECODER_FILE] = decoder.read_text(encoding="utf-8")
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]

"""Artefact folders: a model in one or more formats, with all that is needed to run and to trust it.

model.onnx, model.xml   the network; `fleetpose.load(folder)` takes whichever is faster
description.json        skeleton, input, output maps, decoder's settings and card, as in the model's metadata
decode.py               decodes the maps with NumPy alone
parity.json             how far each format strays from the network that it came from
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fleetpose.codecs.associative_embedding import CODEC_TYPE
from fleetpose.codecs.description import ModelDescription
from fleetpose.errors import ConfigError

STEM = "model"
DESCRIPTION_FILE = "description.json"
DECODER_FILE = "decode.py"
PARITY_FILE = "parity.json"

#: Decoders that need NumPy only, by the codec whose maps they read.
DECODERS = {CODEC_TYPE: Path(__file__).with_name("numpy_decoder.py")}


@contextmanager
def draft_of(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` if the block ends without an error, and vanishes otherwise.

    Raises:
        ConfigError: the folder exists and is not empty, or cannot be made.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not empty; name a new folder for the artefact")
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


def write_companions(
    folder: Path, description: ModelDescription, parity: Mapping[str, Mapping[str, Any]]
) -> list[Path]:
    """Write all but the models themselves → the files.

    A codec without a NumPy decoder gets none.
    """
    texts = {
        DESCRIPTION_FILE: description.to_json(indent=1) + "\n",
        PARITY_FILE: json.dumps(parity, indent=1) + "\n",
    }
    decoder = DECODERS.get(description.codec["type"])
    if decoder is not None:
        texts[DECODER_FILE] = decoder.read_text(encoding="utf-8")
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]

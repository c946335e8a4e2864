"""Write a model as a page that finds people in a browser, with onnxruntime-web and no server of its own.

The page's script, `web_page/fleetpose.mjs`, does what the runtime does in Python: preprocessing and decoding.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from fleetpose.codecs import associative_embedding, candidates, top_down
from fleetpose.codecs.description import METADATA_KEY, ModelDescription
from fleetpose.errors import CheckpointError, require
from fleetpose.export.artefact import DESCRIPTION_FILE, completed
from fleetpose.export.decode_tail import append_tail
from fleetpose.export.rewrite import halve_weights

if TYPE_CHECKING:
    from onnx import ModelProto

#: Folder of onnxruntime-web's files; else they are looked for where npm puts them, below the current folder.
RUNTIME_VARIABLE = "FLEETPOSE_ONNXRUNTIME_WEB"
RUNTIME_FOLDER = Path("node_modules/onnxruntime-web/dist")
#: What the page needs of them.
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
PAGE_FILES = ("index.html", "fleetpose.mjs")
#: Codecs that the script decodes; maps to group become candidates in the model itself.
_CODECS = (top_down.CODEC_TYPE, candidates.CODEC_TYPE)
_PAGE = Path(__file__).with_name("web_page")


def write_web(
    model: ModelProto, path: Path, description: ModelDescription, *, has_half_weights: bool = False
) -> None:
    """Write the model to `path`, and a page that runs it into the same folder.

    A bottom-up model gets a decoding tail, so that little is left to do in the browser.

    Raises:
        CheckpointError: the script cannot decode what the model gives.
    """
    onnx = require("onnx", extra="export")
    written = type(model).FromString(model.SerializeToString())
    if description.codec["type"] == associative_embedding.CODEC_TYPE:
        description = append_tail(written, description, onnx)
    if description.codec["type"] not in _CODECS:
        raise CheckpointError(
            f"{description.name} decodes by {description.codec['type']}, which the page does not; it runs "
            "top-down models and those that group by associative embedding"
        )
    description = completed(description)
    onnx.helper.set_model_props(written, {METADATA_KEY: description.to_json()})
    if has_half_weights:
        halve_weights(written)
    path.write_bytes(written.SerializeToString())
    folder = path.parent
    (folder / DESCRIPTION_FILE).write_text(description.to_json(indent=1) + "\n", encoding="utf-8")
    for name in PAGE_FILES:
        shutil.copyfile(_PAGE / name, folder / name)
    is_complete = _copy_runtime(folder)
    (folder / "README.md").write_text(_note(description, is_complete=is_complete), encoding="utf-8")


def _copy_runtime(folder: Path) -> bool:
    """Copy onnxruntime-web's files, if they are all on this machine → whether they were."""
    source = Path(os.environ.get(RUNTIME_VARIABLE) or RUNTIME_FOLDER)
    if not all((source / name).is_file() for name in RUNTIME_FILES):
        return False
    for name in RUNTIME_FILES:
        shutil.copyfile(source / name, folder / name)
    return True


def _note(description: ModelDescription, *, is_complete: bool) -> str:
    missing = f"""
Before that, the runtime's files have to be brought here (MIT licence):

```bash
npm install onnxruntime-web
cp {" ".join(f"node_modules/onnxruntime-web/dist/{name}" for name in RUNTIME_FILES)} .
```
"""
    return f"""# {description.name} in the browser

```bash
python -m http.server    # then open the address that it prints
```
{"" if is_complete else missing}
Pictures stay in the browser. `fleetpose.mjs` is a module without dependencies for pages of one's own; its
first lines show how it is used. It runs in Node too.
"""

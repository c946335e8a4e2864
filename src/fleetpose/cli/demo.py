"""`fleetpose demo`: people in a bundled picture, to see that an installation works and how fast."""

from __future__ import annotations

import time
from importlib import resources
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

PICTURE = Path(str(resources.files("fleetpose"))) / "assets" / "demo.jpg"
#: Pictures over which speed is measured, after one that warms up.
REPEATS = 20


def demo(
    *,
    model: Annotated[str | None, Parameter(name=["--model", "-m"])] = None,
    out: Path = Path("runs/demo"),
    threads: int | None = None,
) -> int:
    """Find the people in a bundled picture, to see that all works.

    Writes the annotated picture demo.jpg and what was found, results.json, and prints how long each
    step took.

    Args:
        model: name of a bundled model or an .onnx file.
        out: folder for the results; an earlier demo there is replaced.
        threads: processor threads of the network.
    """
    # Imports stand here so that help need not wait for OpenCV and the runtime.
    from fleetpose.cli.output import people_in_words, say, steps_in_words  # noqa: PLC0415
    from fleetpose.media.images import read_image  # noqa: PLC0415
    from fleetpose.media.sources import Source, SourceKind  # noqa: PLC0415
    from fleetpose.media.video import Frame  # noqa: PLC0415
    from fleetpose.runtime.predictor import load  # noqa: PLC0415
    from fleetpose.runtime.recording import Recorder, ensure_folder  # noqa: PLC0415
    from fleetpose.runtime.timing import StepTotals  # noqa: PLC0415

    started_s = time.perf_counter()
    predictor = load(model, threads=threads)
    frame = Frame(read_image(PICTURE), index=0, timestamp_s=0.0)
    ((_, result),) = predictor.follow([frame], name=PICTURE.name)
    first_s = time.perf_counter() - started_s

    ensure_folder(out)
    with Recorder(out, formats=("image", "json")) as recorder:
        recorder.add(Source(SourceKind.IMAGE, str(PICTURE)), frame, result)
    totals = StepTotals()
    for _ in range(REPEATS):
        totals.add(predictor(frame.image).timings_ms)

    say(f"model {predictor.name}: {people_in_words(result)}")
    say(f"first result after {first_s:.2f} s; then {steps_in_words(totals.means_ms())}")
    say(f"annotated picture: {out / PICTURE.name}")
    say(f"keypoints: {out / 'results.json'}")
    return 0

"""`fleetpose predict`: people in pictures, folders, videos, cameras and streams."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fleetpose.cli.exit_codes import EXIT_OK, EXIT_SOME_FAILED
from fleetpose.errors import ConfigError
from fleetpose.runtime import DEFAULT_THRESHOLD

if TYPE_CHECKING:
    from fleetpose.runtime.batch import Tally

#: A call's results go to a folder of their own within this one.
RUNS = Path("runs/predict")


def predict(
    *sources: str,
    model: Annotated[str | None, Parameter(name=["--model", "-m"])] = None,
    save: str = "image,video,coco,csv",
    out: Path | None = None,
    threshold: float = DEFAULT_THRESHOLD,
    short_side: str | None = None,
    threads: int | None = None,
    runtime: str = "auto",
    precision: str = "f32",
    max_frames: int | None = None,
    boxes: str | None = None,
    refine: str | None = None,
    flip_test: Annotated[
        bool, Parameter(name=["--flip-test", "--flip"], negative="", show_default=False)
    ] = False,
    closer_look: bool | None = None,
    scales: str | None = None,
    zoom: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    draw_boxes: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Find people in pictures, folders, videos or from a camera.

    Results go to a new folder runs/predict/NAME: annotated pictures and H.264 videos, COCO results
    (predictions.coco.json), a table of keypoints (keypoints.csv). A file that cannot be read is named and
    all others are still done; the exit code is then 1.

    Args:
        sources: pictures, folders, patterns such as "*.jpg", videos, a camera's number, RTSP addresses.
        model: name of a bundled model (see `fleetpose models`), a model file or an exported folder.
        save: what to write, some of image,video,coco,csv,json,openpose.
        out: folder for the results instead of runs/predict/NAME; a number is added if it is not empty.
        threshold: leave out people with a lower score, 0 to 1.
        short_side: bring the shorter side of a picture to so many pixels; more finds smaller people, several
            numbers such as 96,224 look in each size.
        threads: processor threads of the network.
        runtime: onnx or openvino; auto takes the fastest that is installed, and measures it once.
        precision: bf16 allows 16-bit arithmetic where it is faster.
        max_frames: stop each video or camera after so many frames.
        boxes: where a top-down model looks for one person each: whole for the whole picture, its default, or
            a COCO annotation file with boxes.
        refine: a top-down model that looks once more at each person whom the bottom-up model found.
        flip_test: look at the mirrored picture too: better, half as fast.
        closer_look: look twice at the people of a top-down model, better and slower; so it is where a second
            model refines and for the whole picture, unless told otherwise, but not in given boxes.
        scales: look at the picture in several sizes, such as 0.5,1,2.
        zoom: look once more at each person found, enlarged.
        draw_boxes: draw boxes around people.
    """
    # Imports stand here so that help need not wait for OpenCV, FFmpeg and the runtime.
    from fleetpose.cli.looks import bottom_up_settings, box_source, short_sides  # noqa: PLC0415
    from fleetpose.cli.progress import RichWatcher  # noqa: PLC0415
    from fleetpose.draw import DrawSettings  # noqa: PLC0415
    from fleetpose.runtime.batch import Tally, find_all, predict_all, run_name  # noqa: PLC0415
    from fleetpose.runtime.predictor import load  # noqa: PLC0415
    from fleetpose.runtime.recording import Recorder, check_formats, new_folder  # noqa: PLC0415

    if not sources:
        raise ConfigError("nothing to look at: name pictures, folders, videos or a camera's number")
    formats = [name.strip() for name in save.split(",") if name.strip()]
    check_formats(formats)
    tally = Tally()
    found = find_all(sources, tally)
    if not found:
        return _report(tally, None)
    predictor = load(
        model,
        threshold=threshold,
        short_side=short_sides(short_side),
        threads=threads,
        has_flip_test=flip_test,
        has_closer_look=closer_look,
        bottom_up=bottom_up_settings(scales=scales, zoom=zoom),
        boxes=box_source(boxes),
        refine=refine,
        runtime=runtime,
        precision=precision,
    )
    folder = new_folder(out or RUNS / run_name(sources[0], found[0]))
    drawing = DrawSettings(has_boxes=draw_boxes)
    try:
        with (
            Recorder(folder, formats=formats, sources=found, settings=drawing) as recorder,
            RichWatcher(source_count=len(found)) as watcher,
        ):
            predict_all(predictor, found, recorder, tally=tally, watcher=watcher, max_frames=max_frames)
    finally:
        code = _report(tally, folder)
    return code


def _report(tally: Tally, folder: Path | None) -> int:
    """Say what was done and what failed → exit code."""
    from fleetpose.cli.output import say, steps_in_words, warn  # noqa: PLC0415 - help must not wait for it

    if folder is not None:
        say(f"{tally.in_words()}: {folder}")
    if tally.steps.count:
        say(steps_in_words(tally.steps.means_ms()))
    for failure in tally.failures:
        warn(failure)
    return EXIT_SOME_FAILED if tally.failures else EXIT_OK

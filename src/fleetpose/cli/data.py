"""`fleetpose data`: look into data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from fleetpose.cli.exit_codes import EXIT_OK
from fleetpose.errors import ConfigError

data = App(name="data", help="Look into data sets and prepare them.", help_format="plaintext")


@data.command
def show(
    annotations: Path,
    /,
    *,
    images: Path | None = None,
    out: Path = Path("sheet.png"),
    count: int = 24,
    columns: int = 6,
    tile: int = 320,
    seed: int = 0,
) -> int:
    """Draw the labels of some pictures in one sheet.

    Args:
        annotations: COCO keypoint file.
        images: folder of the pictures; by default the file's own folder, or `images` in it.
        out: picture file to write.
        count: how many pictures.
        columns: pictures side by side.
        tile: pixels on a side of each.
        seed: decides which pictures.
    """
    # Imports stand here so that help need not wait for OpenCV.
    from fleetpose.cli.output import say  # noqa: PLC0415
    from fleetpose.data.sheet import draw_sheet  # noqa: PLC0415
    from fleetpose.media.images import write_image  # noqa: PLC0415
    from fleetpose.skeletons import COCO  # noqa: PLC0415

    folder = images or _folder_of(annotations)
    sheet = draw_sheet(annotations, folder, skeleton=COCO, count=count, columns=columns, tile=tile, seed=seed)
    write_image(out, sheet)
    say(f"wrote {out}")
    return EXIT_OK


@data.command
def vote(
    annotations: Path,
    /,
    *,
    out: Path,
    teachers: Annotated[tuple[Path, ...], Parameter(name="--teacher")],
    images: Path | None = None,
) -> int:
    """Ask other networks which labels they agree with, and write those votes beside the labels.

    Training leaves out what they doubt by the settings least_votes and least_agreement of a source.

    Args:
        annotations: COCO keypoint file.
        out: file to write: the same with votes and agreement of each person.
        teachers: .tflite file of EfficientPose's or MoveNet's kind, or .onnx file of a top-down model; give
            two or more, by one --teacher each.
        images: folder of the pictures; by default the file's own folder, or `images` in it.
    """
    from fleetpose.cli.output import say  # noqa: PLC0415
    from fleetpose.cli.progress import progress_bar  # noqa: PLC0415
    from fleetpose.recipes.voting import add_votes, open_voter  # noqa: PLC0415

    opened = [open_voter(path) for path in teachers]
    with progress_bar("people") as progress:
        voted = add_votes(annotations, images or _folder_of(annotations), opened, progress=progress)
    _write(out, voted)
    cast = [count for one in voted["annotations"] for count in one.get("votes", ())]
    say(f"wrote {out}: {cast.count(-1)} keypoints are probably wrong, {sum(v > 0 for v in cast)} confirmed")
    return EXIT_OK


@data.command
def bystanders(
    annotations: Path,
    /,
    *,
    boxes: Path,
    out: Path,
    teachers: Annotated[tuple[Path, ...], Parameter(name="--teacher")],
    images: Path | None = None,
) -> int:
    """Add people in view whom nobody labelled, where two networks agree on their keypoints.

    Boxes of people on whom they do not agree become regions to ignore.

    Args:
        annotations: COCO keypoint file.
        boxes: people whom a detector found in the same pictures, in COCO's results format.
        out: file to write: the same with these people and regions.
        teachers: as for `vote`; the first says where keypoints are, and another must agree.
        images: folder of the pictures; by default the file's own folder, or `images` in it.
    """
    from fleetpose.cli.output import say  # noqa: PLC0415
    from fleetpose.cli.progress import progress_bar  # noqa: PLC0415
    from fleetpose.metrics.tables import read_rows  # noqa: PLC0415
    from fleetpose.recipes.bystanders import add_bystanders  # noqa: PLC0415
    from fleetpose.recipes.voting import open_voter  # noqa: PLC0415

    opened = [open_voter(path) for path in teachers]
    rows = read_rows(boxes)
    folder = images or _folder_of(annotations)
    with progress_bar("pictures") as progress:
        data, added = add_bystanders(annotations, folder, rows, opened, progress=progress)
    _write(out, data)
    people = sum(not one["iscrowd"] for one in added)
    say(f"wrote {out}: {people} people more, {len(added) - people} regions to ignore")
    return EXIT_OK


@data.command
def correct(
    annotations: Path,
    /,
    *,
    teacher: Path,
    out: Path,
    images: Path | None = None,
    keep: str = "",
) -> int:
    """Mend noisy labels with a top-down model: move what it sees elsewhere, add what nobody labelled.

    Its own mistakes get into the labels too: take one that does better on confirmed keypoints than the labels
    do, and never correct what a model is scored on.

    Args:
        annotations: COCO keypoint file; the votes of `fleetpose data vote` are heeded.
        teacher: file of a top-down model; it looks at each person and at the mirrored picture.
        out: file to write: the same with corrected keypoints and without votes.
        images: folder of the pictures; by default the file's own folder, or `images` in it.
        keep: names of keypoints, comma-separated, whose labels stay unless votes call them wrong.
    """
    from fleetpose.cli.output import say  # noqa: PLC0415
    from fleetpose.cli.progress import progress_bar  # noqa: PLC0415
    from fleetpose.recipes.correcting import correct_labels  # noqa: PLC0415
    from fleetpose.recipes.voting import open_top_down  # noqa: PLC0415

    opened = open_top_down(teacher, has_flip_test=True)
    kept_names = [name.strip() for name in keep.split(",") if name.strip()]
    folder = images or _folder_of(annotations)
    with progress_bar("people") as progress:
        corrected, tally = correct_labels(annotations, folder, opened, keep=kept_names, progress=progress)
    _write(out, corrected)
    say(
        f"wrote {out}: {tally.kept} keypoints kept, {tally.moved} moved, {tally.added} added, "
        f"{tally.unknown} made unknown; {tally.left_out} people left out"
    )
    return EXIT_OK


@data.command
def outline(
    annotations: Path,
    /,
    *,
    out: Path,
    images: Path | None = None,
    skeleton: str = "coco17",
) -> int:
    """Outline people who have keypoints but no outline, so that training can paste them into other pictures.

    GrabCut starts from the limbs; people who do not stand out against the background get none.

    Args:
        annotations: COCO keypoint file.
        out: file to write: the same with outlines.
        images: folder of the pictures; by default the file's own folder, or `images` in it.
        skeleton: name, or YAML file, of the skeleton whose limbs connect the file's keypoints.
    """
    from fleetpose.cli.output import say  # noqa: PLC0415
    from fleetpose.cli.progress import progress_bar  # noqa: PLC0415
    from fleetpose.recipes.outlining import add_outlines  # noqa: PLC0415
    from fleetpose.skeletons import load_skeleton  # noqa: PLC0415

    limbs = load_skeleton(skeleton)
    with progress_bar("people") as progress:
        outlined, count, asked = add_outlines(
            annotations, images or _folder_of(annotations), limbs, progress=progress
        )
    _write(out, outlined)
    say(f"wrote {out}: {count} of {asked} people without an outline got one")
    return EXIT_OK


@data.command
def paste(
    annotations: Path,
    /,
    *,
    out: Path,
    backgrounds: Path,
    images: Path | None = None,
    count: int = 1000,
    size: str = "384x384",
    people: int = 4,
    extent: tuple[float, float] = (0.15, 1.1),
    held_out_every: int = 0,
    seed: int = 0,
    skeleton: str = "coco17",
) -> int:
    """Cut people out along their outlines and put them before other backgrounds, as a data set of its own.

    Keypoints that nobody knows are written as not labelled: train on it with is_zero_unknown.

    Args:
        annotations: COCO keypoint file with outlines, see `fleetpose data outline`.
        out: folder to write.
        backgrounds: folder of pictures without people.
        images: folder of the people's pictures; by default the file's own folder, or `images` in it.
        count: number of pictures.
        size: of the pictures, HEIGHTxWIDTH.
        people: largest number of people in a picture.
        extent: longer side of a person, as a share of the picture's shorter side: lowest, highest.
        held_out_every: people of pictures whose id this divides are left out, to be a validation split.
        seed: decides everything that is drawn.
        skeleton: name, or YAML file, of the skeleton to write.
    """
    from fleetpose.cli.output import say  # noqa: PLC0415
    from fleetpose.cli.progress import progress_bar  # noqa: PLC0415
    from fleetpose.cli.synth import numbers  # noqa: PLC0415
    from fleetpose.data.paste import PasteSettings  # noqa: PLC0415
    from fleetpose.recipes.pasting import LABELS, write_pasted  # noqa: PLC0415
    from fleetpose.skeletons import load_skeleton  # noqa: PLC0415

    wanted = load_skeleton(skeleton)
    settings = PasteSettings(most=people, size=extent, likeness=0.3, rotation_deg=25)
    with progress_bar("pictures") as progress:
        total = write_pasted(
            annotations,
            images or _folder_of(annotations),
            backgrounds,
            out,
            skeleton=wanted,
            count=count,
            size=numbers(size, "--size", "x"),
            seed=seed,
            settings=settings,
            held_out_every=held_out_every,
            progress=progress,
        )
    say(f"wrote {out / LABELS}: {total} people in {count} pictures")
    return EXIT_OK


def _write(path: Path, content: object) -> None:
    try:
        path.write_text(json.dumps(content), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error


def _folder_of(annotations: Path) -> Path:
    """Where the pictures of an annotation file lie unless told."""
    inner = annotations.parent / "images"
    return inner if inner.is_dir() else annotations.parent

"""`fleetpose data`: look into data sets."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from fleetpose.cli.exit_codes import EXIT_OK

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

    folder = images or annotations.parent
    if images is None and (folder / "images").is_dir():
        folder = folder / "images"
    sheet = draw_sheet(annotations, folder, skeleton=COCO, count=count, columns=columns, tile=tile, seed=seed)
    write_image(out, sheet)
    say(f"wrote {out}")
    return EXIT_OK

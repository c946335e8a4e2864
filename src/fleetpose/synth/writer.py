"""Data sets on disk: shards that appear whole or not at all, made by any number of processes, resumable."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fleetpose.errors import ConfigError, DatasetError, MediaError, PoseError
from fleetpose.synth.arrays import Array
from fleetpose.synth.config import SynthConfig
from fleetpose.synth.generate import Picture, make_clip, make_picture
from fleetpose.synth.label import annotation, category
from fleetpose.synth.library import Library
from fleetpose.synth.scene import photo_files

RECORD = "synth.json"
MAX_PEOPLE_ID = 100  # annotation ids are picture id times this, plus the person's place in the picture
MAX_COUNT = 100_000_000


@dataclass(frozen=True, slots=True)
class Job:
    """What a data set consists of: everything that decides its bytes, and where it goes.

    count: pictures, or frames when `clip_frames` is above 0. seed: picture k is drawn from seed + k.
    """

    out: Path
    count: int
    seed: int = 0
    shard_size: int = 50
    clip_frames: int = 0
    fps: float = 10.0
    semantic: bool = False
    depth: bool = False
    split: str = "train"
    backgrounds: Path | None = None

    def __post_init__(self) -> None:
        """Refuse counts that make no sense."""
        if not 1 <= self.count <= MAX_COUNT:
            raise ConfigError(f"count must be between 1 and {MAX_COUNT} pictures, but got {self.count}")
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, but got {self.seed}")
        if not 1 <= self.shard_size <= 100_000:
            raise ConfigError(f"shard_size must be between 1 and 100000 pictures, but got {self.shard_size}")
        if self.clip_frames < 0 or self.clip_frames == 1 or self.clip_frames > 10_000:
            raise ConfigError(f"clip_frames must be 0 or between 2 and 10000, but got {self.clip_frames}")
        if self.clip_frames and self.count % self.clip_frames:
            raise ConfigError(
                f"count must be a multiple of clip_frames {self.clip_frames}, but got {self.count}"
            )
        if not 1 <= self.fps <= 120:
            raise ConfigError(f"fps must be between 1 and 120, but got {self.fps}")

    @property
    def shard_pictures(self) -> int:
        """Pictures per shard; clips are never split over shards."""
        if not self.clip_frames:
            return self.shard_size
        return max(self.shard_size // self.clip_frames, 1) * self.clip_frames

    def shards(self) -> list[int]:
        """Numbers of all shards."""
        return list(range((self.count + self.shard_pictures - 1) // self.shard_pictures))

    def range_of(self, shard: int) -> range:
        """Picture numbers of a shard."""
        return range(shard * self.shard_pictures, min((shard + 1) * self.shard_pictures, self.count))


def run_job(
    library: Library, config: SynthConfig, job: Job, *, workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:  # fmt: skip
    """Make every missing shard of a data set, then its annotation file; returns that file's path.

    Raises:
        ConfigError: the folder cannot be written or holds a different data set.
        PoseError: a worker died; finished shards are kept and the same call goes on where it stopped.
    """
    if not 1 <= workers <= 1024:
        raise ConfigError(f"workers must be between 1 and 1024, but got {workers}")
    photos = photo_files(job.backgrounds) if job.backgrounds is not None else []
    prepare_folder(library, config, job)
    missing = [shard for shard in job.shards() if not is_whole(job, shard)]
    done = job.count - sum(len(job.range_of(shard)) for shard in missing)
    for shard in _make_shards(library, config, job, missing, photos=photos, workers=workers):
        done += len(job.range_of(shard))
        if progress is not None:
            progress(done, job.count)
    return merge(job)


def _make_shards(
    library: Library,
    config: SynthConfig,
    job: Job,
    missing: list[int],
    *,
    photos: Sequence[Path],
    workers: int,
) -> Iterator[int]:
    if workers == 1 or len(missing) <= 1:
        for shard in missing:
            yield write_shard(library, config, job, shard, photos)
        return
    methods = multiprocessing.get_all_start_methods()
    # A fork of a process with threads, as OpenCV and PyTorch start them, can wait for their locks for ever.
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    # The server imports once what every worker needs.
    context.set_forkserver_preload(["__main__", __name__])
    with ProcessPoolExecutor(
        min(workers, len(missing)), context, _start, (library, config, job, photos)
    ) as pool:
        futures: dict[Future[int], int] = {pool.submit(_work, shard): shard for shard in missing}
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise PoseError(
                "a worker died, perhaps for lack of memory; finished shards are kept: run the same command "
                "again, with fewer --workers if need be"
            ) from error
        finally:
            for future in futures:
                future.cancel()


_shared: dict[str, Any] = {}  # what a worker process was started with


def _start(library: Library, config: SynthConfig, job: Job, photos: Sequence[Path]) -> None:
    cv2.setNumThreads(1)
    _shared.update(library=library, config=config, job=job, photos=photos)


def _work(shard: int) -> int:
    return write_shard(_shared["library"], _shared["config"], _shared["job"], shard, _shared["photos"])


def shard_folder(job: Job, shard: int) -> Path:
    """Folder of a finished shard."""
    return job.out / "shards" / f"{shard:05d}"


def is_whole(job: Job, shard: int) -> bool:
    """Tell whether a shard is there with all its pictures; a longer run may need more of the last one."""
    return len(list(shard_folder(job, shard).glob("*.jpg"))) >= len(job.range_of(shard))


def prepare_folder(library: Library, config: SynthConfig, job: Job) -> None:
    """Create the output folder with its record, or check that it belongs to the same data set."""
    record = {"config": asdict(config), "job": _job_record(job), "assets": _sources(library)}
    text = json.dumps(record, indent=1, sort_keys=True)
    path = job.out / RECORD
    try:
        (job.out / "shards").mkdir(parents=True, exist_ok=True)
        if path.is_file():
            _check_same(json.loads(path.read_text()), json.loads(text), job.out)
        elif any((job.out / "shards").iterdir()):
            raise ConfigError(f"{job.out} holds shards but no {RECORD}; give an empty folder")
        else:
            write_whole(path, text.encode())
        for leftover in (job.out / "shards").glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {job.out}: {error.strerror}; give a folder you may write to"
        ) from error


def _job_record(job: Job) -> dict[str, object]:
    kept = ("seed", "shard_size", "clip_frames", "fps", "semantic", "depth", "split")
    return {name: getattr(job, name) for name in kept} | {"backgrounds": str(job.backgrounds or "")}


def _sources(library: Library) -> dict[str, object]:
    return {
        "asset_checksums": library.assets.digest() if library.assets is not None else "",
        "body": library.body_digest,
        "uses_cmu": library.poses.uses_cmu,
    }


def _check_same(old: Any, new: Any, out: Path) -> None:  # noqa: ANN401 - parsed JSON
    for group in ("config", "job", "assets"):
        before, now = old.get(group, {}), new[group]
        for key in now:
            if before.get(key) != now[key]:
                raise ConfigError(
                    f"{out} was begun with {key} = {before.get(key)!r}, but now it is {now[key]!r}; "
                    "repeat the first settings to go on, or give another folder"
                )


def write_shard(library: Library, config: SynthConfig, job: Job, shard: int, photos: Sequence[Path]) -> int:
    """Make one shard in a hidden folder and move it into place when it is whole."""
    final = shard_folder(job, shard)
    temporary = final.with_name(f".{final.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        images: list[dict[str, object]] = []
        people: list[dict[str, object]] = []
        for number, picture in _pictures(library, config, job, shard, photos):
            image, found = _write_picture(temporary, job, shard, number, picture)
            images.append(image)
            people += found
        (temporary / "labels.json").write_text(json.dumps({"images": images, "annotations": people}))
        shutil.rmtree(final, ignore_errors=True)  # there only where a shorter run ended
        temporary.rename(final)
    except OSError as error:
        raise MediaError(
            f"cannot write shard {final}: {error.strerror}; finished shards are intact: "
            "make room or mend the folder, then run the same command again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return shard


def _pictures(
    library: Library, config: SynthConfig, job: Job, shard: int, photos: Sequence[Path]
) -> Iterator[tuple[int, Picture]]:
    numbers = job.range_of(shard)
    if not job.clip_frames:
        for number in numbers:
            yield number, make_picture(library, config, job.seed + number, photos)
        return
    for first in range(numbers.start, numbers.stop, job.clip_frames):
        seed = job.seed + first // job.clip_frames
        clip = make_clip(library, config, seed, photos, frames=job.clip_frames, fps=job.fps)
        for offset, picture in enumerate(clip):
            yield first + offset, picture


def _write_picture(
    folder: Path, job: Job, shard: int, number: int, picture: Picture
) -> tuple[dict[str, object], list[dict[str, object]]]:
    name = f"{number:06d}"
    _write_image(
        folder / f"{name}.jpg", picture.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, picture.quality]
    )
    image: dict[str, object] = {
        "id": number + 1,
        "file_name": f"shards/{shard:05d}/{name}.jpg",
        "width": picture.image.shape[1],
        "height": picture.image.shape[0],
        "seed": picture.seed,
        "scene": picture.scene,
    }
    if job.clip_frames:
        image |= {"clip_id": picture.seed, "frame": picture.frame, "fps": job.fps}
    if job.semantic:
        _write_image(folder / f"{name}.classes.png", picture.semantic)
        image["semantic_file"] = f"shards/{shard:05d}/{name}.classes.png"
    if job.depth:
        _write_image(folder / f"{name}.depth.png", picture.depth)
        image["depth_file"] = f"shards/{shard:05d}/{name}.depth.png"
    people = [
        annotation(label, number=(number + 1) * MAX_PEOPLE_ID + place, image_id=number + 1)
        for place, label in enumerate(picture.people)
    ]
    return image, people


def _write_image(path: Path, image: Array, settings: Sequence[int] = ()) -> None:
    is_encoded, data = cv2.imencode(path.suffix, np.ascontiguousarray(image), list(settings))
    if not is_encoded:
        raise MediaError(f"cannot encode {path.name}")
    path.write_bytes(data.tobytes())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is seen either in its old state or its new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)


def merge(job: Job) -> Path:
    """Join the labels of all shards into one COCO file."""
    images: list[object] = []
    people: list[object] = []
    for shard in job.shards():
        path = shard_folder(job, shard) / "labels.json"
        try:
            labels = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"{path} cannot be read: {error}; delete its folder and run the same command again"
            ) from error
        # A shard of a longer run holds more pictures than a shorter run asks for.
        images += [image for image in labels["images"] if image["id"] <= job.count]
        people += [person for person in labels["annotations"] if person["image_id"] <= job.count]
    whole = {
        "info": {"description": "synthetic people by FleetPose", "version": "1", "split": job.split},
        "licenses": [
            {"id": 1, "name": "CC0-1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}
        ],
        "images": images,
        "annotations": people,
        "categories": [category()],
    }
    path = job.out / f"person_keypoints_{job.split}.json"
    try:
        write_whole(path, json.dumps(whole).encode())
    except OSError as error:
        raise MediaError(
            f"cannot write {path}: {error.strerror}; make room, then run the same command again"
        ) from error
    return path

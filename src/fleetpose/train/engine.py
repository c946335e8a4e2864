"""The training loop: one `train` that a newcomer can read from top to bottom.

Lightning Fabric places the network on whatever device there is and joins several processes; the loop itself
is plain. What differs between families, such as what is drawn and compared, is their task's
(`fleetpose.train.tasks`). Every step follows from the settings and its number, so a run that was stopped goes
on as if it had not.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import yaml
from lightning.fabric import Fabric
from torch import Tensor

from fleetpose.errors import ConfigError, DatasetError
from fleetpose.geometry import IMAGE_MEAN, IMAGE_STD, Image
from fleetpose.media.images import write_image
from fleetpose.models import PoseNetwork
from fleetpose.settings import to_plain
from fleetpose.skeletons import Skeleton
from fleetpose.train.card import card_of, describe_environment
from fleetpose.train.checkpoint import open_folder, save_checkpoint
from fleetpose.train.config import TrainConfig, changed_settings, self_contained
from fleetpose.train.curves import draw_curves
from fleetpose.train.devices import open_fabric
from fleetpose.train.log import Table, TensorBoard, remaining_scenes
from fleetpose.train.machine import machine_settings
from fleetpose.train.networks import build_network, check_batches, check_sizes, take_starting_weights
from fleetpose.train.optimisation import averaged_copy, freeze, learning_rate, optimiser_for
from fleetpose.train.quick_gradients import quick_gradients
from fleetpose.train.resuming import read_state, restore
from fleetpose.train.stopping import TrainingStoppedError, stop_signals
from fleetpose.train.stream import Item, Labels, SampleNumbers, batches
from fleetpose.train.tasks import BatchPreparer, check_use, task_of, with_class_names
from fleetpose.train.teachers import open_teacher, with_lesson

logger = logging.getLogger(__name__)

#: Averaged network → scores by name, such as {"coco_dev/AP": 12.3}.
Validate = Callable[[PoseNetwork], Mapping[str, float]]
#: Averaged network → picture of what it predicts, `[H, W, 3]` RGB.
Depict = Callable[[PoseNetwork], Image]


@dataclass(slots=True)
class Progress:
    """How far a run is.

    Attributes:
        step: optimiser steps taken.
        scenes: scenes or crops seen, by all processes together.
        seconds: time spent in training, without validation and pauses between stop and resume.
    """

    step: int = 0
    scenes: int = 0
    seconds: float = 0.0


def train(
    config: TrainConfig,
    folder: Path,
    *,
    is_resumed: bool = False,
    validate: Validate | None = None,
    depict: Depict | None = None,
    devices: int = 1,
    accelerator: str = "auto",
) -> Progress:
    """Train a network and leave checkpoints, logs and curves in `folder`.

    Ctrl-C or SIGTERM ends the run after the present step and saves it; a second one ends it at once.

    Args:
        config: what to train, on what and how.
        folder: gets `config.yaml`, `environment.yaml`, `train.csv`, `validation.csv`, `curves.png`,
            `samples/`, `best.pt` and `last.pt`, and `skeleton.yaml` if the keypoints are the user's own.
        is_resumed: go on from `last.pt`. Settings may differ from those that the run had: the differences are
            logged and kept in `changes.yaml`.
        validate: scores the averaged network from time to time, in the first process. The highest of its
            first score, or of `config.best_by`, decides what `best.pt` keeps.
        depict: draws what the averaged network predicts, after each validation.
        devices: processes or accelerators to train on.
        accelerator: "auto", "cpu", "cuda" … as Fabric names them.

    Returns:
        Where the run ended; `step` is below `config.total_steps` when it was interrupted, after saving.

    Raises:
        ConfigError: the folder holds another run, the settings do not fit the network or the run that is to
            go on, or this machine has no such devices.
        CheckpointError: there is nothing to resume, or it does not fit.
        DatasetError: pictures or labels are missing or broken.
        TrainingStoppedError: a part of the loss became infinite or no number.
    """
    fabric = open_fabric(config, devices=devices, accelerator=accelerator)
    fabric.launch()
    with machine_settings(threads=config.threads):
        run = _Run(config, folder, fabric, is_resumed=is_resumed)
        with stop_signals() as is_asked_to_stop, run.kept():
            for parts in run.remaining_batches():
                losses = run.step(parts)
                if run.progress.step % config.log_every_steps == 0:
                    run.log(losses)
                if run.is_due("checkpoint", every_s=config.checkpoint_every_s):
                    run.save()
                if run.is_due("validation", every_s=config.validate_every_s):
                    run.validate(validate, depict)
                if run.agree(is_asked_to_stop()):
                    break
        run.finish(validate, depict)
        fabric.barrier()
    return run.progress


class _Run:
    """The parts of a run and the small steps of `train`.

    All processes train; logs, checkpoints, the averaged weights and scores are the first one's alone.
    """

    def __init__(self, config: TrainConfig, folder: Path, fabric: Fabric, *, is_resumed: bool) -> None:
        self.config = config = self_contained(config)
        self.folder, self.fabric = folder, fabric
        state = self._earlier_state(is_resumed=is_resumed)
        network = self._starting_network(is_resumed=is_resumed)
        self.task = task_of(network, config)
        check_use(self.task, config)
        self.datasets = self.task.datasets()
        self.config = config = with_class_names(config, self.task)
        self.teacher = open_teacher(config, self.task.codec, has_chances=network.sharpness > 0)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = averaged_copy(network, config.optimiser.ema_decay).to(fabric.device)
        self.frozen = freeze(network, config.frozen)
        self.network, self.optimiser = fabric.setup(network, optimiser_for(network, config.optimiser))
        self.gradients = quick_gradients(fabric.device)
        self.network.train()
        for module in self.frozen:
            module.eval()  # or the statistics of its normalisation would move
        check_batches(network, config)
        self.mean = torch.tensor(IMAGE_MEAN, device=fabric.device)
        self.std = torch.tensor(IMAGE_STD, device=fabric.device)
        self.progress = Progress()
        if state is not None:
            self._restore(state)
        self.was_finished = self.progress.step >= config.total_steps
        if fabric.is_global_zero:
            self._open_folder(state)
        self._clock = time.perf_counter()
        self._logged = (self.progress.scenes, self.progress.seconds)
        self._waited = 0.0
        self._last_time = dict.fromkeys(("validation", "checkpoint"), self.progress.seconds)

    def _earlier_state(self, *, is_resumed: bool) -> dict[str, Any] | None:
        """Read what an earlier run left, or make sure that none did."""
        last = self.folder / "last.pt"
        if is_resumed:
            return read_state(last, self.config)
        if last.exists():
            raise ConfigError(f"{self.folder} holds a run already: resume it or choose another folder")
        return None

    def _starting_network(self, *, is_resumed: bool) -> PoseNetwork:
        torch.manual_seed(self.config.seed)
        network = build_network(self.config)
        check_sizes(network, self.config)
        if not is_resumed:
            note = take_starting_weights(network, self.config)
            if note and self.fabric.is_global_zero:
                logger.info("%s", note)
        return network

    def _open_folder(self, state: dict[str, Any] | None) -> None:
        open_folder(self.folder)
        if self.was_finished:
            steps = (self.progress.step, self.config.total_steps)
            more = "raise phases.N.steps for more, or start a new run in another folder"
            logger.info("the run in %s is finished: step %d of %d; %s", self.folder, *steps, more)
        else:
            self._describe()
        step = self.progress.step
        self.board = TensorBoard(self.folder, purge_step=step)
        self.train_table = Table(self.folder / "train.csv", keep_up_to_step=step)
        self.validation_table = Table(self.folder / "validation.csv", keep_up_to_step=step)
        if state is not None and not self.was_finished:
            changes = changed_settings(state["config"], self.config)
            processes = (state.get("processes", self.fabric.world_size), self.fabric.world_size)
            if processes[0] != processes[1]:
                changes["processes"] = processes
            self._note_changes(changes)

    def _describe(self) -> None:
        """Write what the run is, and where it runs."""
        files = {"config": to_plain(self.config), "environment": describe_environment(self.fabric)}
        if isinstance(self.config.skeleton, Skeleton):
            files["skeleton"] = self.config.skeleton.to_dict()
        for name, content in files.items():
            text = yaml.safe_dump(content, sort_keys=False)
            (self.folder / f"{name}.yaml").write_text(text, encoding="utf-8")

    def _note_changes(self, changes: Mapping[str, tuple[object, object]]) -> None:
        if not changes:
            return
        for name, (before, after) in changes.items():
            logger.warning("resumed at step %d with %s %s, was %s", self.progress.step, name, after, before)
        with (self.folder / "changes.yaml").open("a", encoding="utf-8") as file:
            entry = {"step": self.progress.step, **{name: list(pair) for name, pair in changes.items()}}
            yaml.safe_dump([entry], file, sort_keys=False)

    def remaining_batches(self) -> Iterator[list[Item]]:
        """Batches of every phase from the present step on, as many at a time as make one step."""
        world, parts = self.fabric.world_size, self.config.optimiser.accumulate
        first_step = first_scene = 0
        for phase, dataset in zip(self.config.phases, self.datasets, strict=True):
            done = min(max(self.progress.step - first_step, 0), phase.steps)
            if done < phase.steps:
                numbers = SampleNumbers(
                    first=first_scene + done * phase.batch * world * parts,
                    steps=(phase.steps - done) * parts,
                    batch=phase.batch,
                    rank=self.fabric.global_rank,
                    world=world,
                )
                drawn = batches(dataset, numbers, workers=self.config.workers)
                with closing(drawn):
                    while group := self._wait_for(drawn, parts):
                        yield group
            first_step += phase.steps
            first_scene += phase.steps * phase.batch * world * parts

    def _wait_for(self, drawn: Iterator[Item], count: int) -> list[Item]:
        """Take batches, and note how long that takes: the device has nothing to do meanwhile."""
        start = time.perf_counter()
        group = list(islice(drawn, count))
        self._waited += time.perf_counter() - start
        return group

    def step(self, parts: Sequence[Item]) -> dict[str, Tensor]:
        """Take one optimiser step and return the parts of the loss."""
        settings = self.config.optimiser
        # Randomness inside the network, too, follows from the number of the step, so that a resumed run
        # repeats it.
        torch.manual_seed(_step_seed(self.config.seed, self.progress.step, self.fabric.global_rank))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.progress.step, self.config.total_steps, settings)
        self.optimiser.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(parts, start=1):
            with self.fabric.no_backward_sync(self.network, enabled=number < len(parts)):
                losses = self._losses(*self.fabric.to_device(batch))
                self._check_finite(losses)
                self.fabric.backward(losses["total"] / len(parts))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach() / len(parts)
        if settings.clip_norm:
            self.fabric.clip_gradients(self.network, self.optimiser, max_norm=settings.clip_norm)
        self.optimiser.step()
        if self.fabric.is_global_zero:
            self.averaged.update_parameters(self.network.module)
        self.progress.step += 1
        self.progress.scenes += sum(len(images) for images, _ in parts) * self.fabric.world_size
        now = time.perf_counter()
        self.progress.seconds += now - self._clock
        self._clock = now
        return sums

    def _losses(self, images: Tensor, labels: Labels) -> dict[str, Tensor]:
        config, teacher = self.config, self.config.teacher
        normalised = ((images.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        seed = _step_seed(config.seed, self.progress.step, 0)
        if isinstance(self.task, BatchPreparer):
            normalised, labels = self.task.prepare(self.network.module, normalised, labels, seed=seed)
        with self.gradients:
            predicted = self.network(normalised.contiguous(memory_format=torch.channels_last))
        losses = self.task.losses(predicted, labels)
        if self.teacher is not None and teacher is not None:
            lesson = self.teacher(images, normalised, labels)
            losses = with_lesson(losses, predicted, lesson, teacher)
        return losses

    def _check_finite(self, losses: Mapping[str, Tensor]) -> None:
        """Stop every process if a part of the loss of any one is no finite number."""
        parts = {name: value.detach() for name, value in losses.items()}
        is_broken = not bool(torch.stack(list(parts.values())).isfinite().all())
        if self.agree(is_broken):
            broken = [(name, float(value)) for name, value in parts.items() if not torch.isfinite(value)]
            what = "a part of the loss in another process became infinite or no number"
            if broken:
                what = f"the loss part {broken[0][0]!r} became {broken[0][1]}"
            last = self.folder / "last.pt"
            # Before the first checkpoint there is none to resume.
            again = f"resume from {last}" if last.exists() else "start again"
            raise TrainingStoppedError(
                f"{what} at step {self.progress.step}; lower optimiser.lr or set optimiser.clip_norm "
                f"and {again}"
            )

    def agree(self, is_wanted: bool) -> bool:  # noqa: FBT001 - a vote
        """Whether any process wants something; all of them get the same answer."""
        if self.fabric.world_size == 1:
            return is_wanted
        vote = torch.tensor(float(is_wanted), device=self.fabric.device)
        return bool(self.fabric.all_reduce(vote, reduce_op="sum") > 0)

    def is_due(self, what: str, *, every_s: float) -> bool:
        """Whether it is time for `what` by the first process's clock, which alone does such things."""
        is_time = every_s > 0 and self.progress.seconds - self._last_time[what] >= every_s
        if is_time:
            self._last_time[what] = self.progress.seconds
        return is_time and bool(self.fabric.is_global_zero)

    def log(self, losses: Mapping[str, Tensor]) -> None:
        """Write a row and a line with speed and the time that remains."""
        if not self.fabric.is_global_zero:
            return
        progress, config = self.progress, self.config
        scenes, seconds = self._logged
        elapsed = max(progress.seconds - seconds, 1e-9)
        rate, waiting = (progress.scenes - scenes) / elapsed, self._waited / elapsed
        self._logged, self._waited = (progress.scenes, progress.seconds), 0.0
        parts = {name: float(value.detach()) for name, value in losses.items()}
        row = {
            "step": progress.step,
            "scenes": progress.scenes,
            "seconds": progress.seconds,
            "lr": self.optimiser.param_groups[0]["lr"],
            "scenes_per_s": rate,
            "waiting": waiting,
            **parts,
        }
        self.train_table.add(row)
        self.board.add("train", row)
        left = remaining_scenes(config, progress.step, self.fabric.world_size) / max(rate, 1e-9)
        logger.info(
            "step %d/%d  loss %.5f  %.1f scenes/s  about %s left",
            *(progress.step, config.total_steps, parts["total"], rate),
            timedelta(seconds=round(left)),
        )

    def validate(self, validate: Validate | None, depict: Depict | None = None) -> None:
        """Score the averaged network and keep the row, and it if it is the best, unless this step has one."""
        if validate is None or not self.fabric.is_global_zero:
            return
        if self.validation_table.last_step == self.progress.step:
            return
        network = self.averaged.module.eval()
        with torch.no_grad():
            scores = dict(validate(cast("PoseNetwork", network)))
            if depict is not None:
                picture = self.folder / "samples" / f"{self.progress.step:07d}.png"
                picture.parent.mkdir(exist_ok=True)
                write_image(picture, depict(cast("PoseNetwork", network)))
        network.train()
        is_best = self._is_best(scores)
        row = {"step": self.progress.step, "seconds": self.progress.seconds, **scores}
        self.validation_table.add(row)
        self.board.add("validation", row)
        if is_best:
            self._save(self.folder / "best.pt", scores)
        logger.info("step %d  %s", self.progress.step, "  ".join(f"{k} {v:.2f}" for k, v in scores.items()))
        self.draw()
        self._clock = time.perf_counter()  # validation is no training time

    def _is_best(self, scores: Mapping[str, float]) -> bool:
        """Whether no earlier validation had as high a score; the table remembers across a resumption."""
        if not scores:
            return False
        name = self.config.best_by or next(iter(scores))
        if name not in scores:
            raise ConfigError(f"best_by must be one of {', '.join(scores)}, got {name}")
        earlier = [float(row[name]) for row in self.validation_table.rows if row.get(name)]
        return not math.isnan(scores[name]) and all(not score >= scores[name] for score in earlier)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Save before a picture that cannot be read ends the run: what has been learnt must not be lost."""
        try:
            yield
        except DatasetError:
            if self.progress.step and not self.was_finished:
                self.save()
            raise

    def finish(self, validate: Validate | None, depict: Depict | None) -> None:
        """Save, score a run that is done or say how to go on with one that is not, and draw the curves."""
        if not self.was_finished:
            self.save()
        if self.progress.step >= self.config.total_steps:
            self.validate(validate, depict)
        elif self.fabric.is_global_zero:
            where = (self.folder / "last.pt", self.progress.step, self.config.total_steps)
            logger.info("saved %s at step %d of %d; go on with --resume", *where)
        self.draw()

    def draw(self) -> None:
        """Draw the curves of everything logged so far."""
        if self.fabric.is_global_zero:
            tables = {"train": self.train_table.path, "validation": self.validation_table.path}
            draw_curves(tables, self.folder / "curves.png")

    def save(self) -> None:
        """Write `last.pt`."""
        if self.fabric.is_global_zero:
            rows = self.validation_table.rows
            scores = {name: float(value) for name, value in rows[-1].items() if value} if rows else {}
            self._save(self.folder / "last.pt", scores)

    def _save(self, path: Path, scores: Mapping[str, float]) -> None:
        metrics = {name: value for name, value in scores.items() if name not in {"step", "seconds"}}
        save_checkpoint(
            path,
            {
                "network": self.network.module.state_dict(),
                "ema": self.averaged.module.state_dict(),
                "averages": int(self.averaged.n_averaged),
                "optimiser": self.optimiser.state_dict(),
                "progress": to_plain(self.progress),
                "config": to_plain(self.config),
                "processes": self.fabric.world_size,
                "card": card_of(self.config, hours=self.progress.seconds / 3600, metrics=metrics),
            },
        )

    def _restore(self, state: dict[str, Any]) -> None:
        restore(
            state,
            self.folder / "last.pt",
            network=self.network.module,
            averaged=self.averaged,
            optimiser=self.optimiser,
        )
        progress = state["progress"]
        self.progress = Progress(progress["step"], progress["scenes"], progress["seconds"])


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)

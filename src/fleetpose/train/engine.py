"""The training loop: one `train` that a newcomer can read from top to bottom.

Lightning Fabric places the network on whatever device there is and joins several processes; the loop itself is
plain. Every step follows from the settings and its number, so a run that was stopped goes on as if it had not.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import yaml
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fleetpose.codecs.associative_embedding import AssociativeEmbeddingCodec
from fleetpose.data.scenes import SceneMaker
from fleetpose.errors import ConfigError, PoseError
from fleetpose.geometry import IMAGE_MEAN, IMAGE_STD
from fleetpose.losses import associative_embedding_losses
from fleetpose.models import build
from fleetpose.settings import to_plain
from fleetpose.skeletons import load_skeleton
from fleetpose.train.checkpoint import load_checkpoint, save_checkpoint
from fleetpose.train.config import LossSettings, OptimiserSettings, TrainConfig
from fleetpose.train.log import Table, draw_curves
from fleetpose.train.machine import prepare_machine
from fleetpose.train.stream import Item, SceneDataset, batches

logger = logging.getLogger(__name__)

#: Averaged network → scores by name, such as {"coco_dev/AP": 12.3}.
Validate = Callable[[nn.Module], Mapping[str, float]]


class TrainingStoppedError(PoseError):
    """The loss is no longer a finite number."""


@dataclass(slots=True)
class Progress:
    """How far a run is."""

    step: int = 0
    scenes: int = 0
    seconds: float = 0.0
    best: dict[str, float] = field(default_factory=dict)


def train(
    config: TrainConfig,
    folder: Path,
    *,
    is_resumed: bool = False,
    validate: Validate | None = None,
    devices: int = 1,
    accelerator: str = "auto",
) -> Progress:
    """Train a network and leave checkpoints, logs and curves in `folder`.

    Args:
        config: what to train, on what and how.
        folder: gets `config.yaml`, `train.csv`, `validation.csv`, `curves.png` and `last.pt`.
        is_resumed: go on from `last.pt`.
        validate: scores the averaged network from time to time.
        devices: processes or accelerators to train on.
        accelerator: "auto", "cpu", "cuda" … as Fabric names them.

    Returns:
        Where the run ended; `step` is below `config.total_steps` when it was interrupted, after saving.

    Raises:
        ConfigError: the folder holds another run, or there is none to resume.
        TrainingStoppedError: a part of the loss became infinite or no number.
    """
    prepare_machine(config)
    fabric = Fabric(accelerator=accelerator, devices=devices)
    fabric.launch()
    run = _Run(config, folder, fabric)
    run.open(is_resumed=is_resumed)
    with _stop_signals() as is_stopped:
        for images, targets, masks, cells in run.remaining_batches():
            losses = run.step(images, targets, masks, cells)
            if run.is_due("log", every_steps=config.log_every_steps):
                run.log(losses)
            if run.is_due("validation", every_s=config.validate_every_s):
                run.validate(validate)
            if run.is_due("checkpoint", every_s=config.checkpoint_every_s):
                run.save()
            if is_stopped():
                break
    run.save()
    if run.progress.step == config.total_steps:
        run.validate(validate)
    run.draw()
    return run.progress


class _Run:
    """The parts of a run and the small steps of `train`."""

    def __init__(self, config: TrainConfig, folder: Path, fabric: Fabric) -> None:
        skeleton = load_skeleton(config.skeleton)
        torch.manual_seed(config.seed)
        network = build(config.model, num_keypoints=len(skeleton)).to(memory_format=torch.channels_last)
        if config.init is not None:
            network.load_state_dict(load_checkpoint(config.init)["ema"])
        self.config, self.folder, self.fabric = config, folder, fabric
        self.codec = AssociativeEmbeddingCodec(fields=network.fields, sigma_cells=config.loss.sigma_cells)
        self.averaged = AveragedModel(network, multi_avg_fn=_running_average(config.optimiser.ema_decay))
        self.averaged.to(fabric.device)
        optimiser = _optimiser(network, config.optimiser)
        self.network, self.optimiser = fabric.setup(network, optimiser)
        self.skeleton = skeleton
        self.progress = Progress()
        self.mean = torch.tensor(IMAGE_MEAN, device=fabric.device)
        self.std = torch.tensor(IMAGE_STD, device=fabric.device)
        self._due: dict[str, float] = {}
        self._clock = time.perf_counter()
        self._logged = (0, 0.0)

    def open(self, *, is_resumed: bool) -> None:
        """Take up an earlier run or begin a new one in an empty folder."""
        last = self.folder / "last.pt"
        if is_resumed:
            self._restore(load_checkpoint(last))
        elif last.exists():
            raise ConfigError(f"{self.folder} holds a run already: resume it or choose another folder")
        if self.fabric.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "config.yaml").write_text(yaml.safe_dump(to_plain(self.config), sort_keys=False))
        self.fabric.barrier()
        step = self.progress.step
        self.train_table = Table(self.folder / "train.csv", keep_up_to_step=step)
        self.validation_table = Table(self.folder / "validation.csv", keep_up_to_step=step)
        self._clock = time.perf_counter()
        self._logged = (self.progress.scenes, self.progress.seconds)
        self._due = dict.fromkeys(("validation", "checkpoint"), self.progress.seconds)
        self.network.train()

    def remaining_batches(self) -> Iterator[Item]:
        """Batches of every phase from the present step on."""
        world, rank = self.fabric.world_size, self.fabric.global_rank
        first_step = first_scene = 0
        for phase in self.config.phases:
            done = min(max(self.progress.step - first_step, 0), phase.steps)
            if done < phase.steps:
                maker = SceneMaker(self.config.sources, self.skeleton, phase.scenes)
                dataset = SceneDataset(maker=maker, codec=self.codec, size=phase.size, seed=self.config.seed)
                yield from batches(
                    dataset,
                    first=first_scene + done * phase.batch * world,
                    steps=phase.steps - done,
                    batch=phase.batch,
                    rank=rank,
                    world=world,
                    workers=self.config.workers,
                )
            first_step += phase.steps
            first_scene += phase.steps * phase.batch * world

    def step(
        self, images: Tensor, targets: Mapping[str, Tensor], masks: Mapping[str, Tensor], cells: Tensor
    ) -> dict[str, Tensor]:
        """Take one optimiser step and return the parts of the loss."""
        settings = self.config.optimiser
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.progress.step, self.config.total_steps, settings)
        move = self.fabric.to_device
        losses = self._losses(move(images), move(dict(targets)), move(dict(masks)), move(cells))
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(losses["total"])
        if settings.clip_norm:
            self.fabric.clip_gradients(self.network, self.optimiser, max_norm=settings.clip_norm)
        self.optimiser.step()
        self.averaged.update_parameters(self.network.module)
        self.progress.step += 1
        self.progress.scenes += len(images) * self.fabric.world_size
        self._tick()
        return losses

    def _losses(
        self, images: Tensor, targets: dict[str, Tensor], masks: dict[str, Tensor], cells: Tensor
    ) -> dict[str, Tensor]:
        normalised = ((images.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        predicted = self.network(normalised.contiguous(memory_format=torch.channels_last))
        losses = _losses(predicted, targets, masks, cells, self.codec.tag_field.name, self.config.loss)
        for name, value in losses.items():
            if not torch.isfinite(value):
                raise TrainingStoppedError(
                    f"the loss part {name!r} became {float(value)} at step {self.progress.step}; "
                    f"lower optimiser.lr or set optimiser.clip_norm and resume from {self.folder / 'last.pt'}"
                )
        return losses

    def is_due(self, what: str, *, every_steps: int = 0, every_s: float = 0.0) -> bool:
        """Whether it is time for `what`, by steps or by seconds of training."""
        if every_steps:
            return self.progress.step % every_steps == 0
        if every_s and self.progress.seconds - self._due[what] >= every_s:
            self._due[what] = self.progress.seconds
            return True
        return False

    def log(self, losses: Mapping[str, Tensor]) -> None:
        """Write a row and a line with speed and the time that remains."""
        progress, config = self.progress, self.config
        scenes, seconds = self._logged
        rate = (progress.scenes - scenes) / max(progress.seconds - seconds, 1e-9)
        self._logged = (progress.scenes, progress.seconds)
        parts = {name: float(value.detach()) for name, value in losses.items()}
        if not self.fabric.is_global_zero:
            return
        self.train_table.add(
            {
                "step": progress.step,
                "scenes": progress.scenes,
                "seconds": progress.seconds,
                "lr": self.optimiser.param_groups[0]["lr"],
                "scenes_per_s": rate,
                **parts,
            }
        )
        left = _remaining_scenes(config, progress.step, self.fabric.world_size) / max(rate, 1e-9)
        logger.info(
            "step %d/%d  loss %.5f  %.1f scenes/s  about %s left",
            *(progress.step, config.total_steps, parts["total"], rate),
            time.strftime("%H:%M:%S", time.gmtime(left)),
        )

    def validate(self, validate: Validate | None) -> None:
        """Score the averaged network and keep the row."""
        if validate is None or not self.fabric.is_global_zero:
            return
        network = self.averaged.module.eval()
        scores = dict(validate(network))
        network.train()
        self.validation_table.add({"step": self.progress.step, "seconds": self.progress.seconds, **scores})
        logger.info("step %d  %s", self.progress.step, "  ".join(f"{k} {v:.2f}" for k, v in scores.items()))
        self.draw()
        self._clock = time.perf_counter()  # validation is no training time

    def draw(self) -> None:
        """Draw the curves of everything logged so far."""
        if self.fabric.is_global_zero:
            tables = {"train": self.train_table.path, "validation": self.validation_table.path}
            draw_curves(tables, self.folder / "curves.png")

    def save(self) -> None:
        """Write `last.pt`."""
        state: dict[str, Any] = {
            "network": self.network.module.state_dict(),
            "ema": self.averaged.module.state_dict(),
            "averages": int(self.averaged.n_averaged),
            "optimiser": self.optimiser.state_dict(),
            "rng": torch.get_rng_state(),
            "progress": to_plain(self.progress) | {"best": dict(self.progress.best)},
            "config": to_plain(self.config),
        }
        if self.fabric.is_global_zero:
            save_checkpoint(self.folder / "last.pt", state)
        self.fabric.barrier()

    def _restore(self, state: dict[str, Any]) -> None:
        self.network.module.load_state_dict(state["network"])
        self.averaged.module.load_state_dict(state["ema"])
        self.averaged.n_averaged.fill_(state["averages"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["rng"])
        self.progress = Progress(**state["progress"])

    def _tick(self) -> None:
        now = time.perf_counter()
        self.progress.seconds += now - self._clock
        self._clock = now


def learning_rate(step: int, total_steps: int, settings: OptimiserSettings) -> float:
    """Rate at `step` (from 0): linear warm-up, then a cosine down to a hundredth.

    >>> learning_rate(0, 1000, OptimiserSettings(lr=1.0, warmup_steps=10))
    0.1
    """
    warm = min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    cosine = 0.5 * (1 + math.cos(math.pi * step / max(total_steps, 1)))
    return settings.lr * warm * (0.01 + 0.99 * cosine)


def _losses(
    predicted: dict[str, Tensor],
    targets: dict[str, Tensor],
    masks: dict[str, Tensor],
    cells: Tensor,
    tags: str,
    settings: LossSettings,
) -> dict[str, Tensor]:
    return associative_embedding_losses(
        predicted,
        targets,
        masks,
        cells,
        tags=tags,
        tag_weight=settings.tags,
        foreground_weight=settings.foreground,
        location_weight=settings.location,
    )


def _optimiser(network: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    decayed = [weight for weight in network.parameters() if weight.ndim > 1]
    others = [weight for weight in network.parameters() if weight.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def _running_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential average whose memory grows from nothing to `decay`, so that early weights fade soon."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        present = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - present)  # noqa: SLF001 - what torch's own average uses

    return update


def _remaining_scenes(config: TrainConfig, step: int, world: int) -> int:
    """Scenes still to come, weighted by their area relative to the present phase's."""
    remaining, area = 0.0, 0
    for phase in config.phases:
        left = min(phase.steps, max(phase.steps - step, 0))
        step = max(step - phase.steps, 0)
        if left:
            area = area or math.prod(phase.size)
            remaining += left * phase.batch * world * math.prod(phase.size) / area
    return round(remaining)


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and a polite kill into a question that the loop asks after each step; a second one is obeyed."""
    caught: list[int] = []

    def catch(number: int, _: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        logger.warning("stopping after this step and saving; once more stops at once")

    before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

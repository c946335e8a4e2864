"""Settings of a training run, as frozen dataclasses; a run folder keeps them as YAML."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fleetpose.data.scenes import SceneSettings, Source
from fleetpose.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of training at one input size; a run goes through its phases in turn.

    Attributes:
        size: (H, W) of the scenes, in pixels.
        batch: scenes per step and process.
        steps: optimiser steps.
        scenes: how scenes are drawn.
    """

    size: tuple[int, int]
    batch: int
    steps: int
    scenes: SceneSettings = field(default_factory=SceneSettings)

    def __post_init__(self) -> None:
        if min(*self.size, self.batch, self.steps) < 1:
            raise ConfigError(f"a phase needs a size, a batch and steps of at least 1, got {self}")


@dataclass(frozen=True, slots=True)
class OptimiserSettings:
    """AdamW with a linear warm-up and a cosine decay to a hundredth of the highest rate.

    Attributes:
        lr: highest learning rate.
        warmup_steps: steps over which the rate rises from 0.
        weight_decay: decoupled decay; not applied to biases and normalisation.
        clip_norm: largest norm of the gradient, 0 for no limit.
        ema_decay: decay of the running average of the weights, which is what gets exported.
    """

    lr: float = 2e-3
    warmup_steps: int = 200
    weight_decay: float = 1e-4
    clip_norm: float = 0.0
    ema_decay: float = 0.999


@dataclass(frozen=True, slots=True)
class LossSettings:
    """Weights of the parts of the bottom-up loss; see `fleetpose.losses`.

    Attributes:
        tags: factor of pull and push; the papers use 1e-3.
        foreground: extra weight of cells near a keypoint; the papers use 0.
        location: factor of the cross-entropy between heatmaps read as a distribution over cells; the papers
            use 0. It finds keypoints several times sooner in short training.
        sigma_cells: spread of the target Gaussians at stride 4 and 2; the papers use 2 and 2.
    """

    tags: float = 1e-3
    foreground: float = 0.0
    location: float = 0.0
    sigma_cells: tuple[float, ...] = (2.0, 2.0)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides what a run computes.

    Attributes:
        model: name of a network, see `fleetpose.models`.
        sources: training mixture.
        phases: stretches of training, in order.
        skeleton: built-in name or YAML file.
        init: checkpoint whose averaged weights are the start, None for random weights.
        seed: of weights, scenes and everything random.
        bf16_convolutions: on CPUs with bf16, let fp32 convolutions multiply in bf16: about 1.8 times faster.
        threads: CPU threads for the arithmetic, 0 for the library's own choice.
        workers: processes that draw scenes; one is plenty for the small networks.
        log_every_steps: steps between lines of the log.
        checkpoint_every_s: seconds between checkpoints.
        validate_every_s: seconds of training between validations, 0 for only at the end.
    """

    model: str
    sources: tuple[Source, ...]
    phases: tuple[Phase, ...]
    skeleton: str = "coco17"
    init: Path | None = None
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    seed: int = 0
    bf16_convolutions: bool = True
    threads: int = 0
    workers: int = 1
    log_every_steps: int = 50
    checkpoint_every_s: float = 120.0
    validate_every_s: float = 1200.0

    def __post_init__(self) -> None:
        if not self.phases:
            raise ConfigError("a run needs at least one phase")

    @property
    def total_steps(self) -> int:
        """Optimiser steps of all phases."""
        return sum(phase.steps for phase in self.phases)

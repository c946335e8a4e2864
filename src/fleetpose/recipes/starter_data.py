"""The starter set: noisy photos of one person each, and rendered people; what our own weights learn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fleetpose.data.scenes import Source
from fleetpose.train.config import OptimiserSettings, ValidationSet

#: How a network of the papers is taught by one of ours, in an hour or two.
OF_STUDENTS = OptimiserSettings(kind="muon", lr=3e-3, weight_decay=0.05, warmup_steps=100, ema_decay=0.998)
#: The same for one that begins with the weights of a smaller one.
OF_GROWN = replace(OF_STUDENTS, lr=2.5e-3)


def starter_sources(data: Path) -> tuple[Source, ...]:
    """Pictures with people: `lspet`, but for the tenth that is held out, `lsp_train` and `synth_people`."""
    return (
        Source(
            images=data / "lspet/images",
            annotations=data / "lspet/lspet_coco17.json",
            weight=5,
            is_single_person=True,
            is_zero_unknown=True,
            held_out_every=10,
        ),
        Source(
            images=data / "lsp_train/images",
            annotations=data / "lsp_train/lsp_train.json",
            weight=0.5,
            is_single_person=True,
            is_zero_unknown=True,
        ),
        Source(
            images=data / "synth_people/images",
            annotations=data / "synth_people/person_keypoints_train.json",
            weight=4,
        ),
    )


def starter_validation(data: Path) -> tuple[ValidationSet, ...]:
    """A fifth of what is held out of `lspet`, and `coco_dev`, for the learning curve only."""
    return (
        ValidationSet(
            name="lspet",
            annotations=data / "lspet/lspet_coco17.json",
            images=data / "lspet/images",
            every=50,
        ),
        ValidationSet(
            name="coco_dev",
            annotations=data / "coco_dev/person_keypoints.json",
            images=data / "coco_dev/images",
        ),
    )

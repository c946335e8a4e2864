"""A tiny network, drawn pictures and settings that train in seconds; also a script, for runs of their own.

python tiny.py FOLDER OUT [--resume] [--devices N] [--killed] [name=value ...]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from torch import nn

from fleetpose.codecs.fields import associative_embedding_fields
from fleetpose.data.scenes import SceneSettings, Source
from fleetpose.models import MODELS, Family, PoseNetwork
from fleetpose.settings import override
from fleetpose.train.config import LossSettings, OptimiserSettings, Phase, TrainConfig

#: Keypoints have no left and right, so that a mirrored picture teaches the same.
KEYPOINTS = ("red", "green", "blue")
SIZE = 64
#: (x, y) per picture, person and keypoint; the second person of a picture is drawn darker.
PEOPLE = np.array(
    [
        [[(12, 12), (24, 16), (15, 28)], [(44, 40), (52, 28), (36, 52)]],
        [[(50, 10), (38, 18), (52, 24)], [(10, 40), (22, 50), (14, 56)]],
    ],
    float,
)
CALM = SceneSettings(tiles=(1, 0, 0), zoom=(1, 1), rotation_deg=0, shift=0, light=0)


class TinyNetwork(PoseNetwork):
    """Four convolutions and a head per map."""

    size_multiple = 4

    def __init__(self, num_keypoints: int, *, dropout: float) -> None:
        super().__init__()
        self.fields = associative_embedding_fields(num_keypoints)
        self.input_size = (SIZE, SIZE)
        self.fine = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
        )
        self.dropout = nn.Dropout(dropout)
        self.coarse = nn.Sequential(
            nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3, padding=1), nn.ReLU()
        )
        self.heads = nn.ModuleList(
            [
                nn.Conv2d(24, num_keypoints, 3, padding=1),
                nn.Conv2d(24, num_keypoints, 3, padding=1),
                nn.Conv2d(16, num_keypoints, 3, padding=1),
            ]
        )

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        fine = self.dropout(self.fine(images))
        coarse = self.coarse(fine)
        return self.named(*(head(x) for head, x in zip(self.heads, (coarse, coarse, fine), strict=True)))


def _build(variant: str, *, num_keypoints: int) -> TinyNetwork:
    return TinyNetwork(num_keypoints, dropout=0.2 if variant == "tiny-dropout" else 0.0)


FAMILY = Family(variants=("tiny", "tiny-dropout"), build=_build, convert_official_state_dict=dict)
FAMILIES = dict.fromkeys(FAMILY.variants, FAMILY)


def draw_data(folder: Path) -> None:
    """Write two pictures of two people each, their labels, and the skeleton."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "skeleton.yaml").write_text(
        yaml.safe_dump({"name": "dots", "keypoints": list(KEYPOINTS), "sigmas": [0.05] * 3})
    )
    annotations = []
    for number, people in enumerate(PEOPLE, start=1):
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        for brightness, person in zip((255, 110), people, strict=True):
            for channel, (x, y) in enumerate(person):
                color = [0, 0, 0]
                color[2 - channel] = brightness  # OpenCV writes blue, green, red
                cv2.circle(image, (int(x), int(y)), 3, color, cv2.FILLED)
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": 1,
                    "keypoints": [value for x, y in person for value in (x, y, 2)],
                    "bbox": [*(person.min(axis=0) - 3), *(np.ptp(person, axis=0) + 6)],
                }
            )
        cv2.imwrite(str(folder / f"{number}.png"), image)
    content = {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in (1, 2)],
        "annotations": annotations,
        "categories": [{"id": 1, "keypoints": list(KEYPOINTS)}],
    }
    (folder / "labels.json").write_text(json.dumps(content))


def settings(folder: Path) -> TrainConfig:
    """Eleven steps in two phases on the pictures of `draw_data`."""
    return TrainConfig(
        model="tiny-dropout",
        skeleton=str(folder / "skeleton.yaml"),
        sources=(Source(images=folder, annotations=folder / "labels.json"),),
        phases=(
            Phase(size=(SIZE, SIZE), batch=2, steps=6),
            Phase(size=(48, 72), batch=2, steps=5, scenes=SceneSettings(tiles=(0.2, 0.4, 0.4))),
        ),
        optimiser=OptimiserSettings(lr=1e-3, warmup_steps=3),
        loss=LossSettings(tags=0.01, location=0.01),
        threads=1,
        workers=0,
        log_every_steps=1,
    )


class Validation:
    """Scores a network by its weights; may end its own process as the kernel would for want of memory.

    The end comes when the checkpoint lies behind, if it ever does in steps 10 to 30.
    """

    def __init__(self, folder: Path, *, is_killed: bool) -> None:
        self.folder = folder
        self.is_killed = is_killed
        self.step = 0

    def __call__(self, network: nn.Module) -> dict[str, float]:
        self.step += 1
        if self.is_killed and self.step >= 10 and (self.step >= 30 or self._saved_step() < self.step):
            os.kill(os.getpid(), signal.SIGKILL)
        return {"sum": float(sum(weight.double().abs().sum() for weight in network.parameters()))}

    def _saved_step(self) -> int:
        from fleetpose.train.checkpoint import load_checkpoint

        path = self.folder / "last.pt"
        return load_checkpoint(path)["progress"]["step"] if path.exists() else self.step


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--killed", action="store_true")
    given = parser.parse_intermixed_args()
    from fleetpose.train.engine import train

    MODELS.update(FAMILIES)
    train(
        override(settings(given.data), given.overrides),
        given.out,
        is_resumed=given.resume,
        validate=Validation(given.out, is_killed=given.killed),
        devices=given.devices,
        accelerator="cpu",
    )


if __name__ == "__main__":
    main()

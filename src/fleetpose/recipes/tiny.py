"""Any recipe at the smallest size: drawn pictures, a few steps, seconds on a CPU; to see that all works."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from fleetpose.data.scenes import Source
from fleetpose.draw import person_color
from fleetpose.errors import ConfigError
from fleetpose.skeletons import Skeleton, load_skeleton
from fleetpose.train.config import ElasticSettings, PictureSet, TrainConfig, ValidationSet
from fleetpose.train.networks import save_new_weights

#: Side of drawn pictures and of training at this scale, in pixels; every network takes it.
SIDE = 64
PICTURES = 3
CLASSES = 2


def tiny(config: TrainConfig, folder: Path, *, recipe: Callable[[str], TrainConfig]) -> TrainConfig:
    """Shrink a recipe's settings, and draw data for them.

    Args:
        config: the recipe's.
        folder: gets the data, and new weights in the place of those of other runs.
        recipe: finds the settings of another recipe, by name, whose run this one begins with.

    Returns:
        Two steps of two samples each, and data and starting weights in `folder`.
    """
    skeleton = load_skeleton(config.skeleton)
    first, last = config.phases[0], config.phases[-1]
    phases = (replace(first, steps=1), replace(last, steps=1))
    shrunk = replace(
        config,
        phases=tuple(replace(phase, size=(SIDE, SIDE), batch=2) for phase in phases),
        optimiser=replace(config.optimiser, warmup_steps=0, cycle_steps=2, accumulate=1),
        elastic=ElasticSettings((SIDE, SIDE - 16), config.elastic.ratios) if config.elastic else None,
        threads=1,
        workers=0,
        precision="32-true",
        log_every_steps=1,
        validate_every_s=0,
        short_side=SIDE,
        grouping=replace(config.grouping, min_keypoints=1),
    )
    if config.sources:
        images, labels = draw_people(folder / "people", skeleton)
        shrunk = replace(
            shrunk,
            sources=(Source(images=images, annotations=labels),),
            validation=(ValidationSet(name="drawn", annotations=labels, images=images),),
        )
    if config.pictures:
        shrunk = _with_classes(shrunk, folder / "classes")
    return _with_starts(shrunk, folder, recipe)


def _with_classes(config: TrainConfig, folder: Path) -> TrainConfig:
    """Drawn pictures with classes, of pixels or whole as the recipe has them."""
    if config.pictures[0].layout in {"image_folder", "cifar100"}:
        drawn = PictureSet("image_folder", draw_classes(folder), "")
        return replace(config, num_classes=CLASSES, pictures=(drawn,), validation_pictures=(drawn,))
    drawn = PictureSet("cityscapes", draw_segments(folder), "train")
    return replace(config, pictures=(drawn,), validation_pictures=(drawn,))


def _with_starts(config: TrainConfig, folder: Path, recipe: Callable[[str], TrainConfig]) -> TrainConfig:
    """New weights in the place of those of other runs, which are called `runs/train/RECIPE/last.pt`.

    `checkpoints/MODEL.pt` is what the recipe `first-MODEL` made.
    """

    def replaced(path: Path | None) -> Path | None:
        if path is None:
            return None
        is_kept = path.parent.name == "checkpoints"
        name = f"first-{path.stem}" if is_kept else path.parent.name
        return save_new_weights(replace(recipe(name), init=None, teacher=None), folder / f"{name}.pt")

    config = replace(config, init=replaced(config.init), init_backbone=replaced(config.init_backbone))
    if config.teacher is None:
        return config
    # Any network can teach; the real one may be large.
    finds_several = config.model.startswith(("litepose", "efficienthrnet", "higherhrnet"))
    model = "litepose-plain" if finds_several else "slimdeconv-plain"
    loss = replace(config.loss, sigma_cells=(), heatmaps=())  # its maps may be fewer
    small = replace(config, model=model, init=None, teacher=None, loss=loss)
    path = save_new_weights(small, folder / "teacher.pt")
    return replace(config, teacher=replace(config.teacher, path=path, size=None))


def draw_people(folder: Path, skeleton: Skeleton) -> tuple[Path, Path]:
    """Draw pictures of one person each, whose keypoints are dots → folder of pictures, COCO file."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(1, PICTURES + 1):
        points = rng.uniform(0.15 * SIDE, 0.85 * SIDE, size=(len(skeleton), 2)).round()
        canvas = np.full((SIDE, SIDE, 3), 96, np.uint8)
        for k, (x, y) in enumerate(points.astype(int).tolist()):
            cv2.circle(canvas, (x, y), 2, person_color(k), cv2.FILLED)
        _write(folder / f"{number}.png", canvas)
        low, extent = points.min(axis=0) - 3, np.ptp(points, axis=0) + 6
        images.append({"id": number, "file_name": f"{number}.png", "height": SIDE, "width": SIDE})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [*low.tolist(), *extent.tolist()],
                "area": float(extent.prod()),
                "num_keypoints": len(skeleton),
                "keypoints": np.column_stack([points, np.full(len(points), 2)]).ravel().tolist(),
            }
        )
    categories = [{"id": 1, "name": "person", "keypoints": list(skeleton.keypoints)}]
    labels = folder / "labels.json"
    content = {"images": images, "annotations": annotations, "categories": categories}
    labels.write_text(json.dumps(content), encoding="utf-8")
    return folder, labels


def draw_classes(folder: Path) -> Path:
    """Draw a folder of two pictures for each of the classes."""
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        for number in range(2):
            noise = rng.integers(0, 60, size=(SIDE, SIDE, 3))
            canvas = (noise + 150 * np.eye(3, dtype=int)[label]).astype(np.uint8)
            _write(folder / f"class_{label}" / f"{number}.png", canvas)
    return folder


def draw_segments(root: Path) -> Path:
    """Draw pictures of a road under a sky, in Cityscapes' layout."""
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        horizon = SIDE // 2 + 4 * number
        canvas = rng.integers(0, 60, size=(SIDE, SIDE, 3)).astype(np.uint8)
        canvas[:horizon, :, 2] += 150
        labels = np.zeros((SIDE, SIDE), np.uint8)
        labels[:horizon] = 10  # sky
        name = f"drawn_{number:06d}_000019"
        _write(root / "leftImg8bit/train/drawn" / f"{name}_leftImg8bit.png", canvas)
        _write(root / "gtFine/train/drawn" / f"{name}_gtFine_labelTrainIds.png", labels)
    return root


def _write(path: Path, canvas: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), canvas if canvas.ndim == 2 else canvas[:, :, ::-1]):
        raise ConfigError(f"cannot write {path}")

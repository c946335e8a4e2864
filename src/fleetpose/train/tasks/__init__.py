"""Tasks: one file per way of training, chosen by what a network declares to return."""

from __future__ import annotations

from dataclasses import replace

from fleetpose.codecs.fields import FieldKind
from fleetpose.data.crops import CropSettings
from fleetpose.data.scenes import SceneSettings
from fleetpose.errors import ConfigError
from fleetpose.models import PoseNetwork, lightweight_openpose
from fleetpose.train.config import PictureCropSettings, TrainConfig
from fleetpose.train.tasks.bottom_up import BottomUp
from fleetpose.train.tasks.classes import Classification, PoseAndSegmentation, Segmentation
from fleetpose.train.tasks.contract import BatchPreparer, Task
from fleetpose.train.tasks.part_affinity import MultiPersonLimbs, SinglePersonLimbs
from fleetpose.train.tasks.supernet import Elastic
from fleetpose.train.tasks.top_down import TopDown

__all__ = ["BatchPreparer", "Task", "check_use", "task_of", "with_class_names"]

_POSE = {FieldKind.HEATMAPS, FieldKind.TAGS}


def task_of(network: PoseNetwork, config: TrainConfig) -> Task:
    """Choose the task of a network.

    Heatmaps and tags are bottom-up, heatmaps alone top-down; heatmaps and limbs are OpenPose's or, for one
    person, EfficientPose's; scores of classes are of whole pictures or of pixels, alone or beside poses.

    Raises:
        ConfigError: there is no task for such a network, or the settings do not fit it.
    """
    fields, kinds = network.fields, {field.kind for field in network.fields}
    if kinds == _POSE and config.elastic is not None:
        return Elastic(fields=fields, config=config, elastic=config.elastic)
    if config.elastic is not None:
        raise ConfigError(f"elastic training needs a supernet, such as litepose-supernet, not {config.model}")
    if kinds == {FieldKind.CLASSES}:
        # A score that covers the whole picture is the picture's.
        is_whole = fields[0].stride >= min(network.input_size)
        return (Classification if is_whole else Segmentation)(fields=fields, config=config)
    if kinds == {FieldKind.HEATMAPS, FieldKind.PAFS}:
        is_crowd = config.model in lightweight_openpose.VARIANTS
        return (MultiPersonLimbs if is_crowd else SinglePersonLimbs)(fields=fields, config=config)
    if kinds in ({FieldKind.HEATMAPS}, _POSE, _POSE | {FieldKind.CLASSES}):
        choices: dict[int, type[TopDown | BottomUp | PoseAndSegmentation]] = {
            1: TopDown,
            2: BottomUp,
            3: PoseAndSegmentation,
        }
        return choices[len(kinds)](fields=fields, config=config)
    names = ", ".join(field.name for field in fields)
    raise ConfigError(f"{config.model} returns {names}, which the trainer knows no losses for")


def check_use(task: Task, config: TrainConfig) -> None:
    """Make sure that training reads what somebody has set.

    Raises:
        ConfigError: hard keypoints are asked for, or scenes, crops or pictures described, of a network that
            learns in another way.
    """
    is_of_crops = isinstance(task, TopDown | SinglePersonLimbs)
    is_of_scenes = isinstance(task, BottomUp | MultiPersonLimbs | PoseAndSegmentation)
    has_classes = isinstance(task, Classification | Segmentation | PoseAndSegmentation)
    idle = {"loss.hard_keypoints": config.loss.hard_keypoints > 0 and not isinstance(task, TopDown)}
    for number, phase in enumerate(config.phases):
        idle[f"phases.{number}.scenes"] = phase.scenes != SceneSettings() and not is_of_scenes
        idle[f"phases.{number}.crops"] = phase.crops != CropSettings() and not is_of_crops
        idle[f"phases.{number}.pictures"] = phase.pictures != PictureCropSettings() and not has_classes
    for name, is_idle in idle.items():
        if is_idle:
            learns = "crops of one person" if is_of_crops else "scenes" if is_of_scenes else "pictures"
            raise ConfigError(
                f"{name} would change nothing: {config.model} learns from {learns} and does not read it; "
                "leave it out"
            )


def with_class_names(config: TrainConfig, task: Task) -> TrainConfig:
    """Keep the names of a classifier's classes, which its task has read from the data, in the settings."""
    return replace(config, class_names=task.codec.names) if isinstance(task, Classification) else config

"""Part affinity: heatmaps and limbs, of one person per crop (EfficientPose) or of scenes (OpenPose)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fleetpose.codecs.efficientpose import EfficientPoseCodec
from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.codecs.part_affinity import OPENPOSE_KEYPOINTS, OPENPOSE_ORDER, PartAffinityCodec
from fleetpose.codecs.part_affinity_channels import Pair, channel_points
from fleetpose.data.crops import Crop
from fleetpose.data.samples import Sample
from fleetpose.geometry import touched_cells
from fleetpose.losses import part_affinity_losses
from fleetpose.skeletons import load_skeleton
from fleetpose.train.config import TrainConfig
from fleetpose.train.networks import efficientpose_channels, openpose_channels
from fleetpose.train.stream import Item, Labels, tensors
from fleetpose.train.tasks.numbered import NumberedDataset, crop_makers, scene_makers

#: Targets above this are near something labelled.
LABELLED = 0.01

AnyCodec = TypeVar("AnyCodec", EfficientPoseCodec, PartAffinityCodec)


class LimbCropDataset(NumberedDataset[Crop, EfficientPoseCodec]):
    """Crops with heatmaps and limbs."""

    def encoded(self, drawn: Crop) -> Item:
        """See `NumberedDataset`."""
        targets = self.codec.encode(drawn.keypoints[None], size=self.size)
        names = self.codec.skeleton.keypoints
        _, is_labelled = channel_points(drawn.keypoints[None], names, self.codec.keypoints)
        known = is_labelled[0].astype(np.float32)
        limbs = _limbs_known(known, self.codec.keypoints, self.codec.limbs)
        masks = {
            field.name: (limbs if field.kind is FieldKind.PAFS else known)[:, None, None]
            for field in self.codec.fields
        }
        return torch.from_numpy(drawn.image), {"targets": tensors(targets), "masks": tensors(masks)}


class LimbSceneDataset(NumberedDataset[Sample, PartAffinityCodec]):
    """Scenes with heatmaps and limbs."""

    def encoded(self, drawn: Sample) -> Item:
        """See `NumberedDataset`."""
        targets = self.codec.encode(drawn.keypoints, size=self.size)
        masks = {field.name: _mask(drawn, field.stride, targets[field.name]) for field in self.codec.fields}
        return torch.from_numpy(drawn.image), {"targets": tensors(targets), "masks": tensors(masks)}


def _mask(sample: Sample, stride: int, target: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Which cells of a map count `[C, h, w]`: not those around people of whom not all is known.

    What is labelled of those counts all the same.
    """
    h, w = target.shape[1:]
    half = stride // 2
    mask = sample.counts[half::stride, half::stride][:h, :w].astype(np.float32)
    cells = np.maximum(touched_cells(sample.boxes, stride), 0)
    for person in np.flatnonzero(~sample.is_known.all(axis=1)):
        x1, y1, x2, y2 = cells[person]
        mask[y1:y2, x1:x2] = 0
    return np.maximum(mask[None], np.abs(target) > LABELLED).astype(np.float32)


class _Limbs:
    """What both ways share: the losses."""

    codec: EfficientPoseCodec | PartAffinityCodec

    def __init__(self, config: TrainConfig) -> None:
        self._config = config

    def losses(self, predicted: Mapping[str, Tensor], labels: Labels) -> dict[str, Tensor]:
        """See `part_affinity_losses`."""
        settings = self._config.loss
        pafs = {item.name: settings.pafs for item in self.codec.fields if item.kind is FieldKind.PAFS}
        return part_affinity_losses(
            predicted,
            labels["targets"],
            labels["masks"],
            pafs=pafs,
            foreground_weight=settings.foreground,
            location_weight=settings.location,
            presence_weight=settings.presence,
        )


class SinglePersonLimbs(_Limbs):
    """Training of EfficientPose, on crops of one person; see `Task`."""

    codec: EfficientPoseCodec

    def __init__(self, *, fields: tuple[Field, ...], config: TrainConfig) -> None:
        super().__init__(config)
        skeleton = load_skeleton(config.skeleton)
        keypoints, limbs = efficientpose_channels(skeleton)
        self.input_size = config.phases[-1].size
        codec = EfficientPoseCodec(fields=fields, skeleton=skeleton, keypoints=keypoints, limbs=limbs)
        self.codec = _with_spread(codec, config.loss.sigma_px)

    def datasets(self) -> Sequence[Dataset[Item]]:
        """One dataset of crops per phase."""
        config = self._config
        return [
            LimbCropDataset(
                maker=maker,
                codec=_with_spread(self.codec, self.codec.sigma_px * phase.sigma_scale),
                size=phase.size,
                seed=config.seed,
            )
            for maker, phase in zip(crop_makers(config), config.phases, strict=True)
        ]


class MultiPersonLimbs(_Limbs):
    """Training of Lightweight OpenPose, on scenes of any number of people; see `Task`."""

    codec: PartAffinityCodec

    def __init__(self, *, fields: tuple[Field, ...], config: TrainConfig) -> None:
        super().__init__(config)
        skeleton = load_skeleton(config.skeleton)
        keypoints, limbs = openpose_channels(skeleton)
        order = OPENPOSE_ORDER if keypoints == OPENPOSE_KEYPOINTS else None
        self.input_size = (config.short_side, config.short_side)
        codec = PartAffinityCodec(
            fields=fields, skeleton=skeleton, keypoints=keypoints, limbs=limbs, limb_order=order
        )
        self.codec = _with_spread(codec, config.loss.sigma_px)

    def datasets(self) -> Sequence[Dataset[Item]]:
        """One dataset of scenes per phase."""
        config = self._config
        return [
            LimbSceneDataset(
                maker=maker,
                codec=_with_spread(self.codec, self.codec.sigma_px * phase.sigma_scale),
                size=phase.size,
                seed=config.seed,
            )
            for maker, phase in zip(scene_makers(config), config.phases, strict=True)
        ]


def _with_spread(codec: AnyCodec, sigma_px: float) -> AnyCodec:
    return replace(codec, sigma_px=sigma_px) if sigma_px else codec


def _limbs_known(
    known: npt.NDArray[np.float32], keypoints: Sequence[str], limbs: Sequence[Pair]
) -> npt.NDArray[Any]:
    """`[2 * L]` 1 for the vectors of limbs both of whose ends are labelled."""
    ends = [(keypoints.index(first), keypoints.index(second)) for first, second in limbs]
    return np.repeat([known[first] * known[second] for first, second in ends], 2).astype(np.float32)

"""What each output map of a network means: one description shared by model, codec and loss.

A network returns a dict of tensors keyed by field name; `Field` says how many channels the map
has and how many input pixels one cell covers, so that these can never disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fleetpose.errors import ConfigError


class FieldKind(str, Enum):
    """The meaning of a map's channels."""

    HEATMAPS = "heatmaps"  # one channel per keypoint: how likely it lies in the cell, 0 to 1
    TAGS = "tags"  # one channel per keypoint: a number that is alike for keypoints of one person
    CLASSES = "classes"  # one channel per class of pixels: its score before the softmax
    PAFS = "pafs"  # two channels (x, y) per limb: a unit vector along it


@dataclass(frozen=True, slots=True)
class Field:
    """One output map `[B, channels, H / stride, W / stride]` of a network.

    >>> Field(FieldKind.TAGS, channels=17, stride=4).name
    'tags_s4'
    """

    kind: FieldKind
    channels: int
    stride: int  # input pixels per cell
    label: str = ""  # tells apart two fields of one kind and stride, such as two passes

    def __post_init__(self) -> None:
        if min(self.channels, self.stride) < 1:
            raise ConfigError(
                f"field {self.name} must have at least one channel and a stride of at least one pixel, "
                f"got {self.channels} and {self.stride}"
            )
        if self.kind is FieldKind.PAFS and self.channels % 2:
            raise ConfigError(f"field {self.name} must have two channels per limb, got {self.channels}")

    @property
    def name(self) -> str:
        """Key of this map in the dict that the network returns."""
        stem = f"{self.kind.value}_s{self.stride}"
        return f"{stem}_{self.label}" if self.label else stem

    def to_dict(self) -> dict[str, str | int]:
        """Plain data for a model file's metadata; `Field.from_dict` reads it back."""
        return {
            "kind": self.kind.value,
            "channels": self.channels,
            "stride": self.stride,
            "label": self.label,
        }

    @classmethod
    def from_dict(cls, data: dict[str, str | int]) -> Field:
        """Rebuild from `to_dict`."""
        return cls(
            kind=FieldKind(data["kind"]),
            channels=int(data["channels"]),
            stride=int(data["stride"]),
            label=str(data["label"]),
        )


def associative_embedding_fields(num_keypoints: int, *, has_half: bool = True) -> tuple[Field, ...]:
    """Fields of the bottom-up family: heatmaps and tags at 1/4 and, usually, finer heatmaps at 1/2."""
    quarter = (
        Field(FieldKind.HEATMAPS, num_keypoints, stride=4),
        Field(FieldKind.TAGS, num_keypoints, stride=4),
    )
    return (*quarter, Field(FieldKind.HEATMAPS, num_keypoints, stride=2)) if has_half else quarter

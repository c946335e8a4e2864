"""What every pose network of this package offers to training, export and the runtime."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import nn

from fleetpose.codecs.fields import FieldKind
from fleetpose.errors import ShapeError
from fleetpose.models.layers import sigmoid_heatmaps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fleetpose.codecs.fields import Field


class PoseNetwork(nn.Module):
    """A network from images `[B, 3, H, W]` (float, normalised) to one map per field.

    Attributes:
        fields: what each output map means; the output dict has exactly these names, in this order.
        input_size: (H, W) in pixels that the variant was designed for.
        size_multiple: H and W must be multiples of this; whoever prepares the images sees to it.
        takes_any_size: H and W need not be; each map's size is then rounded up.
        sharpness: if above 0, heatmaps are sigmoids of this slope and read as chances; else they are what the
            last layer gives, as in the papers.
    """

    size_multiple: ClassVar[int]
    takes_any_size: ClassVar[bool] = False
    sharpness: float = 0.0
    fields: tuple[Field, ...]
    input_size: tuple[int, int]

    def __init__(self) -> None:
        super().__init__()
        self.register_forward_pre_hook(_check_images)

    def named(self, *maps: Tensor) -> dict[str, Tensor]:
        """Key `maps`, given in the order of `fields`, by field name; heatmaps become chances if asked for."""
        given = zip(self.fields, maps, strict=True)
        return {field.name: self._as_chances(output, field) for field, output in given}

    def _as_chances(self, output: Tensor, field: Field) -> Tensor:
        if not self.sharpness or field.kind is not FieldKind.HEATMAPS:
            return output
        return sigmoid_heatmaps(output, sharpness=self.sharpness)

    def for_prediction(self) -> PoseNetwork:
        """Return a network with the same weights, without what serves training alone; often this one."""
        return self

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise a ShapeError unless images of `size` (H, W), in pixels, fit this network and its strides."""
        if min(size) < 1 or any(length % self.size_multiple for length in size):
            expected = f"(H, W) in positive multiples of {self.size_multiple} pixels"
            raise ShapeError("input size", expected, size)


def _check_images(network: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Say what is wrong with the images before some layer deep inside stumbles over them."""
    assert isinstance(network, PoseNetwork)  # noqa: S101 - ours by construction; tells the type checker
    multiple = 1 if network.takes_any_size else network.size_multiple
    for images in inputs[:1]:  # none if they are passed by name
        shape = tuple(images.shape)
        if len(shape) != 4 or shape[1] != 3 or any(length % multiple for length in shape[2:]):
            expected = f"of shape [B, 3, H, W] with H and W in multiples of {multiple} pixels"
            raise ShapeError("images", expected, list(shape))


class Builder(Protocol):
    """Makes a variant of a family, with new weights."""

    def __call__(self, variant: str, *, num_keypoints: int) -> PoseNetwork:
        """Make the network."""
        ...


class Converter(Protocol):
    """Renames the entries of an official checkpoint."""

    def __call__(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the same tensors under this package's names."""
        ...


@dataclass(frozen=True, slots=True)
class Family:
    """A model family: its variants, how to build one, and how to read its authors' checkpoints."""

    variants: tuple[str, ...]
    build: Builder
    convert_official_state_dict: Converter
    build_published: Builder | None = (
        None  # what official checkpoints fill, where that is not `build`'s network
    )
    unused: re.Pattern[str] | None = None  # official entries that the converter leaves out

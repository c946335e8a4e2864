"""What every pose network of this package offers to training, export and the runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from fleetpose.codecs.fields import Field


class PoseNetwork(nn.Module):
    """A network from images `[B, 3, H, W]` (float, normalised) to one map per field.

    Attributes:
        fields: what each output map means; the output dict has exactly these names, in this order.
        input_size: (H, W) in pixels that the variant was designed for.
        size_multiple: H and W must be multiples of this; whoever prepares the images sees to it.
    """

    size_multiple: ClassVar[int]
    fields: tuple[Field, ...]
    input_size: tuple[int, int]

    def named(self, *maps: Tensor) -> dict[str, Tensor]:
        """Key `maps`, given in the order of `fields`, by field name."""
        return {field.name: output for field, output in zip(self.fields, maps, strict=True)}

"""Decode what a network with a decoding tail gives: candidates instead of maps.

`fleetpose export --with-decode` appends to a bottom-up network what finds the local maxima of its heatmaps
(`export/decode_tail.py`), so that some thousand numbers leave it and not some million. Each candidate comes
with the cells around it, from which places, plateaus and tags follow exactly as `grouping.group` has them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fleetpose.codecs.associative_embedding import AssociativeEmbeddingCodec
from fleetpose.codecs.grouping import Candidates, GroupingSettings, group_candidates, tags_among
from fleetpose.codecs.peaks import tops_among
from fleetpose.errors import CheckpointError, ConfigError, ShapeError
from fleetpose.geometry import cells_to_pixels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetpose.codecs.description import ModelDescription
    from fleetpose.codecs.fields import Field

Array = npt.NDArray[np.floating]
Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

#: Name of this codec in a model file.
CODEC_TYPE = "associative_embedding_candidates"

#: Outputs of the tail: flat cells `[K, n]` on the finest grid, heights `[K, n, 5, 5]` and tags `[K, n, 3, 3]`
#: around each, and the grid's (h, w).
CELLS, HEIGHTS, TAGS, GRID = OUTPUTS = (
    "candidate_cells",
    "candidate_heights",
    "candidate_tags",
    "grid_size",
)

#: Cells to each side of a candidate whose height, and whose tag, comes along.
HEIGHT_REACH = 2
TAG_REACH = 1

#: What the tail does, in words, for the model file.
EXPLANATION = (
    "Heatmaps of all strides are resized bilinearly (half-pixel centres) to the finest grid and averaged. "
    "candidate_cells holds, per keypoint, the flat indices y * w + x of the highest cells that no neighbour "
    "of 3 x 3 exceeds, falling; candidate_heights the 5 x 5 heights around each, minus infinity beyond the "
    "border; candidate_tags the 3 x 3 tags around the tag cell that holds each, repeated beyond the border; "
    "grid_size the finest grid's height and width. Candidates above the detection threshold that are the "
    "highest of their window are assigned to people keypoint by keypoint by their tags; keypoints that are "
    "missing then are looked for among the other candidates above the refinement threshold."
)


@dataclass(frozen=True, slots=True)
class CandidateCodec:
    """Decoder of bottom-up networks with a decoding tail.

    Attributes:
        fields: maps that the network had; they are not among its outputs.
        grouping: how candidates become people.
        finest_stride: pixels per cell of the grid on which candidates lie.
        tag_ratio: size of a tag cell, in cells of the finest grid.
    """

    fields: tuple[Field, ...]
    grouping: GroupingSettings = field(default_factory=GroupingSettings)
    finest_stride: int = field(init=False, repr=False)
    tag_ratio: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        embedding = AssociativeEmbeddingCodec(fields=self.fields, sigma_cells=self._sigmas())
        finest = min(item.stride for item in embedding.heatmap_fields)
        ratio, rest = divmod(embedding.tag_field.stride, finest)
        object.__setattr__(self, "finest_stride", finest)
        object.__setattr__(self, "tag_ratio", 0 if rest else ratio)
        if self.grouping.window > 2 * HEIGHT_REACH + 1:
            raise ConfigError(f"with a decoding tail window must be at most 5, got {self.grouping.window}")
        if self.grouping.has_flank_search:
            raise ConfigError(
                "with a decoding tail only maxima leave the network: leave has_flank_search out"
            )
        if self.tag_ratio < 1:
            raise ConfigError("with a decoding tail heatmaps must be at least as fine as tags")

    def decode(self, outputs: Mapping[str, Array]) -> tuple[Array, Array]:
        """Find people among the candidates of one picture.

        Args:
            outputs: by name, as the tail gives them; see `OUTPUTS`.

        Returns:
            keypoints `[N, K, 3]` (x, y, score) in pixels of the network's input, 0 where not found, and the
            people's scores `[N]`, falling.

        Raises:
            ShapeError: an output is missing or does not fit the others, or a height or tag is not finite.
        """
        cells, heights, tags, size = _checked(outputs)
        settings, ratio = self.grouping, self.tag_ratio
        middles = heights[..., HEIGHT_REACH, HEIGHT_REACH]

        def higher_than(threshold: float, channels: Indices | None = None) -> _Found:
            is_high = middles > threshold
            if channels is not None:
                is_high &= np.isin(np.arange(len(cells)), channels)[:, None]
            own = is_high.nonzero()
            return _Found(own[0], cells[own], heights[own], tags[own], size)

        def weak(channels: Indices) -> Candidates:
            found = higher_than(settings.refine_threshold, channels)
            return found.highest(settings.weak_limit).candidates(ratio, is_middle=False)

        peaks = higher_than(settings.detection_threshold)
        peaks = peaks.part(peaks.is_highest(settings.window).nonzero()[0]).highest(settings.max_people)
        strong = peaks.candidates(ratio, is_middle=True)
        keypoints, scores = group_candidates(strong, weak, settings, num_keypoints=len(cells))
        is_found = keypoints[..., 2:] > 0
        keypoints[..., :2] = np.where(is_found, cells_to_pixels(keypoints[..., :2], self.finest_stride), 0)
        return keypoints, scores

    def merge_flipped(
        self,
        outputs: Mapping[str, Array],  # noqa: ARG002 - the message says why none can be merged
        flipped: Mapping[str, Array],  # noqa: ARG002 - same
        flip_permutation: npt.NDArray[np.int64],  # noqa: ARG002 - same
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Refuse: candidates of two looks cannot be averaged as maps can."""
        raise ConfigError(
            "a model with a decoding tail cannot look at the mirrored picture too; export it without "
            "--with-decode for that"
        )

    def settings(self) -> dict[str, Any]:
        """Plain data for a model file; `from_description` reads it back."""
        return {
            "type": CODEC_TYPE,
            "outputs": list(OUTPUTS),
            "explanation": EXPLANATION,
            "grouping": asdict(self.grouping),
        }

    @classmethod
    def from_description(cls, description: ModelDescription) -> CandidateCodec:
        """Build the codec that a model file asks for.

        Raises:
            CheckpointError: the file names another codec or settings that this one does not have.
        """
        settings = dict(description.codec)
        kind = settings.pop("type", None)
        if kind != CODEC_TYPE or settings.pop("outputs", None) != list(OUTPUTS):
            raise CheckpointError(f"model {description.name}: codec must be {CODEC_TYPE}, got {kind!r}")
        settings.pop("explanation", None)
        try:
            grouping = GroupingSettings(**settings.pop("grouping", {}))
            return cls(fields=description.fields, grouping=grouping, **settings)
        except TypeError as error:
            raise CheckpointError(f"model {description.name}: unknown codec setting: {error}") from error

    def _sigmas(self) -> tuple[float, ...]:
        # Only targets have a spread; any will do here.
        return tuple(1.0 for item in self.fields if item.kind.value == "heatmaps")


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """Candidates `[C]` with the cells around them."""

    keypoint: Indices
    cells: Indices
    heights: Array  # [C, 5, 5]
    tags: Array  # [C, 3, 3]
    size: tuple[int, int]

    @property
    def height(self) -> Array:
        return self.heights[:, HEIGHT_REACH, HEIGHT_REACH]

    def part(self, chosen: Indices) -> _Found:
        return _Found(
            self.keypoint[chosen], self.cells[chosen], self.heights[chosen], self.tags[chosen], self.size
        )

    def highest(self, limit: int) -> _Found:
        """At most so many of each keypoint: the highest, which come first."""
        first = np.searchsorted(self.keypoint, self.keypoint)
        is_kept = np.arange(len(first)) - first < limit
        return self if is_kept.all() else self.part(is_kept.nonzero()[0])

    def is_highest(self, window: int) -> Mask:
        """Which are the highest of their window; of equals the first in reading order."""
        margin = HEIGHT_REACH - window // 2
        inner = self.heights[:, margin : 5 - margin, margin : 5 - margin].reshape(
            len(self.cells), window * window
        )
        middle = window * window // 2
        height = self.height[:, None]
        is_first = (inner[:, :middle] < height).all(axis=1)
        return np.asarray(is_first & (inner[:, middle + 1 :] <= height).all(axis=1))

    def candidates(self, tag_ratio: int, *, is_middle: bool) -> Candidates:
        """Places between cells, and tags there; with `is_middle` those of the middle of a plateau."""
        h, w = self.size
        row, column = np.divmod(self.cells, w)
        x, y = column, row
        if is_middle:
            steps = np.array([(dy, dx) for dy in range(3) for dx in range(-2, 3)])
            near = self.heights[:, steps[:, 0] + HEIGHT_REACH, steps[:, 1] + HEIGHT_REACH]
            is_equal = near == self.height[:, None]
            middle = (is_equal @ steps) / np.maximum(is_equal.sum(axis=1, keepdims=True), 1)
            shift = np.trunc(middle).astype(np.intp)
            x, y = column + shift[:, 1], row + shift[:, 0]

        def locate(chosen: Indices) -> Array:
            left, top = column[chosen] - HEIGHT_REACH, row[chosen] - HEIGHT_REACH
            return tops_among(
                lambda columns, rows: self.heights[chosen, rows - top, columns - left],
                x[chosen],
                y[chosen],
                size=self.size,
            )

        own = np.arange(len(self.cells))

        def read_tags(columns: Indices, rows: Indices) -> Array:
            dy, dx = rows - row // tag_ratio, columns - column // tag_ratio
            return self.tags[own, dy + TAG_REACH, dx + TAG_REACH, None]

        found_tags = tags_among(read_tags, x, y, size=(h // tag_ratio, w // tag_ratio), ratio=tag_ratio)
        return Candidates(self.keypoint, self.height.astype(np.float64), found_tags, locate)


def _checked(outputs: Mapping[str, Array]) -> tuple[Indices, Array, Array, tuple[int, int]]:
    """Outputs of the tail, after a look at their shapes and numbers."""
    missing = [name for name in OUTPUTS if name not in outputs]
    if missing:
        raise ShapeError("outputs", f"a mapping that holds {missing[0]}", sorted(outputs))
    cells, heights, tags = (outputs[name] for name in (CELLS, HEIGHTS, TAGS))
    for name, values, side in ((HEIGHTS, heights, 5), (TAGS, tags, 3)):
        if values.shape != (*cells.shape, side, side):
            raise ShapeError(name, f"of shape {[*cells.shape, side, side]}", list(values.shape))
    # Beyond the border heights are minus infinity, but the candidates' own are numbers.
    if not heights.max(initial=0.0) < np.inf:
        raise ShapeError("heatmaps", "finite numbers", "NaN or infinity")
    h, w = (int(length) for length in outputs[GRID])
    return cells.astype(np.intp), heights, tags, (h, w)

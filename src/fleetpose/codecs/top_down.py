"""Top-down heatmaps: one person per crop, one map per keypoint, one place per map.

Xiao et al., arXiv:1804.06208, with targets and decoding of DARK, Zhang et al., arXiv:1910.06278; maps that
are chances are decoded by expected similarity (`codecs/expected_oks.py`). `encode` makes the maps that a
network should return for a crop, `decode` finds the keypoints in the returned ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from fleetpose.codecs.dark import dark_tops
from fleetpose.codecs.expected_oks import expected_tops, similarity_spreads
from fleetpose.codecs.fields import Field, FieldKind
from fleetpose.codecs.peaks import subcell_tops
from fleetpose.errors import CheckpointError, ConfigError, ShapeError
from fleetpose.geometry import cells_to_pixels, pixels_to_cells

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetpose.codecs.description import ModelDescription

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

#: How a keypoint is found in its map. Three start from the highest cell and look at the cells around it:
#: `dark` is DARK's Taylor expansion of the smoothed map, `quarter` goes a quarter of a cell towards the
#: higher neighbour as SimpleBaseline and HRNet do, and `parabola` fits three cells per axis of the map as it
#: is, in log space. `expected_oks`, for maps that are chances, goes where the expected similarity is highest.
Decoding: TypeAlias = Literal["dark", "quarter", "parabola", "expected_oks"]

#: Key of the keypoints' weights in the loss, beside the map in what `encode` returns.
KEYPOINT_WEIGHTS = "keypoint_weights"

#: Name of this codec in a model file.
CODEC_TYPE = "top_down"

#: A keypoint so many spreads beyond the map's border leaves nothing on it.
REACH_SIGMAS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TopDownCodec:
    """Encoder and decoder of the top-down families.

    Attributes:
        fields: maps of the network: one field of heatmaps.
        input_size: (h, w) in pixels of the crop that the network takes.
        sigma_cells: spread of the Gaussian, in cells. The papers use 2 for 256 x 192 and 3 for 384 x 288.
        decoding: how keypoints are found in the maps.
        kernel_cells: side of the smoothing before `dark`, odd. The authors use 11.
        box_padding: a person's box is widened by this factor before it is cropped.
        is_corner_aligned: for weights of SimpleBaseline, HRNet and their kin, which were trained with cell 0
            on pixel 0 rather than in the middle of its pixels.
        has_flip_shift: move the mirrored picture's map right by a cell before it is averaged, as those codes
            do: it leaves a third of the error that their alignment makes there, and ours makes none.
        sigmas: of the skeleton's keypoints, for `expected_oks`; the others need none.
        person_share: square root of a person's area (COCO's) as a share of the crop's height, for
            `expected_oks`. Of 0.1 to 0.3, about a quarter suits kept-out `lspet` and rendered pictures best.
    """

    fields: tuple[Field, ...]
    input_size: tuple[int, int] = (256, 192)
    sigma_cells: float = 2.0
    decoding: Decoding = "dark"
    kernel_cells: int = 11
    box_padding: float = 1.25
    is_corner_aligned: bool = False
    has_flip_shift: bool = False
    sigmas: tuple[float, ...] = ()
    person_share: float = 0.25

    def __post_init__(self) -> None:
        if [item.kind for item in self.fields] != [FieldKind.HEATMAPS]:
            raise ConfigError(
                f"a top-down codec needs one field of heatmaps, got {[item.name for item in self.fields]}"
            )
        if self.decoding not in get_args(Decoding):
            known = ", ".join(get_args(Decoding))
            raise ConfigError(f"decoding must be one of {known}, got {self.decoding!r}")
        if self.kernel_cells < 1 or self.kernel_cells % 2 == 0:
            raise ConfigError(f"kernel_cells must be an odd number of cells, got {self.kernel_cells}")
        for name in ("sigma_cells", "box_padding", "person_share"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be more than 0, got {getattr(self, name)}")
        # A model file gives them as lists.
        for name in ("input_size", "sigmas"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_sigmas()
        stride = self.fields[0].stride
        if len(self.input_size) != 2 or any(side < 1 or side % stride for side in self.input_size):
            raise ConfigError(
                f"input_size must be (h, w) in positive multiples of {stride} pixels, got {self.input_size}"
            )

    def _check_sigmas(self) -> None:
        wanted = self.fields[0].channels if self.decoding == "expected_oks" else len(self.sigmas)
        if len(self.sigmas) != wanted or not all(0 < sigma < np.inf for sigma in self.sigmas):
            raise ConfigError(
                f"sigmas must be {wanted} positive numbers, one per keypoint, got {list(self.sigmas)}"
            )

    @property
    def has_expected_scores(self) -> bool:
        """Whether keypoints are scored by what they are likely to bring, see `expected_oks.person_scores`."""
        return self.decoding == "expected_oks"

    def encode(
        self, keypoints: Array, *, size: tuple[int, int] | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Make the target maps of one crop.

        Args:
            keypoints: `[K, 3]` (x, y, v) in pixels of the crop; v > 0 counts.
            size: (H, W) of the crop in pixels; None for `input_size`.

        Returns:
            Under the field's name `[K, H / stride, W / stride]` in [0, 1], Gaussians centred exactly on the
            keypoint, nothing rounded; and `keypoint_weights` `[K]`: 1, or 0 for a keypoint that is not
            labelled or lies so far beyond the border that its map would be empty.
        """
        (item,) = self.fields
        if keypoints.shape != (item.channels, 3):
            raise ShapeError("keypoints", f"of shape [{item.channels}, 3]", list(keypoints.shape))
        height, width = size or self.input_size
        h, w = height // item.stride, width // item.stride
        is_labelled = keypoints[:, 2] > 0
        # Keypoints without a label may hold anything, NaN too.
        points = np.where(is_labelled[:, None], keypoints[:, :2], 0)
        cells = pixels_to_cells(
            points.astype(np.float64), item.stride, is_corner_aligned=self.is_corner_aligned
        )
        reach = REACH_SIGMAS * self.sigma_cells
        is_near = (cells >= -reach) & (cells <= np.array([w - 1, h - 1]) + reach)
        weights = (is_labelled & is_near.all(axis=1)).astype(np.float32)
        along_x = np.exp(-0.5 * ((np.arange(w) - cells[:, 0:1]) / self.sigma_cells) ** 2)
        along_y = np.exp(-0.5 * ((np.arange(h) - cells[:, 1:2]) / self.sigma_cells) ** 2)
        along_y *= weights[:, None]
        maps = along_y[:, :, None] * along_x[:, None, :]
        return {item.name: maps.astype(np.float32), KEYPOINT_WEIGHTS: weights}

    def decode(self, outputs: Mapping[str, Array]) -> Array:
        """Find the keypoints in the network's maps of one crop or of several.

        Args:
            outputs: by field name, heatmaps `[K, h, w]` or `[N, K, h, w]`, with any peak height: chances as
                well as what a network trained on squared errors returns.

        Returns:
            `[K, 3]` or `[N, K, 3]` (x, y, score) in pixels of the crop. The score is the peak's height, cut
            to [0, 1]; by `expected_oks`, its geometric mean with the expected similarity. A keypoint whose
            map is nowhere above 0 was not found and is all 0.

        Raises:
            ShapeError: the map is missing, has the wrong shape or holds NaN or infinity.
        """
        (item,) = self.fields
        if item.name not in outputs:
            raise ShapeError("outputs", f"a mapping that holds {item.name}", sorted(outputs))
        heatmaps = np.asarray(outputs[item.name], np.float32)
        leading = heatmaps.shape[:-2]
        if heatmaps.ndim not in {3, 4} or leading[-1] != item.channels or 0 in heatmaps.shape[-2:]:
            expected = f"of shape [{item.channels}, h, w] or [N, {item.channels}, h, w], h and w not 0"
            raise ShapeError(item.name, expected, list(heatmaps.shape))
        if not np.isfinite(heatmaps).all():
            raise ShapeError(item.name, "finite numbers", "NaN or infinity")
        flat = heatmaps.reshape(-1, *heatmaps.shape[-2:])
        cells, heights = self.peaks(flat)
        points = cells_to_pixels(cells, item.stride, is_corner_aligned=self.is_corner_aligned)
        found = np.column_stack([points, np.minimum(heights, 1)])
        return np.where(heights[:, None] > 0, found, 0).astype(np.float32).reshape(*leading, 3)

    def merge_flipped(
        self,
        outputs: Mapping[str, Array],
        flipped: Mapping[str, Array],
        flip_permutation: npt.NDArray[np.int64],
    ) -> dict[str, Array]:
        """Average the maps `[K, h, w]` of a crop and of its mirror image."""
        (item,) = self.fields
        back = self.mirror_back(flipped, flip_permutation)[item.name]
        return {item.name: np.mean([outputs[item.name], back], axis=0, dtype=np.float32)}

    def mirror_back(
        self, flipped: Mapping[str, Array], flip_permutation: npt.NDArray[np.int64]
    ) -> dict[str, Array]:
        """Turn the maps `[K, h, w]` of a crop's mirror image into maps of the crop."""
        (item,) = self.fields
        back = flipped[item.name][flip_permutation, :, ::-1]
        if self.has_flip_shift:
            back = np.concatenate([back[..., :1], back[..., :-1]], axis=-1)
        return {item.name: np.ascontiguousarray(back)}

    def peaks(self, heatmaps: Array) -> tuple[npt.NDArray[np.float64], Array]:
        """Peaks of heatmaps `[C, h, w]`, those of K keypoints for each crop → tops and heights.

        Returns:
            Tops `[C, 2]` (x, y) in cells, and heights `[C]`, which are scores by `expected_oks`.
        """
        if self.decoding == "expected_oks":
            return self._expected(heatmaps)
        count, h, w = heatmaps.shape
        flat = heatmaps.reshape(count, h * w)
        highest = flat.argmax(axis=1)
        heights = flat[np.arange(count), highest]
        x, y = highest % w, highest // w
        tops = np.stack([x, y], axis=1).astype(np.float64)
        found = np.flatnonzero(heights > 0)  # the others have no logarithm, and stay
        tops[found] = self._tops(heatmaps, found, x[found], y[found])
        return tops, heights

    def _expected(self, heatmaps: Array) -> tuple[npt.NDArray[np.float64], Array]:
        """Do what `peaks` does by expected similarity."""
        _, h, w = heatmaps.shape
        spreads = similarity_spreads(self.sigmas, person_cells=self.person_share * h)
        tops, scores = expected_tops(heatmaps.reshape(-1, len(self.sigmas), h, w), spreads=spreads)
        return tops.reshape(-1, 2).astype(np.float64), scores.reshape(-1).astype(np.float32)

    def _tops(self, heatmaps: Array, keypoint: Indices, x: Indices, y: Indices) -> npt.NDArray[np.floating]:
        if self.decoding == "dark":
            return dark_tops(heatmaps, keypoint, x, y, kernel_cells=self.kernel_cells)
        tops = _quarter_tops if self.decoding == "quarter" else subcell_tops
        return tops(heatmaps, keypoint, x, y)

    def settings(self) -> dict[str, Any]:
        """Plain data for a model file; `from_description` reads it back."""
        plain = asdict(self)
        del plain["fields"]
        return {
            "type": CODEC_TYPE,
            **plain,
            "input_size": list(self.input_size),
            "sigmas": list(self.sigmas),
        }

    @classmethod
    def from_description(cls, description: ModelDescription) -> TopDownCodec:
        """Build the codec that a model file asks for.

        Raises:
            CheckpointError: the file names another codec or settings that this one does not have.
        """
        settings = dict(description.codec)
        kind = settings.pop("type", None)
        if kind != CODEC_TYPE:
            raise CheckpointError(f"model {description.name}: codec must be {CODEC_TYPE}, got {kind!r}")
        try:
            return cls(fields=description.fields, **settings)
        except TypeError as error:
            raise CheckpointError(f"model {description.name}: wrong codec setting: {error}") from error


def _quarter_tops(heatmaps: Array, keypoint: Indices, x: Indices, y: Indices) -> npt.NDArray[np.float64]:
    """Move peaks a quarter of a cell towards the higher neighbour, as SimpleBaseline's code does.

    Peaks in the two first rows and columns and in the last stay: that code asks for 1 < x < w - 1. Between
    equal neighbours a peak stays too, unlike in the bottom-up family (`peaks.quarter_offset_tops`).
    """
    _, h, w = heatmaps.shape
    tops = np.stack([x, y], axis=1).astype(np.float64)
    inner = np.flatnonzero((x > 1) & (x < w - 1) & (y > 1) & (y < h - 1))
    k, x, y = keypoint[inner], x[inner], y[inner]
    tops[inner, 0] += 0.25 * np.sign(heatmaps[k, y, x + 1] - heatmaps[k, y, x - 1])
    tops[inner, 1] += 0.25 * np.sign(heatmaps[k, y + 1, x] - heatmaps[k, y - 1, x])
    return tops

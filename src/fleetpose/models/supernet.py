"""LitePose's supernet: one network that holds every smaller one (Wang et al., arXiv:2205.01271, Sect. 4).

Written from the paper; names of checkpoint entries and outputs were checked against the authors' code,
github.com/mit-han-lab/litepose at 00b702d. A setting is a `LitePoseConfig`; its network's weights are the
leading channels of the supernet's, and so are its running means and variances. Depth, kernels and expansion
are the same in all settings: the authors' code has linear maps that make 5 x 5 and 3 x 3 kernels from those
of 7 x 7, but samples 7 x 7 only, so `convert_official_state_dict` leaves those maps out.

| variant           | input      | params, 14 keypoints | MACs at 512 |
|-------------------|------------|----------------------|-------------|
| litepose-supernet | 256 to 512 | 5,812,744            | 10.895 G    |
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from torch.func import functional_call

from fleetpose.errors import ConfigError, UnknownNameError
from fleetpose.models import litepose
from fleetpose.models.layers import round_channels, without_values
from fleetpose.models.litepose import LitePose, LitePoseConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

#: Entries of the authors' supernet that no setting uses.
UNUSED = re.compile(r"stage\.\d+\.\d+\.Linear[35]x[35]\.(weight|bias)$")


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The settings of a supernet: any resolution, and each width any of the ratios of its largest one."""

    largest: LitePoseConfig
    resolutions: tuple[int, ...] = (256, 320, 384, 448, 512)  # pixels
    ratios: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25)

    def widths(self, largest: int) -> tuple[int, ...]:
        """What a layer of `largest` channels may be narrowed to, in eights, widest first.

        >>> ELASTIC.widths(24)
        (24, 16, 8)
        """
        return tuple(sorted({round_channels(largest * ratio) for ratio in self.ratios}, reverse=True))

    def sample(self, rng: random.Random) -> LitePoseConfig:
        """Draw a setting, every choice on its own."""
        resolution = rng.choice(self.resolutions)
        first, second, third, fourth = (
            replace(stage, channels=rng.choice(self.widths(stage.channels))) for stage in self.largest.stages
        )
        to_eighth, to_quarter, to_half = (rng.choice(self.widths(width)) for width in self.largest.deconv)
        return replace(
            self.largest,
            input_size=(resolution, resolution),
            stem=rng.choice(self.widths(self.largest.stem)),
            stages=(first, second, third, fourth),
            deconv=(to_eighth, to_quarter, to_half),
        )

    def check(self, config: LitePoseConfig) -> None:
        """Raise a ConfigError unless `config` is a part of the supernet; widths need not be of the ratios."""
        widest, wanted = _widths(self.largest), _widths(config)
        for name, width in wanted.items():
            if not 1 <= width <= widest[name]:
                raise ConfigError(f"the supernet's {name} has 1 to {widest[name]} channels, but got {width}")
        if _without_widths(config) != _without_widths(self.largest):
            raise ConfigError(
                "the supernet's blocks, strides, kernels and expansion are fixed; only widths vary"
            )


def _widths(config: LitePoseConfig) -> dict[str, int]:
    stages = {f"stage {number}": stage.channels for number, stage in enumerate(config.stages, start=1)}
    deconv = {f"deconv {number}": width for number, width in enumerate(config.deconv, start=1)}
    return {"stem": config.stem, **stages, **deconv}


def _without_widths(config: LitePoseConfig) -> LitePoseConfig:
    first, second, third, fourth = (replace(stage, channels=1) for stage in config.stages)
    return replace(config, input_size=(0, 0), stem=1, stages=(first, second, third, fourth), deconv=(1, 1, 1))


#: What the paper's search chooses from.
ELASTIC = SearchSpace(
    LitePoseConfig((512, 512), stem=24, stages=litepose.searched_stages(32, 64, 96, 160), deconv=(64, 48, 32))
)
VARIANTS = {"litepose-supernet": ELASTIC}


class LitePoseSupernet(LitePose):
    """The largest LitePose of a search space, which can run as any smaller one."""

    def __init__(self, *, space: SearchSpace = ELASTIC, num_keypoints: int = 17) -> None:
        super().__init__(config=space.largest, num_keypoints=num_keypoints)
        self.space = space

    def forward(self, images: Tensor, config: LitePoseConfig | None = None) -> dict[str, Tensor]:
        """Images `[B, 3, H, W]` → maps as LitePose's, of the setting `config`, else of the largest one.

        In training, gradients and running statistics reach the channels that the setting has.
        """
        if config is None:
            return super().forward(images)
        self.space.check(config)
        outline = _outline(config, self.num_keypoints)
        outline.sharpness = self.sharpness
        modes = {name: module.training for name, module in self.named_modules()}
        for name, module in outline.named_modules():
            module.training = modes[name]  # frozen ones stay in evaluation mode
        maps: dict[str, Tensor] = functional_call(outline, self._leading_channels(outline), images)
        return maps

    def extract(self, config: LitePoseConfig) -> LitePose:
        """Copy the weights of the setting `config` into a network of its own, in evaluation mode.

        Raises:
            ConfigError: `config` is no part of this supernet.
        """
        self.space.check(config)
        network = LitePose(config=config, num_keypoints=self.num_keypoints)
        network.sharpness = self.sharpness
        network.load_state_dict(self._leading_channels(network))
        return network.eval()

    def _leading_channels(self, network: LitePose) -> dict[str, Tensor]:
        """Views of this supernet's weights, as large as those of `network`."""
        own = dict(self.named_parameters()) | dict(self.named_buffers())
        return {
            key: own[key][tuple(slice(length) for length in part.shape)]
            for key, part in network.state_dict().items()
        }


@lru_cache(maxsize=8)
def _outline(config: LitePoseConfig, num_keypoints: int) -> LitePose:
    """Build a network without memory for its weights."""
    with without_values():
        return LitePose(config=config, num_keypoints=num_keypoints)


def supernet(variant: str, *, num_keypoints: int = 17) -> LitePoseSupernet:
    """Build one of `VARIANTS` with new weights.

    >>> network = supernet("litepose-supernet")
    >>> network.extract(litepose.VARIANTS["litepose-xs"]).input_size
    (256, 256)
    """
    if variant not in VARIANTS:
        raise UnknownNameError("model", variant, VARIANTS)
    return LitePoseSupernet(space=VARIANTS[variant], num_keypoints=num_keypoints)


def convert_official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' checkpoint entries to ours, without the `UNUSED` ones."""
    return litepose.convert_official_state_dict(
        {key: value for key, value in state.items() if not UNUSED.match(key)}
    )

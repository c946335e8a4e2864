"""What the papers say that their networks cost, beside what they cost, and by which way of counting.

Printed figures are kept as the papers print them. Some papers round and some cut digits off; a figure counts
as reproduced if either gives what is printed. `WHY_NOT` says of the others what is known about them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from fleetpose.errors import UnknownNameError
from fleetpose.models import MODELS, build
from fleetpose.models.counting import (
    Cost,
    count,
    count_as_hrnet_summary,
    count_as_ptflops,
    count_as_tensorflow,
)
from fleetpose.models.layers import without_values

if TYPE_CHECKING:
    from collections.abc import Callable


class Convention(Enum):
    """A paper's way of counting: its name, the function that repeats it, and its "giga"."""

    PLAIN = ("multiply-adds", count, 10**9)
    HRNET = ("HRNet summary", count_as_hrnet_summary, 10**9)
    HRNET_BINARY = ("HRNet summary, 1024³", count_as_hrnet_summary, 1024**3)
    PTFLOPS = ("ptflops", count_as_ptflops, 10**9)
    TENSORFLOW = ("TensorFlow", count_as_tensorflow, 10**9)

    def __init__(self, label: str, counter: Callable[..., Cost], giga: int) -> None:
        """Take the parts of the value."""
        self.label = label
        self.counter = counter
        self.giga = giga


@dataclass(frozen=True, slots=True)
class Published:
    """A paper's figures for one network, as printed; empty where it gives none."""

    params: str  # in millions
    operations: str  # in units of the convention's giga
    convention: Convention
    num_keypoints: int = 17


@dataclass(frozen=True, slots=True)
class CostRow:
    """One network: what it costs, and what its paper says."""

    name: str
    input_size: tuple[int, int]  # (H, W), in pixels
    num_keypoints: int
    true: Cost
    counted: Cost | None = None  # by the paper's convention
    published: Published | None = None

    @property
    def not_reproduced(self) -> tuple[str, ...]:
        """Which of the paper's figures its own way of counting does not give, in words."""
        if self.counted is None or self.published is None:
            return ()
        pairs = (
            ("params", self.counted.params / 1e6, self.published.params),
            (
                "operations",
                self.counted.operations / self.published.convention.giga,
                self.published.operations,
            ),
        )
        return tuple(
            f"{self.name}: {what} {ours:.3f}, not {printed}"
            for what, ours, printed in pairs
            if printed and not is_printed_as(ours, printed)
        )


_HRNET, _BINARY = Convention.HRNET, Convention.HRNET_BINARY
_PTFLOPS, _TENSORFLOW = Convention.PTFLOPS, Convention.TENSORFLOW

#: By the names of `MODELS`, each paper's own table.
PUBLISHED = {
    # arXiv:2205.01271, Table 1, for CrowdPose.
    "litepose-xs": Published("1.7", "1.2", _PTFLOPS, num_keypoints=14),
    "litepose-s": Published("2.7", "5.0", _PTFLOPS, num_keypoints=14),
    "litepose-m": Published("3.5", "7.8", _PTFLOPS, num_keypoints=14),
    "litepose-l": Published("5.7", "13.7", _PTFLOPS, num_keypoints=14),
    "higherhrnet-w16": Published("7.2", "12.5", _PTFLOPS, num_keypoints=14),
    "higherhrnet-w24": Published("14.9", "25.3", _PTFLOPS, num_keypoints=14),
    "higherhrnet-c2": Published("", "10.1", _PTFLOPS, num_keypoints=14),
    "higherhrnet-c3": Published("", "10.0", _PTFLOPS, num_keypoints=14),
    "higherhrnet-c4": Published("", "9.2", _PTFLOPS, num_keypoints=14),
    # arXiv:2007.08090, Table 3, and the thesis's Table 4.5.
    "efficienthrnet-h0": Published("23.3", "25.6", _HRNET),
    "efficienthrnet-hm1": Published("16", "14.2", _HRNET),
    "efficienthrnet-hm2": Published("10.3", "7.7", _HRNET),
    "efficienthrnet-hm3": Published("6.9", "4.2", _HRNET),
    "efficienthrnet-hm4": Published("3.7", "2.1", _HRNET),
    "efficienthrnet-h0-seg-small": Published("19.3", "18.9", _HRNET),
    "efficienthrnet-h0-seg": Published("24.2", "70.5", _HRNET),
    "efficienthrnet-h0-seg-v2": Published("24.2", "70.5", _HRNET),
    # arXiv:1908.10357, arXiv:1902.09212 and arXiv:1804.06208.
    "higherhrnet-w32": Published("28.6", "47.9", _HRNET),
    "higherhrnet-w48": Published("63.8", "154.3", _HRNET),
    "hrnet-w32": Published("28.5", "7.1", _BINARY),
    "hrnet-w48": Published("63.6", "14.6", _BINARY),
    "simplebaseline-r50": Published("34.0", "8.9", _BINARY),
    "simplebaseline-r101": Published("53.0", "12.4", _BINARY),
    "simplebaseline-r152": Published("68.6", "15.7", _BINARY),
    # arXiv:1811.12004.
    "lightweight-openpose": Published("4.1", "9", Convention.PLAIN, num_keypoints=18),
    # arXiv:2004.12186, Table 1.
    "efficientpose-rt": Published("0.46", "0.87", _TENSORFLOW, num_keypoints=16),
    "efficientpose-i": Published("0.72", "1.67", _TENSORFLOW, num_keypoints=16),
    "efficientpose-ii": Published("1.73", "7.70", _TENSORFLOW, num_keypoints=16),
    "efficientpose-iii": Published("3.23", "23.35", _TENSORFLOW, num_keypoints=16),
    "efficientpose-iv": Published("6.56", "72.89", _TENSORFLOW, num_keypoints=16),
    # Yamazaki et al., Tables III and IV.
    "slimdeconv-b0": Published("", "0.40", _BINARY),
    "slimdeconv-b1": Published("12.26", "0.56", _BINARY),
    "slimdeconv-b2": Published("", "0.64", _BINARY),
    "slimdeconv-b3": Published("", "0.92", _BINARY),
    "slimdeconv-b4": Published("", "1.40", _BINARY),
    "slimdeconv-b5": Published("", "2.17", _BINARY),
    "slimdeconv-b6": Published("", "3.07", _BINARY),
    "slimdeconv-r18": Published("", "1.76", _BINARY),
    "slimdeconv-r34": Published("", "3.45", _BINARY),
    "slimdeconv-r50": Published("", "3.98", _BINARY),
    "slimdeconv-fpga": Published("", "0.46", _BINARY),
    # arXiv:2007.08090, Table 2, for ImageNet; arXiv:1905.11946, Table 2, from B1 on.
    "efficientnet-b0": Published("5.3", "0.4", Convention.PLAIN),
    "efficientnet-bm1": Published("4.5", "0.3", Convention.PLAIN),
    "efficientnet-bm2": Published("3.4", "0.2", Convention.PLAIN),
    "efficientnet-bm3": Published("2.8", "0.1", Convention.PLAIN),
    "efficientnet-bm4": Published("1.3", "0.05", Convention.PLAIN),
    "efficientnet-b1": Published("7.8", "0.70", Convention.PLAIN),
    "efficientnet-b2": Published("9.2", "1.0", Convention.PLAIN),
    "efficientnet-b3": Published("12", "1.8", Convention.PLAIN),
    "efficientnet-b4": Published("19", "4.2", Convention.PLAIN),
    "efficientnet-b5": Published("30", "9.9", Convention.PLAIN),
    "efficientnet-b6": Published("43", "19", Convention.PLAIN),
    "efficientnet-b7": Published("66", "37", Convention.PLAIN),
}

#: Why no way of counting gives a figure of a paper, by the start of the network's name.
WHY_NOT = {
    "higherhrnet-w24": "LitePose's code builds a larger W24 than its Table 1 says; the operations agree",
    "higherhrnet-c4": "9.15 by the tool, which the paper rounds up",
    "efficienthrnet-h0-seg": "the thesis's rows imply two heads, one six times the other's cost per cell",
    "efficientpose": "TensorFlow's profiler also counts element-wise work, about a hundredth",
    "efficientnet-bm2": "0.148, which the paper rounds up",
    "efficientnet-bm4": "the paper prints the parameters for 100 classes, 1.27 M, twice",
    "efficientnet-b2": "as released it has 9.11 M; TensorFlow rounds maps of odd size up",
    "efficientnet": "TensorFlow rounds maps of odd size up, where EfficientHRNet's padding rounds down",
    "slimdeconv-fpga": "the paper gives rules, not layers, so this network is our reading of them",
}


def why_not(name: str) -> str:
    """What is known about the figures of `name` that cannot be reproduced; empty if nothing is."""
    return next((why for start, why in WHY_NOT.items() if name.startswith(start)), "")


#: For what the reference counts are, where a paper has none of its own.
_KEYPOINTS = {
    "litepose-supernet": 14,
    **{f"lightweight-openpose-r{refinements}": 18 for refinements in (0, 2, 3)},
}


def is_printed_as(value: float, printed: str) -> bool:
    """Tell whether `value`, rounded or cut off to as many digits, reads as `printed`.

    >>> is_printed_as(10.389, "10.3"), is_printed_as(10.389, "10.4"), is_printed_as(10.389, "10.5")
    (True, True, False)
    """
    unit = 10 ** len(printed.partition(".")[2])
    return round(float(printed) * unit) in {round(value * unit), math.floor(value * unit)}


def cost_row(name: str) -> CostRow:
    """Count the network called `name`, truly and as its paper does, at the size that it was designed for.

    Raises:
        UnknownNameError: there is no such network.

    >>> cost_row("litepose-xs").true
    Cost(params=1675552, operations=882892800)
    """
    if name not in MODELS:
        raise UnknownNameError("model", name, MODELS)
    published = PUBLISHED.get(name)
    num_keypoints = _KEYPOINTS.get(name, 17) if published is None else published.num_keypoints
    with without_values():
        network = build(name, num_keypoints=num_keypoints)
    size = network.input_size
    return CostRow(
        name=name,
        input_size=size,
        num_keypoints=num_keypoints,
        true=count(network, size),
        counted=None if published is None else published.convention.counter(network, size),
        published=published,
    )


def cost_rows() -> list[CostRow]:
    """Count every network."""
    return [cost_row(name) for name in MODELS]

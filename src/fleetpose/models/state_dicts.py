"""Strict renaming of checkpoint entries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleetpose.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

# How the HRNet family of public code calls the parts of a residual block and of a high-resolution module, as
# regular expressions, and what `layers` calls them.
BASIC_BLOCK_NAMES = (
    (r"conv1\.", "first.conv."),
    (r"bn1\.", "first.norm."),
    (r"conv2\.", "second.conv."),
    (r"bn2\.", "second.norm."),
)
BOTTLENECK_NAMES = (
    *BASIC_BLOCK_NAMES,
    (r"conv3\.", "third.conv."),
    (r"bn3\.", "third.norm."),
    (r"downsample\.0\.", "shortcut.conv."),
    (r"downsample\.1\.", "shortcut.norm."),
)
HIGH_RESOLUTION_NAMES = (
    *(
        (rf"(\d+)\.branches\.(\d+)\.(\d+)\.{old}", rf"\1.branches.\2.\3.{new}")
        for old, new in BASIC_BLOCK_NAMES
    ),
    # A branch without residual blocks: only its convolution and its normalisation.
    (r"(\d+)\.branches\.(\d+)\.0\.(?=weight)", r"\1.branches.\2.0.conv."),
    (r"(\d+)\.branches\.(\d+)\.1\.(?=weight|bias|running|num)", r"\1.branches.\2.0.norm."),
    (r"(\d+)\.fuse_layers\.(\d+)\.(\d+)\.(\d+)\.0\.", r"\1.fuse.\2.\3.\4.conv."),
    (r"(\d+)\.fuse_layers\.(\d+)\.(\d+)\.(\d+)\.1\.", r"\1.fuse.\2.\3.\4.norm."),
    (r"(\d+)\.fuse_layers\.(\d+)\.(\d+)\.0\.", r"\1.fuse.\2.\3.0.conv."),
    (r"(\d+)\.fuse_layers\.(\d+)\.(\d+)\.1\.", r"\1.fuse.\2.\3.0.norm."),
)
# The same for `layers.HigherResolutionHead` under the name `head`.
HIGHER_RESOLUTION_HEAD_NAMES = (
    (r"final_layers\.0\.", "head.predict_quarter."),
    (r"final_layers\.1\.", "head.predict_half."),
    (r"deconv_layers\.0\.0\.0\.", "head.upsample.0.conv."),
    (r"deconv_layers\.0\.0\.1\.", "head.upsample.0.norm."),
    *((rf"deconv_layers\.0\.(\d+)\.0\.{old}", rf"head.upsample.\1.{new}") for old, new in BASIC_BLOCK_NAMES),
)


def rename_keys(state: Mapping[str, Tensor], rules: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
    r"""Rewrite the start of each key by the one (regular expression, replacement) rule that matches it.

    Raises:
        CheckpointError: no rule matches a key, or two keys get the same name.

    >>> rename_keys({"first.0.weight": 1}, [(r"first\.(\d)\.", r"stem.\1.")])
    {'stem.0.weight': 1}
    """
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        name = next((p.sub(r, key, count=1) for p, r in compiled if p.match(key)), None)
        if name is None or name in renamed:
            problem = "is not known" if name is None else f"collides on {name!r}"
            raise CheckpointError(f"entry {key!r} {problem}")
        renamed[name] = value
    return renamed

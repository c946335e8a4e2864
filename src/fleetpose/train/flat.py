"""Tensors as flat arrays for code that numba compiles, and such work shared by threads."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor


def flat_array(images: Tensor) -> np.ndarray[Any, Any]:
    """`[B, C, H, W]` → `[B * H * W * C]`, without a copy if channels are last; bfloat16 as bits."""
    flat = images.detach().permute(0, 2, 3, 1).contiguous().view(-1)
    return (flat.view(torch.uint16) if flat.dtype == torch.bfloat16 else flat).numpy()


def share(work: Callable[[int, int], None], count: int, *, threads: int) -> None:
    """Do `work(first, last)` for 0 … count, in as many parts as threads; they do not hold Python's lock."""
    ends = [count * number // threads for number in range(threads + 1)]
    first, *rest = itertools.pairwise(ends)
    others = [_pool(threads).submit(work, *part) for part in rest]
    work(*first)
    for other in others:
        other.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="flat")

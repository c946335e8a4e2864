"""The order in which numbered samples go through a set of pictures."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt


def number_in_epoch(number: int, count: int, *, seed: int) -> int:
    """Which of `count` pictures sample `number` shows: each once per epoch, shuffled anew in every epoch.

    >>> sorted(number_in_epoch(number, 3, seed=0) for number in range(6, 9))
    [0, 1, 2]
    """
    epoch, place = divmod(number, count)
    return int(_order(seed, epoch, count)[place])


@lru_cache(maxsize=4)  # two sets side by side, each where one epoch turns into the next
def _order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, count]).permutation(count)

"""The order in which numbered samples go through a set of pictures."""

from __future__ import annotations

import numpy as np


def number_in_epoch(number: int, count: int, *, seed: int) -> int:
    """Which of `count` pictures sample `number` shows: each once per epoch, shuffled anew in every epoch.

    >>> sorted(number_in_epoch(number, 3, seed=0) for number in range(6, 9))
    [0, 1, 2]
    """
    epoch, place = divmod(number, count)
    return int(np.random.default_rng([seed, epoch, count]).permutation(count)[place])

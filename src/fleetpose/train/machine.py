"""Settings of the machine that make training on a CPU fast."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import torch

# Numbers of glibc's mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


@contextmanager
def machine_settings(*, threads: int) -> Iterator[None]:
    """Set threads and allocator for a run; afterwards all but the allocator are as they were.

    Args:
        threads: CPU threads for the arithmetic, 0 for as many as there are now.
    """
    keep_freed_memory()
    cv2_threads, torch_threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(0)
    if threads:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        cv2.setNumThreads(cv2_threads)
        torch.set_num_threads(torch_threads)


def keep_freed_memory() -> None:
    """Let glibc keep freed activations instead of returning them to the system at every step.

    Page faults cost 1.3 to 2 times the arithmetic of a small network's training step otherwise.
    """
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_MAX, 0)
            libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)

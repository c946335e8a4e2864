"""Shared array alias and the one place where numba is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from fleetpose.errors import require

Array: TypeAlias = NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile a numeric function once and keep the machine code on disk.

    Floating-point reordering is allowed, so pictures agree bit for bit between runs and workers on one kind
    of
    processor, and to within rounding between different kinds.
    """
    return _compiled(function)


def drawing_kernel(function: Function) -> Function:
    """Compile a function of the inner loops: as `kernel`, but it may neither create nor return arrays.

    In exchange no references are counted, which costs three times the arithmetic where tuples of arrays are
    handed on for every pixel.
    """
    return _compiled(function, _nrt=False)


def learning_kernel(function: Function) -> Function:
    """Compile a function as `drawing_kernel` does, but what is no number (NaN) stays none."""
    return _compiled(function, _nrt=False, fastmath={"contract", "nsz", "arcp"})


def _compiled(function: Function, **settings: bool | set[str]) -> Function:
    numba = require("numba", extra="synth")
    # Without numpy's error model every division carries a test for zero and a way to raise.
    options = {"cache": True, "fastmath": True, "nogil": True, "error_model": "numpy"} | settings
    compiled: Function = numba.njit(**options)(function)
    return compiled


SCRATCH_ROWS = 12


def scratch() -> Array:
    """Room for the short vectors that drawing kernels work with, `[12, 4]`."""
    return np.empty((SCRATCH_ROWS, 4))


def quaternions_to_matrices(quaternions: Array) -> Array:
    """Turn quaternions `[..., 4]` (w, x, y, z), any length, into rotation matrices `[..., 3, 3]`.

    >>> quaternions_to_matrices(np.array([1.0, 0.0, 0.0, 0.0])).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    q = np.asarray(quaternions, dtype=np.float64)
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def axis_rotation(axis: Array, angle_rad: Array | float) -> Array:
    """Rotation matrices `[..., 3, 3]` about unit `axis` `[..., 3]` by `angle_rad` `[...]`."""
    axis = np.asarray(axis, dtype=np.float64)
    half = np.asarray(angle_rad, dtype=np.float64)[..., None] / 2
    return quaternions_to_matrices(np.concatenate([np.cos(half), axis * np.sin(half)], axis=-1))


def aligning_rotation(source: Array, target: Array) -> Array:
    """Smallest rotations `[..., 3, 3]` that take unit vectors `source` `[..., 3]` to `target` `[..., 3]`."""
    cosine = np.sum(source * target, axis=-1, keepdims=True)
    return quaternions_to_matrices(np.concatenate([1 + cosine + 1e-9, np.cross(source, target)], axis=-1))


def twist_angle(rotation: Array, axis: Array) -> float:
    """Angle in radians by which `rotation` `[3, 3]` turns about unit `axis` `[3]`."""
    w = np.sqrt(max(0.0, 1.0 + np.trace(rotation))) / 2
    vector = np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    ) / (4 * max(w, 1e-6))
    return float(2 * np.arctan2(vector @ axis, w))

# ruff: noqa: ANN401, ARG001, PLR0917
"""Batch normalisation and what follows it, in few passes over memory, compiled by numba.

z = f(scale x + offset + residual), with a scale and an offset for each number of a row, of which there are
`width`, a multiple of `LANES`. Forward there is one pass for means and variances and one for z; backward one
for the sums of g = dz f' and of g (x - mean), and one for the gradient of x. Between the passes nothing is
kept but x, and g where that is cheaper. Each goes once through rows `first` … `last`.

Flat arrays of rows are float32, or bfloat16 as uint16; those of one number per column are float32. Residuals
are an empty array where there are none. Inner loops are written in LLVM's own language, which knows vectors
(hence arguments without types, and unused ones: numba wants them so).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fleetpose.synth.arrays import Array, learning_kernel
from fleetpose.train.lanes import INDEX, LANES, address, floats, is_half, load, sigmoid, store, times_plus

#: What numba wants of an intrinsic: its signature, and how to write its code.
_Code = tuple[Any, Callable[..., Any]]

#: Rows whose sums are kept in single precision before they are added to the total.
_ROWS_TOGETHER = 64
_ZERO = np.float32(0)

#: What f may be.
NONE, RELU, RELU6, SWISH, ESWISH = range(5)
#: What swish is multiplied by.
_COSTLY = {SWISH: 1.0, ESWISH: 1.25}


class Passes(NamedTuple):
    """Compiled passes for one f.

    activate: inputs, residuals, outputs, first, last, width, scale, offset.
    sum_gradients: grads, inputs, residuals, kept, first, last, width, scale, offset, mean, room, sums; adds
        to float64 `sums` `[2, width]` and, if `keeps`, writes g to `kept`.
    give_gradients: grads, inputs, outputs, first, last, width, scale, offset, by_grad, by_input, constant;
        writes `by_grad` g + `by_input` x + `constant`. If `keeps`, `grads` are what was kept, and may be
        `outputs`.
    """

    keeps: bool
    activate: Callable[..., None]
    sum_gradients: Callable[..., None]
    give_gradients: Callable[..., None]


@functools.cache
def input_summer() -> Callable[..., None]:
    """Compile the first pass: of inputs, first, last, width, shift, room, sums.

    It adds the sums of x - `shift` and of the squares of that to float64 `sums` `[2, width]`. `room` is
    float32 `[2 * width]`.
    """

    def sum_inputs(
        inputs: Array, first: int, last: int, width: int, shift: Array, room: Array, sums: Array
    ) -> None:
        room[:] = _ZERO
        for row in range(first, last, _ROWS_TOGETHER):
            _sum_inputs(inputs, row, min(row + _ROWS_TOGETHER, last), width, shift, room)
            _move_sums(room, width, sums)

    return learning_kernel(sum_inputs)


@functools.cache
def passes(kind: int, *, has_residual: bool) -> Passes:
    """Compile the other passes for an f and for whether anything is added before it."""
    adds = int(has_residual)
    # What was added needs g itself, and the slope of swish is too costly to be computed twice.
    keeps = int(has_residual or kind in _COSTLY)
    kind_given = NONE if keeps else kind

    def activate(
        inputs: Array, residuals: Array, outputs: Array, first: int, last: int, width: int, scale: Array,
        offset: Array,
    ) -> None:  # fmt: skip
        _activate(kind, adds, inputs, residuals, outputs, first, last, width, scale, offset)

    def sum_gradients(
        grads: Array, inputs: Array, residuals: Array, kept: Array, first: int, last: int, width: int,
        scale: Array, offset: Array, mean: Array, room: Array, sums: Array,
    ) -> None:  # fmt: skip
        room[:] = _ZERO
        for row in range(first, last, _ROWS_TOGETHER):
            end = min(row + _ROWS_TOGETHER, last)
            _sum_gradients(
                kind, adds, keeps, inputs, residuals, grads, kept, row, end, width, scale, offset, mean, room
            )
            _move_sums(room, width, sums)

    def give_gradients(
        grads: Array, inputs: Array, outputs: Array, first: int, last: int, width: int, scale: Array,
        offset: Array, by_grad: Array, by_input: Array, constant: Array,
    ) -> None:  # fmt: skip
        _give_gradients(
            kind_given, inputs, grads, outputs, first, last, width, scale, offset, by_grad, by_input, constant
        )

    return Passes(bool(keeps), *(learning_kernel(one) for one in (activate, sum_gradients, give_gradients)))


def _move_sums_plain(room: Array, width: int, sums: Array) -> None:
    """Add sums in single precision to the totals, and begin again."""
    for at in range(width):
        sums[0, at] += room[at]
        sums[1, at] += room[width + at]
    room[:] = _ZERO


_move_sums = learning_kernel(_move_sums_plain)


@intrinsic  # type: ignore[untyped-decorator]
def _sum_inputs(_: Any, inputs: Any, first: Any, last: Any, width: Any, shift: Any, room: Any) -> _Code:
    """Add the sums of x - `shift` and of its squares to `room` `[2 * width]`."""

    def write(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        x, shifts, sums = (address(context, builder, signature, args, number) for number in (0, 4, 5))
        with _vectors(builder, *args[1:4]) as (at, column):
            away = builder.fsub(load(builder, x, at, half=is_half(inputs)), load(builder, shifts, column))
            _add(builder, sums, column, away)
            below = builder.add(column, args[3])
            store(builder, times_plus(builder, away, away, load(builder, sums, below)), sums, below)
        return context.get_dummy_value()

    return types.void(inputs, *(types.intp,) * 3, shift, room), write


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def _activate(
    _: Any, kind: Any, adds: Any, inputs: Any, residuals: Any, outputs: Any, first: Any, last: Any,
    width: Any, scale: Any, offset: Any,
) -> _Code:  # fmt: skip
    """Write z to `outputs`."""

    def write(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        layer = _Layer(context, builder, signature, args, (2, 3, 8, 9), adds=bool(adds.literal_value))
        z = address(context, builder, signature, args, 4)
        with _vectors(builder, *args[5:8]) as (at, column):
            _, y = layer.read(at, column)
            value = _f(builder, kind.literal_value, y, half=layer.half)
            store(builder, value, z, at, half=layer.half)
        return context.get_dummy_value()

    given = (kind, adds, inputs, residuals, outputs, *(types.intp,) * 3, scale, offset)
    return types.void(*given), write


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def _sum_gradients(
    _: Any, kind: Any, adds: Any, keeps: Any, inputs: Any, residuals: Any, grads: Any, kept: Any, first: Any,
    last: Any, width: Any, scale: Any, offset: Any, mean: Any, room: Any,
) -> _Code:  # fmt: skip
    """Add the sums of g and of g (x - `mean`) to `room` `[2 * width]`, and write g to `kept`."""

    def write(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        layer = _Layer(context, builder, signature, args, (3, 4, 10, 11), adds=bool(adds.literal_value))
        numbers = (5, 6, 12, 13)
        dz, keep, means, sums = (address(context, builder, signature, args, number) for number in numbers)
        with _vectors(builder, *args[7:10]) as (at, column):
            x, y = layer.read(at, column)
            grad = load(builder, dz, at, half=layer.half)
            g = _times_slope(builder, kind.literal_value, y, grad, half=layer.half)
            if keeps.literal_value:
                store(builder, g, keep, at, half=layer.half)
            _add(builder, sums, column, g)
            below = builder.add(column, args[9])
            away = builder.fsub(x, load(builder, means, column))
            store(builder, times_plus(builder, g, away, load(builder, sums, below)), sums, below)
        return context.get_dummy_value()

    given = (kind, adds, keeps, inputs, residuals, grads, kept, *(types.intp,) * 3, scale, offset, mean, room)
    return types.void(*given), write


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def _give_gradients(
    _: Any, kind: Any, inputs: Any, grads: Any, outputs: Any, first: Any, last: Any, width: Any, scale: Any,
    offset: Any, by_grad: Any, by_input: Any, constant: Any,
) -> _Code:  # fmt: skip
    """Write the gradient of x to `outputs`."""

    def write(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        layer = _Layer(context, builder, signature, args, (1, 1, 7, 8), adds=False)
        numbers = (2, 3, 9, 10, 11)
        dz, dx, *factors = (address(context, builder, signature, args, number) for number in numbers)
        with _vectors(builder, *args[4:7]) as (at, column):
            x, y = layer.read(at, column)
            grad = load(builder, dz, at, half=layer.half)
            g = _times_slope(builder, kind.literal_value, y, grad, half=layer.half)
            by_grads, by_inputs, constants = (load(builder, one, column) for one in factors)
            found = times_plus(builder, by_grads, g, times_plus(builder, by_inputs, x, constants))
            store(builder, found, dx, at, half=layer.half)
        return context.get_dummy_value()

    given = (kind, inputs, grads, outputs, *(types.intp,) * 3, scale, offset, by_grad, by_input, constant)
    return types.void(*given), write


class _Layer:
    """What a pass reads of a layer; `numbers` are those of inputs, residuals, scale and offset."""

    def __init__(
        self, context: Any, builder: Any, signature: Any, args: Any, numbers: tuple[int, ...], *, adds: bool
    ) -> None:
        self.builder, self.adds = builder, adds
        self.half = is_half(signature.args[numbers[0]])
        self.inputs, self.residuals, self.scale, self.offset = (
            address(context, builder, signature, args, number) for number in numbers
        )

    def read(self, at: Any, column: Any) -> tuple[Any, Any]:
        """A vector of x, and that of which f is taken."""
        builder = self.builder
        x = load(builder, self.inputs, at, half=self.half)
        scale, offset = load(builder, self.scale, column), load(builder, self.offset, column)
        y = times_plus(builder, x, scale, offset)
        return x, builder.fadd(y, load(builder, self.residuals, at, half=self.half)) if self.adds else y


def _f(builder: ir.IRBuilder, kind: int, y: Any, *, half: bool) -> Any:
    """f(y); what is no number stays none."""
    match kind:
        case 1 | 2:
            y = builder.select(builder.fcmp_ordered("<", y, floats(0)), floats(0), y)
            is_above = builder.fcmp_ordered(">", y, floats(6))
            return builder.select(is_above, floats(6), y) if kind == RELU6 else y
        case 3 | 4:
            return builder.fmul(builder.fmul(y, floats(_COSTLY[kind])), sigmoid(builder, y, half=half))
        case _:
            return y


def _times_slope(builder: ir.IRBuilder, kind: int, y: Any, grad: Any, *, half: bool) -> Any:
    """`grad` f'(y)."""
    match kind:
        case 1 | 2:
            is_linear = builder.fcmp_unordered(">", y, floats(0))
            if kind == RELU6:
                is_linear = builder.and_(is_linear, builder.fcmp_unordered("<", y, floats(6)))
            return builder.select(is_linear, grad, floats(0))
        case 3 | 4:
            share = sigmoid(builder, y, half=half)
            slope = times_plus(builder, y, builder.fsub(floats(1), share), floats(1))
            return builder.fmul(builder.fmul(grad, floats(_COSTLY[kind])), builder.fmul(share, slope))
        case _:
            return grad


def _add(builder: ir.IRBuilder, sums: Any, at: Any, values: Any) -> None:
    store(builder, builder.fadd(load(builder, sums, at), values), sums, at)


@contextmanager
def _vectors(builder: ir.IRBuilder, first: Any, last: Any, width: Any) -> Iterator[tuple[Any, Any]]:
    """Write a loop over the vectors of some rows: where each begins among all, and in its row."""
    with cgutils.for_range_slice(builder, first, last, INDEX(1)) as (row, _):
        start = builder.mul(row, width)
        with cgutils.for_range_slice(builder, INDEX(0), width, INDEX(LANES)) as (column, _):
            yield builder.add(start, column), column

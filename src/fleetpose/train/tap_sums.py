# ruff: noqa: ANN401, ARG001, PLR0917
"""Gradients of a depthwise convolution, compiled by numba, which must be installed.

The weight's gradient at a tap of the kernel is the sum, over all cells, of the output's gradient times the
input below that tap. oneDNN takes seven to thirty times as long for it as for the convolution itself. Here
sixteen channels go together, as the lanes of one vector of LLVM's, and a row of the kernel as that many sums,
which stay in registers. The two inner loops are written in LLVM's own language, which knows vectors (hence
arguments without types, and unused ones: numba wants them so); all around them is Python.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fleetpose.synth.arrays import Array, drawing_kernel, learning_kernel
from fleetpose.train.lanes import FLOATS, INDEX, LANES, address, floats, is_half, load, store, times_plus

#: What numba wants of an intrinsic: its signature, and how to write its code.
_Code = tuple[Any, Callable[..., Any]]


@functools.cache
def tap_summer(kernel: int, stride: int) -> Callable[..., None]:
    """Compile the sums for a kernel of `kernel` x `kernel` taps.

    Returns:
        A function of, in this order,

        * inputs, grads: flat `[B, H, W, C]` and `[B, h, w, C]`, float32, or bfloat16 as uint16; C >= `LANES`;
        * B, H, W, C, h, w;
        * top, left: how many rows and columns of zeros surround the inputs;
        * first, last: which blocks of `LANES` channels to sum; the last of all ends with the last channel;
        * rows, grad_row: room to work in, flat, of kernel x n x LANES zeros and of w x LANES, float32, n
          being the cells of a row of inputs with its border;
        * sums: flat `[blocks, kernel, kernel, LANES]`, float32; the sums are added to it.
    """

    def sum_taps(
        inputs: Array, grads: Array, B: int, H: int, W: int, C: int, h: int, w: int, top: int, left: int,
        first: int, last: int, rows: Array, grad_row: Array, sums: Array,
    ) -> None:  # fmt: skip
        length = len(rows) // kernel
        for block in range(first, last):
            channel = min(block * LANES, C - LANES)
            for b in range(B):
                copied = 0
                for y in range(h):
                    _copy_row(grad_row, 0, grads, (b * h + y) * w * C + channel, w, C)
                    above = y * stride - top
                    below = min(above + kernel, H)
                    for row in range(max(above, copied), below):  # the other rows are there from before
                        at = (row % kernel) * length + left * LANES
                        _copy_row(rows, at, inputs, (b * H + row) * W * C + channel, W, C)
                    copied = max(copied, below)
                    for row in range(max(above, 0), below):
                        at = (block * kernel + row - above) * kernel * LANES
                        _add_row(kernel, stride, sums, at, rows, (row % kernel) * length, grad_row, w)

    return drawing_kernel(sum_taps)


@functools.cache
def tap_spreader() -> Callable[..., None]:
    """Compile the gradient of the input, for any kernel and stride.

    Each cell of the input takes, from those cells of the output that saw it, their gradient times the weight
    with which they saw it.

    Returns:
        A function of, in this order,

        * grads: flat `[B, h, w, C]`, float32, or bfloat16 as uint16; C >= `LANES`;
        * weights: flat `[kernel, kernel, C]`, float32;
        * H, W, C, h, w, kernel, stride;
        * top, left: how many rows and columns of zeros surround the input;
        * first, last: which rows of all pictures together to write;
        * taps: room to work in, int64 `[2, kernel * kernel]`;
        * outputs: flat `[B, H, W, C]`, of the kind of `grads`.
    """

    def spread(
        grads: Array, weights: Array, H: int, W: int, C: int, h: int, w: int, kernel: int, stride: int,
        top: int, left: int, first: int, last: int, taps: Array, outputs: Array,
    ) -> None:  # fmt: skip
        for row in range(first, last):
            b, Y = divmod(row, H)
            for X in range(W):
                count = 0
                for tap_y in range((Y + top) % stride, kernel, stride):
                    y = (Y + top - tap_y) // stride
                    if 0 <= y < h:
                        for tap_x in range((X + left) % stride, kernel, stride):
                            x = (X + left - tap_x) // stride
                            if 0 <= x < w:
                                taps[0, count] = ((b * h + y) * w + x) * C
                                taps[1, count] = (tap_y * kernel + tap_x) * C
                                count += 1
                _gather(grads, weights, taps[0], taps[1], count, C, outputs, (row * W + X) * C)

    return learning_kernel(spread)


@intrinsic  # type: ignore[untyped-decorator]
def _copy_row(_: Any, target: Any, at: Any, source: Any, start: Any, cells: Any, step: Any) -> _Code:
    """Copy `LANES` channels of each cell, `step` numbers apart, to one beside the other, as float32."""

    def write(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        to = address(context, builder, signature, args, 0, args[1])
        come_from = address(context, builder, signature, args, 2, args[3])
        with cgutils.for_range(builder, args[4]) as loop:
            values = load(builder, come_from, builder.mul(loop.index, args[5]), half=is_half(source))
            store(builder, values, to, builder.mul(loop.index, INDEX(LANES)))
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, types.intp, types.intp), write


@intrinsic  # type: ignore[untyped-decorator]
def _gather(
    _: Any, grads: Any, weights: Any, grads_at: Any, weights_at: Any, count: Any, channels: Any, outputs: Any,
    start: Any,
) -> _Code:  # fmt: skip
    """Write the sums of `count` products of cells to a cell, `channels` numbers each."""

    def write(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        numbers = (0, 1, 2, 3, 6)
        come_from, by, from_at, by_at, to = (
            address(context, builder, signature, args, number) for number in numbers
        )
        total = cgutils.alloca_once(builder, FLOATS)
        end = builder.sub(args[5], INDEX(LANES))
        with cgutils.for_range_slice(builder, INDEX(0), args[5], INDEX(LANES)) as (column, _):
            # The last vector ends with the last channel.
            at = builder.select(builder.icmp_signed("<", column, end), column, end)
            builder.store(floats(0.0), total)
            with cgutils.for_range(builder, args[4]) as loop:
                there, weight = (
                    builder.add(builder.load(builder.gep(one, [loop.index])), at) for one in (from_at, by_at)
                )
                product = (load(builder, come_from, there, half=is_half(grads)), load(builder, by, weight))
                builder.store(times_plus(builder, *product, builder.load(total)), total)
            sums = builder.load(total)
            store(builder, sums, to, builder.add(args[7], at), half=is_half(outputs))
        return context.get_dummy_value()

    index = types.intp
    return types.void(grads, weights, grads_at, weights_at, index, index, outputs, index), write


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def _add_row(
    _: Any, kernel: Any, stride: Any, sums: Any, at_sums: Any, row: Any, at_row: Any, grads: Any, cells: Any
) -> _Code:
    """Add what a row of cells says about a row of the kernel to its sums."""
    taps, pace = kernel.literal_value, stride.literal_value

    def write(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        totals = address(context, builder, signature, args, 2, args[3])
        inputs = address(context, builder, signature, args, 4, args[5])
        grads = address(context, builder, signature, args, 6)
        before = builder.block
        body, after = builder.append_basic_block("cell"), builder.append_basic_block("row_done")
        builder.branch(body)
        builder.position_at_end(body)
        cell = builder.phi(INDEX)
        olds = [builder.phi(FLOATS) for _ in range(taps)]
        grad = load(builder, grads, builder.mul(cell, INDEX(LANES)))
        below = builder.mul(cell, INDEX(LANES * pace))
        news = []
        for tap, old in enumerate(olds):
            value = load(builder, inputs, builder.add(below, INDEX(tap * LANES)))
            news.append(times_plus(builder, grad, value, old))
        following = builder.add(cell, INDEX(1))
        builder.cbranch(builder.icmp_signed("<", following, args[7]), body, after)
        cell.add_incoming(INDEX(0), before)
        cell.add_incoming(following, body)
        for old, new in zip(olds, news, strict=True):
            old.add_incoming(floats(0.0), before)
            old.add_incoming(new, body)
        builder.position_at_end(after)
        for tap, new in enumerate(news):
            at = INDEX(tap * LANES)
            store(builder, builder.fadd(load(builder, totals, at), new), totals, at)
        return context.get_dummy_value()

    index = types.intp
    return types.void(kernel, stride, sums, index, row, index, grads, index), write

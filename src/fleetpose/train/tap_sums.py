# ruff: noqa: ANN401, ARG001, PLR0917
"""Gradient of a depthwise convolution's weights, compiled by numba, which must be installed.

The weight's gradient at a tap of the kernel is the sum, over all cells, of the output's gradient times the
input below that tap. oneDNN takes seven to thirty times as long for it as for the convolution itself. Here
sixteen channels go together, as the lanes of one vector of LLVM's, and a row of the kernel as that many sums,
which stay in registers. Numba knows no such vectors, so the two inner loops are written in LLVM's own
language (hence arguments without types, and unused ones: numba wants them so); all around them is Python.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fleetpose.synth.arrays import Array, drawing_kernel

#: Channels that go together: a vector of AVX-512; LLVM splits it where vectors are shorter.
LANES = 16

_INDEX = ir.IntType(64)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_BITS = ir.VectorType(ir.IntType(32), LANES)
_HALF_BITS = ir.VectorType(ir.IntType(16), LANES)

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


@intrinsic  # type: ignore[untyped-decorator]
def _copy_row(_: Any, target: Any, at: Any, source: Any, start: Any, cells: Any, step: Any) -> _Code:
    """Copy `LANES` channels of each cell, `step` numbers apart, to one beside the other, as float32."""
    is_half = source.dtype == types.uint16

    def write(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        source_type = _HALF_BITS if is_half else _FLOATS
        to = _address(context, builder, signature, args, 0, args[1])
        come_from = _address(context, builder, signature, args, 2, args[3])
        with cgutils.for_range(builder, args[4]) as loop:
            values = _load(builder, come_from, builder.mul(loop.index, args[5]), source_type)
            if is_half:  # bfloat16 is the upper half of float32
                upper = builder.shl(builder.zext(values, _BITS), ir.Constant(_BITS, [16] * LANES))
                values = builder.bitcast(upper, _FLOATS)
            _store(builder, values, to, builder.mul(loop.index, _INDEX(LANES)))
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, types.intp, types.intp), write


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def _add_row(
    _: Any, kernel: Any, stride: Any, sums: Any, at_sums: Any, row: Any, at_row: Any, grads: Any, cells: Any
) -> _Code:
    """Add what a row of cells says about a row of the kernel to its sums."""
    taps, pace = kernel.literal_value, stride.literal_value

    def write(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        totals = _address(context, builder, signature, args, 2, args[3])
        inputs = _address(context, builder, signature, args, 4, args[5])
        grads = _address(context, builder, signature, args, 6)
        before = builder.block
        body, after = builder.append_basic_block("cell"), builder.append_basic_block("row_done")
        builder.branch(body)
        builder.position_at_end(body)
        cell = builder.phi(_INDEX)
        olds = [builder.phi(_FLOATS) for _ in range(taps)]
        grad = _load(builder, grads, builder.mul(cell, _INDEX(LANES)), _FLOATS)
        below = builder.mul(cell, _INDEX(LANES * pace))
        news = []
        for tap, old in enumerate(olds):
            value = _load(builder, inputs, builder.add(below, _INDEX(tap * LANES)), _FLOATS)
            product = builder.fmul(grad, value, flags=("contract",))
            news.append(builder.fadd(old, product, flags=("contract",)))
        following = builder.add(cell, _INDEX(1))
        builder.cbranch(builder.icmp_signed("<", following, args[7]), body, after)
        cell.add_incoming(_INDEX(0), before)
        cell.add_incoming(following, body)
        for old, new in zip(olds, news, strict=True):
            old.add_incoming(ir.Constant(_FLOATS, [0.0] * LANES), before)
            old.add_incoming(new, body)
        builder.position_at_end(after)
        for tap, new in enumerate(news):
            at = _INDEX(tap * LANES)
            _store(builder, builder.fadd(_load(builder, totals, at, _FLOATS), new), totals, at)
        return context.get_dummy_value()

    index = types.intp
    return types.void(kernel, stride, sums, index, row, index, grads, index), write


def _address(
    context: Any, builder: ir.IRBuilder, signature: Any, args: Any, number: int, at: Any = None
) -> Any:
    """Address of an array among the arguments, from its number `at` on."""
    array = cgutils.create_struct_proxy(signature.args[number])(context, builder, args[number])
    return array.data if at is None else builder.gep(array.data, [at])


def _load(builder: ir.IRBuilder, base: Any, at: Any, kind: ir.VectorType) -> Any:
    return builder.load(builder.bitcast(builder.gep(base, [at]), kind.as_pointer()), align=2)


def _store(builder: ir.IRBuilder, values: Any, base: Any, at: Any) -> None:
    builder.store(values, builder.bitcast(builder.gep(base, [at]), values.type.as_pointer()), align=4)

# ruff: noqa: ANN401
"""Vectors of sixteen numbers in LLVM's own language, for what numba compiles, and bfloat16.

Numba knows neither. Arrays are flat; bfloat16 is kept in uint16, bit for bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

#: Numbers that go together: a vector of AVX-512; LLVM splits it where vectors are shorter.
LANES = 16

INDEX = ir.IntType(64)
FLOATS = ir.VectorType(ir.FloatType(), LANES)
_BITS = ir.VectorType(ir.IntType(32), LANES)
_HALF_BITS = ir.VectorType(ir.IntType(16), LANES)

#: Beside this number floats are whole.
_WHOLE = 1.5 * 2.0**23
#: Greatest power of two that `sigmoid` goes to.
_FAR = 126.0


def address(  # noqa: PLR0917 - the first four are what numba hands on
    context: Any, builder: ir.IRBuilder, signature: Any, args: Any, number: int, at: Any = None
) -> Any:
    """Address of an array among the arguments of an intrinsic, from its number `at` on."""
    array = cgutils.create_struct_proxy(signature.args[number])(context, builder, args[number])
    return array.data if at is None else builder.gep(array.data, [at])


def is_half(array: Any) -> bool:
    """Whether an array, of which numba's type is given, keeps bfloat16."""
    return bool(array.dtype == types.uint16)


def floats(number: float) -> ir.Constant:
    """A vector of one number."""
    return ir.Constant(FLOATS, [float(np.float32(number))] * LANES)


def load(builder: ir.IRBuilder, base: Any, at: Any, *, half: bool = False) -> Any:
    """Read a vector of float32 from the number `at` of what begins at `base`; `half`: from bfloat16."""
    kind = _HALF_BITS if half else FLOATS
    values = builder.load(builder.bitcast(builder.gep(base, [at]), kind.as_pointer()), align=2)
    if not half:
        return values
    upper = builder.shl(builder.zext(values, _BITS), _bits(16))  # bfloat16 is the upper half of float32
    return builder.bitcast(upper, FLOATS)


def store(builder: ir.IRBuilder, values: Any, base: Any, at: Any, *, half: bool = False) -> None:
    """Write a vector of float32 to the number `at` of what begins at `base`; `half`: as bfloat16."""
    values = _halved(builder, values) if half else values
    builder.store(values, builder.bitcast(builder.gep(base, [at]), values.type.as_pointer()), align=2)


def times_plus(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    """A b + c."""
    return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))


def sigmoid(builder: ir.IRBuilder, values: Any, *, half: bool) -> Any:
    """1 / (1 + e^-x) of a vector, to within a few units of the last place; what is no number stays none.

    `half`: to within 1 / 20,000, for results that are rounded to bfloat16.

    e^x = 2^n 2^f, n being the nearest whole number and 2^f its Taylor series
    for f in [-0.5, 0.5].
    """
    power = builder.fmul(values, floats(-1 / math.log(2)))
    for worst, sign in ((-_FAR, "<"), (_FAR, ">")):
        is_worse = builder.fcmp_ordered(sign, power, floats(worst))
        power = builder.select(is_worse, floats(worst), power)
    shifted = builder.fadd(power, floats(_WHOLE))  # its lowest bits are the whole number itself
    rest = builder.fsub(power, builder.fsub(shifted, floats(_WHOLE)))
    whole = builder.sub(builder.bitcast(shifted, _BITS), builder.bitcast(floats(_WHOLE), _BITS))
    factors = [math.log(2) ** degree / math.factorial(degree) for degree in range(5 if half else 8)]
    series = floats(factors.pop())
    for factor in reversed(factors):
        series = times_plus(builder, series, rest, floats(factor))
    scale = builder.bitcast(builder.shl(builder.add(whole, _bits(127)), _bits(23)), FLOATS)
    return builder.fdiv(floats(1.0), times_plus(builder, series, scale, floats(1.0)))


def _halved(builder: ir.IRBuilder, values: Any) -> Any:
    """Bits of the nearest bfloat16, of two equally near the even one; what is no number stays none."""
    bits = builder.bitcast(values, _BITS)
    last = builder.and_(builder.lshr(bits, _bits(16)), _bits(1))
    nearest = builder.add(builder.add(bits, _bits(0x7FFF)), last)
    is_number = builder.fcmp_ordered("ord", values, values)
    kept = builder.select(is_number, nearest, builder.or_(bits, _bits(0x400000)))
    return builder.trunc(builder.lshr(kept, _bits(16)), _HALF_BITS)


def _bits(number: int) -> ir.Constant:
    return ir.Constant(_BITS, [number] * LANES)

"""Inner loops that numba compiles: for what numpy and torch would write to memory and read again.

    @compiled
    def kernel(...): ...                            # of one part of the rows
    by_parts(lambda rows: kernel(x[rows]), len(x))  # core/cores.py: on all cores

The machine code is kept beside the source, or in the user's cache where that cannot be written;
where neither can, each process compiles again, a second or so a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

# What may change a sum's order, so that it is vectorized; NaN and infinities stay what they are.
FAST = {"reassoc", "contract", "nsz"}

AHEAD = 16  # vectors that are fetched before they are needed
LINE = 16  # numbers of float32 that come from memory together

# Of exp_of. The high part of ln 2 has few enough bits that its multiples are exact.
LOWEST, HALF, PER_LN2 = np.float32(-87), np.float32(0.5), np.float32(1 / math.log(2))
LN2_HIGH = np.float32(0.693359375)
LN2_LOW = np.float32(math.log(2) - 0.693359375)
INVERSE_FACTORIALS = tuple(np.float32(1 / math.factorial(n)) for n in range(7, -1, -1))


def compiled(kernel: Callable) -> Callable:
    """Return the kernel compiled at its first call, for its arguments' types; it holds no lock."""
    try:
        return njit(nogil=True, fastmath=FAST, cache=True)(kernel)
    except RuntimeError:  # no folder to keep it in
        return njit(nogil=True, fastmath=FAST)(kernel)


@intrinsic
def fetch_ahead(typing, array, row, column):
    """fetch_ahead(array, row, column): have the cache fetch the line that holds the number there.

    For rows whose places nobody can foresee: asked for a few rows before they are needed, they are
    there in time. It reads nothing and changes nothing, whatever the place.
    """

    def code(context, builder, signature, arguments):
        values = context.make_array(array)(context, builder, arguments[0])
        place = cgutils.get_item_pointer(context, builder, array, values, arguments[1:])
        number, memory = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [memory, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [memory], kind)
        for_reading, to_every_level, data = number(0), number(3), number(1)
        where = builder.bitcast(place, memory)
        builder.call(prefetch, [where, for_reading, to_every_level, data])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), code


@intrinsic
def _as_float(typing, number):
    """_as_float(int32): the float32 of the same bits."""

    def code(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), code


@compiled
def exp_of(x):
    """Return e^x of a float32 of at most 0, to 4e-7 of it; 0 where x is below -87. A NaN stays.

    With x = k ln 2 + r, |r| <= ln 2 / 2: 2^k is put together of bits, e^r the power series' first
    eight terms, whose rest is below 6e-9. Unlike the library's, it is computed of eight at a time.
    """
    k = np.floor(x * PER_LN2 + HALF)
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    power = INVERSE_FACTORIALS[0]
    for n in range(1, len(INVERSE_FACTORIALS)):
        power = power * r + INVERSE_FACTORIALS[n]
    value = power * _as_float((np.int32(k) + np.int32(127)) << np.int32(23))
    return np.float32(0) if x < LOWEST else value  # less would be too small for a product's speed

"""Inner loops that numba compiles: for what numpy and torch would write to memory and read again.

    @compiled
    def kernel(...): ...                            # of one part of the rows
    by_parts(lambda rows: kernel(x[rows]), len(x))  # recommenders/cores.py: on all cores

The machine code is kept beside the source, or in the user's cache where that cannot be written;
where neither can, each process compiles again, a second or so a kernel.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

# What may change a sum's order, so that it is vectorized; NaN and infinities stay what they are.
FAST = {"reassoc", "contract", "nsz"}


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

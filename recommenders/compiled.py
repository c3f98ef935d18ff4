"""Inner loops that numba compiles: for what numpy and torch would write to memory and read again.

    @compiled
    def kernel(...): ...                            # of one part of the rows
    by_parts(lambda rows: kernel(x[rows]), len(x))  # recommenders/cores.py: on all cores

The machine code is kept beside the source, or in the user's cache where that cannot be written;
where neither can, each process compiles again, a second or so a kernel.
"""

from __future__ import annotations

from collections.abc import Callable

from numba import njit

# What may change a sum's order, so that it is vectorized; NaN and infinities stay what they are.
FAST = {"reassoc", "contract", "nsz"}


def compiled(kernel: Callable) -> Callable:
    """Return the kernel compiled at its first call, for its arguments' types; it holds no lock."""
    try:
        return njit(nogil=True, fastmath=FAST, cache=True)(kernel)
    except RuntimeError:  # no folder to keep it in
        return njit(nogil=True, fastmath=FAST)(kernel)

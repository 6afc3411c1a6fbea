"""Loops that run as machine code."""

from typing import no_type_check

from numba import njit


@no_type_check
def compiled(function, *, fastmath=True):
    """Compiled when first called, without the interpreter's lock; kept on disk where a folder can be written.

    Without `fastmath`, arithmetic is as written: no reordering, and NaN and infinity count.
    """
    options = {"nogil": True, "fastmath": fastmath, "error_model": "numpy"}
    try:
        return njit(**options, cache=True)(function)
    except RuntimeError:  # neither beside the package nor in the user's cache
        return njit(**options)(function)

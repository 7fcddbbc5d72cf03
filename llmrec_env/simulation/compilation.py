"""Compilation of the simulator's functions.

Without fast-math: every operation rounds as IEEE 754 says, whatever the compiler makes of the loop
around it, so that a kernel gives the same bits whoever compiles it, on every CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

from llmrec_env.simulation.kernel_cache import KernelCache

_Function = TypeVar("_Function", bound=Callable[..., Any])


def kernel(function: _Function) -> _Function:
    """Returns `function` compiled at its first call, and kept on disk for the next process."""
    compiled: Any = numba.njit(error_model="numpy", nogil=True)(function)
    compiled._cache = KernelCache(compiled)
    return compiled


def formula(function: _Function) -> _Function:
    """Returns a few operations on numbers, compiled, which machine code holds wherever it is used.

    The compiler then makes vector instructions of a loop around it, as of a loop around `+`.
    """
    compiled: Any = numba.njit(error_model="numpy", nogil=True, forceinline=True)(function)
    compiled._cache = KernelCache(compiled)
    return compiled


def inlined(function: _Function) -> _Function:
    """Returns `function` to be compiled into its callers, as if it were written there.

    For the stages of a step, which take tuples of arrays: a call copies them and counts references,
    a seventh of the time of a step.
    """
    compiled: Any = numba.njit(inline="always", error_model="numpy", nogil=True)(function)
    return compiled

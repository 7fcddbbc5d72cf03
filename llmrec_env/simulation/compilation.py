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
    return _compiled(function, inline=False)


def inlined(function: _Function) -> _Function:
    """Returns the same, whose machine code stands wherever compiled code calls it.

    For a few operations on numbers, of which the compiler then makes vector instructions as it does
    of `+`, and for parts of a step, which then pass on no tuples of arrays.
    """
    return _compiled(function, inline=True)


def _compiled(function: Any, inline: bool) -> Any:
    # By LLVM, not by numba's own inlining, which copies the caller again for every call; and not
    # also as a function for C, which nobody calls.
    options = {"error_model": "numpy", "nogil": True, "no_cfunc_wrapper": True}
    compiled: Any = numba.njit(**options, forceinline=inline)(function)
    compiled._cache = KernelCache(compiled)
    return compiled

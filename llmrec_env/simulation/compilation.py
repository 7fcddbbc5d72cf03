"""Compilation of the simulator's functions, and the inner products they share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

from llmrec_env.simulation.kernel_cache import KernelCache

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Sums may be reordered so that they use vector instructions; NaN and infinity keep their meaning.
_FASTMATH = {"reassoc", "contract", "nsz", "arcp"}


def kernel(function: _Function) -> _Function:
    """Returns `function` compiled at its first call, and kept on disk for the next process."""
    compiled: Any = numba.njit(fastmath=_FASTMATH, error_model="numpy")(function)
    compiled._cache = KernelCache(compiled)
    return compiled


def inlined(function: _Function) -> _Function:
    """Returns `function` to be compiled into its callers, as if it were written there.

    For the stages of a step, which take tuples of arrays: a call copies them and counts references,
    a seventh of the time of a step.
    """
    compiled: Any = numba.njit(inline="always", fastmath=_FASTMATH, error_model="numpy")(function)
    return compiled


@kernel
def dot(a, b):
    """Returns the inner product of two vectors."""
    total = np.float32(0.0)
    for j in range(a.shape[0]):
        total += a[j] * b[j]
    return total


@kernel
def inverse_norm(vector):
    """Returns 1 / |vector|, and 0 for a vector of zeros."""
    square = dot(vector, vector)
    return np.float32(1.0 / math.sqrt(square)) if square > 1e-12 else np.float32(0.0)


# The kernels index matrices, `rows[i, j]`, where a view `rows[i]` would read better: a view counts
# references with a locked instruction, and dozens of them cost more than the arithmetic.


@kernel
def row_dot(vector, rows, i):
    """Returns the inner product of a vector and row i of a matrix."""
    total = np.float32(0.0)
    for j in range(vector.shape[0]):
        total += vector[j] * rows[i, j]
    return total


@kernel
def rows_dot(rows, i, others, a):
    """Returns the inner product of row i with row a of another matrix."""
    total = np.float32(0.0)
    for j in range(rows.shape[1]):
        total += rows[i, j] * others[a, j]
    return total


@kernel
def rows_dot2x4(rows, i, k, others, a, b, c, d):
    """Returns the inner products of rows i and k with rows a to d of another matrix.

    Each row is read once for all its products: that is what bounds the speed.
    """
    ia = ib = ic = id_ = ka = kb = kc = kd = np.float32(0.0)
    for j in range(rows.shape[1]):
        y, z = rows[i, j], rows[k, j]
        p, q, r, s = others[a, j], others[b, j], others[c, j], others[d, j]
        ia += p * y
        ib += q * y
        ic += r * y
        id_ += s * y
        ka += p * z
        kb += q * z
        kc += r * z
        kd += s * z
    return ia, ib, ic, id_, ka, kb, kc, kd


@kernel
def cosines(ids, unit_rows, others, other_rows, out):
    """Writes the cosine of every row named in `ids` and every one in `others`, (ids, others).

    In blocks of four by two, which takes two thirds of the time of one by one.
    """
    whole_p, whole_k = ids.shape[0] // 4 * 4, others.shape[0] // 2 * 2
    for k in range(0, whole_k, 2):
        one, two = others[k], others[k + 1]
        for p in range(0, whole_p, 4):
            a, b, c, d = ids[p], ids[p + 1], ids[p + 2], ids[p + 3]
            cosine = rows_dot2x4(other_rows, one, two, unit_rows, a, b, c, d)
            out[p, k], out[p + 1, k] = cosine[0], cosine[1]
            out[p + 2, k], out[p + 3, k] = cosine[2], cosine[3]
            out[p, k + 1], out[p + 1, k + 1] = cosine[4], cosine[5]
            out[p + 2, k + 1], out[p + 3, k + 1] = cosine[6], cosine[7]
    for p in range(ids.shape[0]):
        for k in range(whole_k if p < whole_p else 0, others.shape[0]):
            out[p, k] = rows_dot(other_rows, others[k], unit_rows, ids[p])

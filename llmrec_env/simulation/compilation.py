"""The one decorator behind every compiled function of the simulator."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Sums may be reordered so that they use vector instructions; NaN and infinity keep their meaning.
_FASTMATH = {"reassoc", "contract", "nsz", "arcp"}


def cache_home() -> Path:
    """Folder of what can be recomputed: where `$LLMREC_CACHE` is, else in the user's cache."""
    if chosen := os.environ.get("LLMREC_CACHE"):
        path = Path(chosen).expanduser()
        return path.parent if path.suffix else path
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "llmrec_env"


@lru_cache
def source_digest() -> str:
    """Returns which dynamics this is: a digest of every source that is compiled, and of numba."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        source = path.read_bytes()
        if b"@kernel" in source or b"@inlined" in source:
            digest.update(source)
    return digest.hexdigest()[:16]


def _machine_code_folder() -> str:
    # numba checks only the file of the outermost function, so after an edit to users.py it would
    # go on running the old users: a folder for each state of the sources makes edits count.
    return str(cache_home() / "machine_code" / source_digest())


_FOLDER = _machine_code_folder()


def kernel(function: _Function) -> _Function:
    """Returns `function` compiled at its first call, and kept on disk for the next process."""
    before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    numba.config.CACHE_DIR = _FOLDER  # type: ignore[attr-defined]
    try:
        compiled: Any = numba.njit(cache=True, fastmath=_FASTMATH, error_model="numpy")(function)
        return compiled
    finally:
        numba.config.CACHE_DIR = before  # type: ignore[attr-defined]


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
            found = rows_dot2x4(other_rows, one, two, unit_rows, a, b, c, d)
            out[p, k], out[p + 1, k] = found[0], found[1]
            out[p + 2, k], out[p + 3, k] = found[2], found[3]
            out[p, k + 1], out[p + 1, k + 1] = found[4], found[5]
            out[p + 2, k + 1], out[p + 3, k + 1] = found[6], found[7]
    for p in range(ids.shape[0]):
        for k in range(whole_k if p < whole_p else 0, others.shape[0]):
            out[p, k] = rows_dot(other_rows, others[k], unit_rows, ids[p])

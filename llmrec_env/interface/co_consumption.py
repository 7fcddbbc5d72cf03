"""Co-consumption factors: item factors in which items consumed by the same users are close."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from llmrec_env import portable_math
from llmrec_env.interface.history import FACTOR_DIM

_Floats = npt.NDArray[np.float64]

_SPARE = 32  # directions iterated beyond those wanted: they speed up convergence
_ITERATIONS = 12
_NO_VARIANCE = 1e-9  # eigenvalues below this share of the largest are rounding
_GRID_BITS = 30  # sums of a million numbers up to 1 are exact


def co_consumption_factors(
    users: npt.NDArray[np.int64], items: npt.NDArray[np.int64], num_items: int
) -> npt.NDArray[np.float32]:
    """Returns item factors, the same bits on every machine.

    They are found by subspace iteration from a fixed start.

    Args:
        users: user of each satisfied consumption in the training logs, (m,).
        items: its item, (m,).
        num_items: rows of the result.

    Returns:
        Unit rows, zero for items never consumed, (num_items, 16): the leading right singular
        vectors times singular values of the consumption matrix, entries divided by the roots of
        the frequencies of user and item, plus the mean frequency. Without that addition (Qin and
        Rohe, NIPS 2013) a user and an item that share nothing with others would lead.
    """
    factors = np.zeros((num_items, FACTOR_DIM), np.float32)
    num_users = int(users.max()) + 1 if len(users) else 0
    rank = min(FACTOR_DIM, num_users - 1, num_items - 1)
    if len(users) == 0 or rank < 1:
        return factors
    shape = (num_users, num_items)
    matrix = sparse.coo_matrix((np.ones(len(users)), (users, items)), shape=shape).tocsr()
    rows = _inverse_roots(np.bincount(users, minlength=num_users))
    columns = _inverse_roots(np.bincount(items, minlength=num_items))
    width = min(rank + _SPARE, *shape)
    basis = np.random.default_rng(0).random((num_items, width)) - 0.5
    for _ in range(_ITERATIONS):
        basis = _orthonormal(basis)
        image = _times(matrix, columns[:, None] * basis) * rows[:, None]
        basis = _times(matrix.T, rows[:, None] * image) * columns[:, None]
    basis = _orthonormal(basis)
    image = _times(matrix, columns[:, None] * basis) * rows[:, None]
    squares, rotation = portable_math.eigenvectors(portable_math.gram(image))
    found = int((squares[:rank] > _NO_VARIANCE * squares[0]).sum())
    right = portable_math.products(basis, rotation[:, :found].T)
    factors[:, :found] = portable_math.unit_rows(right * np.sqrt(squares[:found]))
    factors[columns == 0.0] = 0.0
    return factors


def _inverse_roots(counts: npt.NDArray[np.int64]) -> _Floats:
    """1 / sqrt(count + mean count), and 0 for a count of 0; the mean is of the others."""
    occurring = counts > 0
    return np.where(occurring, 1.0 / np.sqrt(counts + counts.sum() / occurring.sum()), 0.0)


def _times(matrix: Any, columns: _Floats) -> _Floats:
    """The product of a matrix of small whole numbers with columns of entries up to 1."""
    return matrix @ portable_math.on_grid(columns, _GRID_BITS)


def _orthonormal(columns: _Floats) -> _Floats:
    """An orthonormal basis, to about 1e-5, of what the columns (n, k) span, (n, k or fewer)."""
    columns = portable_math.unit_rows(columns.T).T
    squares, rotation = portable_math.eigenvectors(portable_math.gram(columns))
    rotation = rotation[:, squares > _NO_VARIANCE * squares[0]]
    basis = portable_math.products(columns, rotation.T)
    return portable_math.unit_rows(basis.T).T

"""Arithmetic with the same bits on every machine: exact sums, and functions without libm.

A library sums in an order of its own for each processor, and its exponentials differ in their last
bits. But sums of multiples of one power of two are exact, in whatever order, as long as they fit
into the 53 bits of a float64. So numbers are put on a grid before they are multiplied and summed.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from llmrec_env.simulation.compilation import kernel

Floats = npt.NDArray[np.float64]

_BLOCK = 4096  # rows worked on at once
_SWEEPS = 40  # of Jacobi's method; ten are enough
_DIGITS = decimal.Context(prec=30)  # arithmetic in software


def on_grid(values: npt.ArrayLike, bits: int) -> Floats:
    """Returns the values rounded to multiples of 2 ** -bits."""
    return np.rint(np.asarray(values, np.float64) * 2.0**bits) * 2.0**-bits


def products(rows: npt.ArrayLike, others: npt.ArrayLike) -> Floats:
    """Returns the inner products of rows (n, d) and (m, d) of length 1 or less, (n, m)."""
    return on_grid(rows, 24) @ on_grid(others, 24).T  # at most 1, multiples of 2 ** -48


def scaled(rows: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Returns rows (n, D) divided by a power of two each, so that the largest entry is .5 to 1.

    Also the exponents of these powers, (n,).
    """
    matrix = np.asarray(rows, np.float64)
    exponents = np.frexp(np.abs(matrix).max(axis=1, initial=0.0))[1]
    return np.ldexp(matrix, -exponents[:, None]), exponents


def unit_rows(rows: npt.ArrayLike) -> Floats:
    """Returns rows (n, D) scaled to length 1; rows of zeros stay."""
    matrix, _ = scaled(rows)
    length = lengths(matrix)
    return matrix / np.where(length > 0.0, length, 1.0)[:, None]


def lengths(rows: npt.ArrayLike) -> Floats:
    """Returns the lengths of rows (n, D), (n,)."""
    matrix, exponents = scaled(rows)
    squares = (on_grid(matrix, _bits_for(matrix.shape[1])) ** 2).sum(axis=1)
    return np.ldexp(np.sqrt(squares), exponents)


def mean(values: npt.ArrayLike) -> Floats:
    """Returns the mean over the first axis of numbers that are not much above 1, up to 2 ** 22."""
    return on_grid(values, 30).sum(axis=0) / len(np.asarray(values))


def gram(rows: npt.ArrayLike) -> Floats:
    """Returns the inner products of the columns of rows (n, D), (D, D)."""
    matrix = np.asarray(rows, np.float64)
    exponent = np.frexp(np.abs(matrix).max(initial=0.0))[1]
    bits, total = _bits_for(len(matrix)), np.zeros((matrix.shape[1], matrix.shape[1]))
    for start in range(0, len(matrix), _BLOCK):  # a block at a time: bounds memory
        block = on_grid(np.ldexp(matrix[start : start + _BLOCK], -exponent), bits)
        total += block.T @ block
    return np.ldexp(total, 2 * exponent)


def _bits_for(count: int) -> int:
    """Bits of a grid on which the inner product of `count` numbers up to 1 is exact."""
    return (52 - math.ceil(math.log2(max(count, 1)))) // 2


def eigenvectors(symmetric: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Returns the eigenvalues of a symmetric matrix (D, D), falling, and eigenvectors as columns.

    The largest entry of an eigenvector is positive.
    """
    matrix = np.array(symmetric, np.float64, order="C")
    rows = np.eye(len(matrix))
    _diagonalise(matrix, rows)
    order = np.argsort(-np.diag(matrix), kind="stable")
    return np.diag(matrix)[order], np.ascontiguousarray(oriented(rows[order].T))


def oriented(columns: Floats) -> Floats:
    """Returns eigenvectors, as columns, whose sign is arbitrary, with a positive largest entry."""
    largest = np.argmax(np.abs(columns), axis=0)
    return columns * np.sign(columns[largest, np.arange(columns.shape[1])])


@kernel
def _diagonalise(matrix, rows):
    """Makes a symmetric matrix diagonal by Jacobi's rotations; `rows` become its eigenvectors."""
    size = matrix.shape[0]
    for _ in range(_SWEEPS):
        largest = rest = 0.0
        for p in range(size):
            largest = max(largest, abs(matrix[p, p]))
            for q in range(p):
                rest = max(rest, abs(matrix[p, q]))
        if rest <= 1e-17 * largest:
            return
        for p in range(size):
            for q in range(p + 1, size):
                _rotate(matrix, rows, p, q)


@kernel
def _rotate(matrix, rows, p, q):
    """Turns axes p and q so that entry (p, q) becomes 0."""
    entry = matrix[p, q]
    if entry == 0.0:
        return
    ratio = (matrix[q, q] - matrix[p, p]) / (2.0 * entry)
    tangent = 1.0 / (abs(ratio) + math.sqrt(ratio * ratio + 1.0))
    if ratio < 0.0:
        tangent = -tangent
    cosine = 1.0 / math.sqrt(tangent * tangent + 1.0)
    sine = tangent * cosine
    for j in range(matrix.shape[0]):
        one, two = matrix[p, j], matrix[q, j]
        matrix[p, j], matrix[q, j] = cosine * one - sine * two, sine * one + cosine * two
        one, two = rows[p, j], rows[q, j]
        rows[p, j], rows[q, j] = cosine * one - sine * two, sine * one + cosine * two
    for j in range(matrix.shape[0]):
        one, two = matrix[j, p], matrix[j, q]
        matrix[j, p], matrix[j, q] = cosine * one - sine * two, sine * one + cosine * two
    matrix[p, q] = matrix[q, p] = 0.0


def exp(values: npt.ArrayLike) -> Floats:
    """Returns e to the power of each value, for values from -100 to 100."""
    small = np.asarray(values, np.float64) / 1024.0
    result = np.ones_like(small)
    for order in range(12, 0, -1):
        result = 1.0 + result * small / order
    for _ in range(10):
        result = result * result
    return result


def log1p(counts: npt.ArrayLike) -> Floats:
    """Returns ln(1 + n) of whole numbers n."""
    different, index = np.unique(np.asarray(counts, np.int64), return_inverse=True)
    logarithms = [float(_DIGITS.ln(decimal.Decimal(int(n) + 1))) for n in different]
    return np.array(logarithms)[index]


def power(bases: Iterable[int], exponent: float) -> Floats:
    """Returns positive whole numbers raised to a power."""
    exact = decimal.Decimal(exponent)
    return np.array([float(_DIGITS.power(decimal.Decimal(int(base)), exact)) for base in bases])

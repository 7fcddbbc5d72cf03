"""Arithmetic with the same bits on every machine."""

from __future__ import annotations

import numpy as np
import pytest

from llmrec_env import portable_math


@pytest.fixture
def rows() -> np.ndarray:
    return portable_math.unit_rows(np.random.default_rng(0).normal(size=(300, 70)))


def test_sums_do_not_depend_on_their_order(rows):
    order = np.random.default_rng(1).permutation(70)
    expected = portable_math.products(rows, rows)
    assert np.array_equal(portable_math.products(rows[:, order], rows[:, order]), expected)
    one_by_one = [
        [float(sum((a * b).tolist())) for b in portable_math.on_grid(rows[:5], 24)]
        for a in portable_math.on_grid(rows[:5], 24)
    ]
    assert np.array_equal(expected[:5, :5], one_by_one)
    assert np.array_equal(portable_math.mean(rows[::-1]), portable_math.mean(rows))
    assert np.array_equal(portable_math.gram(rows[::-1]), portable_math.gram(rows))
    assert not np.array_equal(rows[:, order] @ rows[:, order].T, rows @ rows.T)  # the test can fail


def test_results_are_those_of_numpy(rows):
    np.testing.assert_allclose(portable_math.products(rows, rows), rows @ rows.T, atol=1e-6)
    np.testing.assert_allclose(portable_math.mean(rows), rows.mean(0), atol=1e-9)
    np.testing.assert_allclose(portable_math.gram(rows * 50), rows.T @ rows * 2500, atol=1e-2)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)


def test_rows_of_any_length_become_unit_rows(rows):
    lengths = 2.0 ** np.random.default_rng(2).integers(-60, 60, (300, 1))
    assert np.array_equal(portable_math.unit_rows(rows * lengths), portable_math.unit_rows(rows))
    assert not portable_math.unit_rows(np.zeros((2, 5))).any()
    assert portable_math.unit_rows(np.zeros((0, 5))).shape == (0, 5)


@pytest.mark.parametrize("size", [1, 2, 33])
def test_eigenvectors_are_those_of_lapack(size):
    half = np.random.default_rng(3).normal(size=(size, size))
    symmetric = half @ half.T
    values, vectors = portable_math.eigenvectors(symmetric)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(symmetric)[::-1], atol=1e-11)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(size), atol=1e-12)
    np.testing.assert_allclose(symmetric @ vectors, vectors * values, atol=1e-11)
    assert (vectors.max(0) >= -vectors.min(0)).all()


def test_eigenvectors_of_equal_eigenvalues_and_of_zeros():
    for symmetric in (np.zeros((4, 4)), np.ones((4, 4)), np.eye(4)):
        values, vectors = portable_math.eigenvectors(symmetric)
        np.testing.assert_allclose(vectors * values @ vectors.T, symmetric, atol=1e-15)


def test_functions_are_those_of_numpy():
    values = np.linspace(-100, 100, 3001)
    np.testing.assert_allclose(portable_math.exp(values), np.exp(values), rtol=1e-12)
    counts = np.array([0, 7, 3, 7, 100_000])
    np.testing.assert_allclose(portable_math.log1p(counts), np.log1p(counts), rtol=1e-15)
    assert portable_math.log1p([]).shape == (0,)
    ranks = np.arange(1, 33)
    for exponent in (-1.1, -0.5, 0.0, 2.0):
        expected = ranks.astype(float) ** exponent
        np.testing.assert_allclose(portable_math.power(ranks, exponent), expected, rtol=1e-15)

from __future__ import annotations

import numpy as np
import pytest
from numba.core.errors import TypingError

from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.inner_products import (
    block5x3,
    block8x2,
    cosines,
    dot,
    inverse_norm,
    products_with,
    row_dot,
)


def defined(a: np.ndarray, b: np.ndarray) -> np.float32:
    """16 running sums, each step rounded once, then neighbours added to neighbours."""
    sums = np.zeros(16, np.float32)
    for start in range(0, len(a), 16):
        x, y = a[start : start + 16], b[start : start + 16]
        exact = x.astype(np.longdouble) * y.astype(np.longdouble) + sums[: len(x)]
        sums[: len(x)] = exact.astype(np.float32)
    while len(sums) > 1:
        sums = sums[0::2] + sums[1::2]
    return sums[0]


@kernel
def blocks(left, right, by_five, by_eight):
    d, ids, others = left.shape[1], np.arange(left.shape[0]), np.arange(right.shape[0])
    for k in range(0, right.shape[0], 3):
        for p in range(0, left.shape[0], 5):
            block5x3(left, (ids, p), right, (others, k), d, by_five, k, p)
    vectors = (left[0], left[1], left[2], left[3], left[4], left[5], left[6], left[7])
    block8x2(vectors, None, right, (3, 1), d, by_eight, 0, 0)


@pytest.mark.parametrize("d", [1, 8, 15, 16, 17, 40, 128, 384])
@pytest.mark.parametrize("strided", [False, True])
def test_a_product_has_the_bits_of_its_definition_in_every_block(d, strided):
    rng = np.random.default_rng(d)
    left, right = rng.normal(size=(2, 11, d + 3)).astype(np.float32)
    left, right = (x[:, :d] if strided else np.ascontiguousarray(x[:, :d]) for x in (left, right))
    right = right[:7]
    expected = np.array([[defined(a, b) for a in left] for b in right])
    by_five, by_eight = np.full((7, 15), 9, np.float32), np.full((2, 8), 9, np.float32)
    blocks(left, right, by_five, by_eight)
    np.testing.assert_array_equal(by_five[:, :11], expected)
    np.testing.assert_array_equal(by_eight, expected[[3, 1], :8])
    out = np.empty((7, 11), np.float32)
    cosines(np.arange(7), right, np.arange(11), left, out)
    np.testing.assert_array_equal(out, expected)
    assert dot(left[2], right[1]) == row_dot(left[2], right, 1) == expected[1, 2]


@pytest.mark.parametrize("count", [1, 5, 8, 9, 16, 17, 25, 100])
def test_products_with_many_rows_write_no_further_than_whole_eights(count):
    rng = np.random.default_rng(count)
    rows, vector = rng.normal(size=(30, 20)).astype(np.float32), np.ones(17, np.float32)
    ids, room = rng.integers(0, 30, count), (count + 7) // 8 * 8
    out = np.full(room + 8, 9, np.float32)
    products_with(vector, rows, ids, out)
    np.testing.assert_array_equal(out[:count], [defined(rows[i, :17], vector) for i in ids])
    assert (out[room:] == 9).all()


def test_numbers_that_do_not_lie_side_by_side_are_refused():
    column = np.ones((5, 2), np.float32)[:, 0]
    with pytest.raises(ValueError, match="ascontiguousarray"):
        dot(column, np.ones(5, np.float32))
    with pytest.raises(TypingError, match="float32"):
        dot(np.ones(5), np.ones(5))


def test_inverse_norm_of_nothing_is_zero():
    assert inverse_norm(np.zeros(20, np.float32)) == 0.0
    assert inverse_norm(np.full(16, 0.5, np.float32)) == 0.5

"""Co-consumption factors of items."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import svds

from llmrec_env.interface.co_consumption import co_consumption_factors


def test_co_consumption_puts_items_of_the_same_users_together():
    """Ten users like items 0 to 4, ten others 5 to 9; nobody likes item 10."""
    users = np.repeat(np.arange(20), 4)
    items = np.concatenate([(np.arange(4) + u) % 5 + (5 if u >= 10 else 0) for u in range(20)])
    factors = co_consumption_factors(users, items, 11)
    cosines = factors @ factors.T
    assert factors.shape == (11, 16) and factors.dtype == np.float32
    np.testing.assert_allclose(np.diag(cosines)[:10], 1.0, atol=1e-5)
    assert cosines[:5, :5].min() > cosines[:5, 5:10].max() + 0.2
    assert (factors[10] == 0).all()


def test_co_consumption_without_enough_users_is_zero():
    nothing = np.zeros(0, np.int64)
    assert (co_consumption_factors(nothing, nothing, 5) == 0).all()
    assert (co_consumption_factors(np.zeros(3, np.int64), np.arange(3), 5) == 0).all()


@pytest.fixture(scope="module")
def clicks():
    """Users and items of 16 communities: nine of ten clicks are on items of one's own."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(2000), 8)
    own = 16 * rng.integers(0, 25, len(users)) + users % 16
    return users, np.where(rng.random(len(users)) < 0.9, own, rng.integers(0, 400, len(users)))


def _by_lanczos(users, items):
    """The factors as a library finds them."""
    matrix = sparse.coo_matrix((np.ones(len(users)), (users, items))).tocsr()
    rows, columns = (np.asarray(matrix.sum(axis)).ravel() for axis in (1, 0))
    rows, columns = rows + rows.mean(), columns + columns.mean()
    _, values, right = svds(sparse.diags(rows**-0.5) @ matrix @ sparse.diags(columns**-0.5), k=16)
    raw = (right.T * values)[:, ::-1]
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def test_factors_are_those_of_a_singular_value_decomposition(clicks):
    users, items = clicks
    factors, expected = co_consumption_factors(users, items, 400), _by_lanczos(users, items)
    np.testing.assert_allclose(factors @ factors.T, expected @ expected.T, atol=1e-4)


def test_factors_do_not_depend_on_the_order_of_the_logs(clicks):
    users, items = clicks
    order = np.random.default_rng(1).permutation(len(users))
    factors = co_consumption_factors(users, items, 400)
    assert np.array_equal(co_consumption_factors(users[order], items[order], 400), factors)
    np.testing.assert_allclose(np.linalg.norm(factors, axis=1), 1.0, atol=1e-5)


def test_pairs_that_share_nothing_with_others_do_not_lead(clicks):
    """Thirty users of one item each, which nobody else consumed."""
    users, items = clicks
    alone = np.arange(30)
    factors = co_consumption_factors(
        np.append(users, 2000 + alone), np.append(items, 400 + alone), 430
    )[:400]
    cosines, community = factors @ factors.T, np.arange(400) % 16
    same = community[:, None] == community
    assert cosines[same].mean() > cosines[~same].mean() + 0.5

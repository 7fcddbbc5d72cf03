"""What rankers share: scores of candidates, and the best of them."""

from __future__ import annotations

import numpy as np
import pytest

from agents.rankers.ranker import UNAVAILABLE, best_slots, look_up, pool, score, standardise
from llmrec_env.interface.history import EMPTY, QUERY, SATISFIED, UNSATISFIED

N = 12


@pytest.fixture
def events():
    """Histories, newest first: items, kinds, item vectors, phrase vectors."""
    rng = np.random.default_rng(0)
    items = rng.integers(0, 30, (N, 128)).astype(np.int32)
    kinds = rng.choice([UNSATISFIED, SATISFIED, QUERY], (N, 128)).astype(np.int32)
    for i in range(N):  # session i has 11 i events; the first has none
        items[i, 11 * i :] = -1
        kinds[i, 11 * i :] = EMPTY
    vectors = rng.normal(size=(2, 30, 8)).astype(np.float32)
    return items, kinds, vectors[0], vectors[1]


@pytest.mark.parametrize("decay", [1.0, 0.85])
def test_pool_is_the_weighted_mean_direction_of_the_past(events, decay):
    items, kinds, vectors, phrases = events
    weights = np.array([0.15, 1.0, 2.0], np.float32)
    pooled = pool(items, kinds, weights, decay, vectors, phrases)
    assert pooled.dtype == np.float32 and (pooled[0] == 0).all()
    for i in range(1, N):
        total, consumed_since = np.zeros(8), 0
        for item, kind in zip(items[i, : 11 * i], kinds[i], strict=False):
            y = phrases[item] if kind == QUERY else vectors[item]
            total += weights[kind] * decay**consumed_since * y
            consumed_since += kind != QUERY
        np.testing.assert_allclose(pooled[i], total / np.linalg.norm(total), atol=1e-5)


def test_score_is_the_inner_product_and_very_low_for_gaps():
    rng = np.random.default_rng(1)
    v, vectors = rng.normal(size=(4, 8)).astype(np.float32), rng.normal(size=(30, 8)).astype("f4")
    candidates = rng.integers(-1, 30, (4, 20)).astype(np.int32)
    expected = np.einsum("nd,ncd->nc", v, vectors[candidates])
    expected[candidates < 0] = UNAVAILABLE
    np.testing.assert_allclose(score(v, candidates, vectors), expected, rtol=1e-4, atol=1e-5)


def test_look_up_and_standardise_leave_gaps_out():
    values, candidates = np.float32([1, 2, 3, 6]), np.array([[0, 3, -1], [1, -1, 2]], np.int32)
    looked_up = look_up(values, candidates)
    np.testing.assert_array_equal(looked_up, np.float32([[1, 6, -1e9], [2, -1e9, 3]]))
    standard = standardise(looked_up)
    np.testing.assert_allclose(standard[:, 0], [-1, -1], atol=1e-5)
    assert (standard[looked_up == UNAVAILABLE] == UNAVAILABLE).all()
    assert np.isfinite(standardise(np.full((2, 3), 5, np.float32))).all()


@pytest.mark.parametrize("columns", [5, 20, 2000])
@pytest.mark.parametrize("levels", [1, 3, 10**6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_best_slots_are_the_highest_scores_with_ties_by_item_id(columns, levels, dtype):
    rng = np.random.default_rng(2)
    scores = rng.integers(0, levels, (6, columns)).astype(dtype)
    ids = np.stack([rng.permutation(columns) for _ in range(6)]).astype(np.int32)
    expected = np.lexsort((ids, -scores), axis=1)[:, :5]
    slots = best_slots(scores, ids, 5)
    assert slots.dtype == np.int64
    np.testing.assert_array_equal(slots, expected)


def test_scores_that_are_no_numbers_rank_last():
    scores = np.float32([[np.nan, 1, np.nan, 2, -5], [np.nan] * 5])
    ids = np.array([[9, 8, 7, 6, 5], [9, 8, 7, 6, 5]], np.int32)
    np.testing.assert_array_equal(best_slots(scores, ids, 4), [[3, 1, 4, 2], [4, 3, 2, 1]])

from __future__ import annotations

import numpy as np
import pytest

from llmrec_env.simulation.ordering import best_of, kth_highest


@pytest.mark.parametrize(("n", "count"), [(10, 4), (100, 100), (512, 20), (513, 20), (3000, 3000)])
@pytest.mark.parametrize("values", [2, 40, 10**6])
def test_best_come_first_and_ties_go_by_item_id_whatever_their_order(n, count, values):
    rng = np.random.default_rng(n + values)
    scores = rng.integers(0, values, n).astype(np.float32)
    ids = rng.permutation(2 * n)[:n].astype(np.int32)
    expected = ids[np.lexsort((ids, -scores))[:count]]
    np.testing.assert_array_equal(ids[best_of(scores, ids, count)], expected)
    moved = rng.permutation(n)
    np.testing.assert_array_equal(ids[moved][best_of(scores[moved], ids[moved], count)], expected)


def test_items_of_no_score_come_last():
    scores = np.array([-np.inf, 0.0, -np.inf, -0.0])
    assert best_of(scores, np.array([4, 3, 2, 1], np.int32), 4).tolist() == [3, 1, 2, 0]


@pytest.mark.parametrize("values", [1, 3, 1000])
def test_the_kth_highest_is_that_of_a_sort(values):
    numbers = np.random.default_rng(values).integers(0, values, 300).astype(np.float32)
    before, expected = numbers.copy(), np.sort(numbers)[::-1]
    assert [kth_highest(numbers, k) for k in range(1, 301)] == expected.tolist()
    np.testing.assert_array_equal(numbers, before)

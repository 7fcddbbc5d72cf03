"""Slates by brute force, and their ties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from agents.slates import SLATES, gains, hedged_slates, likeness_to

C, K = 7, 3
EVEN = np.ones(K)


def _case(seed, n=5):
    rng = np.random.default_rng(seed)
    odds, value = np.exp(rng.normal(size=(n, C))), rng.random((n, C))
    vectors = rng.normal(size=(C, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return odds, value, np.tile(np.arange(C, dtype=np.int32), (n, 1)), vectors


def _worth(odds, value, slate):
    slate = list(slate)
    return (odds[slate] * value[slate]).sum() / (1.0 + odds[slate].sum())


@pytest.mark.parametrize("seed", range(4))
def test_the_exact_slate_is_the_best_of_all(seed):
    odds, value, candidates, vectors = _case(seed)
    slates = SLATES["exact"](odds, value, EVEN, candidates, vectors, 0.0)
    for i, slate in enumerate(slates):
        best = max(_worth(odds[i], value[i], x) for x in itertools.combinations(range(C), K))
        assert _worth(odds[i], value[i], slate) == pytest.approx(best)


def test_greedy_adds_what_raises_the_slate_most_and_top_k_what_is_largest_alone():
    odds, value, candidates, vectors = _case(9)
    greedy = SLATES["greedy"](odds, value, EVEN, candidates, vectors, 0.0)
    top = SLATES["top-k"](odds, value, EVEN, candidates, vectors, 0.0)
    for i in range(len(odds)):
        chosen = []
        for _ in range(K):
            rest = [c for c in range(C) if c not in chosen]
            chosen.append(max(rest, key=lambda c: _worth(odds[i], value[i], [*chosen, c])))
        assert greedy[i].tolist() == chosen
        assert top[i].tolist() == np.argsort(-odds[i] * value[i])[:K].tolist()


@pytest.mark.parametrize("way", SLATES)
def test_nothing_is_shown_twice_and_nothing_that_is_not_there(way):
    odds, value, candidates, vectors = _case(3, n=20)
    odds[:, 2] = 0.0
    slates = SLATES[way](odds, value, EVEN, candidates, vectors, 0.0)
    assert all(len(set(slate)) == K and 2 not in slate for slate in slates.tolist())


def test_a_penalty_for_likeness_spreads_slates():
    odds, value, candidates, vectors = _case(5, n=40)
    vectors[1] = vectors[0]
    value[:, :2], odds[:, :2] = 1.0, 9.0
    alike = SLATES["greedy"](odds, value, EVEN, candidates, vectors, 0.0)
    spread = SLATES["greedy"](odds, value, EVEN, candidates, vectors, 5.0)
    both = [({0, 1} <= set(slate)) for slate in alike.tolist()]
    assert all(both) and not any({0, 1} <= set(slate) for slate in spread.tolist())


@pytest.mark.parametrize("kind", ["greedy", "top-k"])
def test_slates_break_ties_by_item_id(kind):
    ids = np.array([[7, 3, 9, 1, 5]], np.int32)
    odds, value = np.ones((1, 5)), np.ones((1, 5))
    slate = SLATES[kind](odds, value, np.ones(3), ids, np.zeros((10, 2), np.float32), 0.0)
    np.testing.assert_array_equal(ids[0, slate[0]], [1, 3, 5])


def _hedged(odds, value, ids, slots=K):
    slates = np.empty((len(odds), slots), np.int64)
    hedged_slates(odds, value, np.ones((odds.shape[1], slots)), ids, slates)
    return slates


def test_hedged_over_one_hypothesis_is_greedy_and_over_equal_ones_too():
    odds, value, candidates, vectors = _case(4, n=20)
    greedy = SLATES["greedy"](odds, value, EVEN, candidates, vectors, 0.0)
    for times in (1, 3):
        own, worth = (np.repeat(x[:, None], times, axis=1) for x in (odds, value))
        np.testing.assert_array_equal(_hedged(own, worth, candidates), greedy)


def test_hedged_has_something_for_each_hypothesis_where_the_mean_has_not():
    odds = np.full((1, 2, 6), 0.01)
    odds[0, 0, :3] = 9.0, 8.0, 7.0  # the first hypothesis is also the likelier one to choose
    odds[0, 1, 3:] = 3.0, 2.0, 1.0
    ids, value = np.arange(6, dtype=np.int32)[None], np.ones((1, 2, 6))
    assert set(_hedged(odds, value, ids, 2)[0]) == {0, 3}
    mean = SLATES["greedy"](
        odds.mean(1), value[:, 0], np.ones(2), ids, np.zeros((6, 2), np.float32), 0.0
    )
    assert set(mean[0]) == {0, 1}


def test_hedged_slates_break_ties_by_item_id_and_leave_out_what_is_not_there():
    ids = np.array([[7, 3, -1, 1, 5]], np.int32)
    slate = _hedged(np.ones((1, 2, 5)), np.ones((1, 2, 5)), ids)
    np.testing.assert_array_equal(ids[0, slate[0]], [1, 3, 5])


@pytest.mark.parametrize("way", SLATES)
def test_what_gains_most_is_the_slate_in_its_order(way):
    odds, value, candidates, vectors = _case(4, n=50)
    odds[:, 2] = 0.0
    slates = SLATES[way](odds, value, EVEN, candidates, vectors, 0.0)
    gain = gains(odds, value, slates, 0.0).gain
    np.testing.assert_array_equal(np.argsort(-gain, axis=1)[:, :K], slates)
    assert (gain[:, 2] == -np.inf).all()


def test_a_gain_is_the_slope_of_the_slates_value_by_one_more_item():
    odds, value, candidates, vectors = _case(6)
    slates = SLATES["exact"](odds, value, EVEN, candidates, vectors, 0.0)
    slopes = gains(odds, value, slates, 0.0)
    gain, price = slopes.gain, np.random.default_rng(1).random(odds.shape)
    for i, slate in enumerate(slates):
        above, below = (odds[i, slate] * value[i, slate]).sum(), 1.0 + odds[i, slate].sum()
        for c in set(range(C)) - set(slate.tolist()):
            little = 1e-6 * odds[i, c]
            slope = ((above + little * value[i, c]) / (below + little) - above / below) / 1e-6
            assert gain[i, c] == pytest.approx(slope, abs=1e-5)
        rest = price[i] - (odds[i, slate] * price[i, slate]).sum() / below
        np.testing.assert_allclose(slopes.of(price)[i], odds[i] / below * rest)


def test_likeness_is_to_the_nearest_of_the_others():
    _, _, candidates, vectors = _case(7, n=1)
    likeness = likeness_to(np.array([[0, 1, 2]]), vectors[candidates])
    cosines = vectors @ vectors.T
    np.testing.assert_allclose(likeness[0, 0], max(cosines[0, 1], cosines[0, 2]), rtol=1e-5)
    np.testing.assert_allclose(likeness[0, 5], cosines[5, :3].max(), rtol=1e-5)

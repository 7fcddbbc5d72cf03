"""Metrics against cases done by hand, brute force, and changes that must not matter."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec_env import metrics

few = settings(max_examples=40, deadline=None)
YES = np.ones((2, 3), bool)
rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def test_diversity_by_hand():
    east, north = [1.0, 0.0], [0.0, 1.0]
    slates = [[east, east], [east, north], [east, [-1.0, 0.0]]]
    np.testing.assert_allclose(metrics.intra_list_diversity(slates), [0, 1, 2], atol=1e-12)
    assert metrics.intra_list_diversity([east, east, north]) == pytest.approx(2 / 3)
    np.testing.assert_array_equal(metrics.intra_list_diversity(np.ones((3, 1, 4))), [np.nan] * 3)
    assert np.isnan(metrics.intra_list_diversity([[1.0, 0.0], [0.0, 0.0]]))


@few
@given(rngs, st.integers(2, 6))
def test_diversity_is_the_mean_over_pairs_whatever_order_and_lengths(rng, k):
    slates = rng.normal(size=(3, k, 5))
    units = slates / np.linalg.norm(slates, axis=-1, keepdims=True)
    pairs = list(itertools.combinations(range(k), 2))
    brute = np.mean([1 - np.vecdot(units[:, i], units[:, j]) for i, j in pairs], axis=0)
    result = metrics.intra_list_diversity(slates)
    np.testing.assert_allclose(result, brute, atol=1e-12)
    assert (result >= 0).all() and (result <= k / (k - 1) + 1e-12).all()
    other = slates[:, rng.permutation(k)] * 10.0 ** rng.uniform(-150, 150, (3, k, 1))
    np.testing.assert_allclose(metrics.intra_list_diversity(other), result, atol=1e-12)


def test_effective_topics_by_hand():
    topics = [[4, 4, 4, -1], [0, 7, 0, 7], [-1, -1, -1, -1], [1, 1, 1, 2]]
    uneven = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    np.testing.assert_allclose(metrics.effective_topics(topics), [1, 2, np.nan, uneven])
    assert np.isnan(metrics.effective_topics(np.empty((2, 0), np.int64))).all()
    assert metrics.effective_topics(np.empty((0, 3), np.int64)).shape == (0,)


@few
@given(rngs)
def test_effective_topics_depend_on_counts_alone(rng):
    topics = rng.integers(-1, 4, (5, 8))
    result = metrics.effective_topics(topics)
    names = np.append(rng.permutation(100)[:4], -1)  # the last is reached by -1
    np.testing.assert_allclose(metrics.effective_topics(names[topics]), result)
    np.testing.assert_allclose(metrics.effective_topics(rng.permuted(topics, axis=1)), result)
    np.testing.assert_allclose(metrics.effective_topics(np.tile(topics, 3)), result)
    most = [max(len(set(row) - {-1}), 1) for row in topics.tolist()]
    assert (np.isnan(result) | ((result > 1 - 1e-9) & (result < np.array(most) + 1e-9))).all()


def test_exposure_and_coverage_by_hand():
    items = [[0, 2], [2, -1]]
    np.testing.assert_array_equal(metrics.exposure(items, 4), [1, 0, 2, 0])
    assert metrics.coverage(items, 4) == 0.5
    assert metrics.coverage([], 4) == metrics.coverage([-1], 1) == 0.0
    assert metrics.coverage([0], 1) == 1.0


def test_gini_by_hand():
    for counts, value in (([5], 0), ([2, 2, 2], 0), ([0, 0, 0, 7], 0.75), ([1, 2, 3], 2 / 9)):
        assert metrics.gini(counts) == pytest.approx(value, abs=1e-12)
    assert np.isnan(metrics.gini([0, 0]))


@few
@given(st.lists(st.integers(0, 1000), max_size=12), rngs)
def test_gini_is_half_the_relative_mean_difference(counts, rng):
    x = np.array([*counts, 1.0])
    brute = np.abs(x[:, None] - x).mean() / (2 * x.mean())
    for other in (x, rng.permutation(x), 3e5 * x, np.repeat(x, 2)):
        assert metrics.gini(other) == pytest.approx(brute, abs=1e-12)


def test_novelty_by_hand():
    popularity = [0.5, 0.25, 1.0, 0.0]
    items = [[0, 1], [1, -1], [2, 2], [-1, -1]]
    np.testing.assert_allclose(metrics.novelty(items, popularity), [1.5, 2, 0, np.nan])
    assert np.isnan(metrics.novelty([], popularity))


def test_angles_by_hand():
    u = [[1.0, 0.0]] * 5
    v = [[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    for tracking_error in (metrics.tracking_error, metrics.preference_shift):
        np.testing.assert_allclose(tracking_error(u, v), [0, 90, 180, 45, np.nan], atol=1e-12)


@pytest.mark.parametrize("radians", [1e-9, 1e-4, 1.0, np.pi - 1e-9])
def test_small_and_straight_angles_are_exact(radians):
    result = metrics.tracking_error([1.0, 0.0], [math.cos(radians), math.sin(radians)])
    assert np.radians(result) == pytest.approx(radians, rel=1e-6)


@few
@given(rngs)
def test_an_angle_is_a_distance_of_directions(rng):
    u, v, w = rng.normal(size=(3, 4, 6))
    tracking_error = metrics.tracking_error(u, v)
    cosine = np.vecdot(u, v) / (np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1))
    np.testing.assert_allclose(np.cos(np.radians(tracking_error)), cosine, atol=1e-12)
    np.testing.assert_allclose(metrics.tracking_error(v * 1e200, u * 1e-200), tracking_error)
    np.testing.assert_allclose(metrics.tracking_error(u, -v), 180 - tracking_error)
    detour = metrics.tracking_error(u, w) + metrics.tracking_error(w, v)
    assert (tracking_error <= detour + 1e-9).all()


def test_discovered_and_lost_by_hand():
    start = [[1, 2, -1], [5, -1, -1], [-1, -1, -1], [3, 3, 4]]
    end = [[2, 7, 9, -1], [5, -1, -1, -1], [8, 8, -1, -1], [-1, -1, -1, -1]]
    change = metrics.discovered_and_lost(start, end)
    np.testing.assert_array_equal(change.discovered, [2, 0, 1, 0])
    np.testing.assert_array_equal(change.lost, [1, 0, 0, 2])


@few
@given(st.lists(st.integers(-1, 6), max_size=6), st.lists(st.integers(-1, 6), max_size=6))
def test_discovered_and_lost_are_set_differences(start, end):
    before, after = set(start) - {-1}, set(end) - {-1}
    change = metrics.discovered_and_lost(start, end)
    assert (change.discovered, change.lost) == (len(after - before), len(before - after))
    back = metrics.discovered_and_lost(end, start)
    assert (back.lost, back.discovered) == change


def test_adaptation_by_hand():
    reward = [[9, 4, 1, 2, 3], [5, 6, 7, np.nan, np.nan]]  # NaN: after the end, not read
    switched = [[False, True, False, False, True], [True, False, False, True, False]]
    alive = [[True] * 5, [True] * 3 + [False] * 2]
    curve = metrics.adaptation_curve(reward, switched, alive, max_lag=3)
    np.testing.assert_array_equal(curve.counts, [3, 2, 2, 0])
    np.testing.assert_allclose(curve.reward, [(4 + 3 + 5) / 3, (1 + 6) / 2, (2 + 7) / 2, np.nan])
    never = metrics.adaptation_curve(YES, ~YES, YES)
    np.testing.assert_array_equal(never, [np.full(31, np.nan), np.zeros(31)])


@few
@given(rngs, st.integers(0, 12))
def test_adaptation_equals_a_walk_over_each_session(rng, max_lag):
    reward, switched = rng.normal(size=(6, 10)), rng.random((6, 10)) < 0.2
    alive = np.arange(10) < rng.integers(0, 11, (6, 1))
    result: list[list[float]] = [[] for _ in range(max_lag + 1)]
    for user in range(6):
        since = None
        for step in range(10):
            if not alive[user, step]:
                break
            since = 0 if switched[user, step] else None if since is None else since + 1
            if since is not None and since <= max_lag:
                result[since].append(reward[user, step])
    curve = metrics.adaptation_curve(reward, switched, alive, max_lag)
    np.testing.assert_array_equal(curve.counts, [len(rewards) for rewards in result])
    means = [float(np.mean(rewards)) if rewards else np.nan for rewards in result]
    np.testing.assert_allclose(curve.reward, means)


def test_regret_is_paired():
    np.testing.assert_array_equal(metrics.regret([1, 5, 2], [3, 4, 2]), [2, -1, 0])


def test_recall_ceiling_by_hand():
    catalogue, candidates = [[0.1, 0.8, 0.4], [0.0] * 3], [[0.4, 0.1], [0.0] * 2]
    for k, share in ((1, 0.5), (2, 0.5 / 1.2)):
        result = metrics.recall_ceiling(candidates, catalogue, k)
        np.testing.assert_allclose(result, [share, np.nan])
    assert metrics.recall_ceiling(catalogue[0], catalogue[0], k=3) == 1.0


@few
@given(rngs)
def test_recall_ceiling_rises_with_the_candidates_and_ignores_scale(rng):
    catalogue = rng.random((3, 12))
    ceilings = [metrics.recall_ceiling(catalogue[:, :c], catalogue, k=3) for c in range(3, 13)]
    assert (np.diff(ceilings, axis=0) >= 0).all()
    np.testing.assert_array_equal(ceilings[-1], 1.0)
    scaled = metrics.recall_ceiling(7 * rng.permuted(catalogue[:, :5], axis=1), 7 * catalogue, k=3)
    np.testing.assert_allclose(scaled, ceilings[2])


def test_gains_by_hand():
    assert metrics.discounted_gain([3, 2, 4]) == pytest.approx(3 + 2 / math.log2(3) + 2)
    np.testing.assert_allclose(metrics.discounted_gain([[1, 0], [0, 1]]), [1, 1 / math.log2(3)])


def test_ndcg_and_recall_by_hand():
    scores, relevant = [0.1, 0.9, 0.5, 0.3], [1, 0, 1, 0]  # ranks of the relevant: 4 and 2
    second, fourth = 1 / math.log2(3), 1 / math.log2(5)
    assert metrics.ndcg_at_k(scores, relevant, 1) == metrics.recall_at_k(scores, relevant, 1) == 0
    assert metrics.ndcg_at_k(scores, relevant, 2) == pytest.approx(second / (1 + second))
    assert metrics.recall_at_k(scores, relevant, 2) == 0.5
    full = metrics.ndcg_at_k(scores, relevant, 4)
    assert full == pytest.approx((second + fourth) / (1 + second))
    assert metrics.ndcg_at_k(relevant, relevant, 3) == 1.0
    assert metrics.recall_at_k([1.0], [True], 1) == metrics.ndcg_at_k([1.0], [True], 1) == 1.0


def test_relevant_items_that_were_not_scored_count_in_full():
    scores, relevant = [3.0, 2.0, 1.0], [True, False, False]
    assert metrics.recall_at_k(scores, relevant, 2, missing=3) == 0.25
    ideal = 1 + 1 / math.log2(3)  # four are relevant, two fit
    assert metrics.ndcg_at_k(scores, relevant, 2, missing=3) == pytest.approx(1 / ideal)
    rows = metrics.recall_at_k([scores, scores], [relevant, [0, 0, 0]], 1, missing=[0, 2])
    np.testing.assert_array_equal(rows, [1, 0])
    rows = metrics.ndcg_at_k([scores, scores], [relevant, [0, 0, 0]], 1)
    np.testing.assert_array_equal(rows, [1, np.nan])


@few
@given(
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=5),
    *(st.integers(1, 5), st.integers(0, 2)),
)
def test_ties_count_as_the_mean_over_all_orders(items, k, missing):
    k, (scores, relevant) = min(k, len(items)), zip(*items, strict=True)
    total, gains, hits = sum(relevant) + missing, [], []
    for order in itertools.permutations(items):
        listed = [hit for _, hit in sorted(order, key=lambda item: -item[0])]  # stable
        gains.append(sum(hit / math.log2(rank + 2) for rank, hit in enumerate(listed[:k])))
        hits.append(sum(listed[:k]))
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(total, k)))
    ndcg, recall = (np.mean(gains) / ideal, np.mean(hits) / total) if total else (np.nan, np.nan)
    result = metrics.ndcg_at_k(scores, relevant, k, missing)
    assert result == pytest.approx(ndcg, nan_ok=True)
    assert metrics.recall_at_k(scores, relevant, k, missing) == pytest.approx(recall, nan_ok=True)


@few
@given(rngs)
def test_ranking_metrics_see_the_order_of_scores_alone(rng):
    scores = np.round(rng.normal(size=(4, 9)), 1)
    relevant = rng.random((4, 9)) < 0.4
    columns = rng.permutation(9)
    for other, hits in (
        (np.exp(scores) * 5 - 3, relevant),
        (scores[:, columns], relevant[:, columns]),
        (scores, relevant.astype(np.float64)),
    ):
        for metric in (metrics.ndcg_at_k, metrics.recall_at_k):
            np.testing.assert_allclose(metric(other, hits, 4), metric(scores, relevant, 4))
    rows = [metrics.ndcg_at_k(scores[i], relevant[i], 4) for i in range(4)]  # no row sees another
    np.testing.assert_allclose(rows, metrics.ndcg_at_k(scores, relevant, 4))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ndcg_at_k", ([1, 2], [0, 1], 3), r"k=3; pass 1 to 2, the number of items"),
        ("recall_at_k", ([1, 2], [0, 1], 0), r"k=0; pass 1 to 2"),
        ("recall_ceiling", ([1, 2], [1]), r"catalogue \(1,\); pass .* c <= m"),
        ("recall_ceiling", ([-1.0], [1.0, 2.0]), r"candidates holds -1; pass 0 or more"),
        ("recall_at_k", ([np.nan, 1.0], [0, 1], 1), r"scores \(2,\) is empty or holds NaN"),
        ("recall_at_k", ([1.0, 2.0], [0, 2], 1), r"relevant \(2,\) must be 0 or 1"),
        ("recall_at_k", ([1.0, 2.0], [1], 1), r"relevant \(1,\) must be 0 or 1 for each of \(2,\)"),
        ("ndcg_at_k", ([1, 2], [0, 1], 1, -1), r"missing holds -1; pass 0 or more"),
        ("coverage", ([4], 4), r"items holds 4; pass -1 to 3"),
        ("coverage", ([0], 0), r"num_items=0; pass 1 or more"),
        ("exposure", ([0.5], 4), r"items holds float64; pass integers"),
        ("gini", ([1, -1],), r"counts holds -1; pass 0 or more"),
        ("gini", ([],), r"counts has shape \(0,\); pass finite numbers"),
        ("novelty", ([1], [0.5, 0.0]), r"popularity is 0; pass \(0, 1\]"),
        ("effective_topics", ([1, 2],), r"topics has shape \(2,\); pass one row a user"),
        ("intra_list_diversity", ([1, 2],), r"slate has shape \(2,\)"),
        ("tracking_error", ([1, 0], [1, 0, 0]), r"u and v have shapes \(2,\) and \(3,\)"),
        ("preference_shift", ([1, np.inf], [1, 0]), r"u_end has .* finite"),
        ("regret", ([1, 2], [1]), r"returns and oracle_returns have shapes"),
        ("discovered_and_lost", ([[1]], [[1], [2]]), r"end \(2, 1\); pass one row a user"),
        ("adaptation_curve", (YES, YES, YES, -1), r"max_lag=-1; pass 0 or more"),
        ("adaptation_curve", (YES, YES + 0, YES), r"switched is int64 .* as bool"),
        ("adaptation_curve", (YES, YES, YES[:1]), r"alive is bool \(1, 3\), reward"),
    ],
)
def test_an_error_names_the_argument_the_value_and_the_fix(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(metrics, name)(*arguments)

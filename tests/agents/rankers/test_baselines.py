"""What ranking agents share against plain numpy, and what the untrained rankers show."""

from __future__ import annotations

import numpy as np
import pytest

from agents.rankers.baselines import Content, ContentRecency, Popular, Random
from agents.rankers.ranking import UNAVAILABLE, best_slots, look_up, pool, score, standardise
from llmrec_env.interface.observation import EMPTY, QUERY, SATISFIED, UNSATISFIED

N = 12


@pytest.fixture
def past():
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
def test_pool_is_the_weighted_mean_direction_of_the_past(past, decay):
    items, kinds, vectors, phrases = past
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
    found = look_up(values, candidates)
    np.testing.assert_array_equal(found, np.float32([[1, 6, -1e9], [2, -1e9, 3]]))
    standard = standardise(found)
    np.testing.assert_allclose(standard[:, 0], [-1, -1], atol=1e-5)
    assert (standard[found == UNAVAILABLE] == UNAVAILABLE).all()
    assert np.isfinite(standardise(np.full((2, 3), 5, np.float32))).all()


@pytest.mark.parametrize("columns", [20, 512, 513, 2000])
@pytest.mark.parametrize("levels", [3, 10**6])
def test_best_slots_are_the_highest_scores_with_ties_by_place(columns, levels):
    rng = np.random.default_rng(2)
    scores = rng.integers(0, levels, (6, columns)).astype(np.float32)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    slots = best_slots(scores, 5)
    assert slots.dtype == np.int64
    np.testing.assert_array_equal(slots, expected)


def _act(agent, env):
    agent.fit(env, 0)
    observation, _ = env.reset(seed=0)
    return observation, agent.act(observation, np.ones(env.num_envs, bool))


def test_popular_shows_what_satisfied_most_users(new_vec):
    env = new_vec(N, observation="dict")
    observation, actions = _act(Popular(), env)
    logs = env.public_data().logs
    _, item, satisfied = logs.clicks(np.arange(len(logs.items)))
    liked = np.bincount(item[satisfied == 1], minlength=600)[observation["candidates"]]
    shown = np.take_along_axis(liked, actions, 1)
    np.testing.assert_array_equal(shown, -np.sort(-liked, axis=1)[:, :5])


def test_content_shows_what_is_nearest_to_the_mean_of_the_liked_and_typed(new_vec):
    env = new_vec(N, observation="dict")
    observation, actions = _act(Content(), env)
    data = env.public_data()
    for i in range(N):
        events = list(
            zip(observation["history"][i], observation["history_feedback"][i], strict=True)
        )
        v = sum(
            (0.15, 1.0)[kind] * data.items.vectors[item] for item, kind in events if kind in (0, 1)
        )
        v = v + sum(data.phrase_vectors[item] for item, kind in events if kind == QUERY)
        scores = data.items.vectors[observation["candidates"][i]] @ v
        np.testing.assert_array_equal(actions[i], np.argsort(-scores)[:5])


def test_recency_prefers_what_was_liked_last(new_vec):
    env = new_vec(1, observation="dict")
    agent = ContentRecency()
    agent.fit(env, 0)
    vectors = agent.data.items.vectors
    history, kinds = np.full((1, 128), -1, np.int32), np.full((1, 128), EMPTY, np.int32)
    first, last = 0, int(np.argmin(vectors @ vectors[0]))
    history[0, :20], kinds[0, :20] = first, SATISFIED
    history[0, :6] = last
    v = agent.interest({"history": history, "history_feedback": kinds})[0]
    assert v @ vectors[last] > v @ vectors[first]
    mean = Content()
    mean.fit(env, 0)
    v = mean.interest({"history": history, "history_feedback": kinds})[0]
    assert v @ vectors[last] < v @ vectors[first]


def test_random_is_uniform_over_the_candidates(new_vec):
    env = new_vec(400, observation="dict")
    _, actions = _act(Random(seed=3), env)
    counts = np.bincount(actions.ravel(), minlength=20)
    assert counts.sum() == 2000 and counts.min() > 60 and counts.max() < 145
    assert all(len(set(row)) == 5 for row in actions)

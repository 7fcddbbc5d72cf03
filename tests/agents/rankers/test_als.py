"""Alternating least squares against plain numpy, and what the agent learns from."""

from __future__ import annotations

import numpy as np
import pytest

from agents.dataset import UNSATISFIED_WEIGHT
from agents.rankers.als import Collaborative, alternating_least_squares, fold_in
from llmrec_env.interface.history import EMPTY, QUERY, SATISFIED, UNSATISFIED

SETTINGS = {"rank": 3, "regularisation": 0.5, "confidence": 4.0}


def _dense_half(fixed, preference, confidence, regularisation):
    """One half sweep of Hu, Koren and Volinsky (2008), written with dense matrices."""
    rows = []
    for p, c in zip(preference, confidence, strict=True):
        left = fixed.T @ (c[:, None] * fixed) + regularisation * np.eye(fixed.shape[1])
        rows.append(np.linalg.solve(left, fixed.T @ (c * p)))
    return np.array(rows)


def _random_entries():
    rng = np.random.default_rng(0)
    cells = rng.permutation(12 * 9)[:40]
    return cells // 9, cells % 9, rng.choice([0.2, 1.0], 40)


@pytest.mark.parametrize("iterations", [1, 4])
def test_alternating_least_squares_is_the_paper_in_dense_numpy(iterations):
    users, items, weights = _random_entries()
    preference, confidence = np.zeros((12, 9)), np.ones((12, 9))
    preference[users, items] = 1.0
    confidence[users, items] += 4.0 * weights
    factors = np.random.default_rng(7).normal(0.0, 0.1, (9, 3))
    for _ in range(iterations):
        user_factors = _dense_half(factors, preference, confidence, 0.5)
        factors = _dense_half(user_factors, preference.T, confidence.T, 0.5)
    actual = alternating_least_squares(
        users, items, weights, (12, 9), iterations=iterations, seed=7, **SETTINGS
    )
    np.testing.assert_allclose(actual, factors, rtol=1e-6, atol=1e-9)


def test_fold_in_solves_for_a_new_user():
    rng = np.random.default_rng(1)
    factors = rng.normal(size=(9, 3))
    gram = factors.T @ factors + 0.5 * np.eye(3)
    history = np.array([[4, 7, 2, 8, -1, 3], [-1] * 6], np.int32)
    feedback = np.array([[SATISFIED, QUERY, UNSATISFIED, SATISFIED, EMPTY, SATISFIED], [EMPTY] * 6])
    actual = fold_in(history, feedback.astype(np.int32), factors, gram, 4.0, UNSATISFIED_WEIGHT)
    preference, confidence = np.zeros((1, 9)), np.ones((1, 9))
    preference[0, [4, 2, 8]] = 1.0
    confidence[0, [4, 8]] += 4.0
    confidence[0, 2] += 4.0 * UNSATISFIED_WEIGHT
    expected = _dense_half(factors, preference, confidence, 0.5)[0]
    np.testing.assert_allclose(actual[0], expected, rtol=1e-5)
    assert (actual[1] == 0).all()


def test_the_agent_learns_from_training_users_only(new_vec):
    env = new_vec(4, observation="dict")
    agent = Collaborative(seed=1, rank=5)
    agent.fit(env, 0)
    public = env.public_data()
    user, item, satisfied = public.logs.clicks(np.arange(48))
    expected = alternating_least_squares(
        user,
        item,
        np.where(satisfied == 1, 1.0, UNSATISFIED_WEIGHT),
        (48, 600),
        rank=5,
        seed=1,
    )
    np.testing.assert_array_equal(agent.item_factors, expected)


def test_collaborative_does_not_read_texts(new_vec):
    env = new_vec(4, observation="dict")
    agent = Collaborative()
    agent.fit(env, 0)
    observation, _ = env.reset(seed=0)
    before = agent.act(observation, np.ones(4, bool))
    for name in ("interest", "recent", "candidate_features", "query", "last_item", "satiation"):
        observation[name] = np.zeros_like(observation[name])
    np.testing.assert_array_equal(agent.act(observation, np.ones(4, bool)), before)

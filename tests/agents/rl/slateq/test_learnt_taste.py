"""Taste: found in logs, learnt from sessions by users and items, and left alone while acting."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from agents.joint.posterior import move_factors  # noqa: E402
from agents.rl.slateq.taste import invert, learn_taste, no_taste  # noqa: E402

K, R, ITEMS = 4, 8, 50


def _room():
    square = np.empty((R, R)), np.empty((R, R))
    return np.empty(R), np.empty((K, R)), np.empty((K, R, R)), *square, np.arange(K)


def _log_likelihood(mean, factors, chosen):
    x = factors @ mean
    return x[chosen] - np.log1p(np.exp(x).sum())


def test_an_inverse_is_one():
    rows = np.random.default_rng(0).normal(size=(R, 2 * R))
    matrix, lower, inverse = rows @ rows.T, np.empty((R, R)), np.empty((R, R))
    invert(matrix, lower, inverse)
    np.testing.assert_allclose(inverse @ matrix, np.eye(R), atol=1e-9)


def test_steps_find_the_factors_of_a_user_whose_items_are_known():
    rng = np.random.default_rng(1)
    truth, mean, precision = rng.normal(size=R), np.zeros(R), np.eye(R)
    gradient, lower = np.empty(R), np.empty((R, R))
    for _ in range(3000):
        others = rng.normal(size=(K, R))
        odds = np.exp(others @ truth)
        chances = np.append(odds, 1.0) / (1.0 + odds.sum())
        chosen = rng.choice(K + 1, p=chances)
        expected = np.exp(others @ mean)
        expected = expected / (1.0 + expected.sum())
        pull = np.eye(K + 1)[chosen][:K] - expected
        weight = expected * (1.0 - expected)
        known, ids = np.zeros((K, R, R)), np.arange(K)
        move_factors(mean, precision, others, known, ids, pull, weight, gradient, lower)
    assert np.corrcoef(mean, truth)[0, 1] > 0.99
    assert np.linalg.norm(mean - truth) < 0.25 * np.linalg.norm(truth)


def test_what_is_unsure_of_an_item_teaches_little():
    moved = []
    for spread in (0.0, 10.0):
        mean, precision = np.zeros(R), np.eye(R)
        others, unsure = np.ones((1, R)), np.tile(spread * np.eye(R), (1, 1, 1))
        pull, weight = np.array([0.5]), np.array([0.25])
        room = np.empty(R), np.empty((R, R))
        move_factors(mean, precision, others, unsure, np.arange(1), pull, weight, *room)
        moved.append(np.linalg.norm(mean))
    assert moved[1] < 0.6 * moved[0]


@pytest.mark.parametrize("learning", [True, False])
def test_items_learn_only_while_learning(learning):
    taste, slate = no_taste(ITEMS), np.array([3, 7, 9, 11], np.int32)
    mean, precision = np.ones(R), np.eye(R)
    pull, weight = np.array([0.9, -0.1, -0.1, -0.1]), np.full(K, 0.1)
    before = [part.copy() for part in taste]
    learn_taste(taste, slate, mean, precision, pull, weight, learning, _room())
    changed = np.abs(taste.factors).sum(axis=1) > 0.0
    assert set(np.flatnonzero(changed)) == (set(slate.tolist()) if learning else set())
    if learning:
        assert taste.factors[3] @ np.ones(R) > 0.0 > taste.factors[7] @ np.ones(R)
        np.testing.assert_allclose(taste.spread[3] @ taste.precision[3], np.eye(R), atol=1e-9)
    else:
        for part, now in zip(before, taste, strict=True):
            np.testing.assert_array_equal(part, now)

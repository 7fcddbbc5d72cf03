"""How unsure a belief is: by closed forms, and in the direction that observations move it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from agents.rl.slateq.learner import SlateQ
from agents.rl.slateq.tracking import Tracker
from agents.rl.slateq.uncertainty import (
    information,
    interest_deviation,
    taste_deviation,
)

N = 4
MODES = {"observation": "dict", "action": "slate"}


@pytest.fixture(scope="module")
def env(new_vec):
    return new_vec(N, autoreset_mode="same_step", **MODES)


@pytest.fixture(scope="module")
def slateq(env):
    agent = SlateQ(3, steps=8, log_epochs=1)
    agent.fit(env, 64)
    return agent


@pytest.fixture
def told(env, slateq):
    """A tracker, and the candidates of its sessions."""
    tracker, (observation, _) = Tracker(slateq.tracker.model), env.reset(seed=5)
    tracker.observe(observation, np.ones(N, bool))
    return tracker, observation["candidates"]


def test_taste_is_as_unsure_as_its_posterior_and_surer_the_more_is_seen(told):
    tracker, candidates = told
    factors = tracker.model.taste.factors[candidates]
    covariance = np.linalg.inv(tracker.precision)
    variance = np.einsum("ncr,nrs,ncs->nc", factors, covariance, factors)
    before = taste_deviation(tracker, candidates)
    np.testing.assert_allclose(before, np.sqrt(variance), rtol=1e-6)
    tracker.precision = 4.0 * tracker.precision
    np.testing.assert_allclose(taste_deviation(tracker, candidates), before / 2.0, rtol=1e-6)


def test_interests_are_unsure_where_several_may_be_at_work(told):
    tracker, candidates = told
    tracker.belief[:], tracker.belief[:, 7] = 1e-9, 1.0
    np.testing.assert_allclose(interest_deviation(tracker, candidates), 0.0, atol=1e-3)
    tracker.belief[:, 9] = 1.0
    closeness = tracker.model.vectors[candidates] @ tracker.model.phrases[[7, 9]].T
    half = 0.5 * np.abs(closeness[..., 0] - closeness[..., 1])
    np.testing.assert_allclose(interest_deviation(tracker, candidates), half, atol=1e-3)


def test_most_is_told_by_an_even_choice_of_what_is_unsure():
    odds, deviation = np.array([[0.01, 1.0, 100.0]]), np.ones((1, 3))
    rare, even, sure = information(odds, deviation)[0]
    assert even > max(rare, sure) and even == pytest.approx(0.5 * np.log(1.25))
    assert information(odds, 2.0 * deviation)[0, 1] > even
    assert not information(odds, 0.0 * deviation).any()
    assert not information(0.0 * odds, deviation).any()  # not offered

"""How unsure a belief is: by closed forms, and in the direction that observations move it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")

from agents.rl.slateq.learner import SlateQ
from agents.rl.slateq.tracking import Tracker
from agents.rl.slateq.uncertainty import (
    exploration_bonus,
    information,
    interest_deviation,
    taste_deviation,
)
from agents.slates import SLATES

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


def test_only_the_phrases_believed_most_are_hypotheses(told):
    tracker, candidates = told
    rng = np.random.default_rng(0)
    tracker.belief = rng.random(tracker.belief.shape).astype(np.float32)
    for i, weights in enumerate(tracker.belief):
        most = np.argsort(-weights)[:16]
        share = weights[most] / weights[most].sum()
        closeness = tracker.model.vectors[candidates[i]] @ tracker.model.phrases[most].T
        variance = closeness**2 @ share - (closeness @ share) ** 2
        found = interest_deviation(tracker, candidates)[i]
        np.testing.assert_allclose(found, np.sqrt(variance), atol=1e-4)


def test_optimism_prefers_the_less_known_of_two_equal_candidates(told):
    tracker, candidates = told
    assert exploration_bonus(tracker, candidates, 0.0, 0.0) == 0.0
    for optimism, deviation in (
        ((0.5, 0.0), interest_deviation(tracker, candidates)),
        ((0.0, 0.5), taste_deviation(tracker, candidates)),
    ):
        bonus = exploration_bonus(tracker, candidates, *optimism)
        np.testing.assert_allclose(bonus, 0.5 * deviation)
        odds, value = np.ones(candidates.shape), np.ones(candidates.shape) + bonus
        (made,) = SLATES["top-k"](odds, value, np.ones(1), candidates, tracker.model.vectors, 0.0).T
        np.testing.assert_array_equal(made, deviation.argmax(axis=1))
    tracker.relevance = np.ones(candidates.shape, np.float32)  # told, so that all is known
    assert exploration_bonus(tracker, candidates, 0.5, 0.5) == 0.0


def test_optimism_changes_values_by_the_bonus_and_nothing_else(env, slateq):
    observation, _ = env.reset(seed=5)
    slateq.act(observation, np.ones(N, bool))
    tracker = slateq.tracker
    plain, settings = slateq.values(observation, tracker), slateq.settings
    try:
        slateq.settings = dataclasses.replace(settings, interest_optimism=0.5, taste_optimism=0.3)
        bold = slateq.values(observation, tracker)
    finally:
        slateq.settings = settings
    bonus = exploration_bonus(tracker, observation["candidates"], 0.5, 0.3)
    np.testing.assert_array_equal(bold.value, plain.value + bonus)
    assert np.min(bonus) > 0.0
    for name in ("odds", "items", "states"):
        np.testing.assert_array_equal(getattr(bold, name), getattr(plain, name))


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
@pytest.mark.parametrize("name", ["interest_optimism", "taste_optimism"])
def test_optimism_is_finite_and_not_negative(name, value):
    with pytest.raises(ValueError, match=f"{name}=.* at least 0"):
        SlateQ(**{name: value})


def test_most_is_told_by_an_even_choice_of_what_is_unsure():
    odds, deviation = np.array([[0.01, 1.0, 100.0]]), np.ones((1, 3))
    rare, even, sure = information(odds, deviation)[0]
    assert even > max(rare, sure) and even == pytest.approx(0.5 * np.log(1.25))
    assert information(odds, 2.0 * deviation)[0, 1] > even
    assert not information(odds, 0.0 * deviation).any()
    assert not information(0.0 * odds, deviation).any()  # not offered

"""The slot mixture draws what it says it draws, and tells with which probability."""

from __future__ import annotations

import numpy as np
import pytest

from agents import make_agent
from agents.off_policy import SlotMixture

N, DRAWS = 3, 3000


@pytest.fixture(scope="module")
def ready(new_vec):
    """Two fitted rankers that differ, and an observation."""
    env = new_vec(N, observation="dict")
    agents = [make_agent(name, env.config) for name in ("content", "popular")]
    for agent in agents:
        agent.fit(env, 0)
    return agents, env.reset(seed=4)[0], np.ones(N, bool)


def test_slots_are_drawn_as_often_as_their_probability_says(ready):
    agents, observation, starts = ready
    policy = SlotMixture(agents, (0.5, 0.2), seed=1)
    slates = np.stack([policy.act(observation, starts) for _ in range(DRAWS)])
    shown, candidates = policy.proposals(observation, starts), observation["candidates"]
    every = np.stack([np.full((N, 5), c) for c in range(20)])
    expected = np.stack([policy.probabilities(slate, shown, candidates) for slate in every])
    np.testing.assert_allclose(expected.sum(0), 1.0)
    frequency = np.stack([(slates == c).mean(0) for c in range(20)])
    error = np.abs(frequency - expected) / np.sqrt(expected * (1 - expected) / DRAWS)
    assert error.max() < 4.5
    together = ((slates[:, 0, 0] == shown[0, 0, 0]) & (slates[:, 0, 1] == shown[0, 0, 1])).mean()
    apart = [expected[shown[0, 0, k], 0, k] for k in (0, 1)]
    assert together == pytest.approx(apart[0] * apart[1], abs=0.04)


def test_it_remembers_the_propensities_of_what_it_drew(ready):
    agents, observation, starts = ready
    policy = SlotMixture(agents, (0.5, 0.2), seed=1)
    slates = policy.act(observation, starts)
    shown = policy.proposals(observation, starts)
    by_hand = 0.3 / 20 + 0.5 * (shown[0] == slates) + 0.2 * (shown[1] == slates)
    np.testing.assert_allclose(policy.propensities, by_hand)


def test_one_agent_alone_is_that_agent(ready):
    agents, observation, starts = ready
    policy = SlotMixture(agents[:1], (1.0,))
    np.testing.assert_array_equal(
        policy.act(observation, starts), agents[0].act(observation, starts)
    )
    np.testing.assert_array_equal(policy.propensities, 1.0)


def test_what_is_not_on_offer_is_not_drawn(ready):
    agents, observation, starts = ready
    observation = observation | {"candidates": observation["candidates"].copy()}
    observation["candidates"][:, 3:] = -1
    policy = SlotMixture(agents, (0.0, 0.0), seed=2)
    drawn = np.stack([policy.act(observation, starts) for _ in range(50)])
    assert drawn.max() == 2
    np.testing.assert_allclose(policy.propensities, 1 / 3)


def test_a_seed_decides_what_is_drawn(ready):
    agents, observation, starts = ready
    one, again, other = (SlotMixture(agents, (0.3, 0.3), seed).act for seed in (1, 1, 2))
    first = one(observation, starts)
    np.testing.assert_array_equal(first, again(observation, starts))
    assert (first != other(observation, starts)).any()


def test_what_cannot_be_mixed_is_refused(ready, new_vec):
    agents, *_ = ready
    for mixed, shares in ((agents, (0.7, 0.7)), (agents, (-0.1, 0.5)), (agents, (0.5,)), ([], ())):
        with pytest.raises(ValueError, match="at most 1 together"):
            SlotMixture(mixed, shares)
    ppo = type("Weights", (), {"name": "w", "action": "weights", "observation": "vector"})()
    with pytest.raises(ValueError, match="'slate' and 'dict'"):
        SlotMixture([ppo], (1.0,))

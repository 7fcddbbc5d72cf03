"""Drift-aware ranking: it turns to the recent interest and shows only what is offered."""

from __future__ import annotations

import numpy as np

from agents.rankers.drift_aware import DriftAware


def test_drift_aware_turns_to_the_recent_interest(new_vec):
    env = new_vec(6, observation="dict")
    agent = DriftAware()
    agent.fit(env, 0)
    observation, _ = env.reset(seed=0)
    candidates = observation["candidates"]
    observation["recent"] = agent.data.items.vectors[candidates[:, 13]].copy()
    assert (agent.act(observation, np.ones(6, bool))[:, 0] == 13).all()


def test_drift_aware_never_shows_what_is_not_there(new_vec):
    env = new_vec(6, observation="dict", candidates=0)
    agent = DriftAware()
    agent.fit(env, 0)
    observation, _ = env.reset(seed=0)
    for _ in range(12):
        actions = agent.act(observation, np.zeros(6, bool))
        assert (np.take_along_axis(observation["candidates"], actions, 1) >= 0).all()
        observation = env.step(actions)[0]

"""The agent: what it takes, what it reads, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from agents import make_agent
from agents.rankers.belief_oracle.agent import BeliefOracle
from llmrec_env.config import EnvConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"particles": 0}, r"particles .* is 0; give a whole number from 1 to 10,000"),
        ({"particles": 2.5}, r"particles .* is 2.5; give a whole number"),
        ({"particles": True}, r"particles .* is True; give a whole number"),
        ({"moves": -1}, r"moves .* is -1; give a whole number from 0"),
        ({"far_sighted": 1.0}, r"does not take these settings: .*far_sighted"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_agent("belief-oracle", EnvConfig(), **settings)


def test_sessions_that_are_too_long_are_refused(new_vec):
    env = new_vec(1, observation="dict", horizon=2_001, num_items=4_000)
    with pytest.raises(ValueError, match=r"horizon=2,001: .* shorter horizon"):
        BeliefOracle().attach(env)


def test_it_reads_of_users_nothing_but_the_observation(new_vec):
    envs = [new_vec(2, observation="dict") for _ in range(2)]
    actions = []
    for env, blind in zip(envs, (False, True), strict=True):
        agent = BeliefOracle(particles=4, moves=2)
        agent.attach(env)
        observation, _ = env.reset(seed=3)
        if blind:
            for name in ("phrase", "active", "weight", "rest", "taste", "satiation"):
                env.simulator.users[name] = 0
        actions.append(agent.act(observation, np.ones(2, bool)))
    np.testing.assert_array_equal(*actions)


def test_a_session_that_was_not_announced_begins_anew(new_vec):
    env = new_vec(3, observation="dict")
    agent = BeliefOracle(particles=4, moves=1)
    agent.attach(env)
    observation, _ = env.reset(seed=3)
    first = agent.act(observation, np.ones(3, bool))
    other, _ = env.reset(seed=4)
    agent.act(other, np.zeros(3, bool))
    np.testing.assert_array_equal(agent.act(observation, np.zeros(3, bool)), first)

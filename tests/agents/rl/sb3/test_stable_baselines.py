"""SB3 agents: segments that can be repeated, blocks of the observation left out, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from agents import make_agent
from agents.base import OnlineAgent
from agents.rl.sb3 import BLOCKS
from agents.rl.sb3.wrappers import AblationWrapper
from llmrec_env.config import EnvConfig
from llmrec_env.interface.observation import SESSION_NUMBERS, VECTOR_BLOCKS
from llmrec_env.sb3 import Sb3VecEnv

SETTINGS = {"n_steps": 8, "batch_size": 32, "n_epochs": 1}


@pytest.fixture
def new_agent(tiny):
    return lambda **settings: make_agent("ppo", EnvConfig(**tiny), 3, **{**SETTINGS, **settings})


@pytest.fixture
def env(new_vec):
    return new_vec(4, autoreset_mode="same_step", action="weights")


def _weights(agent):
    return np.concatenate([x.detach().numpy().ravel() for x in agent.model.policy.parameters()])


def test_a_segment_depends_on_the_state_before_it_and_on_nothing_else(new_agent, env, new_vec):
    agent = new_agent()
    assert isinstance(agent, OnlineAgent)
    assert agent.learn(env, 64, 0, 0) == 64
    state = agent.state()
    agent.learn(env, 64, 1, 64)
    other, elsewhere = new_agent(), new_vec(4, autoreset_mode="same_step", action="weights")
    elsewhere.reset(seed=77)  # whatever was played there before
    other.restore(state)
    other.learn(elsewhere, 64, 1, 64)
    np.testing.assert_array_equal(_weights(agent), _weights(other))
    another = new_agent()
    another.restore(state)
    another.learn(env, 64, 2, 64)
    assert (_weights(agent) != _weights(another)).any()  # other luck in another segment


def test_fit_is_its_segments(new_agent, env, monkeypatch):
    monkeypatch.setattr("agents.base.SEGMENT", 64)
    whole, parts = new_agent(), new_agent()
    whole.fit(env, 128)
    parts.learn(env, 64, 0, 0)
    parts.learn(env, 64, 1, 64)
    np.testing.assert_array_equal(_weights(whole), _weights(parts))


def test_rewards_are_normalised_as_before_the_segment(new_agent, env):
    agent = new_agent()
    agent.learn(env, 64, 0, 0)
    before = agent.model.get_vec_normalize_env().ret_rms.count
    agent.learn(env, 64, 1, 64)
    assert agent.model.get_vec_normalize_env().ret_rms.count == pytest.approx(before + 64, abs=1)


def test_blocks_left_out_are_neither_learnt_from_nor_acted_on(new_agent, env, tiny):
    agent = new_agent(ablated=["satiation", "session"])
    agent.fit(env, 64)
    length = tiny["dim"]
    hidden = np.zeros(len(VECTOR_BLOCKS) * length + len(SESSION_NUMBERS), bool)
    place = VECTOR_BLOCKS.index("satiation") * length
    hidden[place : place + length] = hidden[-len(SESSION_NUMBERS) :] = True
    observation, _ = env.reset(seed=0)
    starts = np.ones(4, bool)
    changed = np.where(hidden, 9.0, observation).astype(np.float32)
    np.testing.assert_array_equal(agent.act(observation, starts), agent.act(changed, starts))
    seen = np.where(hidden, observation, 0.5).astype(np.float32)
    assert (agent.act(observation, starts) != agent.act(seen, starts)).any()
    vec_env = AblationWrapper(Sb3VecEnv(env), (~hidden).astype(np.float32))
    vec_env.seed(0)
    assert not vec_env.reset()[:, hidden].any()
    for _ in range(40):
        vec_env.step_async(np.zeros((4, 8), np.float32))
        observations, _, dones, infos = vec_env.step_wait()
        assert not observations[:, hidden].any() and observations[:, ~hidden].any()
        for i in np.flatnonzero(dones):
            assert not infos[i]["terminal_observation"][hidden].any()


def test_an_unknown_block_is_named_with_the_nearest(new_agent):
    with pytest.raises(ValueError, match=r"observation block 'satiaton'. Did you mean 'satiation'"):
        new_agent(ablated=["satiaton"])
    assert set(VECTOR_BLOCKS) < set(BLOCKS)

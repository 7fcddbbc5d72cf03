"""What every agent promises, checked on every agent."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agents import AGENTS, Agent, Privileged
from agents.rl.sb3_specs import ALGORITHMS
from agents.saving import read_agent


def test_it_keeps_the_protocol_and_its_name(fitted, name):
    agent = fitted(name).agent
    assert isinstance(agent, Agent) and agent.name == name
    assert isinstance(agent, Privileged) == AGENTS[name].oracle


def test_its_actions_lie_in_the_action_space(fitted, name):
    agent, _, new_env, _, actions = fitted(name)
    env = new_env()
    space = env.single_action_space
    assert actions.shape[1:] == (env.num_envs, *space.shape)
    for action in actions.reshape(-1, *space.shape):
        assert space.contains(action.astype(space.dtype))
    if agent.action == "slate":
        assert actions.dtype.kind == "i"
        assert all(len(set(slate)) == 5 for slate in actions.reshape(-1, 5))


def test_a_seed_decides_what_it_learns_and_does(fitted, name, assert_same):
    one, again = fitted(name), fitted(name, repetition=1)
    np.testing.assert_array_equal(one.actions, again.actions)
    records = read_agent(one.folder), read_agent(again.folder)
    assert_same(*records)


def test_it_leaves_the_observation_as_it_was(fitted, name, assert_same):
    agent, _, new_env, *_ = fitted(name)
    env = new_env()
    observation, before = env.reset(seed=3)[0], env.reset(seed=3)[0]
    if isinstance(agent, Privileged):
        agent.attach(env)
    agent.act(observation, np.ones(env.num_envs, bool))
    assert_same(observation, before)


def _rows_of(observation, rows):
    return {key: value[rows] for key, value in observation.items()}


def test_what_it_does_for_a_session_does_not_depend_on_the_others(fitted, name):
    if name == "random" or name in ALGORITHMS or name.startswith("oracle-"):
        pytest.skip("draws in order, computes in batches, or reads its own environment")
    agent, _, new_env, *_ = fitted(name)
    env = new_env()
    observation, _ = env.reset(seed=3)
    batch = agent.act(observation, np.ones(env.num_envs, bool))
    for i in range(env.num_envs):
        row = slice(i, i + 1)
        one = observation[row] if agent.observation == "vector" else _rows_of(observation, row)
        np.testing.assert_array_equal(agent.act(one, np.ones(1, bool))[0], batch[i])


def test_it_is_saved_as_json_and_safetensors(fitted, name, tmp_path):
    agent, _, _, folder, _ = fitted(name)
    agent.save(tmp_path / "agent")
    for path in (folder, tmp_path / "agent"):
        assert {file.name for file in path.iterdir()} == {"config.json", "weights.safetensors"}
        saved_name, config, _ = read_agent(path)
        assert saved_name == name and json.loads(json.dumps(config)) == config


SEVERAL = (
    "collaborative",
    "ease",
    "lin-ucb",
    "sasrec",
    "joint",
    "world-model",
    "slateq",
    "reinforce-topk",
    "ppo",
)


@pytest.mark.parametrize("learner", SEVERAL)
def test_it_learns_and_acts_where_several_items_are_consumed(fitted, learner):
    _, _, new_env, _, actions = fitted(learner, response="cascade")
    env = new_env()
    assert (env.simulator.world.logs.feedback >= 0).sum(axis=2).max() > 1
    for action in actions.reshape(-1, *env.single_action_space.shape):
        assert env.single_action_space.contains(action.astype(env.single_action_space.dtype))

"""What every agent promises, checked on every agent."""

from __future__ import annotations

import json

import numpy as np
import pytest

from agents import AGENTS, Agent, Privileged, make_agent
from agents.rl.sb3_specs import ALGORITHMS
from agents.saving import read_agent
from llmrec_env.config import EnvConfig

N, BUDGET = 4, 256
_SHORT = {"n_steps": 32, "batch_size": 64}
_REPLAYED = {"learning_starts": 64, "batch_size": 32, "buffer_size": 512}
SETTINGS = {
    "ppo": {"n_steps": 64, "batch_size": 128, "n_epochs": 1},
    **{name: {**_SHORT, "n_epochs": 1} for name in ("recurrent-ppo", "maskable-ppo")},
    **{name: _REPLAYED for name in ("sac", "td3", "tqc", "dqn", "qrdqn")},
    "ppo-pointer": {**_SHORT, "n_epochs": 1, "teacher": "content"},
    "slateq": {"steps": 16, "log_epochs": 1},
    "reinforce-topk": {"steps": 16},
    "joint": {"epochs": 2},
}
OTHER_TEXTS = tuple(name for name, spec in AGENTS.items() if spec.trains_encoder)
"""These need a language model: see test_joint_language.py."""


@pytest.fixture(params=[name for name in AGENTS if name not in OTHER_TEXTS])
def name(request):
    return request.param


@pytest.fixture
def new_agent(name, tiny, new_vec):
    """Makes an agent that has learnt, and an environment to act in."""

    def make(seed=0):
        config = EnvConfig(**tiny)
        agent = make_agent(name, config, seed=seed, **SETTINGS.get(name, {}))
        modes = {"action": agent.action, "observation": agent.observation}
        modes |= {"slate_size": 1} if agent.action == "item" else {}
        agent.fit(new_vec(N, autoreset_mode="same_step", **modes), BUDGET)
        env = new_vec(N, split="test", **modes)
        if isinstance(agent, Privileged):
            agent.attach(env)
        return agent, env

    return make


def play_steps(agent, env, steps=8):
    observation, _ = env.reset(seed=3)
    starts, actions = np.ones(N, bool), []
    for _ in range(steps):
        actions.append(np.array(agent.act(observation, starts)))
        observation, _, terminated, truncated, _ = env.step(actions[-1])
        starts = terminated | truncated
    return np.stack(actions)


def test_it_keeps_the_protocol_and_its_name(new_agent, name):
    agent, _ = new_agent()
    assert isinstance(agent, Agent) and agent.name == name
    assert isinstance(agent, Privileged) == name.startswith("oracle")


def test_its_actions_lie_in_the_action_space(new_agent):
    agent, env = new_agent()
    actions = play_steps(agent, env)
    space = env.single_action_space
    assert actions.shape[1:] == (N, *space.shape)
    for action in actions.reshape(-1, *space.shape):
        assert space.contains(action.astype(space.dtype))
    if agent.action == "slate":
        assert actions.dtype.kind == "i"
        assert all(len(set(slate)) == 5 for slate in actions.reshape(-1, 5))


def test_a_seed_decides_what_it_learns_and_does(new_agent):
    plays = [play_steps(*new_agent(seed)) for seed in (1, 1)]
    np.testing.assert_array_equal(*plays)


def test_it_leaves_the_observation_as_it_was(new_agent, assert_same):
    agent, env = new_agent()
    observation, kept = env.reset(seed=3)[0], env.reset(seed=3)[0]
    agent.act(observation, np.ones(N, bool))
    assert_same(observation, kept)


def _rows_of(observation, rows):
    return {key: value[rows] for key, value in observation.items()}


def test_what_it_does_for_a_session_does_not_depend_on_the_others(new_agent, name):
    if name == "random" or name in ALGORITHMS or name.startswith("oracle"):
        pytest.skip("draws in order, computes in batches, or reads its own environment")
    agent, env = new_agent()
    observation, _ = env.reset(seed=3)
    batch = agent.act(observation, np.ones(N, bool))
    for i in range(N):
        row = slice(i, i + 1)
        one = observation[row] if agent.observation == "vector" else _rows_of(observation, row)
        np.testing.assert_array_equal(agent.act(one, np.ones(1, bool))[0], batch[i])


def test_it_is_saved_as_json_and_safetensors_and_read_back(new_agent, name, tmp_path):
    agent, _ = new_agent(seed=2)
    agent.save(tmp_path / "agent")
    files = {path.name for path in (tmp_path / "agent").iterdir()}
    assert files == {"config.json", "weights.safetensors"}
    read_name, config, weights = read_agent(tmp_path / "agent")
    assert read_name == name and json.loads(json.dumps(config)) == config
    again, _ = new_agent(seed=2)
    again.save(tmp_path / "again")
    _, config_again, weights_again = read_agent(tmp_path / "again")
    assert config == config_again and weights.keys() == weights_again.keys()
    for key, value in weights.items():
        np.testing.assert_array_equal(value, weights_again[key])

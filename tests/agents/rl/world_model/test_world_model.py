"""The world model agent: segments, saving, refusals, and in the slow suite that it learns."""

from __future__ import annotations

import copy

import gymnasium
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from agents import make_agent  # noqa: E402
from agents.added_blocks import AddedBlocks  # noqa: E402
from agents.base import OnlineAgent, Privileged  # noqa: E402
from agents.rl.world_model.learner import Follower, WorldModelAgent  # noqa: E402
from agents.rl.world_model.learning import item_factors  # noqa: E402
from agents.rollout import rollout  # noqa: E402
from agents.saving import read_agent  # noqa: E402
from llmrec_env.config import EnvConfig  # noqa: E402

SHORT = {"steps": 8, "descents": 1, "log_epochs": 1, "warm_up": 0, "ramp": 1, "hidden": 16}
MODES = {"observation": "dict", "action": "slate"}


@pytest.fixture
def train_env(new_vec):
    return new_vec(4, autoreset_mode="same_step", **MODES)


@pytest.fixture
def learnt(train_env):
    agent = WorldModelAgent(3, **SHORT)
    agent.fit(train_env, 64)
    return agent


def test_killed_and_resumed_it_is_the_same_to_the_bit(train_env, assert_same):
    whole, first, second = (WorldModelAgent(3, **SHORT) for _ in range(3))
    assert isinstance(whole, OnlineAgent) and not isinstance(whole, Privileged)
    done = whole.learn(train_env, 64, 0, 0)
    whole.learn(train_env, 64, 1, done)
    first.learn(train_env, 64, 0, 0)
    second.restore(first.state())
    second.learn(train_env, 64, 1, done)
    for part in ("learners", "averaged"):
        own, other = ({k: v.numpy() for k, v in x.state()[part].items()} for x in (whole, second))
        assert_same(own, other)


def test_saved_and_loaded_it_acts_the_same(learnt, new_vec, tmp_path):
    learnt.save(tmp_path)
    _, config, weights = read_agent(tmp_path)
    again = WorldModelAgent(**config)
    again.load(weights, new_vec(3, split="test", **MODES))
    env = new_vec(3, split="test", **MODES)
    for size in (3, 2):  # another number of sessions begins anew
        observation, _ = env.reset(seed=1)
        some = {name: x[:size] for name, x in observation.items()}
        starts = np.zeros(size, bool)
        np.testing.assert_array_equal(learnt.act(some, starts), again.act(some, starts))


@pytest.mark.parametrize("mechanisms", [{}, {"new_items": 0.4, "creator_growth": 0.5}])
def test_followed_step_by_step_is_the_same_as_told_at_once(new_vec, mechanisms):
    env = new_vec(4, autoreset_mode="same_step", **MODES, **mechanisms)
    learnt = WorldModelAgent(3, **SHORT)
    learnt.fit(env, 64)
    env, model = new_vec(3, **MODES, **mechanisms), learnt.model
    blocks = AddedBlocks(env.config, env.public_data())
    follower, starts = Follower(blocks), np.ones(3, bool)
    observation, _ = env.reset(seed=1)
    for _ in range(6):  # 20 logged steps and these are what an observation holds
        state = copy.deepcopy(follower.observe(model, observation, starts))
        at_once = Follower(blocks).observe(model, observation, np.ones(3, bool))
        for own, other in zip(state, at_once, strict=True):
            torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-4)
        observation, *_ = env.step(learnt.act(observation, starts))
        starts = np.zeros(3, bool)


def test_futures_count_when_they_are_warm_and_not_without_a_discount(learnt, train_env):
    before = [float(x.skip.weight.detach().abs().sum()) for x in learnt.futures]
    assert min(before) > 0.0 and len(set(before)) == len(before)  # each learns by itself
    near = WorldModelAgent(3, gamma=0.0, **SHORT)
    near.fit(train_env, 64)
    assert all(float(x.skip.weight.detach().abs().sum()) == 0.0 for x in near.futures)


def test_halves_of_the_users_agree_on_which_way_factors_point(train_env):
    first, second = item_factors(train_env.public_data(), train_env.config, 0)
    turned = first[:, :-2].T @ second[:, :-2]
    np.testing.assert_allclose(turned, turned.T, atol=1e-3)  # symmetric: no turn is left to make


def test_what_it_cannot_do_is_refused(new_vec, train_env):
    with pytest.raises(TypeError, match="hide"):
        WorldModelAgent(hide=3)
    with pytest.raises(RuntimeError, match="fit"):
        WorldModelAgent().act(new_vec(1, **MODES).reset()[0], np.ones(1, bool))
    with pytest.raises(FloatingPointError, match="learning_rate"):
        WorldModelAgent(3, **(SHORT | {"learning_rate": 1e30})).fit(train_env, 64)


# --- on a toy of real texts


@pytest.mark.slow
def test_on_a_toy_it_is_above_content():
    toy = {
        "encoder": "word-vectors",
        "num_users": 4_000,
        "num_items": 600,
        "candidates": 40,
        "dim": 32,
    }

    def made(split, n, reset="next_step"):
        kwargs = dict(split=split, autoreset_mode=reset, **MODES, **toy)
        return gymnasium.make_vec("llmrec/Drift-v1", num_envs=n, **kwargs).unwrapped

    train_env = made("train", 64, "same_step")
    users = train_env.simulator.world.users_of("validation")
    env, returns = made("validation", len(users)), {}
    for name in ("random", "content", "world-model"):
        agent = make_agent(name, EnvConfig(**toy), 1)
        agent.fit(train_env, 40_000)
        played = [rollout(agent, env, users, seed).reward.sum(1).mean() for seed in (3, 4)]
        returns[name] = float(np.mean(played))
    print(returns)
    assert returns["world-model"] > 1.04 * returns["content"] > 1.5 * returns["random"], returns

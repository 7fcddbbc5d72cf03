"""Rollouts: what they record, and that agents meet common random numbers."""

from __future__ import annotations

import numpy as np
import pytest

from agents.rankers.baselines import Content, Random
from agents.rankers.oracles import Lookahead, Oracle
from agents.rollout import rollout
from llmrec_env.interface.history import empty_histories

USERS = np.array([9, 19, 29, 5, 5])


@pytest.fixture
def env(new_vec):
    return new_vec(5, observation="dict", patience_start=3.0)


def _fitted(agent, env):
    agent.fit(env, 0)
    return agent


def test_play_records_the_sessions_of_single_environments(env, new_env):
    agent = _fitted(Content(), env)
    episodes = rollout(agent, env, USERS, seed=3)
    single = new_env(observation="dict", patience_start=3.0).unwrapped
    for i, user in enumerate(USERS):
        seed = 3 * 10_000_019 + int(user)
        observation, _ = single.reset(seed=seed, options={"user_id": int(user)})
        for t in range(30):
            batch = {name: np.asarray(value)[None] for name, value in observation.items()}
            action = agent.act(batch, np.array([t == 0]))[0]
            observation, reward, terminated, truncated, info = single.step(action)
            assert episodes.alive[i, t] and episodes.reward[i, t] == reward
            assert episodes.item[i, t] == info["item"]
            np.testing.assert_array_equal(episodes.slate[i, t], info["slate"])
            assert episodes.satisfied[i, t] == (info["satisfied"] == 1)
            if terminated or truncated:
                break
        assert not episodes.alive[i, t + 1 :].any() and not episodes.reward[i, t + 1 :].any()
        assert not episodes.satisfied[i, t + 1 :].any()
        assert (episodes.item[i, t + 1 :] == -1).all() and (episodes.slate[i, t + 1 :] == -1).all()
        assert episodes.survived[i] == (truncated and not terminated)
    np.testing.assert_array_equal(episodes.user, USERS)
    assert episodes.alive.shape == (5, 30) and not episodes.alive.all()


def test_play_is_the_same_again_and_differs_by_seed(env):
    agent = _fitted(Content(), env)
    one, same, other = (rollout(agent, env, USERS, seed) for seed in (1, 1, 2))
    for left, right in zip(one, same, strict=True):
        np.testing.assert_array_equal(left, right)
    assert (one.reward != other.reward).any()


def test_what_is_known_at_the_start_can_be_less_than_what_was_logged(env):
    whole = env.simulator.world.histories[USERS]
    nothing = empty_histories(len(USERS), env.config)
    agent = _fitted(Content(), env)
    plain, known, unknown = (
        rollout(agent, env, USERS, 1, histories=histories) for histories in (None, whole, nothing)
    )
    for left, right in zip(plain, known, strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(plain.slate[:, 0], unknown.slate[:, 0])
    entries: list[int] = []

    def watch(t, running, observation):
        entries.append(int(env.simulator.histories["num_entries"].sum()))

    rollout(agent, env, USERS, 1, watch, nothing)
    assert entries[0] == 0 < entries[-1]  # what happens is still written down
    assert (env.simulator.world.histories["num_consumed_items"][USERS] > 0).all()


def test_the_luck_of_a_user_does_not_depend_on_the_company(env, new_vec):
    agent = _fitted(Content(), env)
    alone = new_vec(1, observation="dict", patience_start=3.0)
    together, single = rollout(agent, env, USERS, 1), rollout(agent, alone, USERS[2:3], 1)
    np.testing.assert_array_equal(together.reward[2], single.reward[0])
    np.testing.assert_array_equal(together.reward[3], together.reward[4])  # one user twice


def test_agents_meet_the_same_users_and_candidates(env):
    first = []

    class Spy(Content):
        def act(self, observation, episode_starts):
            if episode_starts.any():
                first.append(observation["candidates"].copy())
            return super().act(observation, episode_starts)

    class RandomSpy(Spy):
        def scores(self, observation):
            return -super().scores(observation)

    for kind in (Spy, RandomSpy):
        rollout(_fitted(kind(), env), env, USERS, 4)
    assert len(first) == 2
    np.testing.assert_array_equal(*first)


def test_oracles_are_attached_and_every_moment_is_watched(env):
    moments = []
    agent = Oracle("oracle-myopic", Lookahead())
    episodes = rollout(
        agent, env, USERS, 0, lambda t, running, _: moments.append((t, running.copy()))
    )
    assert [t for t, _ in moments] == list(range(len(moments)))
    assert len(moments) == episodes.alive.any(axis=0).sum() + 1  # before each step, after the last
    for t, running in moments[:-1]:
        np.testing.assert_array_equal(running, episodes.alive[:, t])


def test_survivors_are_those_whom_the_horizon_stopped(new_vec):
    env = new_vec(5, observation="dict", off=["churn"])
    episodes = rollout(_fitted(Random(), env), env, USERS, 0)
    assert episodes.survived.all() and episodes.alive.all()
    env = new_vec(5, observation="dict", patience_start=0.1)
    episodes = rollout(_fitted(Random(), env), env, USERS, 0)
    assert (episodes.survived == (episodes.alive.sum(1) == 30)).all()
    assert not episodes.survived.all()


def test_a_user_who_leaves_with_the_last_step_has_not_survived(new_vec):
    bored = dict.fromkeys(("patience_ignored", "patience_dissatisfied"), 0.1)
    bored |= {"satisfaction_bias": -10.0, "satisfaction_relevance": 0.0, "patience_start": 2.95}
    env = new_vec(5, observation="dict", **bored)
    episodes = rollout(_fitted(Random(), env), env, USERS, 0)
    assert episodes.alive.all() and not episodes.survived.any()


def test_agents_without_memory_are_not_asked_about_sessions_that_ended(env):
    class Counting(Content):
        memoryless = False

        def act(self, observation, episode_starts):
            asked.append(len(episode_starts))
            return super().act(observation, episode_starts)

    asked: list[int] = []
    every = rollout(_fitted(Counting(), env), env, USERS, 3)
    assert {*asked} == {len(USERS)}
    asked.clear()
    agent = _fitted(Counting(), env)
    agent.memoryless = True
    for left, right in zip(rollout(agent, env, USERS, 3), every, strict=True):
        np.testing.assert_array_equal(left, right)
    assert sum(asked) == every.alive.sum() < len(USERS) * every.alive.shape[1]

"""Recorded sessions are those that a rollout plays, and come back from other libraries whole."""

from __future__ import annotations

import numpy as np
import pytest

from agents import make_agent
from agents.off_policy import SlotMixture, record_sessions
from agents.off_policy.export import minari_dataset, replay_buffer
from agents.rollout import rollout

N = 5
QUICK = {"patience_start": 3.0, "horizon": 12, "split": "test"}


def _ready(new_vec, name="content", **modes):
    env = new_vec(N, **(QUICK | modes))
    agent = make_agent(name, env.config)
    agent.fit(env, 0)
    return agent, env, env.simulator.world.users_of("test")[:N]


@pytest.fixture(scope="module")
def recorded(new_vec):
    agent, env, users = _ready(new_vec, observation="dict")
    policy = SlotMixture([agent], (0.5,), seed=3)
    return record_sessions(policy, env, users, 1), env


class Still:
    """The zero action of `weights`."""

    name, observation, action = "still", "vector", "weights"

    def act(self, observation, episode_starts):
        return np.zeros((len(observation), 8), np.float32)


@pytest.fixture(scope="module")
def flat(new_vec):
    env = new_vec(N, action="weights", **QUICK)
    users = env.simulator.world.users_of("test")[:N]
    return record_sessions(Still(), env, users, 1), env


def test_sessions_are_those_of_a_rollout(new_vec):
    agent, env, users = _ready(new_vec, observation="dict")
    sessions, played = record_sessions(agent, env, users, 1), rollout(agent, env, users, 1)
    lengths = set()
    for i, session in enumerate(sessions):
        t = int(played.alive[i].sum())
        lengths.add(t)
        assert session.user == users[i] and len(session.rewards) == t
        np.testing.assert_allclose(session.rewards, played.reward[i, :t])
        assert session.terminated[-1] | session.truncated[-1]
        assert not (session.terminated[:-1] | session.truncated[:-1]).any()
        shown = np.take_along_axis(session.observations["candidates"][:-1], session.actions, 1)
        np.testing.assert_array_equal(shown, played.slate[i, :t])
        assert all(len(block) == t + 1 for block in session.observations.values())
        assert session.propensities is None
    assert len(lengths) > 1


def test_propensities_are_those_of_the_slates(recorded):
    sessions, _ = recorded
    for session in sessions:
        known = session.propensities
        assert known.shape == session.actions.shape
        assert set(np.unique(known.round(6))) <= {0.025, 0.525}


def test_an_environment_of_other_sessions_is_refused(new_vec):
    agent, env, users = _ready(new_vec, observation="dict")
    with pytest.raises(ValueError, match="num_envs=3"):
        record_sessions(agent, env, users[:3], 1)
    resetting = new_vec(N, observation="dict", autoreset_mode="same_step", **QUICK)
    with pytest.raises(ValueError, match="autoreset_mode='next_step'"):
        record_sessions(agent, resetting, users, 1)


def test_a_replay_buffer_holds_every_step(flat, recorded):
    pytest.importorskip("stable_baselines3")
    sessions, env = flat
    buffer = replay_buffer(sessions, env)
    rewards = np.concatenate([session.rewards for session in sessions])
    assert buffer.full and buffer.size() == len(rewards)
    np.testing.assert_array_equal(buffer.rewards[:, 0], rewards)
    np.testing.assert_array_equal(buffer.next_observations[0, 0], sessions[0].observations[1])
    last = np.cumsum([len(session.rewards) for session in sessions]) - 1
    assert buffer.dones[last].all() and buffer.dones.sum() == N
    cut = [session.truncated[-1] and not session.terminated[-1] for session in sessions]
    np.testing.assert_array_equal(buffer.timeouts[last, 0], cut)
    named, env = recorded
    assert replay_buffer(named, env).sample(4).observations["session"].shape == (4, 10)
    with pytest.raises(ValueError, match="sessions is empty"):
        replay_buffer([], env)


def test_an_algorithm_of_sb3_learns_from_it(flat):
    sb3 = pytest.importorskip("stable_baselines3")
    from llmrec_env.sb3 import Sb3VecEnv

    sessions, env = flat
    online = type(env)(2, autoreset_mode="same_step", **env.config.to_dict())
    model = sb3.SAC("MlpPolicy", Sb3VecEnv(online), batch_size=16, seed=0)
    model.replay_buffer = replay_buffer(sessions, env)
    model.set_logger(sb3.common.logger.configure(None, []))
    before = [weight.clone() for weight in model.actor.parameters()]
    model.train(gradient_steps=2, batch_size=16)
    assert any((a != b).any() for a, b in zip(before, model.actor.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore:.*set to None:UserWarning")  # what Minari would like told
def test_a_minari_dataset_gives_the_sessions_back(recorded, tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    sessions, env = recorded
    minari_dataset(sessions, env, "llmrec/tiny-v0", algorithm_name="slot-mixture")
    dataset = minari.load_dataset("llmrec/tiny-v0")
    assert dataset.total_episodes == N and dataset.observation_space == env.single_observation_space
    for episode, session in zip(dataset.iterate_episodes(), sessions, strict=True):
        np.testing.assert_array_equal(episode.actions, session.actions)
        np.testing.assert_allclose(episode.rewards, session.rewards)
        np.testing.assert_array_equal(episode.terminations, session.terminated)
        for name, block in session.observations.items():
            np.testing.assert_array_equal(episode.observations[name], block)
        np.testing.assert_allclose(episode.infos["propensities"][1:], session.propensities)
        assert (episode.infos["user_id"] == session.user).all()
    again = dataset.recover_environment().unwrapped
    assert again.config == env.config


def test_without_minari_the_remedy_is_named(recorded, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ImportError, match=r"llmrec-env\[offline\]"):
        minari_dataset(*recorded, "llmrec/none-v0")

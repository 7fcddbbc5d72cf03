"""SB3 adapter: segments, actions, saved agents and clear refusals, for every algorithm."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")
pytest.importorskip("sb3_contrib")

from agents.base import OnlineAgent  # noqa: E402
from agents.rl.sb3 import ALGORITHMS, StableBaselines  # noqa: E402
from agents.saving import read_agent  # noqa: E402

N = 4
ROLLOUTS = {"n_steps": 8, "batch_size": 32, "n_epochs": 1}
REPLAYED = {"buffer_size": 96, "learning_starts": 16, "batch_size": 16, "gradient_steps": 1}
TINY_SETTINGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ("ppo", "recurrent-ppo", "maskable-ppo", "ppo-pointer", "ppo-levels"), ROLLOUTS
    ),
    "a2c": {"n_steps": 8},
    **dict.fromkeys(("sac", "td3", "tqc", "td3-bc", "cql"), REPLAYED),
    "dqn": {**REPLAYED, "exploration_steps": 100},
    "qrdqn": {**REPLAYED, "exploration_steps": 100},
}
CASES = [
    *((name, algorithm.actions[0], {}) for name, algorithm in ALGORITHMS.items()),
    *((name, "item", {}) for name in ("dqn", "maskable-ppo")),
    ("maskable-ppo", "slate", {}),
    ("a2c", "query", {"normalise_observations": True}),
    ("dqn", "recipe", {"n_steps": 3, "normalise_observations": True}),
]


@pytest.fixture(scope="session")
def make(new_vec):
    """Makes agents with tiny settings, and environments that suit an agent."""

    class Make:
        def agent(self, name, action=None, seed=3, **settings):
            return StableBaselines(name, seed, action=action, **TINY_SETTINGS[name] | settings)

        def env(self, agent, n=N, reset="same_step", **changes):
            modes = {"action": agent.action, "observation": agent.observation}
            modes |= {"slate_size": 1} if agent.action == "item" else {}
            return new_vec(n, autoreset_mode=reset, **modes | changes)

    return Make()


@pytest.fixture(scope="module", params=CASES, ids=str)
def trained(make, request):
    """An agent after one segment; and how to make one that has not learnt."""
    name, action, settings = request.param
    agent = make.agent(name, action, **settings)
    assert isinstance(agent, OnlineAgent) and agent.name == name
    assert agent.learn(make.env(agent), 64, 0, 0) == 64
    return agent, lambda: make.agent(name, action, **settings)


def _weights(agent):
    return np.concatenate([x.detach().numpy().ravel() for x in agent.model.policy.parameters()])


def _through_a_file(state):
    """What a checkpoint makes of a state: read without running any code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _leaves(state):
    if isinstance(state, dict):
        return [leaf for value in state.values() for leaf in _leaves(value)]
    if isinstance(state, list | tuple):
        return [leaf for value in state for leaf in _leaves(value)]
    return [np.asarray(state)]


def test_it_acts_in_its_space_and_is_saved_and_loaded(trained, make, tmp_path):
    agent, _ = trained
    env = make.env(agent, n=7, reset="next_step", split="test")
    agent.save(tmp_path)
    name, config, weights = read_agent(tmp_path)
    loaded = StableBaselines(name, **config)
    loaded.load(weights, env)
    observation, _ = env.reset(seed=3)
    starts = np.ones(7, bool)
    for _ in range(3):
        actions = agent.act(observation, starts)
        for one in actions:
            assert env.single_action_space.contains(one.astype(env.single_action_space.dtype))
        np.testing.assert_array_equal(actions, loaded.act(observation, starts))
        observation, *_ = env.step(actions)
        starts = np.zeros(7, bool)
    before = _weights(loaded)
    loaded.learn(make.env(loaded), 64, 1, 64)  # goes on from these weights
    assert 0 < np.abs(_weights(loaded) - before).max() < 1.0


def test_a_killed_training_goes_on_with_the_same_bits(trained, make):
    agent, new_agent = trained
    before, state = _weights(agent), _through_a_file(agent.state())
    agent.learn(make.env(agent), 64, 1, 64)
    assert (_weights(agent) != before).any()
    resumed = new_agent()
    env = make.env(resumed)
    env.reset(seed=77)  # whatever was played there before
    resumed.restore(state)
    resumed.learn(env, 64, 1, 64)
    for one, same in zip(_leaves(agent.state()), _leaves(resumed.state()), strict=True):
        np.testing.assert_array_equal(one, same)
    agent.restore(state)


@pytest.mark.parametrize("name", ["ppo", "maskable-ppo", "dqn", "cql"])
def test_no_folder_of_logs_is_left_behind(make, name, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    agent = make.agent(name)
    agent.learn(make.env(agent), 32, 0, 0)
    assert list(tmp_path.iterdir()) == []


def test_another_segment_draws_other_numbers_and_fit_is_its_segments(make, monkeypatch):
    monkeypatch.setattr("agents.base.SEGMENT", 64)
    whole, parts, other = (make.agent("ppo") for _ in range(3))
    whole.fit(make.env(whole), 128)
    parts.learn(make.env(parts), 64, 0, 0)
    before, state = parts.model.get_vec_normalize_env().ret_rms.count, parts.state()
    parts.learn(make.env(parts), 64, 1, 64)
    np.testing.assert_array_equal(_weights(whole), _weights(parts))
    # Rewards are normalised as before the segment.
    after = parts.model.get_vec_normalize_env().ret_rms.count
    assert after == pytest.approx(before + 64, abs=1)
    other.restore(state)
    other.learn(make.env(other), 64, 2, 64)
    assert (_weights(other) != _weights(parts)).any()


@pytest.mark.parametrize(
    ("name", "action", "can"),
    [("sac", "slate", "weights, query"), ("dqn", "weights", "recipe, item")],
)
def test_a_mode_that_the_algorithm_cannot_act_in_is_refused(make, name, action, can):
    text = rf"{name} .*action='{action}'; it can in {can}"
    with pytest.raises(ValueError, match=text):
        make.agent(name, action)
    agent = make.agent(name)
    env = make.env(agent, action="slate", slate_size=5)
    with pytest.raises(ValueError, match=rf"{name} acts in action='{agent.action}' but .*{can}"):
        agent.fit(env, 64)


@pytest.mark.parametrize(
    ("name", "setting", "text"),
    [
        ("dqn", "gradient_step", r"of DQN 'gradient_step'\. Did you mean 'gradient_steps'"),
        ("ppo", "exploration_steps", "of PPO 'exploration_steps'"),
        ("a2c", "action_noise", "of A2C 'action_noise'"),
        ("sac", "device", "of SAC 'device'"),
        ("dqn", "exploration_fraction", "of DQN 'exploration_fraction'"),
    ],
)
def test_a_setting_that_the_algorithm_does_not_take_is_refused(make, name, setting, text):
    agent = make.agent(name, **{setting: 1})
    with pytest.raises(ValueError, match=text):
        agent.fit(make.env(agent), 64)


@pytest.mark.parametrize(
    ("name", "rate"), [("ppo", 1e9), ("a2c", 1e9), ("td3", 1e9), ("tqc", 1e9), ("dqn", 1e30)]
)
def test_training_stops_where_weights_explode_and_the_agent_stays_as_it_was(make, name, rate):
    agent = make.agent(name)
    env = make.env(agent)
    agent.learn(env, 64, 0, 0)
    before = _weights(agent)
    agent.settings["learning_rate"] = rate
    text = rf"{name}: .* after \d+ environment steps.* after 64"
    with pytest.raises(FloatingPointError, match=text):
        agent.learn(env, 64, 1, 64)
    np.testing.assert_array_equal(_weights(agent), before)
    agent.settings["learning_rate"] = 1e-3
    agent.learn(env, 64, 1, 64)
    assert np.isfinite(_weights(agent)).all()


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_training_stops_at_a_reward_that_is_not_a_number(make, monkeypatch, name):
    agent = make.agent(name)
    env = make.env(agent)
    step, steps = env.step, []

    def spoilt(actions):
        observations, rewards, *rest = step(actions)
        steps.append(len(steps))
        return observations, np.where(len(steps) > 3, np.nan, rewards), *rest

    monkeypatch.setattr(env, "step", spoilt)
    text = r"a reward is NaN .* 16 environment steps.* after 0"
    with pytest.raises(FloatingPointError, match=text):
        agent.learn(env, 64, 0, 0)
    assert len(steps) == 4 and np.isfinite(_weights(agent)).all()


def test_other_errors_are_told_as_they_are(make, monkeypatch):
    agent = make.agent("ppo")
    env = make.env(agent)
    monkeypatch.setattr(env, "step", lambda actions: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        agent.learn(env, 64, 0, 0)


def test_a_recurrent_policy_remembers_until_a_session_begins(make):
    agent = make.agent("recurrent-ppo", learning_rate=0.01)
    agent.fit(make.env(agent), 64)
    rng = np.random.default_rng(0)
    first, second = rng.uniform(-1, 1, (2, 3, 202)).astype(np.float32)
    on, fresh = np.zeros(3, bool), np.ones(3, bool)
    at_once = agent.act(second, fresh)
    agent.act(first, fresh)
    afterwards = agent.act(second, np.array([True, False, False]))
    np.testing.assert_array_equal(afterwards[0], at_once[0])
    assert (afterwards[1:] != at_once[1:]).any(axis=1).all()
    agent.act(first, fresh)
    fewer = agent.act(second[:2], on[:2])  # another batch: nothing is remembered
    np.testing.assert_allclose(fewer, at_once[:2], atol=1e-6)


def test_observations_are_normalised_by_what_was_seen_in_training(make):
    agent = make.agent("ppo", normalise_observations=True)
    env = make.env(agent)
    agent.fit(env, 64)
    observation, _ = env.reset(seed=0)
    running = agent.model.get_vec_normalize_env().obs_rms
    assert running.count == pytest.approx(64 + N, abs=1)
    kept = running.mean.copy()
    by_sb3 = agent.model.get_vec_normalize_env().normalize_obs(observation)
    expected, _ = agent.model.predict(by_sb3, deterministic=True)
    np.testing.assert_array_equal(agent.act(observation, np.ones(N, bool)), expected)
    np.testing.assert_array_equal(running.mean, kept)  # acting changes nothing
    plain, _ = agent.model.predict(observation, deterministic=True)
    assert (plain != expected).any()


def test_exploration_falls_with_all_user_steps_not_with_those_of_a_segment(make):
    agent = make.agent("dqn", exploration_steps=256, exploration_final_eps=0.1)
    env = make.env(agent)
    for segment, expected in enumerate((1 - 0.9 * 0.25, 1 - 0.9 * 0.5)):
        agent.learn(env, 64, segment, 64 * segment)
        assert agent.model.exploration_rate == pytest.approx(expected)


def test_the_entropy_coefficient_and_the_count_of_updates_are_carried_on(make):
    agent = make.agent("tqc", learning_rate=0.1)
    env = make.env(agent)
    agent.learn(env, 64, 0, 0)
    coefficient, updates = agent.model.log_ent_coef.item(), agent.model._n_updates
    assert coefficient != pytest.approx(np.log(0.1)) and updates > 5  # it starts at 0.1
    agent.settings["learning_starts"] = 10_000  # nothing is learnt in the next segment
    agent.learn(env, 16, 1, 64)
    assert (agent.model.log_ent_coef.item(), agent.model._n_updates) == (coefficient, updates)


def test_a_replay_buffer_is_carried_on_and_sessions_end_where_a_segment_does(make):
    agent = make.agent("dqn")
    env = make.env(agent)
    agent.learn(env, 64, 0, 0)
    first = agent.model.replay_buffer.observations[:16].copy()
    agent.learn(env, 16, 1, 64)
    buffer = agent.model.replay_buffer
    assert buffer.pos == 20 and not buffer.full
    np.testing.assert_array_equal(buffer.observations[:16], first)
    assert ((buffer.dones[15] == 1) | (buffer.timeouts[15] == 1)).all()
    agent.learn(env, 32, 2, 80)
    assert agent.model.replay_buffer.full


def test_other_weights_are_refused(make):
    agent, other = make.agent("ppo"), make.agent("a2c")
    other.settings["policy_kwargs"] = {"net_arch": [3]}
    other.fit(make.env(other), 64)
    weights = {name: x.numpy() for name, x in other.model.policy.state_dict().items()}
    with pytest.raises(ValueError, match="another policy than ppo's"):
        agent.load(weights, make.env(agent))


def test_an_agent_that_has_not_learnt_says_so(make, tmp_path):
    agent = make.agent("sac")
    for use in (
        lambda: agent.act(np.zeros((1, 202)), np.ones(1, bool)),
        lambda: agent.save(tmp_path),
    ):
        with pytest.raises(RuntimeError, match="'sac' has not learnt yet; call fit"):
            use()


def test_a_missing_package_names_the_extra(make, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    agent = make.agent("tqc")
    with pytest.raises(ImportError, match=r"TQC is part of sb3-contrib.*llmrec-env\[agents\]"):
        agent.fit(make.env(agent), 64)


def test_plain_ppo_learns_in_a_task_made_by_gymnasium(tiny):
    import gymnasium as gym
    from stable_baselines3 import PPO

    import llmrec_env  # noqa: F401

    model = PPO("MlpPolicy", gym.make("llmrec/Item-v1", **tiny), n_steps=32, batch_size=32, seed=0)
    before = [x.detach().clone() for x in model.policy.parameters()]
    model.learn(64)
    assert any((x != y).any() for x, y in zip(before, model.policy.parameters(), strict=True))


@pytest.mark.parametrize("expert", [None, "content"])
def test_a_pointer_that_sees_what_joint_believes_is_saved_with_it(new_vec, tmp_path, expert):
    settings = {**TINY_SETTINGS["ppo-pointer"], "joint_features": True, "expert": expert}
    agent = StableBaselines("ppo-pointer", 3, **settings)
    modes = {"observation": "dict", "action": "slate"}
    train_env = new_vec(8, autoreset_mode="same_step", **modes)
    steps = agent.learn(train_env, 512, 0, 0)
    assert steps >= 512
    agent.save(tmp_path)
    _, config, weights = read_agent(tmp_path)
    assert any(name.startswith("joint.") for name in weights)
    again = StableBaselines("ppo-pointer", **config)
    again.load(weights, new_vec(4, **modes))
    env = new_vec(4, split="test", **modes)
    observation, _ = env.reset(seed=5)
    starts = np.ones(4, np.bool_)
    np.testing.assert_array_equal(agent.act(observation, starts), again.act(observation, starts))


def test_what_a_pointer_sees_can_be_left_out_by_its_own_blocks(new_vec):
    agent = StableBaselines("ppo-pointer", 3, ("outcomes",), **TINY_SETTINGS["ppo-pointer"])
    agent.learn(new_vec(4, autoreset_mode="same_step", observation="dict"), 64, 0, 0)
    assert "outcomes" not in agent.policy_input.extractor.blocks
    with pytest.raises(ValueError, match="outcomes"):
        StableBaselines("ppo", 3, ("outcomes",))

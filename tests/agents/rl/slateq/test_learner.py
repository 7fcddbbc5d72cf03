"""The reference learner: segments, saving, refusals, and in the slow suite that it plans."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from agents import make_agent  # noqa: E402
from agents.base import OnlineAgent, Privileged  # noqa: E402
from agents.rl.slateq.learner import SlateQ  # noqa: E402
from agents.rl.slateq.user_model import Transition  # noqa: E402
from agents.rollout import rollout  # noqa: E402
from agents.saving import read_agent  # noqa: E402
from llmrec_env.config import EnvConfig  # noqa: E402

SHORT = {"steps": 8, "log_epochs": 1, "warm_up": 0, "ramp": 1}
MODES = {"observation": "dict", "action": "slate"}


@pytest.fixture
def train_env(new_vec):
    return new_vec(4, autoreset_mode="same_step", **MODES)


def _assert_same(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            _assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        for x, y in zip(a, b, strict=True):
            _assert_same(x, y)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def test_killed_and_resumed_it_is_the_same_to_the_bit(train_env):
    whole, first, second = (SlateQ(3, **SHORT) for _ in range(3))
    assert isinstance(whole, OnlineAgent) and not isinstance(whole, Privileged)
    done = whole.learn(train_env, 128, 0, 0)
    whole.learn(train_env, 128, 1, done)
    first.learn(train_env, 128, 0, 0)
    second.restore(first.state())
    second.learn(train_env, 128, 1, done)
    _assert_same(whole.state(), second.state())


def test_user_steps_are_counted_and_reported(train_env):
    agent, reports = SlateQ(3, **SHORT), []
    agent.on_steps = reports.append
    assert agent.learn(train_env, 128, 0, 100) == 128
    assert reports == [132, 164, 196, 228]


def test_a_segment_is_whole_updates_rounded_up(train_env):
    assert SlateQ(3, **SHORT).learn(train_env, 65, 0, 0) == 96


def test_it_acts_by_averages_of_what_it_learnt(train_env):
    agent, latest = SlateQ(3, **SHORT), SlateQ(3, ema_decay=0.0, **SHORT)
    for one in (agent, latest):
        one.fit(train_env, 128)
    acting = agent.tracker.model.biases
    assert np.abs(acting - agent.model.biases.detach().numpy()).max() > 0.0
    np.testing.assert_allclose(latest.tracker.model.biases, latest.model.biases.detach().numpy())


def test_acting_teaches_it_nothing_about_items(train_env, new_vec):
    agent = SlateQ(3, **SHORT)
    agent.fit(train_env, 64)
    before = agent.model.taste.factors.copy()
    env = new_vec(3, split="test", **MODES)
    observation, starts = env.reset(seed=1)[0], np.ones(3, bool)
    for _ in range(5):
        observation, *_ = env.step(agent.act(observation, starts))
        starts = np.zeros(3, bool)
    np.testing.assert_array_equal(before, agent.model.taste.factors)


@pytest.mark.parametrize("cause", ["rate", "reward"])
def test_a_loss_that_is_not_finite_stops_it_with_what_it_was(train_env, cause, monkeypatch):
    agent = SlateQ(3, **SHORT)
    agent.learn(train_env, 64, 0, 0)
    before = agent.state()
    if cause == "rate":
        for optimiser in agent.optimisers:
            for group in optimiser.param_groups:
                group["full"] = 1e30
        agent._state = agent.state()
    else:
        step = train_env.step

        def spoilt(actions):
            observation, reward, *rest = step(actions)
            return observation, reward * np.nan, *rest

        monkeypatch.setattr(train_env, "step", spoilt)
    with pytest.raises(FloatingPointError, match="before this segment"):
        agent.learn(train_env, 256, 1, 64)
    for part in ("model", "future"):
        _assert_same(agent.state()[part], before[part])


def test_saved_and_loaded_it_acts_the_same(train_env, new_vec, tmp_path):
    agent = SlateQ(3, **SHORT)
    agent.fit(train_env, 64)
    agent.save(tmp_path)
    _, config, weights = read_agent(tmp_path)
    again = SlateQ(**config)
    again.load(weights, new_vec(3, split="test", **MODES))
    env = new_vec(3, split="test", **MODES)
    for size in (3, 2):  # another number of sessions begins anew
        observation, _ = env.reset(seed=1)
        some = {name: x[:size] for name, x in observation.items()}
        starts = np.zeros(size, bool)
        np.testing.assert_array_equal(agent.act(some, starts), again.act(some, starts))


def test_without_a_discount_it_learns_no_future(train_env):
    agent = SlateQ(3, gamma=0.0, **SHORT)
    agent.fit(train_env, 64)
    assert float(agent.future.skip.weight.detach().abs().sum()) == 0.0


def test_what_it_cannot_do_is_refused(new_vec, train_env):
    with pytest.raises(ValueError, match="Did you mean 'greedy'"):
        SlateQ(slates="greedi")
    with pytest.raises(FloatingPointError, match="learning_rate"):
        SlateQ(3, learning_rate=1e30, **SHORT).fit(train_env, 64)
    with pytest.raises(ValueError, match="mmr=0"):
        SlateQ(slates="exact")
    with pytest.raises(RuntimeError, match="fit"):
        SlateQ().act(new_vec(1, **MODES).reset()[0], np.ones(1, bool))


def test_it_believes_what_a_privileged_observation_tells(new_vec):
    env = new_vec(4, autoreset_mode="same_step", privileged_observation=True, **MODES)
    agent = SlateQ(3, **SHORT)
    agent.fit(env, 128)
    observation, _ = env.reset(seed=1)
    agent.act(observation, np.ones(4, bool))
    users, tracker = env.simulator.users, agent.tracker
    believed = tracker.belief @ env.public_data().phrase_vectors
    np.testing.assert_allclose(believed, env.simulator.interests(), atol=1e-5)
    np.testing.assert_array_equal(tracker.satiation, users["satiation"])
    np.testing.assert_array_equal(tracker.goodwill, users["goodwill"])
    _, items = tracker.appraise(observation["candidates"])
    np.testing.assert_array_equal(items[..., 0], observation["true_relevance"])
    public = new_vec(4, **MODES).reset(seed=1)[0]
    agent.act(public, np.ones(4, bool))  # and tracks again where it is told nothing
    assert (agent.tracker.appraise(public["candidates"])[1][..., 0] != items[..., 0]).any()


def test_told_states_are_learnt_from_as_they_were(new_vec):
    env = new_vec(4, autoreset_mode="same_step", privileged_observation=True, **MODES)
    agent = SlateQ(3, **SHORT)
    agent.fit(env, 64)
    rng = torch.Generator().manual_seed(0)
    n, k = 6, 5
    relevance = torch.rand(n, k, generator=rng)
    state, slate = agent.model.start(n), torch.arange(n * k).reshape(n, k)
    transition = Transition(
        slate,
        torch.zeros(n, dtype=torch.int64),
        torch.ones(n),
        torch.full((n,), -1),
        torch.zeros(n, k),
        torch.empty(n, k, 0),
    )
    q = agent.model.parameters_now()
    told, _ = agent.model.step(q, state, transition, relevance)
    again, _ = agent.model.step(q, state, transition, 2.0 * relevance)
    assert (told.reward < again.reward).all()  # f counts as it was told, twice as large


# --- on the real encoder


def _made(split, n, reset="next_step", **told):
    kwargs = dict(world_seed=100, split=split, autoreset_mode=reset, **MODES, **told)
    return gymnasium.make_vec("llmrec/Drift-v1", num_envs=n, **kwargs).unwrapped


@pytest.mark.slow
def test_tastes_of_items_are_found_in_logs_and_better_with_sessions():
    env, explained = _made("train", 64, "same_step"), []
    truth = env.simulator.world.traits["taste"] - env.simulator.world.traits["taste"].mean(axis=0)
    for steps in (1, 50_000):
        agent = SlateQ(1)
        agent.fit(env, steps)
        factors = agent.model.taste.factors - agent.model.taste.factors.mean(axis=0)
        rest = truth - factors @ np.linalg.lstsq(factors, truth, rcond=None)[0]
        explained.append(1.0 - float((rest**2).sum() / (truth**2).sum()))
    assert explained[0] > 0.25
    assert explained[1] > explained[0] + 0.03, explained


@pytest.mark.slow
def test_told_the_truth_it_plans_and_is_about_as_good_as_the_myopic_oracle():
    exact, returns = {"slates": "exact", "mmr": 0.0}, {}
    for name, agent in (
        ("near", SlateQ(1, gamma=0.0, **exact)),
        ("far", SlateQ(1, **exact)),
        ("uninformed", SlateQ(1)),
        ("myopic", make_agent("oracle-myopic", EnvConfig())),
    ):
        told = {"privileged_observation": name != "uninformed"}
        train_env = _made("train", 64, "same_step", **told)
        users = train_env.simulator.world.users_of("validation")[:200]
        env = _made("validation", len(users), **told)
        agent.fit(train_env, 100_000)
        played = [rollout(agent, env, users, seed).reward.sum(1).mean() for seed in (3, 4)]
        returns[name] = float(np.mean(played))
    assert returns["far"] > 1.3 * returns["uninformed"]
    assert returns["far"] > 1.03 * returns["near"]
    assert returns["far"] > 0.95 * returns["myopic"]

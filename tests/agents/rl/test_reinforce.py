"""The top-K correction against its formula, and the agent that learns by it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from agents import make_agent
from agents.dataset import logged_choices
from agents.rl.reinforce import TopKReinforce, corrected_loss, log_policy, slate_multiplier
from agents.rollout import rollout
from llmrec_env.config import EnvConfig

N = 4
NO_CLIP = float("inf")


def _training(new_vec, n=N, **changes):
    return new_vec(n, action="slate", observation="dict", autoreset_mode="same_step", **changes)


@pytest.fixture
def acting_env(new_vec):
    return new_vec(N, split="test", action="slate", observation="dict")


def _gradient(loss_of, scores):
    scores = scores.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(scores).sum(), scores)
    return gradient


# --- the correction


def test_the_multiplier_is_that_of_the_paper():
    # λ_K = K (1 - π)^(K - 1): K for what is never drawn, 0 for what always is.
    found = slate_multiplier(torch.tensor([0.0, 0.2, 1.0]), 3)
    torch.testing.assert_close(found, torch.tensor([3.0, 3 * 0.8**2, 0.0]))


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_the_gradient_is_that_of_the_chance_to_be_on_the_slate(slots):
    # Chen et al. (2019), eq. 6: the same as replacing π by α = 1 - (1 - π)^K.
    scores = torch.tensor([[0.3, -1.0, 2.0], [0.0, 0.5, 0.1]], dtype=torch.float64)
    chosen, credit = torch.tensor([2, 1]), torch.tensor([1.5, -0.7], dtype=torch.float64)
    log_beta = torch.tensor([0.4, 0.25], dtype=torch.float64)

    def on_slate(x):
        probability = x.softmax(1).gather(1, chosen[:, None])[:, 0]
        return -credit / log_beta * (1 - (1 - probability) ** slots)

    def ours(x):
        return corrected_loss(log_policy(x, chosen), log_beta.log(), credit, slots, NO_CLIP)

    torch.testing.assert_close(_gradient(ours, scores), _gradient(on_slate, scores))


def test_its_gradient_by_hand():
    scores, chosen = torch.tensor([[0.0, float(np.log(3.0))]]), torch.tensor([1])  # π = 1/4, 3/4
    log_beta, credit = torch.tensor([0.5]).log(), torch.tensor([2.0])
    # π/β · λ · R · (1{a} - π) = 1.5 · 2 · 0.25 · 2 · (-3/4, 1/4), of which the loss is minus.
    towards = torch.tensor([[-1.5 * 0.75, 1.5 * 0.25]])
    towards[0, 0] = -towards[0, 1]  # gradients of a softmax sum to 0
    found = _gradient(
        lambda x: corrected_loss(log_policy(x, chosen), log_beta, credit, 2, NO_CLIP), scores
    )
    torch.testing.assert_close(found, -towards)


def test_slates_of_one_on_policy_are_plain_reinforce():
    scores, chosen = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    chosen, credit = chosen % 5, torch.linspace(-1, 1, 8)
    log_beta = log_policy(scores, chosen)
    found = _gradient(
        lambda x: corrected_loss(log_policy(x, chosen), log_beta, credit, 1, 1.0), scores
    )
    one_hot = torch.nn.functional.one_hot(chosen, 5)
    torch.testing.assert_close(found, -credit[:, None] * (one_hot - scores.softmax(1)))


def test_ratios_are_clipped():
    logs, credit = torch.tensor([0.5, 0.5, 0.5]).log(), torch.ones(3)
    log_beta = torch.tensor([0.01, 0.1, 0.5]).log()  # π / β = 50, 5, 1
    loss = corrected_loss(logs, log_beta, credit, 1, 4.0)
    torch.testing.assert_close(loss, -torch.tensor([4.0, 4.0, 1.0]) * logs)


def test_what_was_not_consumed_teaches_nothing():
    scores, chosen = torch.zeros(2, 3), torch.tensor([0, 0])
    log_beta, credit = log_policy(scores, chosen), torch.tensor([0.0, 1.0])
    found = _gradient(
        lambda x: corrected_loss(log_policy(x, chosen), log_beta, credit, 3, 5.0), scores
    )
    assert not found[0].any() and found[1].any()


def test_the_correction_finds_the_second_best_too():
    # Section 6.1.3 of the paper: ten items, a uniform β; plain REINFORCE is content with the best.
    reward = torch.tensor([1.0] * 8 + [9.0, 10.0])
    log_beta, every = torch.full((10,), 0.1).log(), torch.arange(10)
    policy = {}
    for slots in (1, 2):
        scores = torch.zeros(10, requires_grad=True)
        for _ in range(4_000):
            logs = log_policy(scores.expand(10, 10), every)
            loss = (log_beta.exp() * corrected_loss(logs, log_beta, reward, slots, NO_CLIP)).sum()
            (gradient,) = torch.autograd.grad(loss, scores)
            scores = (scores - 0.1 * gradient).detach().requires_grad_()
        policy[slots] = scores.softmax(0)
    assert policy[1][9] > 0.95 and policy[1][8] < 0.05
    assert policy[2][8] > 0.3 and policy[2][:8].max() < 0.1


# --- logs


def test_it_imitates_what_satisfied(new_vec):
    env, agent = _training(new_vec), TopKReinforce(log_epochs=20)
    agent._prepare(env)
    agent._rng = np.random.default_rng(0)
    data = env.public_data()
    features, choice = logged_choices(data, env.config, agent.extractor.encode, agent._rng)
    assert len(features) == ((data.logs.items >= 0) & (data.logs.satisfied == 1)).sum()

    @torch.no_grad()
    def likelihood():
        scores = agent.policy.scores(torch.from_numpy(features))[:, : agent.slots]
        return float(log_policy(scores, torch.from_numpy(choice)).mean())

    before = likelihood()
    agent._imitate(env, "satisfied")
    assert likelihood() > before + 0.05


def test_logs_in_which_nothing_satisfied_teach_it_nothing(new_vec, monkeypatch):
    env, agent = _training(new_vec), TopKReinforce(steps=4)
    data = env.public_data()
    logs = data.logs._replace(feedback=np.minimum(data.logs.feedback, 0))
    monkeypatch.setattr(env, "public_data", lambda: dataclasses.replace(data, logs=logs))
    assert agent.learn(env, 16, 0, 0) == 16


# --- playing and learning


def test_a_rollout_holds_what_was_consumed_and_by_which_policy(new_vec):
    env, agent = _training(new_vec, n=16), TopKReinforce(steps=90)
    agent._prepare(env)
    agent._rng = np.random.default_rng(0)
    rollout = agent._collect(env, *agent._encode(env.reset(seed=0)[0]))
    assert rollout.done.any()
    # What happened in the last step of a session is not what `info` says of the next one.
    assert rollout.consumed.numpy().reshape(90, 16)[rollout.done].any()
    with torch.no_grad():
        logs = log_policy(agent.policy.scores(rollout.features), rollout.chosen)
    torch.testing.assert_close(rollout.log_beta, logs)
    rewarded = torch.from_numpy(rollout.reward).flatten() > 0
    assert rewarded.any() and rollout.consumed[rewarded].all()


def test_it_does_not_act_before_it_has_learnt(acting_env):
    with pytest.raises(RuntimeError, match="call fit"):
        TopKReinforce().act(acting_env.reset(seed=0)[0], np.ones(N, bool))


def test_segments_go_on_bit_for_bit_after_a_restart(new_vec):
    def learn(agent, segments):
        env = _training(new_vec)  # nothing is left over from earlier segments
        done = 128 * segments[0]
        for segment in segments:
            torch.rand(3)  # the random numbers of others play no part
            done += agent.learn(env, 128, segment, done)
        return agent

    whole = learn(TopKReinforce(seed=2), [0, 1])
    half, rest = learn(TopKReinforce(seed=2), [0]), TopKReinforce(seed=2)
    rest.restore(half.state())
    learn(rest, [1])
    for name, weights in whole.state()["policy"].items():
        torch.testing.assert_close(rest.state()["policy"][name], weights, rtol=0, atol=0)
        assert name == "updates" or weights.isfinite().all()
    other = learn(TopKReinforce(seed=3), [0, 1]).state()["policy"]
    assert not torch.equal(other["start"], whole.state()["policy"]["start"])


def test_learning_leaves_the_random_state_of_the_caller_alone(new_vec):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    TopKReinforce().fit(_training(new_vec), 128)
    assert torch.equal(torch.rand(1), expected)


def test_steps_are_told_as_they_are_done(new_vec):
    agent, told = TopKReinforce(steps=8), []
    agent.on_steps = told.append
    assert agent.learn(_training(new_vec), 100, 0, 1_000) == 96
    assert told == [1_032, 1_064, 1_096]


def test_a_loss_that_is_not_finite_stops_it_as_it_was(new_vec, monkeypatch):
    env, agent = _training(new_vec), TopKReinforce()
    agent.learn(env, 128, 0, 0)
    before, step = agent.state(), env.step
    steps = iter(range(10_000))

    def broken(actions):
        observation, reward, *rest = step(actions)
        return (observation, reward * (np.nan if next(steps) > 50 else 1.0), *rest)

    monkeypatch.setattr(env, "step", broken)  # the second update meets it
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        agent.learn(env, 256, 1, 128)
    for name, weights in before["policy"].items():
        assert torch.equal(agent.state()["policy"][name], weights)


@pytest.mark.slow
def test_it_learns_to_satisfy(new_vec, tiny):
    agents = {"ours": TopKReinforce(), "popular": make_agent("popular", EnvConfig(**tiny))}
    rewards = {}
    for name, agent in agents.items():
        agent.fit(_training(new_vec, n=32), 60_000)
        env = new_vec(24, split="validation", action="slate", observation=agent.observation)
        users = np.resize(env.simulator.world.users_of("validation"), 24)
        rewards[name] = rollout(agent, env, users, 3).reward.sum(1).mean()
    assert rewards["ours"] > 1.2 * rewards["popular"]

"""Scripts that know nothing of this project learn in its tasks as they are."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import llmrec_env  # noqa: F401, registers the tasks

torch = pytest.importorskip("torch", reason="torch is not installed")

from single_file_ppo import make_envs, train  # noqa: E402

TASKS = {"item": "llmrec/Item-v1", "weights": "llmrec/Weights-v1"}


def test_plain_stable_baselines_trains_and_plays(tiny):
    pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
    from stable_baselines3 import PPO

    env = gym.make("llmrec/Item-v1", **tiny)
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=32, seed=0)
    before = [x.detach().clone() for x in model.policy.parameters()]
    model.learn(128)
    assert any(
        not torch.equal(*pair) for pair in zip(before, model.policy.parameters(), strict=True)
    )
    observation, _ = env.reset(seed=1)
    total, done = 0.0, False
    while not done:
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action)
        total, done = total + float(reward), terminated or truncated
    assert total >= 0.0


@pytest.mark.parametrize("native", [True, False], ids=["native", "sync"])
@pytest.mark.parametrize("kind", TASKS)
def test_ppo_in_one_file_trains(kind, native, tiny):
    task = TASKS[kind]
    envs = make_envs(task, 4, native, **tiny)
    network, returns = train(envs, updates=3, rollout=32, minibatch=64)
    assert returns and np.isfinite(returns).all() and min(returns) >= 0.0
    assert all(x.isfinite().all() for x in network.parameters())
    assert network.actor[2].weight.abs().max() > 0.0  # it began at 0


@pytest.mark.parametrize("kind", TASKS)
def test_it_learns_the_same_in_a_native_batch_as_in_single_environments(kind, tiny):
    task = TASKS[kind]
    runs = [train(make_envs(task, 3, native, **tiny), 2, 48) for native in (True, False)]
    assert runs[0][1] == runs[1][1]
    for one, other in zip(runs[0][0].parameters(), runs[1][0].parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_ppo_in_one_file_learns_to_rank(tiny):
    task = TASKS["weights"]
    envs = make_envs(task, 32, **tiny)
    envs.reset(seed=5)
    envs.action_space.seed(5)
    random: list[float] = []
    while len(random) < 1000:
        info = envs.step(envs.action_space.sample())[4]
        random += info["episode"]["r"][info["_episode"]].tolist() if "episode" in info else []
    _, returns = train(make_envs(task, 32, **tiny), updates=100, epochs=8, rate=3e-4)
    first, last = np.array(returns[:500]), np.array(returns[-1000:])
    error = np.sqrt((np.var(random) + last.var()) / 1000)
    assert last.mean() > np.mean(random) + 4 * error  # measured: 10.5 and 8.7, error 0.2
    assert last.mean() > first.mean()  # it begins at the content ranker: measured 9.9

"""Agents that have learnt, once for all tests that need one."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest

from agents import AGENTS, Privileged, make_agent
from agents.checkpoint import save_agent
from llmrec_env.config import EnvConfig

N, BUDGET = 4, 256
"""Sessions at once, and environment steps to learn from."""
_SHORT = {"n_steps": 32, "batch_size": 64}
_REPLAYED = {"learning_starts": 64, "batch_size": 32, "buffer_size": 512}
SETTINGS = {
    "ppo": {"n_steps": 64, "batch_size": 128, "n_epochs": 1},
    "recurrent-ppo": _SHORT | {"n_epochs": 1},
    "maskable-ppo": _SHORT | {"n_epochs": 1},
    "ppo-levels": _SHORT | {"n_epochs": 1},
    "ppo-pointer": _SHORT | {"n_epochs": 1, "expert": "content", "joint_features": False},
    "slateq": {"steps": 16, "log_epochs": 1},
    "reinforce-topk": {"steps": 16},
    "world-model": {"steps": 16, "descents": 1, "log_epochs": 1, "hidden": 16},
    "joint": {"sweeps": 2},
    "belief-oracle": {"particles": 6, "moves": 2},
} | dict.fromkeys(("sac", "td3", "tqc", "td3-bc", "dqn", "qrdqn", "cql"), _REPLAYED)


class Fitted(NamedTuple):
    """An agent after fitting, and what it did first in an environment of test users."""

    agent: Any
    config: EnvConfig
    new_env: Any  # makes environments to act in
    folder: Any  # where it was saved before it acted
    actions: np.ndarray


def pytest_generate_tests(metafunc):
    """Gives a test that takes `name` every agent that needs no language model."""
    if "name" in metafunc.fixturenames and "fitted" in metafunc.fixturenames:
        names = [
            name
            for name, spec in AGENTS.items()
            if not (spec.trains_encoder or spec.language_model)
        ]
        metafunc.parametrize("name", names)


@pytest.fixture(scope="session")
def play_steps():
    """Plays an agent for some steps and returns its actions, (steps, N, ...)."""

    def play(agent, env, steps=12):
        if isinstance(agent, Privileged):
            agent.attach(env)
        observation, _ = env.reset(seed=3)
        starts, actions = np.ones(N, bool), []
        for _ in range(steps):
            actions.append(np.array(agent.act(observation, starts)))
            observation, _, terminated, truncated, _ = env.step(actions[-1])
            starts = terminated | truncated
        return np.stack(actions)

    return play


@pytest.fixture(scope="session")
def fit_agent(new_vec):
    """Fits an agent, and returns it, its configuration and how to make environments for it."""

    def fit(name, settings, **env):
        agent = make_agent(name, EnvConfig(**env), 2, **settings)
        env |= {"action": agent.action, "observation": agent.observation}
        env |= {"slate_size": 1} if agent.action == "item" else {}
        agent.fit(new_vec(N, autoreset_mode="same_step", **env), BUDGET)

        def new_env(**more):
            return new_vec(N, **(env | {"split": "test"} | more))

        return agent, EnvConfig(**env), new_env

    return fit


@pytest.fixture(scope="session")
def fitted(tiny, fit_agent, play_steps, tmp_path_factory):
    """Returns an agent by its name: fitted, saved and played; again, for another `repetition`.

    `response` is the model of the users that it meets.
    """

    @cache
    def agent_of(name, repetition=0, response="logit"):
        settings, env = SETTINGS.get(name, {}), tiny | {"response": response}
        agent, config, new_env = fit_agent(name, settings, **env)
        folder = tmp_path_factory.mktemp(f"{name}-{repetition}-{response}")
        save_agent(agent, config, folder)
        return Fitted(agent, config, new_env, folder, play_steps(agent, new_env()))

    return agent_of

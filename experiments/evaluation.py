"""Train an agent on training users, play it with held-out users: one cell of a benchmark."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np

import llmrec_env
from agents import Agent, make_agent
from agents.base import Learner
from agents.interactions import Episodes, play
from experiments.results import Episode
from llmrec_env.config import EnvConfig
from llmrec_env.vector_env import RecVectorEnv

TRAIN_ENVS = 64
EVALUATION_SEED = 1


@dataclass(frozen=True)
class Cell:
    """What is trained and evaluated once."""

    task: str
    agent: str
    world: int
    seed: int = 0
    train_steps: int = 0
    split: str = "test"
    users: int | None = None
    """Held-out users, the first of the split; None: all."""
    env: dict[str, Any] = field(default_factory=dict)
    """Overrides of EnvConfig fields."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The agent's own settings."""


@dataclass(frozen=True)
class Outcome:
    """What a cell brought."""

    cell: Cell
    episodes: Episodes
    seconds_training: float
    seconds_playing: float

    def rows(self) -> list[Episode]:
        """Returns one record a user."""
        cell, played = self.cell, self.episodes
        steps = played.alive.sum(axis=1)
        angle = np.where(played.alive, played.angle, 0.0).sum(axis=1) / np.maximum(steps, 1)
        return [
            Episode(
                *(cell.task, cell.agent, cell.world, cell.seed, int(played.user[i])),
                *(float(played.reward[i].sum()), int(steps[i]), int(played.consumed[i].sum())),
                *(int(played.satisfied[i].sum()), float(angle[i]), bool(played.survived[i])),
            )
            for i in range(len(steps))
        ]


def environment(cell: Cell, agent: Agent, num_envs: int, split: str) -> RecVectorEnv:
    """Returns the batched environment of a cell in the modes that its agent wants."""
    own = {"action": agent.action, "observation": agent.observation, "split": split}
    kwargs = {**cell.env, "world_seed": cell.world, **own}
    reset = "same_step" if split == "train" else "next_step"
    made = gymnasium.make_vec(cell.task, num_envs=num_envs, autoreset_mode=reset, **kwargs)
    env = made.unwrapped
    assert isinstance(env, RecVectorEnv)  # the registered vector entry point
    return env


def task_config(task: str, env: Mapping[str, Any]) -> EnvConfig:
    """Returns the configuration of a task with overrides."""
    return EnvConfig.from_kwargs({**llmrec_env.TASKS[task], **env})


def run_cell(cell: Cell, on_progress: Callable[[float], None] | None = None) -> Outcome:
    """Trains and plays one agent; every agent meets the same users and the same luck.

    Args:
        cell: what to run.
        on_progress: called with the share of the cell that is done, 0 to 1.
    """
    config = task_config(cell.task, cell.env)
    agent = make_agent(cell.agent, config, seed=cell.seed, **cell.settings)
    started = time.perf_counter()
    train_env = environment(cell, agent, TRAIN_ENVS, "train")
    if isinstance(agent, Learner) and on_progress:
        agent.on_steps = lambda done: on_progress(0.9 * min(done / max(cell.train_steps, 1), 1.0))
    agent.fit(train_env, cell.train_steps)
    trained = time.perf_counter()
    users = train_env.simulator.world.users_of(cell.split)[: cell.users]
    env = environment(cell, agent, len(users), cell.split)
    episodes = play(agent, env, users, EVALUATION_SEED)
    if on_progress:
        on_progress(1.0)
    return Outcome(cell, episodes, trained - started, time.perf_counter() - trained)

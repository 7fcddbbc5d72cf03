"""Train an agent on training users, play it with held-out users: one cell of a benchmark."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium

import llmrec_env
from agents import Agent, make_agent
from agents.base import Learner
from agents.interactions import play
from experiments.harness.cells import Cell, CellResult
from experiments.harness.measures import (
    Truth,
    episode_rows,
    exposure_values,
    sums_over_sessions,
    watched_sessions,
)
from experiments.harness.offline import offline_values
from experiments.harness.training import train
from llmrec_env.config import EnvConfig
from llmrec_env.vector_env import RecVectorEnv

TRAIN_ENVS = 64
EVALUATION_SEED = 1
VALIDATION_SEED = 3
VALIDATION_USERS = 100
"""Users, the first of the split, on which learning curves are measured."""


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


def run_cell(
    cell: Cell,
    on_progress: Callable[[float], None] | None = None,
    *,
    folder: Path | None = None,
    track: tuple[str, ...] = (),
) -> CellResult:
    """Trains and plays one agent; every agent meets the same users and the same luck.

    Args:
        cell: what to run.
        on_progress: called with the share of the cell that is done, 0 to 1.
        folder: where training leaves checkpoints, to go on with, and what `track` writes.
        track: `tensorboard` and `wandb`, if training is to be followed there.
    """
    agent = make_agent(cell.agent, task_config(cell.task, cell.env), cell.seed, **cell.settings)
    started = time.perf_counter()
    train_env = environment(cell, agent, TRAIN_ENVS, "train")
    learning: list[list[float]] = []
    if isinstance(agent, Learner):
        if on_progress:
            share = 0.9 / max(cell.train_steps, 1)
            agent.on_steps = lambda done: on_progress(min(done * share, 0.9))
        learning = train(agent, train_env, cell, lambda: _validated(agent, cell), folder, track)
    else:
        agent.fit(train_env, cell.train_steps)
    trained = time.perf_counter()
    users = train_env.simulator.world.users_of(cell.split)[: cell.users]
    env = environment(cell, agent, len(users), cell.split)
    truth = Truth(env, cell.watched)
    played = play(agent, env, users, EVALUATION_SEED, truth)
    ended = time.perf_counter()
    result = CellResult(
        cell,
        episode_rows(cell, played, truth),
        sums_over_sessions(played, truth),
        exposure_values(played, truth) | offline_values(agent, cell, users),
        learning,
        watched_sessions(cell, played, truth),
    )
    result.seconds.update(
        training=trained - started,
        playing=ended - trained,
        measuring=time.perf_counter() - ended,
    )
    if on_progress:
        on_progress(1.0)
    return result


def _validated(agent: Agent, cell: Cell) -> float:
    """Mean return on validation users of the same world, for the learning curve."""
    probe = environment(cell, agent, 1, "validation").simulator
    users = probe.population[:VALIDATION_USERS]
    env = environment(cell, agent, len(users), "validation")
    return float(play(agent, env, users, VALIDATION_SEED).reward.sum(axis=1).mean())

"""Train an agent on training users, play it with held-out users: one cell of a benchmark."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agents import Agent, make_agent
from agents.base import Learner
from agents.rollout import play
from experiments.runs.spec import Cell, CellResult
from experiments.runs.environments import TRAIN_ENVS, environment, task_config
from experiments.runs.measures import (
    Truth,
    episode_rows,
    exposure_values,
    sums_over_sessions,
    watched_sessions,
)
from experiments.runs.offline_ranking import offline_values
from experiments.runs.training import train
from llmrec_env.simulation.logging_policy import split_of

EVALUATION_SEED = 1
VALIDATION_SEED = 3
VALIDATION_USERS = 100
"""Users, the first of the split, on which learning curves are measured."""


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
        learning = train(agent, train_env, cell, validator(agent, cell), folder, track)
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


def validator(
    agent: Agent, cell: Cell, num_users: int | None = VALIDATION_USERS
) -> Callable[[], float]:
    """Returns what measures the mean return on validation users of the world, for learning curves.

    Users, the first `num_users` of the split, and luck are the same at every call.
    """
    ids = np.arange(task_config(cell.task, cell.env).num_users)
    users = ids[split_of(ids, "validation")][:num_users]
    env = environment(cell, agent, len(users), "validation")
    return lambda: float(play(agent, env, users, VALIDATION_SEED).reward.sum(axis=1).mean())

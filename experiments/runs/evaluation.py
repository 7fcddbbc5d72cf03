"""Training and evaluation of one agent: one run of a benchmark."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agents import Agent, make_agent
from agents.base import OnlineAgent
from agents.checkpoint import save_agent
from agents.rollout import rollout
from experiments.runs.measures import (
    Truth,
    episode_rows,
    exposure_values,
    sums_over_sessions,
    watched_sessions,
)
from experiments.runs.offline_ranking import offline_values
from experiments.runs.spec import TRAIN_ENVS, RunResult, RunSpec, environment, task_config, users_of
from experiments.runs.threads import one_thread
from experiments.runs.training import train

EVALUATION_SEED = 1
VALIDATION_SEED = 3
VALIDATION_USERS = 100
"""Users, the first of the split, on which learning curves are measured."""


@one_thread()
def execute_run(
    spec: RunSpec,
    on_progress: Callable[[float], None] | None = None,
    *,
    folder: Path | None = None,
    track: tuple[str, ...] = (),
    save: Path | None = None,
) -> RunResult:
    """Trains and evaluates an agent; all meet the same users and common random numbers.

    Args:
        spec: what to run.
        on_progress: called with the share of the run that is done, 0 to 1.
        folder: where training leaves checkpoints, to go on with, and what `track` writes.
        track: `tensorboard` and `wandb`, if training is to be followed there.
        save: folder for the trained agent; None: it is not kept.
    """
    begun = time.perf_counter()
    agent = make_agent(spec.agent, task_config(spec.task, spec.env), spec.seed, **spec.settings)
    train_env = environment(spec, agent, TRAIN_ENVS, "train")
    started = time.perf_counter()
    learning: list[list[float]] = []
    if isinstance(agent, OnlineAgent):
        if on_progress:
            share = 0.9 / max(spec.train_steps, 1)
            agent.on_steps = lambda done: on_progress(min(done * share, 0.9))
        learning = train(agent, train_env, spec, validator(agent, spec), folder, track)
    else:
        agent.fit(train_env, spec.train_steps)
    trained = time.perf_counter()
    if save:
        save_agent(agent, train_env.config, save)
    result = play_run(agent, spec, learning)
    # Whoever comes first encodes the texts, builds the world and compiles: no agent's time.
    result.seconds.update(preparing=started - begun, training=trained - started)
    if on_progress:
        on_progress(1.0)
    return result


@one_thread()
def play_run(agent: Agent, spec: RunSpec, learning: Sequence[Sequence[float]] = ()) -> RunResult:
    """Evaluates an agent that can act already.

    Args:
        agent: of the modes and the world of the run.
        spec: the users, and what they are called in tables.
        learning: its learning curve, for the result.
    """
    started = time.perf_counter()
    users = users_of(spec)[: spec.users]
    env = environment(spec, agent, len(users), spec.split)
    truth = Truth(env, spec.watched, agent)
    episodes = rollout(agent, env, users, EVALUATION_SEED, truth)
    ended = time.perf_counter()
    result = RunResult(
        spec,
        episode_rows(spec, episodes, truth),
        sums_over_sessions(episodes, truth),
        exposure_values(episodes, truth) | offline_values(agent, spec, users),
        [list(point) for point in learning],
        watched_sessions(spec, episodes, truth),
    )
    result.seconds.update(playing=ended - started, measuring=time.perf_counter() - ended)
    return result


def validator(
    agent: Agent, spec: RunSpec, num_users: int | None = VALIDATION_USERS
) -> Callable[[], float]:
    """Returns what measures the mean return on validation users of the world, for learning curves.

    Users, the first `num_users` of the split, and randomness are the same at every call.
    """
    users = users_of(spec, "validation")[:num_users]
    env = environment(spec, agent, len(users), "validation")
    return lambda: float(rollout(agent, env, users, VALIDATION_SEED).reward.sum(axis=1).mean())

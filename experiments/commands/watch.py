"""One session of an agent, step by step in the terminal or as a video: `watch runs/ppo`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import RecordVideo

from agents import Agent, Privileged
from agents.rollout import session_seeds
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.runs.evaluation import EVALUATION_SEED
from experiments.runs.resolve import load, resolve, task_of
from experiments.runs.spec import RunSpec, task_config
from experiments.runs.threads import one_thread
from experiments.store import storing
from llmrec_env.config import EnvConfig

_SUFFIX = ".mp4"
_RULE = "─" * 100


def run(
    agent: str,
    /,
    user: int = 9,
    max_steps: int | None = None,
    delay: float = 0.5,
    video: Path | None = None,
    world: int | None = None,
    task: str | None = None,
    transfer: bool = False,
    env: EnvFields = NO_FIELDS,
) -> float:
    """Plays one session step by step, and returns its return.

    It is the session that `evaluate` plays with this user. What is shown names the user's
    interests, which no agent sees.

    Args:
        agent: folder of a saved agent, or the name of one that needs no training.
        user: id; those ending in 9 are test users.
        max_steps: to play; by default the whole session.
        delay: seconds between two steps in the terminal.
        video: write a video instead: an .mp4 file, or a folder for it (extra `video`).
        world: which world; by default the one that the agent was trained in.
        task: a registered id; by default the agent's own task.
        transfer: let a saved agent act in a world that it does not know: see `evaluate`.
        env: fields of the environment that override the task's.

    Raises:
        ValueError: there is no such agent or user, or it must be trained first.
        ImportError: a video is asked for and the extra is not installed.
    """
    source = resolve(agent)
    name, changes = task_of(source, task, given_fields(env))
    trained_in = source.saved.config.world_seed if source.saved else 0
    spec = RunSpec(name, source.name, trained_in if world is None else world, env=changes)
    _check(task_config(name, changes), user, max_steps, delay)
    if video is not None and importlib.util.find_spec("moviepy") is None:
        raise ImportError("--video needs moviepy; pip install llmrec-env[video].")
    loaded, batch = load(source, spec, 1, "all", transfer)
    made = gymnasium.make(
        name,
        render_mode="ansi" if video is None else "rgb_array",
        **batch.config.to_dict(),
    )
    if isinstance(loaded, Privileged):
        loaded.attach(made.unwrapped)  # type: ignore[arg-type]  # it reads the simulator
    if video is not None:
        return _record(loaded, made, user, max_steps, video)

    def show(current: gymnasium.Env[Any, Any]) -> None:
        print(current.render(), _RULE, sep="\n", flush=True)
        time.sleep(delay)

    return play_session(loaded, made, user, max_steps, show)


@one_thread()
def play_session(
    agent: Agent,
    env: gymnasium.Env[Any, Any],
    user: int,
    max_steps: int | None = None,
    show: Callable[[gymnasium.Env[Any, Any]], None] = lambda env: None,
) -> float:
    """Plays one session of a user in a single environment, and returns its return.

    Args:
        agent: can act.
        env: of one session.
        user: id.
        max_steps: after which it ends at the latest; None: when the session ends.
        show: called at the start and after each step.
    """
    (seed,) = session_seeds(EVALUATION_SEED, np.array([user]))
    observation, _ = env.reset(seed=seed, options={"user_id": user})
    show(env)
    total, steps, starts, running = 0.0, 0, np.ones(1, np.bool_), True
    with contextlib.suppress(KeyboardInterrupt):  # who has seen enough
        while running and (max_steps is None or steps < max_steps):
            action = agent.act(_batched(observation), starts)[0]
            observation, reward, terminated, truncated, _ = env.step(action)
            total, steps, starts = total + float(reward), steps + 1, np.zeros(1, np.bool_)
            running = not (terminated or truncated)
            show(env)
    return total


def _batched(observation: Any) -> Any:
    """An observation as a batch of one."""
    if isinstance(observation, dict):
        return {name: np.asarray(block)[None] for name, block in observation.items()}
    return observation[None]


def _check(config: EnvConfig, user: int, max_steps: int | None, delay: float) -> None:
    if not 0 <= user < config.num_users:
        raise ValueError(f"user={user} does not exist; allowed: 0 to {config.num_users - 1}.")
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"max_steps={max_steps} shows nothing; give 1 or more, or leave it out.")
    if not 0.0 <= delay <= 3600.0:
        raise ValueError(f"delay={delay} is out of range; allowed: 0 to 3600 seconds.")


def _record(
    agent: Agent, env: gymnasium.Env[Any, Any], user: int, max_steps: int | None, video: Path
) -> float:
    """Plays the session into a video file."""
    file = video if video.suffix == _SUFFIX else video / f"{agent.name}-user-{user}{_SUFFIX}"
    with storing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    # In a folder of its own: a recorder warns of any other, and names the file itself.
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".video-") as folder:
        recorded = RecordVideo(env, str(Path(folder) / "new"), lambda episode: True)
        total = play_session(agent, recorded, user, max_steps)
        recorded.close()
        (written,) = (Path(folder) / "new").iterdir()
        os.replace(written, file)
    print(f"video in {file}, return {total:.2f}")
    return total

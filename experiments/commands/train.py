"""Training command, which saves the agent: `python -m experiments train ppo --steps 1e6`."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.progress import (
    BarColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from agents import AGENTS, Agent, make_agent
from agents.base import OnlineAgent
from agents.checkpoint import save_agent
from agents.saving import RECORD, WEIGHTS
from experiments import store
from experiments.agent_settings import read_settings
from experiments.commands.evaluate import EVALUATION
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.runs.evaluation import validator
from experiments.runs.runner import encoder_identities
from experiments.runs.spec import (
    TRAIN_ENVS,
    RunSpec,
    check_names,
    environment,
    identities,
    task_config,
)
from experiments.runs.threads import one_thread
from experiments.runs.training import Track, checkpoint_path, discard_checkpoint, train
from experiments.store import LearningPoint, ResultsError
from llmrec_env.config import EnvConfig
from llmrec_env.envs.vector import RecVectorEnv


def run(
    agent: str,
    /,
    task: str = "llmrec/Drift-v1",
    steps: float = 500_000,
    output: Path | None = None,
    world: int = 0,
    seed: int = 0,
    settings: Annotated[tuple[str, ...], tyro.conf.arg(name="set")] = (),
    env: EnvFields = NO_FIELDS,
    resume: bool = False,
    overwrite: bool = False,
    track: tuple[Track, ...] = (),
) -> list[LearningPoint]:
    """Trains an agent on the training users of a world, and saves it with its learning curve.

    The folder holds `config.json` and `weights.safetensors`, which `evaluate` and `watch` read,
    `learning.csv` and `manifest.json`.

    Args:
        agent: a name of the table of agents.
        task: a registered id.
        steps: environment steps of training, such as 1e6; agents that learn from logs take none.
        output: folder; by default runs/NAME.
        world: which world; 100 and up are kept for tuning.
        seed: of training.
        settings: of the agent, name=value with values in JSON: learning_rate=1e-3.
        env: fields of the environment that override the task's.
        resume: go on with the training that the folder holds.
        overwrite: delete what the folder holds of a training.
        track: follow the training in `tensorboard/` or, for later, `wandb/` of the folder.

    Raises:
        ValueError: an unknown agent, task or setting, or the folder holds another training.
    """
    _check(agent, task, steps)
    chosen, changes = read_settings(settings), given_fields(env)
    plain = task_config(task, changes | {"world_seed": world})
    new = make_agent(agent, plain, seed, **chosen)
    # Refused now, not when the world has been built.
    own = dataclasses.replace(plain, action=new.action, observation=new.observation)
    num_steps = int(steps) if AGENTS[agent].learns == "online" else 0
    spec = RunSpec(task, agent, world, seed, num_steps, env=changes, settings=chosen)
    config = {"task": task, "agent": agent, "world": world, "seed": seed, "steps": num_steps}
    config |= {"settings": chosen, "env": changes}
    for name, identity in identities(chosen).items():
        if identity != chosen[name]:  # another one in the same folder is another training
            config[name] = identity
    folder = _open(output or Path("runs") / agent, config, resume, overwrite)
    if resume and (folder / store.FILES[LearningPoint]).exists():  # written when all is done
        print(f"{folder} holds this agent already; python -m experiments evaluate {folder}")
        return store.read_table(folder, LearningPoint)
    store.write_manifest(folder, config=config)
    started = time.perf_counter()
    points = _learn(new, own, spec, folder, track)
    save_agent(new, own, folder)
    store.write_table(folder, LearningPoint, points)
    discard_checkpoint(folder, spec)
    wall, encoders = round(time.perf_counter() - started, 1), encoder_identities([spec])
    store.write_manifest(folder, config=config, encoders=encoders, wall_seconds=wall)
    print(f"agent in {folder}; python -m experiments evaluate {folder}")
    return points


def _check(agent: str, task: str, steps: float) -> None:
    check_names((agent,), (task,))
    if not math.isfinite(steps) or steps < 1 or steps != int(steps):
        raise ValueError(f"steps={steps} is not a whole number of steps; write 500000 or 1e6.")


def _open(folder: Path, config: dict[str, Any], resume: bool, overwrite: bool) -> Path:
    """Returns the folder, without the agent of a training that is overwritten or not done."""
    done = (folder / RECORD).exists()
    if done and not (resume or overwrite):
        fix = "name another folder, or delete it (--overwrite)"
        raise ResultsError(f"{folder}: already holds an agent; {fix}.")
    store.open_folder(folder, config, resume=resume, overwrite=overwrite)
    if overwrite:
        for name in (RECORD, WEIGHTS, EVALUATION):
            (folder / name).unlink(missing_ok=True)
    return folder


def _learn(
    agent: Agent, own: EnvConfig, spec: RunSpec, folder: Path, track: tuple[str, ...]
) -> list[LearningPoint]:
    """Trains under a progress bar, and returns the learning curve.

    Where a number is no longer finite, the last good agent is saved.
    """
    try:
        curve = _curve(agent, spec, folder, track)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_stopped(agent, own, folder)) from None
    except (ValueError, TypeError, ImportError, FloatingPointError) as error:
        begun = checkpoint_path(folder, spec).exists()
        if not begun:
            (folder / store.MANIFEST).unlink(missing_ok=True)  # the folder is free for the next try
        if not isinstance(error, FloatingPointError):
            raise
        if begun:
            save_agent(agent, own, folder)
        kept = f"That agent is saved in {folder}." if begun else "Nothing is saved."
        raise ResultsError(f"{error} {kept}") from error
    about = (spec.name, spec.agent, spec.world, spec.seed)
    return [LearningPoint(*about, int(steps), ret) for steps, ret in curve]


def _stopped(agent: Agent, own: EnvConfig, folder: Path) -> str:
    """Saves an agent whose training is interrupted, and says how to go on."""
    saved = f"No agent is in {folder} yet."
    if isinstance(agent, OnlineAgent):
        with contextlib.suppress(Exception):  # it has no weights yet, or none that are finite
            save_agent(agent, own, folder)
            saved = f"The agent so far is in {folder}: python -m experiments evaluate {folder}."
    return f"training stopped. {saved} The same command with --resume goes on with the training."


@one_thread()
def _curve(agent: Agent, spec: RunSpec, folder: Path, track: tuple[str, ...]) -> list[list[float]]:
    """Trains, and returns (steps, validation return) of each segment."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} % {task.fields[state]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ) as progress:
        bar = progress.add_task(spec.agent, total=spec.train_steps or None, state="")
        env = environment(spec, agent, TRAIN_ENVS, "train")
        measure = validator(agent, spec)

        def validate() -> float:
            value, done = measure(), progress.tasks[bar].completed
            progress.console.print(f"{done:,.0f} steps: validation return {value:.2f}")
            return value

        if isinstance(agent, OnlineAgent):
            returns = EpisodeReturns(env)

            def show(done: int) -> None:
                progress.update(bar, completed=done, state=_state(progress.tasks[bar], returns))

            agent.on_steps = show
            return train(agent, env, spec, validate, folder, track)
        agent.fit(env, spec.train_steps)
        progress.update(bar, completed=spec.train_steps)
        return [[float(spec.train_steps), validate()]]


def _state(task: Task, returns: EpisodeReturns) -> str:
    """Speed and running return, as far as they are known."""
    parts = [] if task.speed is None else [f"{task.speed:,.0f} steps/s"]
    if not math.isnan(returns.mean):
        parts.append(f"return {returns.mean:.2f}")
    return ", ".join(parts)


class EpisodeReturns:
    """Running mean return of the latest training episodes, for a progress bar."""

    def __init__(self, env: RecVectorEnv, num_episodes: int = 100) -> None:
        """Listens to what an environment returns, and changes nothing."""
        self._latest: deque[float] = deque(maxlen=num_episodes)
        self._sums = np.zeros(env.num_envs)
        self._step, self._reset = env.step, env.reset
        env.step, env.reset = self.step, self.reset

    @property
    def mean(self) -> float:
        """NaN until an episode has ended."""
        return sum(self._latest) / len(self._latest) if self._latest else math.nan

    def step(self, actions: Any) -> Any:
        """Steps the environment."""
        transition = self._step(actions)
        _, reward, terminated, truncated, _ = transition
        self._sums += reward
        ended = terminated | truncated
        self._latest.extend(self._sums[ended].tolist())
        self._sums[ended] = 0.0
        return transition

    def reset(self, **arguments: Any) -> Any:
        """Resets the environment."""
        self._sums[:] = 0.0
        return self._reset(**arguments)

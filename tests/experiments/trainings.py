"""Trainings of agents in a small world, and digests of the weights that they end with.

A process of its own prints them: `python trainings.py '{"slateq": 4096}'`.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from agents import Agent, make_agent
from agents.base import OnlineAgent
from agents.saving import WEIGHTS
from experiments.runs import training
from experiments.runs.spec import TRAIN_ENVS, RunResult, RunSpec, environment, task_config
from experiments.runs.threads import one_thread

WORLD: dict[str, Any] = {
    "encoder": "hashing",
    "num_items": 600,
    "num_users": 60,
    "dim": 32,
    "candidates": 20,
    "horizon": 30,
}
"""The world of the other tests, so that little is compiled anew."""
SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 16, "batch_size": 512, "n_epochs": 2},
    "joint": {"sweeps": 2},
    "slateq": {"steps": 16, "log_epochs": 1, "warm_up": 0, "ramp": 1},
    "reinforce-topk": {"steps": 16, "log_epochs": 1},
}
STEPS, SEGMENT = 4_096, 2_048


class Killed(BaseException):
    """What no handler takes for a failure."""


def spec_of(name: str, steps: int = STEPS) -> RunSpec:
    """Returns the training of an agent."""
    return RunSpec(
        "llmrec/Drift-v1", name, 0, 3, train_steps=steps, env=WORLD, settings=SETTINGS[name]
    )


@one_thread()
def digest(spec: RunSpec, folder: Path | None = None, kill_at: int | None = None) -> str:
    """Trains a new agent, and returns the sha256 of its saved weights.

    Args:
        spec: what is trained.
        folder: of checkpoints, to go on with; None: none are kept.
        kill_at: number of the segment after which it dies; None: it does not.
    """
    agent = make_agent(spec.agent, task_config(spec.task, spec.env), spec.seed, **spec.settings)
    env, segments = environment(spec, agent, TRAIN_ENVS, "train"), 0

    def validate() -> float:
        nonlocal segments
        segments += 1
        if segments == kill_at:
            raise Killed
        return 0.0

    if isinstance(agent, OnlineAgent):
        with mock.patch.object(training, "SEGMENT", SEGMENT):
            training.train(agent, env, spec, validate, folder)
    else:
        agent.fit(env, 0)
    return _digest(agent)


def _digest(agent: Agent) -> str:
    with tempfile.TemporaryDirectory() as name:
        agent.save(Path(name))
        return hashlib.sha256((Path(name) / WEIGHTS).read_bytes()).hexdigest()


def as_run(spec: RunSpec) -> RunResult:
    """Trains an agent as a run of a sweep, whose result is the first 48 bits of the digest."""
    return RunResult(spec, values={"weights": float(int(digest(spec)[:12], 16))})


if __name__ == "__main__":
    steps = json.loads(sys.argv[1])
    print(json.dumps({name: digest(spec_of(name, steps[name])) for name in steps}))

"""Estimated cost of runs, from measured speeds, before they are done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.registry import spec_of
from experiments.runs.environments import task_config
from experiments.runs.spec import RunSpec
from llmrec_env.simulation.logging_policy import split_of

_PLAYING = 12_000.0  # environment steps a second, measures included
_WORLD = 3.0  # seconds to build one whose texts are encoded


def seconds_of(spec: RunSpec) -> float:
    """Returns about how long a run takes on one core, with its texts encoded."""
    config = task_config(spec.task, spec.env)
    users = int(split_of(np.arange(config.num_users), spec.split).sum())
    played = min(users, spec.users or users) * config.horizon
    agent = spec_of(spec.agent)
    trained = spec.train_steps / agent.training_rate
    return agent.fitting_seconds + trained + played / _PLAYING + _WORLD


def print_plan(specs: Sequence[RunSpec], jobs: int) -> None:
    """Prints the runs, and about what they cost."""
    for spec in specs:
        print(f"{spec.name} world {spec.world} {spec.agent} seed {spec.seed}", end="")
        print(f", {spec.train_steps:,} steps" if spec.train_steps else "", end="")
        print(f", about {seconds_of(spec):.0f} s")
    total = sum(map(seconds_of, specs))
    steps = sum(spec.train_steps for spec in specs)
    print(
        f"{len(specs)} runs, {steps:,} steps of training: about {total / 60:.0f} "
        f"core-minutes, {total / 60 / max(jobs, 1):.0f} minutes with --jobs {jobs}"
    )

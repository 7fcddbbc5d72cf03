"""What a run costs before it runs: seconds by what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.runs.spec import RunSpec
from experiments.runs.environments import task_config
from llmrec_env.simulation.logging_policy import split_of

TRAINING = {
    **{"ppo": 14_000.0, "a2c": 20_000.0, "sac": 4_000.0, "td3": 6_000.0, "tqc": 3_500.0},
    **{"dqn": 10_000.0, "qrdqn": 5_000.0, "recurrent-ppo": 3_000.0, "maskable-ppo": 15_000.0},
    **{"ppo-pointer": 11_000.0, "slateq": 7_500.0},
}
"""User-steps a second of training on one core, by agent."""
_TRAINING_OTHERS = 3_000.0
FITTING = {
    "joint": 15.0,
    "joint-lora": 230.0,
    "joint-full": 500.0,
    "sasrec": 15.0,
    "two-tower": 7.0,
}
"""Seconds in which an agent learns from logs, by agent; of others it takes none to speak of."""
_PLAYING = 12_000.0  # user-steps a second, measures included
_WORLD = 3.0  # seconds to build one whose texts are encoded


def seconds_of(spec: RunSpec) -> float:
    """Returns about how long a cell takes on one core, with its texts encoded."""
    config = task_config(spec.task, spec.env)
    users = int(split_of(np.arange(config.num_users), spec.split).sum())
    played = min(users, spec.users or users) * config.horizon
    trained = spec.train_steps / TRAINING.get(spec.agent, _TRAINING_OTHERS)
    return FITTING.get(spec.agent, 0.0) + trained + played / _PLAYING + _WORLD


def print_plan(specs: Sequence[RunSpec], jobs: int) -> None:
    """Prints the cells, and about what they cost."""
    for spec in specs:
        print(f"{spec.name} world {spec.world} {spec.agent} seed {spec.seed}", end="")
        print(f", {spec.train_steps:,} user-steps" if spec.train_steps else "", end="")
        print(f", about {seconds_of(spec):.0f} s")
    whole = sum(map(seconds_of, specs))
    steps = sum(spec.train_steps for spec in specs)
    print(
        f"{len(specs)} cells, {steps:,} user-steps of training: about {whole / 60:.0f} "
        f"core-minutes, {whole / 60 / max(jobs, 1):.0f} minutes with --jobs {jobs}"
    )

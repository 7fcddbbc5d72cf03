"""What a run costs before it runs: seconds by what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.runs.spec import Cell
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


def seconds_of(cell: Cell) -> float:
    """Returns about how long a cell takes on one core, with its texts encoded."""
    config = task_config(cell.task, cell.env)
    users = int(split_of(np.arange(config.num_users), cell.split).sum())
    played = min(users, cell.users or users) * config.horizon
    trained = cell.train_steps / TRAINING.get(cell.agent, _TRAINING_OTHERS)
    return FITTING.get(cell.agent, 0.0) + trained + played / _PLAYING + _WORLD


def print_plan(cells: Sequence[Cell], jobs: int) -> None:
    """Prints the cells, and about what they cost."""
    for cell in cells:
        print(f"{cell.name} world {cell.world} {cell.agent} seed {cell.seed}", end="")
        print(f", {cell.train_steps:,} user-steps" if cell.train_steps else "", end="")
        print(f", about {seconds_of(cell):.0f} s")
    whole = sum(map(seconds_of, cells))
    steps = sum(cell.train_steps for cell in cells)
    print(
        f"{len(cells)} cells, {steps:,} user-steps of training: about {whole / 60:.0f} "
        f"core-minutes, {whole / 60 / max(jobs, 1):.0f} minutes with --jobs {jobs}"
    )

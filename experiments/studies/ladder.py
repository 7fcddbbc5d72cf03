"""The acceptance test of the environment: do policies separate, on real text, and by how much?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.result_tables import print_leaderboard
from experiments.runs.environments import task_config
from experiments.runs.runner import RunOptions, run_specs
from experiments.runs.spec import RunSpec

RUNGS = (
    *("random", "popular", "collaborative", "content", "content-recency", "drift-aware"),
    *("oracle-myopic", "oracle-planning"),
)
"""Every agent must beat the one before it by an interval above zero."""
PLANNING_GAIN = 0.10
_HOW = RunOptions(output=Path("runs/ladder"))


def run(
    catalogs: tuple[str, ...] = ("video", "movielens"),
    candidates: tuple[int, ...] = (100, 0),
    worlds: int = 3,
    users: int | None = None,
    task: str = "llmrec/Drift-v0",
    env: EnvFields = NO_FIELDS,
    options: Annotated[RunOptions, tyro.conf.arg(name="")] = _HOW,
) -> dict[tuple[str, int], list[store.Row]]:
    """Plays the ladder of agents on each catalogue and candidate number, and prints what fails.

    Args:
        catalogs: names or paths of catalogues.
        candidates: items offered at a step; 0 is the whole catalogue.
        worlds: worlds 0 to worlds - 1.
        users: held-out test users of each world; all of them by default.
        task: a registered id.
        env: fields of the environment that override the task's.
        options: where and how the runs are done; one folder below the output for each ladder.
    """
    ladders = {}
    for catalog in catalogs:
        for offered in candidates:
            changes = {**given_fields(env), "catalog": catalog, "candidates": offered}
            task_config(task, changes)  # a wrong value is told before anything runs
            folder = options.output / f"{Path(catalog).stem}-{offered or 'all'}"
            specs = [
                RunSpec(task, agent, world, users=users, env=changes)
                for world in range(worlds)
                for agent in RUNGS
            ]
            config = {"task": task, "worlds": worlds, "users": users, "env": changes}
            rows = run_specs(specs, dataclasses.replace(options, output=folder), config)
            print(f"\n{catalog}, {offered or 'all'} candidates")
            print_leaderboard(rows)
            for line in verdicts(rows):
                print(line)
            ladders[catalog, offered] = rows
    return ladders


def verdicts(rows: list[store.Row]) -> list[str]:
    """Returns a line for each step of the ladder: whether its interval lies above zero."""
    lines = []
    for row in rows:
        if row.improvement is None or row.improvement_low is None:
            continue
        needed = PLANNING_GAIN if row.agent == "oracle-planning" else 0.0
        holds = row.improvement_low > 0.0 and row.improvement >= needed
        word = "holds" if holds else "FAILS"
        lines.append(
            f"{word}: {row.agent} over {row.improvement_over} {row.improvement:+.1%}, "
            f"interval from {row.improvement_low:+.1%}"
            + (f", needed {needed:.0%}" if needed else "")
        )
    return lines

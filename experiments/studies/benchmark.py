"""Benchmark: agents trained and compared on held-out users with common random numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import llmrec_env
from agents import AGENTS
from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.result_tables import print_leaderboard
from experiments.runs.cost import seconds_of
from experiments.runs.runner import RunOptions, run_specs
from experiments.runs.spec import RunSpec
from experiments.statistics.leaderboard import LADDER
from experiments.studies import study


class Preset(NamedTuple):
    """What a benchmark compares, and on how much."""

    tasks: tuple[str, ...]
    agents: tuple[str, ...]
    scale: study.Scale
    watched: int = 10
    """Users, of the first world and seed, whose sessions the report steps through."""


LEARNERS = tuple(
    name
    for name, spec in AGENTS.items()
    if spec.learns == "online" and spec.trained_with_seeds and not spec.language_model
)
_FOUR = ("llmrec/Drift-v1", "llmrec/Goodwill-v1", "llmrec/Boredom-v1", "llmrec/Static-v1")
PRESETS = {
    "quick": Preset(
        ("llmrec/Drift-v1",), LADDER, study.Scale(worlds=2, seeds=1, steps=100_000, users=200)
    ),
    "standard": Preset(  # what `results/standard` holds; with another number it could not go on
        _FOUR, LADDER, study.Scale(worlds=3, seeds=5, steps=250_000, users=400), watched=3
    ),
    "algorithms": Preset(
        ("llmrec/Drift-v1",),
        ("random", "popular", "drift-aware", "joint", *LEARNERS),
        study.Scale(worlds=1, seeds=5, steps=50_000, users=400),
    ),
    "full": Preset(
        # Agents bring their own actions: a task of other actions alone would be Drift again.
        tuple(task for task, changes in llmrec_env.TASKS.items() if set(changes) != {"action"}),
        tuple(
            name
            for name, spec in AGENTS.items()
            if not (spec.trains_encoder or spec.language_model)
        ),
        study.Scale(worlds=5, seeds=10, steps=2_000_000),
    ),
}


def run(
    preset: Literal["quick", "standard", "algorithms", "full"] = "quick",
    agents: tuple[str, ...] | None = None,
    tasks: tuple[str, ...] | None = None,
    worlds: int | None = None,
    users: int | None = None,
    steps: int | None = None,
    seeds: int | None = None,
    env: EnvFields = NO_FIELDS,
    options: study.RunFlags = RunOptions(),  # noqa: B008, a frozen dataclass
    dry_run: bool = False,
) -> list[store.Row]:
    """Trains and compares agents, and writes leaderboard, sessions, curves and manifest.

    `python -m experiments report FOLDER` makes figures and a page of them.

    Args:
        preset: how much to run; the options below override it.
        agents: names.
        tasks: registered ids.
        worlds: worlds 0 to worlds - 1.
        users: held-out test users of each world; all of them by default.
        steps: environment steps of training for an agent that learns online.
        seeds: training seeds of the agents that are trained with several.
        dry_run: only list what would be run, and what it costs.

    Raises:
        ValueError: an unknown agent or task, or the output folder holds results.
    """
    plan = PRESETS[preset]
    sizes = {"worlds": worlds, "users": users, "steps": steps, "seeds": seeds}
    given = {name: value for name, value in sizes.items() if value is not None}
    scale = dataclasses.replace(plan.scale, **given)
    tasks, fields = tasks or plan.tasks, given_fields(env)
    specs = study.plan_runs(tasks, agents or plan.agents, scale, fields, watched=plan.watched)
    if dry_run:
        print_plan(specs, options.jobs)
        return []
    config: dict[str, Any] = {  # without the agents: a run goes on with more of them
        "preset": preset,
        "tasks": tasks,
        "worlds": scale.worlds,
        "seeds": scale.seeds,
        "train_steps": scale.steps,
        "users": users,
        "env": fields,
    }
    print(f"{', '.join(tasks)}: {size_of(specs, options.jobs)}", flush=True)
    rows = run_specs(specs, options, config)
    print_leaderboard(rows)
    print(f"results in {options.output}; python -m experiments report {options.output}")
    return rows


def print_plan(specs: Sequence[RunSpec], jobs: int) -> None:
    """Prints the runs, and about what they cost."""
    for spec in specs:
        print(f"{spec.name} world {spec.world} {spec.agent} seed {spec.seed}", end="")
        print(f", {spec.train_steps:,} steps" if spec.train_steps else "", end="")
        print(f", about {seconds_of(spec):.0f} s")
    print(size_of(specs, jobs))


def size_of(specs: Sequence[RunSpec], jobs: int) -> str:
    """Returns in words how much some runs are, and about how long they take."""
    seconds = sum(map(seconds_of, specs))
    steps = sum(spec.train_steps for spec in specs)
    agents, worlds = len({x.agent for x in specs}), len({(x.name, x.world) for x in specs})
    return (
        f"{len(specs)} runs ({agents} agents, {worlds} worlds), {steps:,} steps of training: about "
        f"{_duration(seconds)} of one core, {_duration(seconds / max(jobs, 1))} with --jobs {jobs}"
    )


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"

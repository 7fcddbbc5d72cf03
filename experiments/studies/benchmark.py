"""Compare agents: train, play held-out users with common luck, write tables."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

import llmrec_env
from agents import AGENTS
from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.result_tables import print_leaderboard
from experiments.runs.costs import print_plan
from experiments.runs.environments import task_config
from experiments.runs.runner import RunOptions, run_specs
from experiments.runs.spec import RunSpec
from experiments.statistics.leaderboard import LADDER
from llmrec_env.config import unknown


@dataclass(frozen=True)
class Preset:
    """How much a benchmark runs; worlds 100 and up are kept for tuning."""

    tasks: tuple[str, ...]
    agents: tuple[str, ...]
    worlds: int
    seeds: int
    """Training seeds of the agents that are trained with several; of others one stands for all."""
    train_steps: int
    """User-steps such an agent may take."""


LEARNERS = tuple(
    name for name, spec in AGENTS.items() if spec.learns == "online" and spec.trained_with_seeds
)
_FOUR = ("llmrec/Drift-v0", "llmrec/Goodwill-v0", "llmrec/Boredom-v0", "llmrec/Static-v0")
_STANDARD = tuple(name for name in LADDER if name != "slateq")
"""`slateq` would take as long as all others: it is compared in the preset `rl`."""
PRESETS = {
    "quick": Preset(("llmrec/Drift-v0",), LADDER, worlds=2, seeds=1, train_steps=150_000),
    "standard": Preset(_FOUR, _STANDARD, worlds=3, seeds=5, train_steps=500_000),
    "rl": Preset(
        _FOUR,
        ("content", "drift-aware", "joint", "ppo", "slateq", "oracle-myopic", "oracle-planning"),
        **dict(worlds=2, seeds=5, train_steps=500_000),
    ),
    "algorithms": Preset(
        _FOUR,
        ("random", "popular", "drift-aware", "joint", *LEARNERS),
        **dict(worlds=1, seeds=3, train_steps=50_000),
    ),
    "full": Preset(
        tuple(llmrec_env.TASKS),
        tuple(name for name, spec in AGENTS.items() if not spec.trains_encoder),
        worlds=5,
        seeds=10,
        train_steps=2_000_000,
    ),
}
WATCHED = 3
"""Users, of the first world and seed, whose sessions the report steps through."""


def run(
    preset: Literal["quick", "standard", "rl", "algorithms", "full"] = "quick",
    agents: tuple[str, ...] | None = None,
    tasks: tuple[str, ...] | None = None,
    seeds: int | None = None,
    worlds: int | None = None,
    users: int | None = None,
    train_steps: int | None = None,
    env: EnvFields = NO_FIELDS,
    options: Annotated[RunOptions, tyro.conf.arg(name="")] = RunOptions(),  # noqa: B008
    dry_run: bool = False,
) -> list[store.Row]:
    """Trains and compares agents, and writes leaderboard, sessions, curves and manifest.

    `python -m experiments report FOLDER` makes figures and a page of them.

    Args:
        preset: how much to run; the options below override it.
        agents: names.
        tasks: registered ids.
        seeds: training seeds of the agents that are trained with several.
        worlds: worlds 0 to worlds - 1.
        users: held-out test users of each world; all of them by default.
        train_steps: user-steps that such an agent may take.
        env: fields of the environment that override the task's.
        options: where and how the runs are done.
        dry_run: only list what would be run, and what it costs.

    Raises:
        ValueError: an unknown agent or task, or the output folder holds results.
    """
    changes = dict(tasks=tasks, agents=agents, seeds=seeds, worlds=worlds, train_steps=train_steps)
    plan = dataclasses.replace(PRESETS[preset], **_given(changes))
    fields = given_fields(env)
    specs = plan_runs(plan, users, fields)
    if dry_run:
        print_plan(specs, options.jobs)
        return []
    config = {
        "preset": preset,
        **dataclasses.asdict(plan),
        "users": users,
        "env": given_fields(env),
    }
    del config["agents"]  # a run goes on with more agents
    rows = run_specs(specs, options, config)
    print_leaderboard(rows)
    print(f"results in {options.output}; python -m experiments report {options.output}")
    return rows


def plan_runs(plan: Preset, users: int | None, env: dict[str, Any]) -> list[RunSpec]:
    """Returns the cells of a benchmark, world by world so that each world is built once.

    Raises:
        ValueError: an unknown agent, task or field, or a value out of range.
    """
    for kind, names, known in (
        ("agent", plan.agents, AGENTS),
        ("task", plan.tasks, llmrec_env.TASKS),
    ):
        for name in names:
            if name not in known:
                raise ValueError(unknown(kind, name, list(known)))
    for task in plan.tasks:
        task_config(task, env)  # a wrong value is told before anything runs
    return [
        RunSpec(
            *(task, agent, world, seed, plan.train_steps * (AGENTS[agent].learns == "online")),
            users=users,
            env=env,
            watched=WATCHED * (world == 0 and seed == 0),
        )
        for task in plan.tasks
        for world in range(plan.worlds)
        for agent in plan.agents
        for seed in range(plan.seeds if AGENTS[agent].trained_with_seeds else 1)
    ]


def _given(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if value is not None}

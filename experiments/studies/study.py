"""Study: runs planned and done, improvements paired within a variant, tables and a figure."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from matplotlib.figure import Figure

from agents import AGENTS
from experiments import store
from experiments.report.figures.style import save
from experiments.report.text_tables import Table, markdown, print_tables
from experiments.runs.evaluation import execute_run
from experiments.runs.runner import RunOptions, run_specs
from experiments.runs.spec import RunResult, RunSpec, check_names, task_config
from experiments.statistics.intervals import Interval, improvement_if_defined
from experiments.statistics.leaderboard import group, scores_of
from experiments.store import Episode, Row

Sessions = Mapping[str, Mapping[str, Sequence[Episode]]]
"""Episodes by task as named in tables, and by agent."""
Improvements = dict[str, dict[str, Interval]]
"""Relative improvements by comparison, as "drift-aware over content", and by variant."""


@dataclass(frozen=True)
class Scale:
    """How much a study runs."""

    worlds: int = 2
    """Worlds 0 to worlds - 1; those from 100 on are kept for tuning."""
    users: int | None = None
    """Held-out test users of each world; all of them by default."""
    steps: int = 150_000
    """Environment steps of training for an agent that learns online."""
    seeds: int = 1
    """Training seeds of the agents that are trained with several; of others one stands for all."""


SCALE = Scale()
ScaleFlags = Annotated[Scale, tyro.conf.arg(name="")]
RunFlags = Annotated[RunOptions, tyro.conf.arg(name="")]


def plan_runs(
    tasks: Sequence[str],
    agents: Sequence[str],
    scale: Scale,
    env: Mapping[str, Any],
    *,
    label: str = "",
    settings: Mapping[str, Any] | None = None,
    watched: int = 0,
) -> list[RunSpec]:
    """Returns runs, world by world so that each world is built once.

    Args:
        tasks: registered ids.
        agents: names.
        scale: worlds, users, steps and seeds.
        env: fields that override the tasks'.
        label: name of the task in tables, where `env` or `settings` make it another one.
        settings: of the agents, beside their defaults.
        watched: users of the first world and seed whose sessions are kept step by step.

    Raises:
        ValueError: an unknown agent, task or field, or a value out of range.
    """
    check_names(agents, tasks)
    for task in tasks:
        task_config(task, env)
    return [
        RunSpec(
            task,
            agent,
            world,
            seed,
            scale.steps * (AGENTS[agent].learns == "online"),
            users=scale.users,
            env=dict(env),
            settings=dict(settings or {}),
            label=label,
            watched=watched * (world == 0 and seed == 0),
        )
        for task in tasks
        for world in range(scale.worlds)
        for agent in agents
        for seed in range(scale.seeds if AGENTS[agent].trained_with_seeds else 1)
    ]


def do_runs(
    specs: list[RunSpec],
    options: RunOptions,
    scale: Scale,
    env: Mapping[str, Any],
    execute: Callable[..., RunResult] = execute_run,
    **settings: Any,
) -> tuple[list[Row], Sessions]:
    """Does the runs, writes the tables of a benchmark, and returns leaderboard and episodes.

    Args:
        specs: the runs.
        options: where and how they are done.
        scale: how much is run.
        env: fields that override the tasks'.
        execute: does one run.
        **settings: of the study; a folder is resumed only with the same of all of these.
    """
    config = dataclasses.asdict(scale) | {"env": dict(env)} | settings
    rows = run_specs(specs, options, config, execute)
    return rows, group(store.read_table(options.output, Episode))


def sessions_by(
    results: Iterable[RunResult], name: Callable[[RunSpec], str]
) -> tuple[dict[str, list[Episode]], dict[str, float]]:
    """Returns sessions, and mean seconds of training, by what a name is made of each run."""
    sessions: dict[str, list[Episode]] = {}
    seconds: dict[str, list[float]] = {}
    for result in results:
        sessions.setdefault(name(result.spec), []).extend(result.episodes)
        seconds.setdefault(name(result.spec), []).append(result.seconds["training"])
    return sessions, {x: float(np.mean(values)) for x, values in seconds.items()}


def improvement_of(own: Sequence[Episode], other: Sequence[Episode]) -> Interval | None:
    """Returns the paired relative improvement in return; None where other earns next to nothing."""
    return improvement_if_defined(scores_of(own), scores_of(other))


def improvements_of(sessions: Sessions, comparisons: Iterable[tuple[str, str]]) -> Improvements:
    """Returns the improvement of each pair of agents within each variant that plays both."""
    improvements: Improvements = {}
    for agent, other in comparisons:
        for label, episodes in sessions.items():
            if {agent, other} <= episodes.keys():
                share = improvement_of(episodes[agent], episodes[other])
                if share:
                    improvements.setdefault(f"{agent} over {other}", {})[label] = share
    return improvements


def publish(
    name: str,
    folder: Path,
    tables: Sequence[Table],
    figure: Figure | None = None,
    *,
    records: Sequence[Any] = (),
    content: Any = None,
) -> None:
    """Prints tables, and writes `NAME.md`, and a figure, `NAME.csv` and `NAME.json` if given.

    Args:
        name: of the study.
        folder: of its results.
        tables: in the order to read them.
        figure: to draw.
        records: named tuples, a line each of a CSV file; an interval makes three columns.
        content: JSON data.
    """
    print_tables(*tables)
    store.write_file(folder / f"{name}.md", markdown(*tables).encode())
    if records:
        store.write_file(folder / f"{name}.csv", _csv(records).encode())
    if content is not None:
        text = json.dumps(content, indent=1, allow_nan=False) + "\n"
        store.write_file(folder / f"{name}.json", text.encode())
    if figure is not None:
        save(figure, folder / "figures" / name)
    print(f"results in {folder}")


def _csv(records: Sequence[Any]) -> str:
    """Named tuples as CSV: an interval `x` makes the columns x, x_low and x_high."""
    intervals = {
        name for row in records for name, x in row._asdict().items() if isinstance(x, Interval)
    }
    columns = [
        f"{name}{end}"
        for name in records[0]._fields
        for end in (("", "_low", "_high") if name in intervals else ("",))
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in records:
        cells: list[Any] = []
        for name, value in row._asdict().items():
            cells += (value or ("", "", "")) if name in intervals else [value]
        writer.writerow(cells)
    return text.getvalue()

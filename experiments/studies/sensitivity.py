"""One parameter of the dynamics against the ranking: who gains when interests move faster?"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.figures import study_figures
from experiments.report.figures.style import save
from experiments.report.result_tables import print_leaderboard
from experiments.runs.environments import task_config
from experiments.runs.runner import RunOptions, run_specs
from experiments.runs.spec import RunSpec
from experiments.statistics import leaderboard
from experiments.statistics.intervals import Interval, RatioError, relative_improvement
from experiments.statistics.summary import check_metric
from experiments.store import Episode, Metric, Row
from experiments.studies.benchmark import Preset, plan_runs
from llmrec_env.config import ConfigError

AGENTS = ("content", "content-recency", "drift-aware", "oracle-myopic", "oracle-planning")
COMPARISONS = (("drift-aware", "content"), ("oracle-planning", "oracle-myopic"))
"""Pairs of agents whose gain is drawn where both are played."""
_HOW = RunOptions(output=Path("runs/drift"))


def run(
    parameter: str = "switch_rate",
    values: tuple[float, ...] = (0.0, 0.03, 0.06, 0.12),
    agents: tuple[str, ...] = AGENTS,
    task: str = "llmrec/Drift-v0",
    worlds: int = 2,
    users: int | None = None,
    train_steps: int = 150_000,
    seeds: int = 1,
    env: EnvFields = NO_FIELDS,
    options: Annotated[RunOptions, tyro.conf.arg(name="")] = _HOW,
    metric: str = "return",
) -> list[Row]:
    """Plays agents at each value of a parameter; draws a metric and paired gains by its value.

    A value changes the whole world, the logged past included: what is compared within a value is
    paired, what is compared between values is not.

    Args:
        parameter: any number among the fields of the environment.
        values: of the parameter.
        agents: names.
        task: a registered id.
        worlds: worlds 0 to worlds - 1.
        users: held-out test users of each world; all of them by default.
        train_steps: user-steps that an online RL agent may take.
        seeds: training seeds of such agents.
        env: fields of the environment that override the task's.
        options: where and how the runs are done.
        metric: what is drawn of each agent: the return, or a metric of `metrics.csv`.

    Raises:
        ConfigError: no such parameter, or a value out of its range.
        ValueError: an unknown agent, task or metric.
    """
    check_metric(metric)
    plan = Preset((task,), agents, worlds, seeds, train_steps)
    plan_runs(plan, users, {})  # a wrong name is told before a wrong value
    labels = labelled(parameter, values, task, env)
    specs = [
        spec
        for label, changes in labels.items()
        for spec in variant_runs(plan, users, changes, label)
    ]
    config = {"task": task, "worlds": worlds, "users": users, "env": given_fields(env)}
    config |= {"parameter": parameter, "values": values, "agents": agents, "metric": metric}
    rows = run_specs(specs, options, config | {"train_steps": train_steps, "seeds": seeds})
    print_leaderboard(rows)
    sessions = leaderboard.group(store.read_table(options.output, Episode))
    at = {label: float(changes[parameter]) for label, changes in labels.items()}
    measured = _measured(rows, store.read_table(options.output, Metric), metric, at)
    if measured:
        figure = study_figures.by_value(parameter, metric, measured, _gains(sessions, at))
        save(figure, options.output / "figures" / "drift")
    print(
        f"results in {options.output}" + ("" if measured else f"; no agent has a {metric} to draw")
    )
    return rows


def labelled(
    parameter: str, values: Sequence[float], task: str, env: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Returns what differs from the task at each value, by label.

    Raises:
        ConfigError: no such parameter, a value out of range, or one that `off` makes void.
    """
    changes: dict[str, dict[str, Any]] = {}
    for value in values:
        changed = {**given_fields(env), parameter: value}
        config = task_config(task, changed)
        number = getattr(config, parameter)
        if getattr(config.effective(), parameter) != number:
            raise ConfigError(f"{parameter}={number} is void: off={list(config.off)} sets it.")
        changes[f"{parameter}={number}"] = changed
    return changes


def variant_runs(plan: Preset, users: int | None, env: dict[str, Any], label: str) -> list[RunSpec]:
    """Returns the cells of a benchmark under another name, without sessions step by step."""
    specs = plan_runs(plan, users, env)
    return [dataclasses.replace(spec, label=label, watched=0) for spec in specs]


def gain_of(own: Sequence[Episode], other: Sequence[Episode]) -> Interval | None:
    """Returns the relative paired gain in return; None where the other earns next to nothing."""
    with contextlib.suppress(RatioError):
        return relative_improvement(leaderboard.scores_of(own), leaderboard.scores_of(other))
    return None


def _gains(
    sessions: Mapping[str, Mapping[str, Sequence[Episode]]], at: Mapping[str, float]
) -> dict[str, dict[float, Interval]]:
    found: dict[str, dict[float, Interval]] = {}
    for label, played in sessions.items():
        for agent, other in COMPARISONS:
            if {agent, other} <= played.keys() and (gain := gain_of(played[agent], played[other])):
                found.setdefault(f"{agent} over {other}", {})[at[label]] = gain
    return found


def _measured(
    rows: Sequence[Row], metrics: Sequence[Metric], metric: str, at: Mapping[str, float]
) -> dict[str, dict[float, Interval]]:
    """The metric of each agent by the value of the parameter; a band of no width if unknown."""
    found: dict[str, dict[float, Interval]] = {}
    if metric == "return":
        for row in rows:
            interval = Interval(row.mean, row.ci_low, row.ci_high)
            found.setdefault(row.agent, {})[at[row.task]] = interval
    for line in metrics:
        if line.metric == metric and line.value is not None:
            ends = (line.value if end is None else end for end in (line.low, line.high))
            found.setdefault(line.agent, {})[at[line.task]] = Interval(line.value, *ends)
    return found

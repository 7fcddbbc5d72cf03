"""Sensitivity study: one parameter of the dynamics, and what it does to the ranking of agents."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.figures import study_figures
from experiments.report.result_tables import leaderboard_tables
from experiments.runs.runner import RunOptions
from experiments.runs.spec import check_names, task_config
from experiments.statistics.intervals import Interval
from experiments.statistics.summary import check_metric
from experiments.store import Metric, Row
from experiments.studies import study
from llmrec_env.config import ConfigError

AGENTS = ("content", "content-recency", "drift-aware", "oracle-myopic", "oracle-planning")
COMPARISONS = (("drift-aware", "content"), ("oracle-planning", "oracle-myopic"))
"""Pairs of agents whose improvement is drawn where both are played."""
_TUNING_WORLD = 100
_OPTIONS = RunOptions(output=Path("runs/sensitivity"))


def run(
    parameter: str = "switch_rate",
    values: tuple[float, ...] = (0.0, 0.03, 0.06, 0.12),
    agents: tuple[str, ...] = AGENTS,
    task: str = "llmrec/Drift-v1",
    metric: str = "return",
    split: Literal["test", "validation"] = "test",
    env: EnvFields = NO_FIELDS,
    scale: study.ScaleFlags = study.SCALE,
    options: study.RunFlags = _OPTIONS,
) -> list[Row]:
    """Plays agents at each value of a parameter; draws a metric and improvements by its value.

    A value changes the whole world, the logged past included: what is compared within a value is
    paired, what is compared between values is not.

    Args:
        parameter: any number among the fields of the environment.
        values: of the parameter.
        agents: names.
        task: a registered id.
        metric: what is drawn of each agent: the return, or a metric of `metrics.csv`.
        split: whose users; `validation` also takes worlds from 100 on, by which values are chosen.

    Raises:
        ConfigError: no such parameter, or a value out of its range.
        ValueError: an unknown agent, task or metric.
    """
    check_metric(metric)
    check_names(agents, (task,))
    fields = given_fields(env)
    labels = labelled(parameter, values, task, fields)
    specs = [
        spec
        for label, changes in labels.items()
        for spec in study.plan_runs((task,), agents, scale, changes, label=label)
    ]
    if split == "validation":
        specs = [
            dataclasses.replace(spec, split=split, world=spec.world + _TUNING_WORLD)
            for spec in specs
        ]
    settings = {"task": task, "agents": agents, "parameter": parameter, "values": values}
    settings |= {"split": split}
    rows, sessions = study.do_runs(specs, options, scale, fields, metric=metric, **settings)
    numbers = {label: float(changes[parameter]) for label, changes in labels.items()}
    curves = metric_by_value(rows, store.read_table(options.output, Metric), metric, numbers)
    figure = None
    if curves:
        improvements = {
            name: {numbers[label]: share for label, share in variants.items()}
            for name, variants in study.improvements_of(sessions, COMPARISONS).items()
        }
        figure = study_figures.by_value(parameter, metric, curves, improvements)
    else:
        print(f"no agent has a {metric} to draw")
    study.publish("sensitivity", options.output, leaderboard_tables(rows), figure)
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
        fields = {**env, parameter: value}
        config = task_config(task, fields)
        number = getattr(config, parameter)
        if getattr(config.effective(), parameter) != number:
            raise ConfigError(f"{parameter}={number} is void: off={list(config.off)} sets it.")
        changes[f"{parameter}={number}"] = fields
    return changes


def metric_by_value(
    rows: Sequence[Row], metrics: Sequence[Metric], metric: str, values: Mapping[str, float]
) -> dict[str, dict[float, Interval]]:
    """Returns the metric of each agent by the value of the parameter.

    A metric without an interval has a band of no width.

    Args:
        rows: of the leaderboard.
        metrics: all others.
        metric: which one.
        values: of the parameter, by label.
    """
    curves: dict[str, dict[float, Interval]] = {}
    if metric == "return":
        for row in rows:
            interval = Interval(row.mean, row.ci_low, row.ci_high)
            curves.setdefault(row.agent, {})[values[row.task]] = interval
    for line in metrics:
        if line.metric == metric and line.value is not None:
            low, high = (line.value if end is None else end for end in (line.low, line.high))
            interval = Interval(line.value, low, high)
            curves.setdefault(line.agent, {})[values[line.task]] = interval
    return curves

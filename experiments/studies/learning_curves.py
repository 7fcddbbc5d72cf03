"""Learning-curve study: return on validation users against environment steps of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.figures import learning
from experiments.report.text_tables import Cell, Table, number, percent
from experiments.runs.evaluation import validator
from experiments.runs.runner import RunOptions
from experiments.runs.spec import RunSpec, fitted_agent
from experiments.runs.threads import one_thread
from experiments.store import LearningPoint
from experiments.studies import study
from experiments.studies.benchmark import LEARNERS
from llmrec_env.config import unknown

_BUDGETS = 10
"""Most budgets that the table shows."""
_SCALE = study.Scale(worlds=1, steps=300_000, seeds=3)
_OPTIONS = RunOptions(output=Path("runs/learning-curves"))


def run(
    agents: tuple[str, ...] = ("ppo",),
    references: tuple[str, ...] = ("drift-aware",),
    task: str = "llmrec/Drift-v1",
    env: EnvFields = NO_FIELDS,
    scale: study.ScaleFlags = _SCALE,
    options: study.RunFlags = _OPTIONS,
) -> list[LearningPoint]:
    """Trains agents, and prints and draws their return on validation users by budget.

    Args:
        agents: names of online RL agents.
        references: agents of another kind, to play with the same users and random numbers.
        task: a registered id.

    Raises:
        ValueError: an unknown agent or task, or an agent that does not learn online.
    """
    for agent in agents:
        if agent not in LEARNERS:
            raise ValueError(unknown("online RL agent", agent, list(LEARNERS)))
    fields = given_fields(env)
    specs = study.plan_runs((task,), agents, scale, fields)
    reference_specs = study.plan_runs(
        (task,), references, study.Scale(scale.worlds, seeds=1), fields
    )
    study.do_runs(specs, options, scale, fields, task=task, agents=agents)
    points = store.read_table(options.output, LearningPoint)
    returns = {
        agent: float(np.mean([validation_return(x) for x in reference_specs if x.agent == agent]))
        for agent in references
    }
    curves = {agent: at_budgets(points, agent) for agent in agents}
    figure = learning([point for point in points if point.agent in agents], returns)
    study.publish("learning-curves", options.output, [budget_table(curves, returns)], figure)
    return points


@one_thread()
def validation_return(spec: RunSpec) -> float:
    """Returns the mean return on the users and random numbers that learning curves are of."""
    return validator(fitted_agent(spec), spec)()


def at_budgets(points: Sequence[LearningPoint], agent: str) -> dict[int, list[float]]:
    """Returns the return of each training seed, mean over worlds, by steps of training."""
    returns: dict[int, dict[int, list[float]]] = {}
    for point in points:
        if point.agent == agent:
            seeds = returns.setdefault(point.train_steps, {})
            seeds.setdefault(point.seed, []).append(point.ret)
    return {
        steps: [float(np.mean(worlds)) for worlds in seeds.values()]
        for steps, seeds in sorted(returns.items())
    }


def budget_table(
    curves: Mapping[str, Mapping[int, Sequence[float]]], returns: Mapping[str, float]
) -> Table:
    """Returns the mean and the range over seeds at several budgets, beside the references."""
    columns = ["agent", "steps", "mean", "range over seeds", *(f"over {x}" for x in returns)]
    rows: list[list[Cell | str]] = []
    for agent, budgets in curves.items():
        shown = np.linspace(0, len(budgets) - 1, min(len(budgets), _BUDGETS)).round().astype(int)
        for steps in np.array(list(budgets))[shown].tolist():
            seeds = budgets[steps]
            mean = sum(seeds) / len(seeds)
            improvements = [
                percent(mean / value - 1.0 if value > 0 else None, signed=True)
                for value in returns.values()
            ]
            ends = f"{min(seeds):.2f} to {max(seeds):.2f}"
            rows.append([agent, f"{steps:,}", number(mean), ends, *improvements])
    for agent, value in returns.items():
        rows.append([agent, "", number(value), "", *("" for _ in returns)])
    return Table(columns, rows, "return on validation users")

"""How much training an online RL agent needs: return against user-steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from agents import make_agent
from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.figures import study_figures
from experiments.report.figures.style import save
from experiments.runs.environments import TRAIN_ENVS, environment, task_config
from experiments.runs.evaluation import validator
from experiments.runs.runner import RunOptions, run_specs
from experiments.runs.spec import RunSpec
from experiments.store import LearningPoint
from experiments.studies.benchmark import LEARNERS, Preset, plan_runs
from llmrec_env.config import unknown

_BUDGETS = 10
"""Most budgets that the table shows."""
_HOW = RunOptions(output=Path("runs/curves"))


def run(
    agents: tuple[str, ...] = ("ppo",),
    references: tuple[str, ...] = ("drift-aware",),
    task: str = "llmrec/Drift-v0",
    steps: int = 300_000,
    seeds: int = 3,
    worlds: int = 1,
    users: int | None = None,
    env: EnvFields = NO_FIELDS,
    options: Annotated[RunOptions, tyro.conf.arg(name="")] = _HOW,
) -> list[LearningPoint]:
    """Trains agents, and prints and draws their return on validation users by budget.

    Args:
        agents: names of agents that learn by acting.
        references: agents that do not, to play with the same users and luck.
        task: a registered id.
        steps: user-steps that an agent may take.
        seeds: of training.
        worlds: worlds 0 to worlds - 1.
        users: held-out test users, for the tables of the trained agents; all of them by default.
        env: fields of the environment that override the task's.
        options: where and how the runs are done.

    Raises:
        ValueError: an unknown agent or task, or an agent that does not learn by acting.
    """
    for agent in agents:
        if agent not in LEARNERS:
            raise ValueError(unknown("online RL agent", agent, list(LEARNERS)))
    changes = given_fields(env)
    specs = plan_runs(Preset((task,), agents, worlds, seeds, steps), users, changes)
    known = plan_runs(Preset((task,), references, worlds, 1, 0), users, changes)
    config = {"task": task, "worlds": worlds, "users": users, "env": changes, "agents": agents}
    run_specs(specs, options, config | {"steps": steps, "seeds": seeds})
    points = store.read_table(options.output, LearningPoint)
    returns = {
        agent: float(np.mean([validation_return(spec) for spec in known if spec.agent == agent]))
        for agent in references
    }
    print_budgets(points, returns)
    curves = {agent: at_budgets(points, agent) for agent in agents}
    save(study_figures.budgets(curves, returns), options.output / "figures" / "curves")
    print(f"results in {options.output}")
    return points


def validation_return(spec: RunSpec) -> float:
    """Returns the mean return on the users and the luck that learning curves are measured with."""
    agent = make_agent(spec.agent, task_config(spec.task, spec.env), spec.seed, **spec.settings)
    agent.fit(environment(spec, agent, TRAIN_ENVS, "train"), spec.train_steps)
    return validator(agent, spec)()


def at_budgets(points: Sequence[LearningPoint], agent: str) -> dict[int, list[float]]:
    """Returns the return of each training seed, mean over worlds, by user-steps of training."""
    found: dict[int, dict[int, list[float]]] = {}
    for point in points:
        if point.agent == agent:
            found.setdefault(point.train_steps, {}).setdefault(point.seed, []).append(point.ret)
    return {
        steps: [float(np.mean(worlds)) for worlds in seeds.values()]
        for steps, seeds in sorted(found.items())
    }


def print_budgets(points: Sequence[LearningPoint], returns: Mapping[str, float]) -> None:
    """Prints the mean and the range over seeds at several budgets, beside the references."""
    table = Table(title="return on validation users", title_justify="left", box=box.SIMPLE)
    for name in (
        "agent",
        "user-steps",
        "mean",
        "range over seeds",
        *(f"over {x}" for x in returns),
    ):
        table.add_column(name, justify="left" if name == "agent" else "right")
    for agent in dict.fromkeys(point.agent for point in points):
        budgets = at_budgets(points, agent)
        shown = np.linspace(0, len(budgets) - 1, min(len(budgets), _BUDGETS)).round().astype(int)
        for steps in np.array(list(budgets))[shown].tolist():
            seeds = budgets[steps]
            mean = sum(seeds) / len(seeds)
            over = (f"{mean / value - 1:+.1%}" if value > 0 else "" for value in returns.values())
            spread = f"{min(seeds):.2f} to {max(seeds):.2f}"
            table.add_row(agent, f"{steps:,}", f"{mean:.2f}", spread, *over)
    for agent, value in returns.items():
        table.add_row(agent, "", f"{value:.2f}", "")
    Console().print(table)

"""Lookahead study: what an agent earns more by valuing the future, task by task.

The same agent learns twice, with the same seeds, worlds and random numbers, and differs in its
discount alone: what it earns more with the larger one is the worth of planning. It should appear
where sessions have a future that can be spoilt, and vanish where nothing that is shown changes
anything. What those who know the user can earn by it is said by two oracles, of which one looks
ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from agents import make_agent
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report import text_tables
from experiments.report.figures import study_figures
from experiments.report.text_tables import Column, Table, number
from experiments.runs.runner import RunOptions
from experiments.runs.spec import RunSpec, check_names, task_config
from experiments.statistics.intervals import Interval, paired_difference
from experiments.statistics.leaderboard import scores_of
from experiments.store import Episode
from experiments.studies import study

TASKS = ("llmrec/Drift-v1", "llmrec/Goodwill-v1", "llmrec/Boredom-v1", "llmrec/Static-v1")
ORACLES = ("oracle-myopic", "oracle-planning")
"""Agents that see the interests and do not learn; the second looks ahead."""
_SCALE = study.Scale(worlds=3, steps=300_000, seeds=3)
_OPTIONS = RunOptions(output=Path("runs/lookahead"))


@dataclass(frozen=True)
class Probe:
    """What is compared, and on how much."""

    agents: tuple[str, ...]
    gammas: tuple[float, float]
    tasks: tuple[str, ...]
    oracles: bool
    scale: study.Scale
    env: dict[str, Any]

    def specs(self) -> list[RunSpec]:
        """Returns the runs, world by world so that each world is built once."""
        specs = []
        for task in self.tasks:
            runs = study.plan_runs((task,), ORACLES if self.oracles else (), self.scale, self.env)
            for gamma in self.gammas:
                runs += study.plan_runs(
                    (task,),
                    self.agents,
                    self.scale,
                    self.env,
                    label=label_of(task, gamma),
                    settings={"gamma": gamma},
                )
            specs += sorted(runs, key=lambda spec: spec.world)
        return specs


class Lookahead(NamedTuple):
    """What one agent earns more on one task by looking further ahead."""

    task: str
    agent: str
    near: float
    """Mean return with the first discount."""
    far: float
    """Mean return with the second."""
    difference: Interval
    """Paired, far - near."""
    improvement: Interval | None
    """Paired, relative; None where the near-sighted agent earns next to nothing."""
    seeds: int
    users: int
    """In all worlds together."""


def run(
    agents: tuple[str, ...] = ("slateq", "ppo"),
    gammas: tuple[float, float] = (0.0, 0.98),
    tasks: tuple[str, ...] = TASKS,
    oracles: bool = True,
    env: EnvFields = NO_FIELDS,
    scale: study.ScaleFlags = _SCALE,
    options: study.RunFlags = _OPTIONS,
) -> list[Lookahead]:
    """Trains agents with two discounts; prints, writes and draws what the second one adds.

    Writes the tables of a benchmark, `lookahead.csv`, `lookahead.md` and a figure.

    Args:
        agents: names of agents that take the setting `gamma`.
        gammas: two discounts, the near-sighted one first.
        tasks: registered ids.
        oracles: also play the two oracles: what looking ahead is worth to who knows the user.

    Raises:
        ValueError: an unknown agent or task, an agent without a discount, or discounts that are
            not two of ascending order in [0, 1].
    """
    probe = Probe(agents, gammas, tasks, oracles, scale, given_fields(env))
    _check(probe)
    settings = {"agents": agents, "gammas": gammas, "tasks": tasks, "oracles": oracles}
    _, sessions = study.do_runs(probe.specs(), options, scale, probe.env, **settings)
    lines = compared(sessions, probe)
    improvements = by_agent(lines)
    figure = study_figures.forest(improvements) if improvements else None
    study.publish("lookahead", options.output, [table_of(lines, gammas)], figure, records=lines)
    return lines


def label_of(task: str, gamma: float) -> str:
    """Returns the name, in tables, of a task that is learnt with a discount."""
    return f"{task} gamma={gamma:g}"


def _check(probe: Probe) -> None:
    near, far = probe.gammas
    if not 0.0 <= near < far <= 1.0:
        raise ValueError(f"gammas={probe.gammas} must ascend within [0, 1]; try 0 0.98.")
    check_names(probe.agents, probe.tasks)
    for task in probe.tasks:
        for agent in probe.agents:
            make_agent(agent, task_config(task, probe.env), gamma=near)


def compared(sessions: study.Sessions, probe: Probe) -> list[Lookahead]:
    """Returns what each agent earns more on each task, the oracles last.

    Args:
        sessions: by task as named in tables, and by agent.
        probe: what was run.
    """
    near, far = probe.gammas
    lines = [
        _line(
            task,
            agent,
            sessions[label_of(task, near)][agent],
            sessions[label_of(task, far)][agent],
        )
        for agent in probe.agents
        for task in probe.tasks
    ]
    if probe.oracles:
        myopic, planning = ORACLES
        lines += [
            _line(
                task, f"{planning} over {myopic}", sessions[task][myopic], sessions[task][planning]
            )
            for task in probe.tasks
        ]
    return lines


def _line(task: str, agent: str, near: Sequence[Episode], far: Sequence[Episode]) -> Lookahead:
    near_scores, far_scores = scores_of(near), scores_of(far)
    return Lookahead(
        task,
        agent,
        float(near_scores.values.mean()),
        float(far_scores.values.mean()),
        paired_difference(far_scores, near_scores),
        study.improvement_of(far, near),
        len(far_scores.seeds),
        len(far_scores.users),
    )


def by_agent(lines: Sequence[Lookahead]) -> study.Improvements:
    """Returns the relative improvements for a figure, by what they are of, and by task."""
    improvements: study.Improvements = {}
    for line in lines:
        if line.improvement:
            name = line.agent if " over " in line.agent else f"{line.agent} by looking ahead"
            improvements.setdefault(name, {})[line.task] = line.improvement
    return improvements


def table_of(lines: Sequence[Lookahead], gammas: tuple[float, float]) -> Table:
    """Returns a row an agent and task; intervals that leave out zero are bold."""
    near, far = gammas
    columns = [
        Column("agent", lambda x: x.agent),
        Column("task", lambda x: x.task),
        Column("near", lambda x: number(x.near)),
        Column("far", lambda x: number(x.far)),
        Column("difference [95 %]", _difference),
        Column("improvement [95 %]", lambda x: text_tables.improvement(x.improvement)),
    ]
    title = f"return with gamma {near:g} (near) and {far:g} (far), paired"
    return Table.of(columns, lines, title, labels=2)


def _difference(line: Lookahead) -> text_tables.Cell:
    cell = number(*line.difference, signed=True)
    return cell._replace(clear=line.difference.is_clear)

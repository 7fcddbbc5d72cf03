"""Far-sightedness: what an agent gains by valuing the future, task by task.

The same agent learns twice, with the same seeds, worlds and luck, and differs in its discount
alone: what it earns more with the larger one is the gain from planning. It should appear where
sessions have a future that can be spoilt, and vanish where nothing that is shown changes anything.
What there is to be gained by those who know the user is said by two oracles, of which one looks
ahead.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import llmrec_env
from agents import AGENTS, make_agent
from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.figures import study_figures
from experiments.report.figures.style import save
from experiments.runs.environments import task_config
from experiments.runs.runner import RunOptions, run_specs
from experiments.runs.spec import RunSpec
from experiments.statistics.intervals import Interval, paired_difference
from experiments.statistics.leaderboard import group, scores_of
from experiments.store import Episode
from experiments.studies.sensitivity import gain_of
from llmrec_env.config import unknown

TASKS = ("llmrec/Drift-v0", "llmrec/Goodwill-v0", "llmrec/Boredom-v0", "llmrec/Static-v0")
ORACLES = ("oracle-myopic", "oracle-planning")
"""Agents that see the interests and do not learn; the second looks ahead."""
NAME = "lookahead"
"""Of the table and the figure."""
HEADER = ("agent", "task", "near", "far", "difference [95 %]", "gain [95 %]")
_HOW = RunOptions(output=Path("runs/lookahead"))


@dataclass(frozen=True)
class Probe:
    """What is compared, and on how much."""

    agents: tuple[str, ...]
    gammas: tuple[float, float]
    tasks: tuple[str, ...]
    worlds: int
    seeds: int
    users: int | None
    train_steps: int
    oracles: bool
    env: dict[str, Any]

    def specs(self) -> list[RunSpec]:
        """Returns the cells, world by world so that each world is built once."""
        options: dict[str, Any] = {"users": self.users, "env": self.env}
        found = []
        for task in self.tasks:
            for world in range(self.worlds):
                found += [RunSpec(task, name, world, **options) for name in ORACLES if self.oracles]
                found += [
                    RunSpec(
                        *(task, agent, world, seed, self.train_steps),
                        **{**options, "settings": {"gamma": gamma}, "label": label_of(task, gamma)},
                    )
                    for agent in self.agents
                    for gamma in self.gammas
                    for seed in range(self.seeds)
                ]
        return found


class Gain(NamedTuple):
    """What one agent gains on one task by looking further ahead."""

    task: str
    agent: str
    near: float
    """Mean return with the first discount."""
    far: float
    """Mean return with the second."""
    difference: Interval
    """Paired, far - near."""
    gain: Interval | None
    """Paired, relative; None where the near-sighted agent earns next to nothing."""
    seeds: int
    users: int
    """In all worlds together."""


def run(
    agents: tuple[str, ...] = ("slateq", "ppo"),
    gammas: tuple[float, float] = (0.0, 0.98),
    tasks: tuple[str, ...] = TASKS,
    worlds: int = 3,
    seeds: int = 3,
    users: int | None = None,
    train_steps: int = 300_000,
    oracles: bool = True,
    env: EnvFields = NO_FIELDS,
    options: Annotated[RunOptions, tyro.conf.arg(name="")] = _HOW,
) -> list[Gain]:
    """Trains agents with two discounts; prints, writes and draws what the second one gains.

    Writes the tables of a benchmark, `lookahead.csv`, `lookahead.md` and a figure.

    Args:
        agents: names of agents that take the setting `gamma`.
        gammas: two discounts, the near-sighted one first.
        tasks: registered ids.
        worlds: worlds 0 to worlds - 1.
        seeds: of training.
        users: held-out test users of each world; all of them by default.
        train_steps: user-steps that an agent may take.
        oracles: also play the two oracles: the gain of who knows the user.
        env: fields of the environment that override the task's.
        options: where and how the runs are done.

    Raises:
        ValueError: an unknown agent or task, an agent without a discount, or discounts that are
            not two of ascending order in [0, 1].
    """
    sizes = (worlds, seeds, users, train_steps, oracles)
    probe = Probe(agents, gammas, tasks, *sizes, given_fields(env))
    _check(probe)
    run_specs(probe.specs(), options, dataclasses.asdict(probe))
    gains = gains_of(group(store.read_table(options.output, Episode)), probe)
    print_gains(gains, gammas)
    write_gains(options.output, gains, gammas)
    if drawn := by_agent(gains):
        save(study_figures.forest(drawn), options.output / "figures" / NAME)
    print(f"results in {options.output}")
    return gains


def label_of(task: str, gamma: float) -> str:
    """Returns the name, in tables, of a task that is learnt with a discount."""
    return f"{task} gamma={gamma:g}"


def _check(probe: Probe) -> None:
    near, far = probe.gammas
    if not 0.0 <= near < far <= 1.0:
        raise ValueError(f"gammas={probe.gammas} must ascend within [0, 1]; try 0 0.98.")
    for kind, names, known in (
        ("agent", probe.agents, AGENTS),
        ("task", probe.tasks, llmrec_env.TASKS),
    ):
        for name in names:
            if name not in known:
                raise ValueError(unknown(kind, name, list(known)))
    for task in probe.tasks:
        for agent in probe.agents:
            make_agent(agent, task_config(task, probe.env), gamma=near)


# --- what came of it


def gains_of(sessions: Mapping[str, Mapping[str, Sequence[Episode]]], probe: Probe) -> list[Gain]:
    """Returns the paired gains of each agent on each task, those of the oracles last.

    Args:
        sessions: by task as named in tables, and by agent.
        probe: what was run.
    """
    near, far = probe.gammas
    gains = [
        _gain(task, agent, *(sessions[label_of(task, gamma)][agent] for gamma in (near, far)))
        for agent in probe.agents
        for task in probe.tasks
    ]
    if probe.oracles:
        names = " over ".join(reversed(ORACLES))
        gains += [_gain(task, names, *(sessions[task][x] for x in ORACLES)) for task in probe.tasks]
    return gains


def _gain(task: str, agent: str, near: Sequence[Episode], far: Sequence[Episode]) -> Gain:
    own, other = scores_of(far), scores_of(near)
    means = (float(other.values.mean()), float(own.values.mean()))
    paired = (paired_difference(own, other), gain_of(far, near))
    return Gain(task, agent, *means, *paired, len(own.seeds), len(own.users))


def by_agent(gains: Sequence[Gain]) -> dict[str, dict[str, Interval]]:
    """Returns the relative gains for a figure, by what they are gains of, and by task."""
    found: dict[str, dict[str, Interval]] = {}
    for gain in gains:
        if gain.gain:
            name = gain.agent if " over " in gain.agent else f"{gain.agent} by looking ahead"
            found.setdefault(name, {})[gain.task] = gain.gain
    return found


def texts_of(gain: Gain) -> tuple[str, ...]:
    """Returns what tables show of a gain, in the order of `HEADER`."""
    low, high = gain.difference.low, gain.difference.high
    relative = ""
    if gain.gain:
        value, *ends = (100.0 * x for x in gain.gain)
        relative = f"{value:+.1f} % [{ends[0]:+.1f}, {ends[1]:+.1f}]"
    difference = f"{gain.difference.value:+.2f} [{low:+.2f}, {high:+.2f}]"
    return gain.agent, gain.task, f"{gain.near:.2f}", f"{gain.far:.2f}", difference, relative


def print_gains(gains: Sequence[Gain], gammas: tuple[float, float]) -> None:
    """Prints a line an agent and task; bold gains have intervals that leave out zero."""
    title = "return with gamma {:g} (near) and {:g} (far), paired gain".format(*gammas)
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for name in HEADER[:4] + HEADER[5:]:
        table.add_column(escape(name), justify="left" if name in HEADER[:2] else "right")
    for gain in gains:
        *first, difference, relative = (escape(text) for text in texts_of(gain))
        shown = relative or difference
        table.add_row(*first, f"[bold]{shown}[/bold]" if _clear(gain) else shown)
    Console().print(table)


def write_gains(folder: Path, gains: Sequence[Gain], gammas: tuple[float, float]) -> None:
    """Writes `lookahead.csv` and `lookahead.md`; bold where the interval leaves out zero."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = [f"{name}{end}" for name in ("difference", "gain") for end in ("", "_low", "_high")]
    writer.writerow(["task", "agent", "near", "far", *ends, "seeds", "users"])
    lines = ["near: gamma {:g}; far: gamma {:g}.".format(*gammas), ""]
    lines += [f"| {' | '.join(HEADER)} |", "|---|---|--:|--:|--:|--:|"]
    for gain in gains:
        intervals = [*gain.difference, *(gain.gain or ("", "", ""))]
        writer.writerow([*gain[:4], *intervals, gain.seeds, gain.users])
        *first, difference, relative = texts_of(gain)
        if _clear(gain):
            difference, relative = f"**{difference}**", f"**{relative}**" if relative else ""
        lines.append(f"| {' | '.join([*first, difference, relative])} |")
    store.write_file(folder / f"{NAME}.csv", text.getvalue().encode())
    store.write_file(folder / f"{NAME}.md", "\n".join([*lines, ""]).encode())


def _clear(gain: Gain) -> bool:
    return gain.difference.low > 0.0 or gain.difference.high < 0.0

"""Evaluation of a saved agent on test users, beside others: `evaluate runs/ppo`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro
from rich.console import Console
from rich.progress import track

import llmrec_env
from agents.base import ReadingAgent
from agents.rollout import rollout
from experiments import store
from experiments.agent_settings import read_settings
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report import text_tables
from experiments.report.text_tables import Column, Table, number, print_tables
from experiments.runs.evaluation import EVALUATION_SEED
from experiments.runs.measures import Truth, episode_rows
from experiments.runs.resolve import AgentSource, load, resolve_all, task_of
from experiments.runs.spec import RunSpec, users_of
from experiments.runs.threads import one_thread
from experiments.statistics.intervals import Interval, bootstrap_interval, improvement_if_defined
from experiments.statistics.leaderboard import group, scores_of
from experiments.store import Episode
from llmrec_env.simulation.kernel_cache import source_digest

EVALUATION = "evaluation.json"
"""What an evaluation found; its sessions are in `episodes.csv`."""


class Cost(NamedTuple):
    """What a session of an agent costs, on average."""

    agent: str
    seconds: float
    """Of CPU, the environment's included."""
    tokens: float | None = None
    """That a language model reads and writes; None: none is run."""


class Comparison(NamedTuple):
    """One agent's return over all sessions, and how the evaluated agent compares with it."""

    agent: str
    mean: Interval
    improvement: Interval | None = None
    """Of the evaluated agent over this one, paired and relative; None: there is none to tell."""


def run(
    agent: str,
    /,
    against: tuple[str, ...] = (),
    users: int | None = None,
    world: tuple[int, ...] = (),
    task: str | None = None,
    output: Path | None = None,
    settings: Annotated[tuple[str, ...], tyro.conf.arg(name="set")] = (),
    transfer: bool = False,
    split: Literal["test", "validation"] = "test",
    env: EnvFields = NO_FIELDS,
) -> list[Comparison]:
    """Plays an agent with held-out users, prints its return, and its improvement over others.

    Every agent meets the same users, random numbers and candidates. `episodes.csv` and
    `evaluation.json` are written into the folder of the agent. Where one runs a language model,
    what a session of each costs is printed too.

    Args:
        agent: folder of a saved agent, or the name of one that needs no training.
        against: others to compare it with, folders or names.
        users: held-out users of each world; all of them by default.
        world: which worlds to play in; by default the one that it was trained in.
        task: a registered id; by default the agent's own task.
        output: another folder for the results.
        settings: of the agent, name=value with values in JSON: model=DIR; of a saved one, those of
            how it acts. Named among the others too, it is compared with itself without them.
        transfer: let saved agents act in a world that they do not know: of another seed, catalogue
            or encoder. What they learnt of items that are others there is left behind.
        split: whose users; settings are chosen by those of `validation`, in worlds from 100 on.
        env: fields of the environment that override the task's.

    Raises:
        ValueError: there is no such agent, it must be trained first, or it was made for an
            environment that differs in what it sees or does.
    """
    sources = resolve_all([agent, *against], read_settings(settings))
    name, changes = task_of(sources[0], task, given_fields(env))
    saved = sources[0].saved
    count = _users(users)
    worlds = world or (saved.config.world_seed if saved else 0,)
    specs = [
        (source, RunSpec(name, source.label, index, source.seed, 0, split, count, changes))
        for index in worlds
        for source in sources
    ]
    bar = track(specs, "sessions", console=Console(stderr=True), transient=True)
    costs: list[Cost] = []
    episodes = [row for source, spec in bar for row in play_run(source, spec, transfer, costs)]
    comparisons = compare(episodes, [source.label for source in sources])
    played = len({(x.world, x.user) for x in episodes})
    print_tables(comparison_table(comparisons, f"{name}, {played} {split} users"))
    if any(cost.tokens is not None for cost in costs):
        print_tables(cost_table(costs))
    if (folder := output or (saved.path if saved else None)) is not None:
        what = {"task": name, "env": changes, "worlds": list(worlds)}
        what |= {"users": users, "split": split}
        write_evaluation(folder, what, episodes, comparisons)
        print(f"results in {folder}")
    return comparisons


@one_thread()
def play_run(
    source: AgentSource, spec: RunSpec, transfer: bool = False, costs: list[Cost] | None = None
) -> list[Episode]:
    """Returns the sessions of an agent with the test users of a world, and adds what they cost."""
    users = users_of(spec)[: spec.users]
    agent, env = load(source, spec, len(users), spec.split, transfer)
    truth, begun = Truth(env, agent=agent), time.process_time()
    read = agent.tokens if isinstance(agent, ReadingAgent) else None
    episodes = rollout(agent, env, users, EVALUATION_SEED, truth)
    if costs is not None:
        seconds = (time.process_time() - begun) / len(users)
        tokens = None
        if read is not None and isinstance(agent, ReadingAgent):
            tokens = (agent.tokens - read) / len(users)
        costs.append(Cost(source.label, seconds, tokens))
    return episode_rows(spec, episodes, truth)


def compare(episodes: Sequence[Episode], labels: Sequence[str]) -> list[Comparison]:
    """Returns a row for every agent, with the improvement of the first one over it."""
    (agents,) = group(episodes).values()
    scores = {label: scores_of(agents[label]) for label in labels}
    own = scores[labels[0]]
    return [
        Comparison(
            label,
            bootstrap_interval(scores[label]),
            None if label == labels[0] else improvement_if_defined(own, scores[label]),
        )
        for label in labels
    ]


def cost_table(costs: Sequence[Cost]) -> Table:
    """Returns a row for each agent: CPU seconds and tokens of a session, mean over worlds."""
    rows = []
    for agent in dict.fromkeys(cost.agent for cost in costs):
        own = [cost for cost in costs if cost.agent == agent]
        tokens = [cost.tokens for cost in own if cost.tokens is not None]
        read = f"{sum(tokens) / len(tokens):,.0f}" if tokens else ""
        rows.append([agent, number(sum(cost.seconds for cost in own) / len(own)), read])
    return Table(["agent", "CPU s", "tokens"], rows, "Cost of a session")


def comparison_table(comparisons: Sequence[Comparison], title: str) -> Table:
    """Returns the returns with their intervals, and the improvements over the other agents."""
    columns = [
        Column("agent", lambda row: row.agent),
        Column("return [95 %]", lambda row: number(*row.mean)),
        Column(
            f"improvement of {comparisons[0].agent} over it [95 %]",
            lambda row: text_tables.improvement(row.improvement),
        ),
    ]
    return Table.of(columns, comparisons, title)


def write_evaluation(
    folder: Path,
    settings: dict[str, Any],
    episodes: Sequence[Episode],
    comparisons: Sequence[Comparison],
) -> None:
    """Writes sessions and comparison; those of an earlier evaluation are replaced."""
    code = {"version": llmrec_env.__version__, "dynamics": source_digest()}
    agents = [row._asdict() for row in comparisons]
    record = settings | code | {"agents": agents}
    with store.storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    store.write_table(folder, Episode, episodes)
    text = json.dumps(record, indent=1, allow_nan=False)
    store.write_file(folder / EVALUATION, text.encode() + b"\n")


def _users(users: int | None) -> int | None:
    if users is not None and users < 2:
        raise ValueError(f"users={users} gives no interval; play at least 2 of each world.")
    return users

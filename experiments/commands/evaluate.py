"""Play a saved agent with test users, beside others: `python -m experiments evaluate runs/ppo`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

import llmrec_env
from agents.rollout import rollout
from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.runs.environments import task_config
from experiments.runs.evaluation import EVALUATION_SEED
from experiments.runs.measures import Truth, episode_rows
from experiments.runs.resolve import Player, find_players, place_of, ready
from experiments.runs.spec import RunSpec
from experiments.statistics import intervals
from experiments.statistics.leaderboard import group, scores_of
from experiments.store import Episode
from llmrec_env.simulation.kernel_cache import source_digest
from llmrec_env.simulation.logging_policy import split_of

EVALUATION = "evaluation.json"
"""What an evaluation found; its sessions are in `episodes.csv`."""


@dataclass(frozen=True)
class Comparison:
    """One agent's return over all sessions, and what the evaluated agent gains over it."""

    agent: str
    mean: float
    low: float  # 95 % interval
    high: float
    improvement: float | None = (
        None  # paired, relative: mean / mean - 1; None: nothing to compare with
    )
    improvement_low: float | None = None
    improvement_high: float | None = None


def run(
    agent: str,
    /,
    against: tuple[str, ...] = (),
    users: int | None = None,
    worlds: tuple[int, ...] | None = None,
    task: str | None = None,
    output: Path | None = None,
    env: EnvFields = NO_FIELDS,
) -> list[Comparison]:
    """Plays an agent with test users, prints its return, and what it gains over others.

    Every agent meets the same users, luck and candidates. `episodes.csv` and `evaluation.json` are
    written into the folder of the agent.

    Args:
        agent: folder of a saved agent, or the name of one that needs no training.
        against: others to compare it with, folders or names.
        users: held-out test users of each world; all of them by default.
        worlds: worlds to play in; by default the one that it was trained in.
        task: a registered id; by default the agent's own task.
        output: another folder for the results.
        env: fields of the environment that override the task's.

    Raises:
        ValueError: there is no such agent, it must be trained first, or it was made for an
            environment that differs in what it sees or does.
    """
    players = find_players([agent, *against])
    name, changes = place_of(players[0], task, given_fields(env))
    saved = players[0].saved
    numbers = worlds or (saved.config.world_seed if saved else 0,)
    specs = [
        (player, RunSpec(name, player.label, world, player.seed, users=_users(users), env=changes))
        for world in numbers
        for player in players
    ]
    shown = track(specs, "sessions", console=Console(stderr=True), transient=True)
    episodes = [row for player, spec in shown for row in play_run(player, spec)]
    found = compare(episodes, [player.label for player in players])
    print_comparison(found, f"{name}, {len({(x.world, x.user) for x in episodes})} test users")
    if (folder := output or (saved.path if saved else None)) is not None:
        about = {"task": name, "env": changes, "worlds": list(numbers), "users": users}
        write_evaluation(folder, about, episodes, found)
        print(f"results in {folder}")
    return found


def play_run(player: Player, spec: RunSpec) -> list[Episode]:
    """Returns the sessions of a player with the test users of a world."""
    ids = np.arange(task_config(spec.task, spec.env).num_users)
    users = ids[split_of(ids, spec.split)][: spec.users]
    agent, env = ready(player, spec, len(users), spec.split)
    truth = Truth(env, agent=agent)
    return episode_rows(spec, rollout(agent, env, users, EVALUATION_SEED, truth), truth)


def compare(episodes: Sequence[Episode], labels: Sequence[str]) -> list[Comparison]:
    """Returns a row for every agent, with what the first one gains over it."""
    (agents,) = group(episodes).values()
    scores = {label: scores_of(agents[label]) for label in labels}
    found = []
    for label in labels:
        gain: tuple[float | None, ...] = (None, None, None)
        if label != labels[0]:
            with contextlib.suppress(intervals.RatioError):
                gain = intervals.relative_improvement(scores[labels[0]], scores[label])
        found.append(Comparison(label, *intervals.bootstrap_interval(scores[label]), *gain))
    return found


def print_comparison(found: Sequence[Comparison], title: str) -> None:
    """Prints the returns with their intervals, and the gains over the other agents."""
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE)
    table.add_column("agent")
    for header in ("return [95 %]", f"gain of {found[0].agent} over it [95 %]"):
        table.add_column(escape(header), justify="right")
    for row in found:
        mean, gain = f"{row.mean:.2f} [{row.low:.2f}, {row.high:.2f}]", ""
        if (
            row.improvement is not None
            and row.improvement_low is not None
            and row.improvement_high is not None
        ):
            ends = f"{100 * row.improvement_low:+.1f}, {100 * row.improvement_high:+.1f}"
            gain = f"{100 * row.improvement:+.1f} % [{ends}]"
        table.add_row(*map(escape, (row.agent, mean, gain)))
    Console().print(table)


def write_evaluation(
    folder: Path, about: dict[str, Any], episodes: Sequence[Episode], found: Sequence[Comparison]
) -> None:
    """Writes sessions and comparison; those of an earlier evaluation are replaced."""
    code = {"version": llmrec_env.__version__, "dynamics": source_digest()}
    record = {**about, "split": "test", **code, "agents": [asdict(row) for row in found]}
    with store.storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    store.write_table(folder, Episode, episodes)
    text = json.dumps(record, indent=1, allow_nan=False)
    store.write_file(folder / EVALUATION, text.encode() + b"\n")


def _users(users: int | None) -> int | None:
    if users is not None and users < 2:
        raise ValueError(f"users={users} gives no interval; play at least 2 of each world.")
    return users

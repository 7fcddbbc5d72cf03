"""Relative improvements between agents of a results folder, and the share of the oracles' lead."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from experiments import store
from experiments.report import text_tables
from experiments.report.text_tables import Column, Table, percent
from experiments.statistics.intervals import (
    Interval,
    RatioError,
    normalised_score,
    relative_improvement,
)
from experiments.statistics.leaderboard import group, scores_of
from experiments.studies import study
from llmrec_env.config import unknown

FLOOR = "drift-aware"
CEILINGS = {"belief-oracle": "belief gap closed", "oracle-planning": "oracle gap closed"}
"""Upper bounds, and what the share of the way to them is called."""


class Improvement(NamedTuple):
    """Of one agent on one task."""

    task: str
    agent: str
    over: dict[str, Interval]
    """Relative improvement over each of the others."""
    closed: dict[str, Interval]
    """Share of the way from `drift-aware` to each of the ceilings for which it is defined."""


def run(
    folder: Path,
    /,
    agents: tuple[str, ...] = ("slateq",),
    over: tuple[str, ...] = ("drift-aware", "joint"),
    ceilings: Path | None = None,
) -> list[Improvement]:
    """Prints paired improvements with 95 % intervals; `improvement.md` in the folder keeps them.

    Args:
        folder: what `benchmark --output` wrote.
        agents: whose improvements.
        over: over whom.
        ceilings: folder with `drift-aware` and the upper bounds, which may have played fewer users;
            the shares of the way to them are then of their sessions. By default `folder` itself.

    Raises:
        ValueError: an agent is not in the folder, or lacks a session of the upper bounds.
    """
    improvements = []
    bounds = group(store.read_table(ceilings or folder, store.Episode))
    for task, episodes in group(store.read_table(folder, store.Episode)).items():
        for name in (*agents, *over):
            if name not in episodes:
                raise ValueError(unknown(f"agent in {folder}", name, list(episodes)))
        for agent in agents:
            own = scores_of(episodes[agent])
            shares = {x: relative_improvement(own, scores_of(episodes[x])) for x in over}
            closed = _closed(episodes[agent], bounds.get(task, {}))
            improvements.append(Improvement(task, agent, shares, closed))
    study.publish("improvement", folder, [_table(improvements, over)])
    return improvements


def _closed(
    episodes: list[store.Episode], bounds: Mapping[str, list[store.Episode]]
) -> dict[str, Interval]:
    """Returns the share of the way from `drift-aware` to each of the ceilings that played."""
    closed: dict[str, Interval] = {}
    if FLOOR not in bounds:
        return closed
    played = {(x.world, x.user) for x in bounds[FLOOR]}
    own = scores_of([x for x in episodes if (x.world, x.user) in played])
    for ceiling in filter(bounds.get, CEILINGS):
        with contextlib.suppress(RatioError):  # it is above drift-aware: there is a way to go
            ends = scores_of(bounds[FLOOR]), scores_of(bounds[ceiling])
            closed[ceiling] = normalised_score(own, *ends)
    return closed


def _table(improvements: list[Improvement], over: tuple[str, ...]) -> Table:
    def beside(other: str) -> Column:
        def cell(row: Improvement) -> text_tables.Cell:
            same = row.agent == other
            return text_tables.improvement(None if same else row.over[other])

        return Column(f"over {other}", cell)

    def closed(ceiling: str) -> Column:
        def cell(row: Improvement) -> text_tables.Cell:
            return percent(*row.closed.get(ceiling, (None,)))

        return Column(CEILINGS[ceiling], cell)

    played = [x for x in CEILINGS if any(x in row.closed for row in improvements)]
    columns = [
        Column("task", lambda row: row.task),
        Column("agent", lambda row: row.agent),
        *map(beside, over),
        *map(closed, played),
    ]
    title = "relative improvement in return, paired [95 %]"
    return Table.of(columns, improvements, title, labels=2)

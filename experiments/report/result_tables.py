"""Leaderboard, metrics, and worlds of a run as tables: what each column shows of a record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console

from experiments.report.text_tables import (
    Cell,
    Column,
    Table,
    improvement,
    number,
    percent,
    print_tables,
)
from experiments.statistics.leaderboard import improvement_of
from experiments.store import Metric, Row, WorldRow

_AGENT = Column("agent", lambda x: x.agent)
_RETURN = Column("return [95 %]", lambda x: number(x.mean, x.ci_low, x.ci_high))
_SHORT = (
    _AGENT,
    _RETURN,
    Column("IQM", lambda x: number(x.iqm)),
    Column("improvement [95 %]", lambda x: improvement(improvement_of(x))),
)
_FULL = (
    _AGENT,
    _RETURN,
    Column("IQM [95 %]", lambda x: number(x.iqm, x.iqm_low, x.iqm_high)),
    Column("improvement over the row above [95 %]", lambda x: improvement(improvement_of(x))),
    Column("beats the row above", lambda x: percent(x.p_improve, decimals=0)),
    Column("normalised", lambda x: percent(x.normalised, decimals=0)),
    Column("survival", lambda x: percent(x.survive, decimals=0)),
    Column("steps", lambda x: number(x.steps, decimals=1)),
    Column("consumes", lambda x: percent(x.ctr, decimals=0)),
    Column("satisfied", lambda x: percent(x.satisfaction_rate, decimals=0)),
    Column(
        "tracking error of the pooled history",
        lambda x: number(x.tracking_error, decimals=1, unit="°"),
    ),
    Column("training seeds", lambda x: number(x.seeds, decimals=0)),
    Column("training steps", lambda x: number(x.train_steps, decimals=0)),
)


class Notation(NamedTuple):
    """How a metric is written, and what it says."""

    meaning: str
    decimals: int | None = 2
    unit: str = ""
    signed: bool = False


METRICS: Mapping[str, Notation] = {
    "reward per step": Notation(
        "Return divided by steps: how good a session is while it lasts.", decimals=3
    ),
    "regret to belief": Notation(
        "Return that belief-oracle, who knows the simulation but of users only what is public, "
        "earns more in the same sessions."
    ),
    "regret to myopic": Notation("Return that oracle-myopic earns more in the same sessions."),
    "regret to planning": Notation("Return that oracle-planning earns more in the same sessions."),
    "diversity": Notation(
        "1 - mean cosine between two items of a slate: 0 is all alike.", decimals=3
    ),
    "effective topics": Notation("Topics consumed, counted by entropy: 3 for three equal parts."),
    "novelty": Notation("Of what was consumed, in bits: how seldom others clicked it."),
    "recall ceiling": Notation(
        "What the candidates allow of the best slate in the whole catalogue; the rest is lost "
        "before an agent acts.",
        decimals=0,
        unit=" %",
    ),
    "tracking error of the pooled history": Notation(
        "Angle between the true interests and the recent history that the environment pools for "
        "every agent; 0° is known exactly.",
        decimals=1,
        unit="°",
    ),
    "tracking error of the belief": Notation(
        "The same of what the agent believes, where it holds a belief.", decimals=1, unit="°"
    ),
    "preference shift": Notation(
        "Between the interests at the end, and those the same user would have had alone.",
        decimals=1,
        unit="°",
    ),
    "discovered": Notation("Interests active at the end that were not at the start."),
    "lost": Notation("Interests active at the start that are not at the end."),
    "goodwill": Notation(
        "At the end: clickbait lowers it, in-depth items raise it.", decimals=3, signed=True
    ),
    "coverage": Notation(
        "Share of the catalogue that was shown to anybody.", decimals=0, unit=" %"
    ),
    "gini": Notation("How unequally items were shown: 0 all alike, 1 always the same ones."),
    "ndcg@10": Notation(
        "Offline, from logs: how high ten recommendations rank the next satisfying clicks. A good "
        "rank there need not earn a good return.",
        decimals=3,
    ),
    "recall@10": Notation("Offline, from logs: share of those clicks among the ten.", decimals=3),
}
"""Metrics whose notation is known; another one is written with three digits."""


def leaderboard_tables(rows: Sequence[Row], full: bool = False) -> list[Table]:
    """Returns the leaderboard, a table a task; `full` has a column for every number of a row."""
    return [
        Table.of(_FULL if full else _SHORT, [row for row in rows if row.task == task], task)
        for task in dict.fromkeys(row.task for row in rows)
    ]


def print_leaderboard(rows: Sequence[Row], console: Console | None = None) -> None:
    """Prints the leaderboard of each task; the improvement is that over the row above."""
    for table in leaderboard_tables(rows):
        title = f"{table.title}: return per session; improvement over the row above"
        print_tables(dataclasses.replace(table, title=title), console=console)


def metrics_table(agents: Sequence[str], metrics: Sequence[Metric]) -> Table | None:
    """Returns every other metric of one task, or None where none is defined for anybody."""
    values = {(x.agent, x.metric): x for x in metrics if x.value is not None}
    names = [x for x in dict.fromkeys(m.metric for m in metrics) if any(x == n for _, n in values)]
    if not names:
        return None
    rows = [
        [agent, *(_measured(name, values.get((agent, name))) for name in names)] for agent in agents
    ]
    return Table(["agent", *names], rows, metrics[0].task)


def worlds_table(agents: Sequence[str], rows: Sequence[WorldRow]) -> Table | None:
    """Returns returns and improvements of one task by world, or None where there is one world."""
    worlds = sorted({row.world for row in rows})
    if len(worlds) < 2:
        return None
    by_place = {(row.agent, row.world): row for row in rows}
    heads = [f"world {world}: {name}" for world in worlds for name in ("return", "improvement")]
    body = [
        [agent, *(cell for world in worlds for cell in _in_world(by_place.get((agent, world))))]
        for agent in agents
    ]
    return Table(["agent", *heads], body, rows[0].task)


def _in_world(row: WorldRow | None) -> tuple[Cell, Cell]:
    if row is None:
        return Cell(""), Cell("")
    return number(row.mean, row.ci_low, row.ci_high), improvement(improvement_of(row))


def _measured(name: str, metric: Metric | None) -> Cell:
    if metric is None:
        return Cell("")
    notation = METRICS.get(name, Notation("", decimals=None))
    scale = 100.0 if notation.unit == " %" else 1.0
    ends = (None if x is None else scale * x for x in (metric.value, metric.low, metric.high))
    style: dict[str, Any] = {"decimals": notation.decimals, "unit": notation.unit}
    return number(*ends, signed=notation.signed, **style)

"""Results of the transfer study: what is kept of a return, and whether agents keep their order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from agents import AGENTS
from experiments.report.figures import study_figures
from experiments.report.text_tables import Cell, Column, Table, improvement, number, percent
from experiments.statistics.intervals import (
    Interval,
    RatioError,
    Scores,
    bootstrap_interval,
    improvement_if_defined,
    ratio,
)
from experiments.statistics.rank_correlation import rank_correlation

HOME = "home"
FROM_HOME = " from home"
"""What the label of a shift ends with where agents were trained at home."""

Returns = Mapping[str, Mapping[str, Scores]]
"""Returns by label and agent."""


class Transfer(NamedTuple):
    """What one agent earns after one shift."""

    shift: str
    agent: str
    native: Interval
    """Return of the agent trained there."""
    transferred: Interval | None
    """Of the agent trained at home; None: not defined, or there is nothing that it learns."""
    kept: Interval | None
    """transferred / native, paired."""
    native_gain: Interval | None
    """Over the rival, fitted to the logs there; of the rival itself None."""
    transferred_gain: Interval | None


class Order(NamedTuple):
    """Whether the leaderboard at home foretells that after a shift."""

    shift: str
    agents: int
    transferred: Interval
    """Kendall's tau of the agents trained at home, at home and there."""
    native: Interval | None
    """Of the agents at home and those trained there; None: they are the same ones."""
    best: str
    """Of those trained at home, there."""
    best_native: str


def transfers_of(shift: str, scores: Returns, agents: Sequence[str], rival: str) -> list[Transfer]:
    """Returns a line for each agent."""
    there, moved, rows = scores[shift], scores.get(shift + FROM_HOME, {}), []
    for agent in agents:
        native, own, kept = there[agent], moved.get(agent), None
        if own is not None:
            with contextlib.suppress(RatioError):
                kept = ratio(own, native)
        gains = [
            None if x is None or x is there[rival] else improvement_if_defined(x, there[rival])
            for x in (native, own)
        ]
        transferred = None if own is None else bootstrap_interval(own)
        rows.append(Transfer(shift, agent, bootstrap_interval(native), transferred, kept, *gains))
    return rows


def order_of(shift: str, scores: Returns) -> Order:
    """Returns how the leaderboard at home and those after a shift agree.

    Agents that need no training stand on both; those that cannot be transferred on none.
    """
    home, native = scores[HOME], scores[shift]
    moved = scores.get(shift + FROM_HOME, {})
    names = [x for x in home if x in moved or AGENTS[x].learns == "none"]
    there = {x: moved.get(x, native[x]) for x in names}

    def tau(side: Mapping[str, Scores]) -> Interval:
        return rank_correlation([home[x] for x in names], [side[x] for x in names])

    same = None if native is home else tau(native)
    return Order(shift, len(names), tau(there), same, _best(there), _best(native, names))


def _best(scores: Mapping[str, Scores], names: Sequence[str] = ()) -> str:
    return max(names or scores, key=lambda name: scores[name].values.mean())


def tables_of(found: Sequence[Transfer], rival: str) -> list[Table]:
    """Returns tables with a row for each shift and a column for each agent."""
    cells: dict[str, Callable[[Transfer], Cell | str]] = {
        "Return of agents trained there": lambda x: number(*x.native),
        "Return kept by agents trained at home, of that of those trained there": _kept,
        f"Agents trained at home, over {rival}": lambda x: improvement(x.transferred_gain),
        f"Agents trained there, over {rival}": lambda x: improvement(x.native_gain),
    }
    agents = list(dict.fromkeys(x.agent for x in found))
    rows = {
        shift: [x for x in found if x.shift == shift]
        for shift in dict.fromkeys(x.shift for x in found)
    }
    return [
        Table(
            ["shift", *agents],
            [[shift, *map(cell, row)] for shift, row in rows.items()],
            f"{title} [95 %]",
        )
        for title, cell in cells.items()
    ]


def _kept(row: Transfer) -> Cell | str:
    if row.transferred is None:
        return "not defined" if AGENTS[row.agent].learns != "none" else "not trained"
    return "" if row.kept is None else percent(*row.kept)


def order_table(orders: Sequence[Order]) -> Table:
    """Returns a row for each shift."""
    columns = [
        Column("shift", lambda x: x.shift),
        Column("agents", lambda x: str(x.agents)),
        Column("trained at home", lambda x: number(*x.transferred)),
        Column("trained there", lambda x: "" if x.native is None else number(*x.native)),
        Column("best of home", lambda x: x.best),
        Column("best of those trained there", lambda x: x.best_native),
    ]
    title = "Kendall's tau of the leaderboard at home and the one after the shift [95 %]"
    return Table.of(columns, orders, title)


def figure_of(found: Sequence[Transfer]) -> Figure | None:
    """A panel for each shift: what agents of home earn more than those trained there."""
    panels: dict[str, dict[str, Interval]] = {}
    for row in found:
        if row.kept:
            name = f"training at home over training there, {row.shift}"
            panels.setdefault(name, {})[row.agent] = Interval(*(x - 1.0 for x in row.kept))
    return study_figures.forest(panels) if panels else None

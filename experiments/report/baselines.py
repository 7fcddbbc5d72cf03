"""Improvement of each agent over a baseline that the reader of a report chooses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from experiments.report.text_tables import Cell, Table, improvement
from experiments.statistics.intervals import improvement_if_defined
from experiments.statistics.leaderboard import scores_of
from experiments.store import Episode

PREFERRED = "content"
"""The baseline that a page begins with: the ranker that everybody knows, if it took part."""
HEAD = "improvement over "
"""How the head of the column begins; the name of the baseline follows."""
_AFTER = "improvement over the row above [95 %]"


def improvements_over_each(episodes: Sequence[Episode]) -> dict[str, dict[str, Cell]]:
    """Returns by baseline what each agent earns more, in the same sessions, with its interval.

    Args:
        episodes: of one task; an agent over itself, or over nothing earned, is left out.
    """
    by_agent: dict[str, list[Episode]] = {}
    for episode in episodes:
        by_agent.setdefault(episode.agent, []).append(episode)
    scores = {agent: scores_of(own) for agent, own in by_agent.items()}
    return {
        baseline: {
            agent: improvement(improvement_if_defined(own, over))
            for agent, own in scores.items()
            if agent != baseline
        }
        for baseline, over in scores.items()
    }


def with_baseline(table: Table, improvements: Mapping[str, Mapping[str, Cell]]) -> Table:
    """Returns a leaderboard with one more column, the improvement over the first baseline."""
    first = PREFERRED if PREFERRED in improvements else next(iter(improvements))
    place = table.columns.index(_AFTER) + 1
    columns = [*table.columns[:place], f"{HEAD}{first} [95 %]", *table.columns[place:]]
    rows = [
        [*row[:place], improvements[first].get(str(row[0]), Cell("")), *row[place:]]
        for row in table.rows
    ]
    return dataclasses.replace(table, columns=columns, rows=rows)

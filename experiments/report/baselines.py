"""Improvement of each agent over a baseline that the reader of a report chooses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from experiments.report.text_tables import Cell, Table, improvement
from experiments.statistics.intervals import improvement_if_defined
from experiments.statistics.leaderboard import group, scores_of
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
    (by_agent,) = group(episodes).values()
    scores = {agent: scores_of(own) for agent, own in by_agent.items()}
    return {
        baseline: {
            agent: improvement(improvement_if_defined(own, over))
            for agent, own in scores.items()
            if agent != baseline
        }
        for baseline, over in scores.items()
    }


def with_baseline(table: Table, baseline: str, improvements: Mapping[str, Cell]) -> Table:
    """Returns a leaderboard with one more column, the improvements over a baseline by agent."""
    place = table.columns.index(_AFTER) + 1
    columns = [*table.columns[:place], f"{HEAD}{baseline} [95 %]", *table.columns[place:]]
    rows = [
        [*row[:place], improvements.get(str(row[0]), Cell("")), *row[place:]] for row in table.rows
    ]
    return dataclasses.replace(table, columns=columns, rows=rows)

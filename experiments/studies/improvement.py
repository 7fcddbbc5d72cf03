"""What agents of a results folder gain over others, and what they close of the oracle's lead."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from experiments import store
from experiments.statistics.intervals import (
    Interval,
    RatioError,
    Scores,
    normalised_score,
    relative_improvement,
)
from experiments.statistics.leaderboard import group, scores_of
from llmrec_env.config import unknown

FLOOR, CEILING = "drift-aware", "oracle-planning"


class Gains(NamedTuple):
    """Of one agent on one task."""

    task: str
    agent: str
    over: dict[str, Interval]
    """Relative gain over each of the others."""
    closed: Interval | None
    """Share of the way from `drift-aware` to `oracle-planning`; None: not defined there."""


def run(
    folder: Path,
    /,
    agents: tuple[str, ...] = ("slateq",),
    over: tuple[str, ...] = ("drift-aware", "joint"),
) -> list[Gains]:
    """Prints paired gains with 95 % intervals, and writes them as `improvement.md` into the folder.

    Args:
        folder: what `benchmark --output` wrote.
        agents: whose gains.
        over: over whom.

    Raises:
        ValueError: an agent is not in the folder.
    """
    found = []
    for task, episodes in group(store.read_table(folder, store.Episode)).items():
        for name in (*agents, *over):
            if name not in episodes:
                raise ValueError(unknown(f"agent in {folder}", name, list(episodes)))
        scores = {name: scores_of(sessions) for name, sessions in episodes.items()}
        found += [_gains(task, agent, over, scores) for agent in agents]
    text = _table(found, over)
    store.write_file(folder / "improvement.md", text.encode())
    print(text)
    return found


def _gains(task: str, agent: str, over: tuple[str, ...], scores: Mapping[str, Scores]) -> Gains:
    closed = None
    if {FLOOR, CEILING} <= scores.keys():
        try:
            closed = normalised_score(scores[agent], scores[FLOOR], scores[CEILING])
        except RatioError:  # planning is not above drift-aware: there is no way to go
            closed = None
    gains = {other: relative_improvement(scores[agent], scores[other]) for other in over}
    return Gains(task, agent, gains, closed)


def _table(found: list[Gains], over: tuple[str, ...]) -> str:
    header = ["task", "agent", *(f"over {name}" for name in over), "oracle gap closed"]
    lines = [f"| {' | '.join(header)} |", "|---|---|" + "---|" * (len(over) + 1)]
    for gains in found:
        shares = [*gains.over.values(), gains.closed]
        signs = [True] * len(over) + [False]
        texts = [_percent(x, sign) for x, sign in zip(shares, signs, strict=True)]
        lines.append(f"| {' | '.join([gains.task, gains.agent, *texts])} |")
    return "\n".join([*lines, ""])


def _percent(share: Interval | None, sign: bool) -> str:
    if share is None:
        return ""
    value, low, high = (f"{100.0 * x:{'+' if sign else ''}.1f}" for x in share)
    return f"{value} % [{low}, {high}]"

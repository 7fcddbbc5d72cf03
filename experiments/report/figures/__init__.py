"""Figures of a run at the width of a paper's column; an agent has the same colour in all of them.

Every function takes the records of one task, in the order in which agents are to appear, and
returns a figure that no window owns. The same records give the same file, byte for byte.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.report.figures.comparisons import (
    distribution,
    diversity,
    improvement,
    leaderboard,
    worlds,
)
from experiments.report.figures.streamgraph import river
from experiments.report.figures.style import COLOURS, colour_of, save
from experiments.report.figures.time_curves import adaptation, dynamics, learning
from experiments.report.sessions import Session, Texts
from experiments.statistics.leaderboard import group
from experiments.store import (
    AdaptationPoint,
    CurvePoint,
    Episode,
    LearningPoint,
    Metric,
    Row,
    WorldRow,
)

__all__ = [
    "COLOURS",
    "adaptation",
    "best_session",
    "colour_of",
    "distribution",
    "diversity",
    "dynamics",
    "improvement",
    "leaderboard",
    "learning",
    "river",
    "save",
    "worlds",
    "write_figures",
]


def write_figures(
    folder: str | os.PathLike[str],
    rows: Sequence[Row],
    episodes: Iterable[Episode],
    curves: Iterable[CurvePoint],
    points: Iterable[LearningPoint] = (),
    adaptations: Iterable[AdaptationPoint] = (),
    world_rows: Iterable[WorldRow] = (),
    metrics: Iterable[Metric] = (),
    sessions: Iterable[Session] = (),
    texts: Mapping[str, Texts] | None = None,
) -> dict[tuple[str, str], Path]:
    """Writes the figures of all tasks into `figures/`; returns the SVG of each (task, figure).

    Args:
        folder: of the run.
        rows: the leaderboard; agents appear in its order.
        episodes: of all agents in it.
        curves: of all agents in it.
        points: learning curves.
        adaptations: rewards after a switch.
        world_rows: the leaderboard of each world.
        metrics: other metrics.
        sessions: step by step; of each task in `texts`, one of the best agent is drawn.
        texts: what the ids in sessions stand for, by task; without it none is drawn.
    """
    played, kept = group(episodes), [*sessions]
    tables = [[*table] for table in (curves, points, adaptations, world_rows, metrics)]
    written = {}
    for task in dict.fromkeys(row.task for row in rows):
        own = [row for row in rows if row.task == task]
        agents = {row.agent: played[task][row.agent] for row in own}
        of_task = [_of_task(table, task, [*agents]) for table in tables]
        figures = {
            "leaderboard": leaderboard(own),
            "distribution": distribution(agents),
            "improvement": improvement(agents),
            **_from_tables(own, *of_task),
        }
        if texts and task in texts and (shown := best_session(own, kept)):
            figures["river"] = river(shown, texts[task])
        for name, figure in figures.items():
            if figure:
                stem = re.sub(r"[^A-Za-z0-9]+", "-", f"{task}-{name}")
                written[task, name] = save(figure, Path(folder) / "figures" / stem)[1]
    return written


def best_session(rows: Sequence[Row], sessions: Iterable[Session]) -> Session | None:
    """Returns the session of a task's best agent, oracles aside, in which most switches happen.

    Of several the longest; None where none was kept of such an agent.
    """
    kept = [x for x in sessions if x["label"] == rows[0].task]
    held = {session["agent"] for session in kept}
    blind = [x for x in rows if x.agent in held and not x.agent.startswith("oracle")]
    if not blind:
        return None
    best = max(blind, key=lambda row: row.mean).agent
    return max((x for x in kept if x["agent"] == best), key=_switches_and_steps)


def _switches_and_steps(session: Session) -> tuple[int, int]:
    kinds = [kind for step in session["steps"] for kind, *_ in step["events"]]
    return kinds.count("died"), len(session["steps"])


def _from_tables(
    rows: Sequence[Row],
    curves: list[CurvePoint],
    points: list[LearningPoint],
    adaptations: list[AdaptationPoint],
    world_rows: list[WorldRow],
    metrics: list[Metric],
) -> dict[str, Figure | None]:
    """Figures of one task; those whose table is empty are left out."""
    baseline = {row.agent: row.mean for row in rows if row.agent == "drift-aware"}
    return {
        "dynamics": dynamics(curves) if curves else None,
        "adaptation": adaptation(adaptations),
        "diversity": diversity(rows, metrics),
        "worlds": worlds(world_rows),
        "learning": learning(points, baseline) if points else None,
    }


def _of_task(table: Iterable[Any], task: str, agents: Sequence[str]) -> list[Any]:
    """The records of a task, in the order of its agents."""
    own = [x for x in table if x.task == task and x.agent in agents]
    return sorted(own, key=lambda x: agents.index(x.agent))

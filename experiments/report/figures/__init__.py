"""Figures of a run at the width of a paper's column; an agent has the same colour in all of them.

Every function takes the records of one task, in the order in which agents are to appear, and
returns a figure that no window owns. The same records give the same file, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from agents.registry import is_oracle
from experiments.report.figures.comparisons import (
    distribution,
    diversity,
    improvement,
    leaderboard,
    worlds,
)
from experiments.report.figures.streamgraph import streamgraph
from experiments.report.figures.style import COLOURS, colour_of, save
from experiments.report.figures.time_curves import adaptation, dynamics, learning
from experiments.report.run_results import RunResults, Session, Texts
from experiments.statistics.leaderboard import group
from experiments.store import Row

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
    "save",
    "streamgraph",
    "task_figures",
    "worlds",
    "write_figures",
]


def write_figures(
    results: RunResults, texts: Mapping[str, Texts] | None = None
) -> dict[tuple[str, str], Path]:
    """Writes the figures of all tasks into `figures/`; returns the SVG of each (task, figure).

    Args:
        results: of the run.
        texts: what the ids in sessions stand for, by task; a task without them has no streamgraph.
    """
    paths = {}
    for task in results.tasks:
        for name, figure in task_figures(results.of_task(task), (texts or {}).get(task)).items():
            stem = re.sub(r"[^A-Za-z0-9]+", "-", f"{task}-{name}")
            paths[task, name] = save(figure, results.folder / "figures" / stem)[1]
    return paths


def task_figures(results: RunResults, texts: Texts | None = None) -> dict[str, Figure]:
    """Returns the figures of one task by name; those without records are left out."""
    rows = results.rows
    episodes = group(results.episodes)[rows[0].task]
    baseline = {f"{x.agent} (test users)": x.mean for x in rows if x.agent == "drift-aware"}
    session = best_session(rows, results.sessions) if texts else None
    figures = {
        "leaderboard": leaderboard(rows),
        "distribution": distribution(episodes),
        "improvement": improvement(episodes),
        "dynamics": dynamics(results.curves) if results.curves else None,
        "adaptation": adaptation(results.adaptation),
        "diversity": diversity(rows, results.metrics),
        "worlds": worlds(results.worlds),
        "learning": learning(results.learning, baseline) if results.learning else None,
        "streamgraph": streamgraph(session, texts) if session and texts else None,
    }
    return {name: figure for name, figure in figures.items() if figure}


def best_session(rows: Sequence[Row], sessions: Iterable[Session]) -> Session | None:
    """Returns the session of a task's best agent, oracles aside, in which most switches happen.

    Of several the longest; None where there is none of such an agent.
    """
    candidates = [x for x in sessions if x["label"] == rows[0].task]
    watched = {session["agent"] for session in candidates}
    public = [x for x in rows if x.agent in watched and not is_oracle(x.agent)]
    if not public:
        return None
    best = max(public, key=lambda row: row.mean).agent
    return max((x for x in candidates if x["agent"] == best), key=_switches_and_steps)


def _switches_and_steps(session: Session) -> tuple[int, int]:
    kinds = [kind for step in session["steps"] for kind, *_ in step["events"]]
    return kinds.count("died"), len(session["steps"])

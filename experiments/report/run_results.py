"""Results of a run, as the files of its folder hold them, checked against each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from experiments.report.sessions import Session, read_sessions
from experiments.statistics.leaderboard import group
from experiments.store import (
    FILES,
    AdaptationPoint,
    CurvePoint,
    Episode,
    LearningPoint,
    Metric,
    ResultsError,
    Row,
    WorldRow,
    read_manifest,
    read_table,
)

_Record = TypeVar("_Record", LearningPoint, AdaptationPoint, WorldRow, Metric)


@dataclass(frozen=True)
class RunResults:
    """All tables of a run; agents appear in the order of the leaderboard."""

    folder: Path
    rows: Sequence[Row]
    episodes: Sequence[Episode]
    curves: Sequence[CurvePoint]
    learning: Sequence[LearningPoint] = ()
    adaptation: Sequence[AdaptationPoint] = ()
    worlds: Sequence[WorldRow] = ()
    metrics: Sequence[Metric] = ()
    sessions: Sequence[Session] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tasks(self) -> list[str]:
        """The tasks in the order of the leaderboard."""
        return list(dict.fromkeys(row.task for row in self.rows))

    @property
    def agents(self) -> list[str]:
        """The agents in the order of the leaderboard."""
        return list(dict.fromkeys(row.agent for row in self.rows))

    def of_task(self, task: str) -> RunResults:
        """Returns the results of one task, agents in the order of its leaderboard."""
        rows = [row for row in self.rows if row.task == task]
        agents = [row.agent for row in rows]

        def own(table: Iterable[Any]) -> list[Any]:
            records = [x for x in table if x.task == task and x.agent in agents]
            return sorted(records, key=lambda x: agents.index(x.agent))

        return dataclasses.replace(
            self,
            rows=rows,
            episodes=own(self.episodes),
            curves=own(self.curves),
            learning=own(self.learning),
            adaptation=own(self.adaptation),
            worlds=own(self.worlds),
            metrics=own(self.metrics),
            sessions=[x for x in self.sessions if x["label"] == task],
        )


def read_results(folder: Path) -> RunResults:
    """Returns what a folder holds.

    Raises:
        ResultsError: a file is missing or torn, or they do not belong together; it names the file.
    """
    rows = read_table(folder, Row)
    if not rows:
        raise ResultsError(f"{folder / FILES[Row]}: has no rows; run the benchmark again.")
    results = RunResults(
        folder=folder,
        rows=rows,
        episodes=read_table(folder, Episode),
        curves=read_table(folder, CurvePoint),
        learning=_optional(folder, LearningPoint),
        adaptation=_optional(folder, AdaptationPoint),
        worlds=_optional(folder, WorldRow),
        metrics=_optional(folder, Metric),
        sessions=read_sessions(folder),
        manifest=read_manifest(folder),
    )
    _check(results)
    return results


def _check(results: RunResults) -> None:
    """Refuses tables that lack agents of the leaderboard."""
    sessions = group(results.episodes)
    drawn = {(point.task, point.agent) for point in results.curves}
    for row in results.rows:
        count, expected = len(sessions.get(row.task, {}).get(row.agent, ())), row.users * row.seeds
        if count != expected:
            what = f"has {count} sessions of {row.agent} on {row.task}, not {expected}"
            path = results.folder / FILES[Episode]
            raise ResultsError(f"{path}: {what}; run the benchmark again.")
        if (row.task, row.agent) not in drawn:
            what = f"has nothing of {row.agent} on {row.task}"
            path = results.folder / FILES[CurvePoint]
            raise ResultsError(f"{path}: {what}; run the benchmark again.")


def _optional(folder: Path, kind: type[_Record]) -> list[_Record]:
    """The records of a file that older runs do not have."""
    return read_table(folder, kind) if (folder / FILES[kind]).exists() else []

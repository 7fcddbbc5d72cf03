"""Results of a run, as the files of its folder hold them, and the texts behind the ids in sessions.

Tables are checked against each other. `sessions.json` holds ids alone: texts are looked up when
something is shown. Those of a bundled catalogue are synthetic or public, those of another catalogue
are shown only if that is asked for.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from experiments.runs.spec import task_config
from experiments.statistics.leaderboard import group
from experiments.store import (
    FILES,
    SESSIONS,
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
from llmrec_env.content.catalog import BUNDLED
from llmrec_env.text_space import load_text_space

Session = Mapping[str, Any]

NO_INSTRUCTION = (-1, -1, -1)
_NUMBER = (int, float)
_ERROR = (int, float, type(None))
_SESSION: dict[str, Any] = {
    "label": str,
    "task": str,
    "env": dict,
    "agent": str,
    "world": int,
    "seed": int,
    "user": int,
    "survived": bool,
    "steps": list,
}
_STEP: dict[str, Any] = {
    "interests": list,
    "slate": list,
    "events": list,
    "choice": int,
    "satisfied": int,
    "query": int,
    "reward": _NUMBER,
    "patience": _NUMBER,
    "goodwill": _NUMBER,
    "tracking_error": _ERROR,
    "belief_error": _ERROR,
}
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


# --- sessions, and the texts of them


class Texts(NamedTuple):
    """What ids of items and of phrases stand for, and where in the space of texts they lie."""

    items: Sequence[str]
    phrases: Sequence[str]
    item_vectors: npt.NDArray[np.float32]  # (items, d), of length 1
    phrase_vectors: npt.NDArray[np.float32]  # (phrases, d), of length 1


class NoTextsError(ValueError):
    """The texts of a session cannot, or must not, be shown; the message says why."""


def read_sessions(folder: Path) -> list[Session]:
    """Returns the sessions of a folder; none where it has no such file.

    Raises:
        ResultsError: the file is torn, or a session lacks something; it names file and session.
    """
    path = folder / SESSIONS
    if not path.exists():
        return []
    try:
        sessions = json.loads(path.read_bytes())
    except ValueError:  # its message may repeat what the file holds
        raise ResultsError(f"{path}: torn or not JSON; run again.") from None
    if not isinstance(sessions, list):
        raise ResultsError(f"{path}: must hold one JSON list; run again.")
    for number, session in enumerate(sessions):
        if not _is_like(session, _SESSION) or not session["steps"]:
            raise ResultsError(f"{path}: session {number} lacks something; run again.")
        for index, step in enumerate(session["steps"]):
            if not (_is_like(step, _STEP) and _has_ids(step)):
                what = f"step {index} of session {number} lacks something"
                raise ResultsError(f"{path}: {what}; run again.")
    return sessions


def texts_of(sessions: Sequence[Session], with_texts: bool = False) -> Texts:
    """Returns the texts behind the ids of sessions that share a task and its settings.

    Args:
        sessions: at least one.
        with_texts: also those of a catalogue that is not bundled.

    Raises:
        NoTextsError: they are somebody's own and not asked for, or cannot be had.
    """
    first = sessions[0]
    try:
        config = task_config(first["task"], first["env"])
    except (KeyError, TypeError, ValueError):
        raise NoTextsError("this version does not know the task or its settings") from None
    if config.catalog not in BUNDLED and not with_texts:
        raise NoTextsError(
            "the catalogue is your own, and its texts may be private; "
            "`python -m experiments report FOLDER --with-texts` puts them into the page"
        )
    try:
        space = load_text_space(
            config.catalog, config.num_items, config.encoder, config.dim, config.device
        )
    except Exception as error:  # of files, packages, encoders: a report does not fail for texts
        # The message is left out: it may quote a text.
        raise NoTextsError(
            f"the catalogue or its encoder could not be loaded ({type(error).__name__}); "
            "install the extra `encoder`, and run the report where the catalogue lies"
        ) from None
    titles = space.catalog.titles or space.catalog.texts
    texts = Texts(titles, space.phrases.texts, space.vectors, space.phrase_vectors)
    if not all(_are_known(step, texts) for session in sessions for step in session["steps"]):
        raise NoTextsError("the catalogue is not the one that was used: it lacks some ids")
    return texts


def feedback_of(step: Mapping[str, Any]) -> list[int]:
    """Returns what came of each slot: satisfied 1 or 0, -1 where it was not chosen.

    Only a step in which several items could be chosen holds that as a list.
    """
    chosen = [step["satisfied"] if k == step["choice"] else -1 for k in range(len(step["slate"]))]
    return step.get("feedback", chosen)


def phrases_in(step: Mapping[str, Any]) -> set[int]:
    """Returns the ids of all phrases that a step speaks of."""
    named = {phrase for phrase, _ in step["interests"]}
    named |= {phrase for _, *changed in step["events"] for phrase in changed}
    _, about, _ = step.get("instruction", NO_INSTRUCTION)
    return named | ({step["query"], about} - {-1})


def _is_like(value: Any, kinds: Mapping[str, Any]) -> bool:
    return isinstance(value, dict) and all(
        name in value and isinstance(value[name], kind) for name, kind in kinds.items()
    )


def _has_ids(step: Mapping[str, Any]) -> bool:
    """Whether the lists of a step hold what they should."""
    return (
        all(isinstance(item, int) for item in step["slate"])
        and -1 <= step["choice"] < len(step["slate"])
        and isinstance(feedback_of(step), list)
        and len(feedback_of(step)) == len(step["slate"])
        and all(z in (-1, 0, 1) for z in feedback_of(step))
        and all(isinstance(x, list) and _are(x, int, _NUMBER) for x in step["interests"])
        and all(isinstance(x, list) and _are(x, str, *[int] * (len(x) - 1)) for x in step["events"])
    )


def _are(values: Sequence[Any], *kinds: Any) -> bool:
    return len(values) == len(kinds) and all(map(isinstance, values, kinds))


def _are_known(step: Mapping[str, Any], texts: Texts) -> bool:
    items = all(0 <= item < len(texts.items) for item in step["slate"])
    return items and all(0 <= phrase < len(texts.phrases) for phrase in phrases_in(step))

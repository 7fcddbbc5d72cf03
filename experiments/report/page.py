"""One HTML page about a run: what was run, who won and by how much, and how to run it again.

The page holds everything it shows and asks nothing of any server.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from experiments.report import explorer, figures
from experiments.report.html_tables import leaderboard_table, metrics_table, worlds_table
from experiments.report.sessions import NoTextsError, Session, Texts, read_sessions, texts_of
from experiments.statistics.leaderboard import group
from experiments.store import (
    FILES,
    REPORT,
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
    write_file,
)

_STYLE = Path(__file__).with_name("report.css").read_text(encoding="utf-8") + explorer.STYLE
# The browser itself is told to load nothing, and to run nothing but the explorer.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
_POLICY += f"script-src 'sha256-{explorer.SCRIPT_HASH}'"

_Record = TypeVar("_Record", LearningPoint, AdaptationPoint, WorldRow, Metric)

_CAPTIONS = {
    "leaderboard": "Mean return of each agent with its 95 % interval; between two rows the paired "
    "gain of the lower one. Look for gains in brackets: their interval holds zero.",
    "dynamics": "How the session goes. Top: the angle between estimated and true interests; an "
    "agent that tracks drift stays low. Middle: reward per step. Bottom: who is still there; "
    "returns differ as much by users who leave as by reward.",
    "adaptation": "Reward after an interest is replaced by another, of users who are still there. "
    "The depth of the fall is what the switch costs; how soon a line is back at its dot is how "
    "fast the agent follows. Oracles see the switch, so that they do not fall.",
    "distribution": "Share of sessions whose return exceeds x, with 95 % bands. A curve further "
    "right is better for every kind of user; where curves cross, the mean hides that some users "
    "lose.",
    "improvement": "How often the agent of a row beats that of a column with the same user and "
    "luck, in percent. Faint numbers cannot be told from 50 %.",
    "diversity": "Return against how different the items of a slate are, both with 95 % "
    "intervals. Showing everything is diverse and worthless; among agents that earn much, look "
    "for those further right.",
    "worlds": "Return of each agent relative to the row above it, a mark a world, with 95 % "
    "intervals. An order that holds holds in every world: all marks on one side of ×1. Hollow "  # noqa: RUF001
    "marks: the interval holds ×1.",  # noqa: RUF001
    "learning": "Return on validation users against user-steps of training: mean over worlds and "
    "seeds, and the range over seeds. The dashed line is the drift-aware agent, which learns no "
    "policy, on the test users of the leaderboard. Look whether curves are flat at the end.",
    "river": "A session of the best agent that sees only behaviour; of those that were kept, the "
    "one with most switches. A band is as wide as the interest's share of what the user is into; "
    "triangles mark switches. Below, what the agent showed at four of the steps, and what the user "
    "made of it.",
}


class _Run(NamedTuple):
    """What the files of a folder say."""

    folder: Path
    manifest: dict[str, Any]
    rows: list[Row]
    episodes: list[Episode]
    curves: list[CurvePoint]
    learning: list[LearningPoint]
    adaptation: list[AdaptationPoint]
    worlds: list[WorldRow]
    metrics: list[Metric]
    sessions: list[Session]


def write_report(folder: str | os.PathLike[str], with_texts: bool = False) -> Path:
    """Writes `report.html`, and the figures for papers into `figures/`; returns the page's path.

    Args:
        folder: holds episodes, curves, leaderboard and manifest; the other files are optional.
        with_texts: also show the texts of a catalogue that is not bundled.

    Raises:
        ResultsError: a file is missing or torn, or they do not belong together; it names the file.
    """
    run = _load(Path(folder))
    tasks = list(dict.fromkeys(row.task for row in run.rows))
    texts, missing = _texts(run.sessions, with_texts)
    drawn = figures.write_figures(
        *(run.folder, run.rows, run.episodes, run.curves, run.learning, run.adaptation),
        *(run.worlds, run.metrics, run.sessions, texts),
    )
    parts = [_headline(run, tasks), *(_task(run, task, drawn) for task in tasks)]
    parts.append(explorer.explorer(run.sessions, texts, missing))
    body = "".join([*parts, _reproduce(run.manifest)])
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(', '.join(tasks))}: recommenders compared</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
    return write_file(run.folder / REPORT, page.encode())


def _load(folder: Path) -> _Run:
    rows = read_table(folder, Row)
    if not rows:
        raise ResultsError(f"{folder / FILES[Row]}: has no rows; run the benchmark again.")
    episodes, curves = read_table(folder, Episode), read_table(folder, CurvePoint)
    sessions = group(episodes)
    drawn = {(point.task, point.agent) for point in curves}
    for row in rows:
        held = len(sessions.get(row.task, {}).get(row.agent, ()))
        if held != row.users * row.seeds:
            what = f"has {held} sessions of {row.agent} on {row.task}, not {row.users * row.seeds}"
            raise ResultsError(f"{folder / FILES[Episode]}: {what}; run the benchmark again.")
        if (row.task, row.agent) not in drawn:
            what = f"has nothing of {row.agent} on {row.task}"
            raise ResultsError(f"{folder / FILES[CurvePoint]}: {what}; run the benchmark again.")
    return _Run(
        *(folder, read_manifest(folder), rows, episodes, curves),
        _optional(folder, LearningPoint),
        _optional(folder, AdaptationPoint),
        _optional(folder, WorldRow),
        _optional(folder, Metric),
        read_sessions(folder),
    )


def _optional(folder: Path, kind: type[_Record]) -> list[_Record]:
    """The records of a file that older runs do not have."""
    return read_table(folder, kind) if (folder / FILES[kind]).exists() else []


def _texts(
    sessions: Sequence[Session], with_texts: bool
) -> tuple[dict[str, Texts], dict[str, str]]:
    """The texts by task, and for other tasks why there are none."""
    texts, missing = {}, {}
    for task in dict.fromkeys(session["label"] for session in sessions):
        try:
            texts[task] = texts_of([x for x in sessions if x["label"] == task], with_texts)
        except NoTextsError as error:
            missing[task] = str(error)
    return texts, missing


# --- parts of the page


def _headline(run: _Run, tasks: Sequence[str]) -> str:
    rows = run.rows
    seconds = run.manifest.get("wall_seconds")
    facts = {
        **({"tasks": len(tasks)} if len(tasks) > 1 else {"task": tasks[0]}),
        "agents": len({row.agent for row in rows}),
        "held-out users": f"{max(row.users for row in rows):,}",
        "worlds": max(row.worlds for row in rows),
        "training seeds": f"up to {most}" if (most := max(row.seeds for row in rows)) > 1 else 1,
        "sessions": f"{sum(row.users * row.seeds for row in rows):,}",
        "wall time": f"{seconds / 60:,.1f} min" if isinstance(seconds, int | float) else "unknown",
    }
    cells = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd></div>"
        for name, value in facts.items()
    )
    results = "".join(f"<p>{html.escape(_sentence(rows, task))}</p>" for task in tasks)
    title = "Recommenders compared on users whose interests drift"
    return f"<h1>{title}</h1>\n{results}<dl>{cells}</dl>\n"


def _sentence(rows: Sequence[Row], task: str) -> str:
    """The result of a task in words."""
    own = {row.agent: row for row in rows if row.task == task}
    blind = [row for row in own.values() if not row.agent.startswith("oracle")]
    best = max(blind or own.values(), key=lambda row: row.mean)
    text = f"{task}: the best agent that sees only behaviour is {best.agent}, with a return of "
    text += f"{best.mean:.2f} [{best.ci_low:.2f}, {best.ci_high:.2f}] a session"
    if (planning := own.get("oracle-planning")) is not None:
        text += f"; an oracle that sees the true interests and plans reaches {planning.mean:.2f}"
    return text + "."


def _task(run: _Run, task: str, drawn: Mapping[tuple[str, str], Path]) -> str:
    rows = [row for row in run.rows if row.task == task]
    agents = [row.agent for row in rows]
    tables = leaderboard_table(rows)
    figures = {name: _figure(task, name, svg) for (own, name), svg in drawn.items() if own == task}
    wide = figures.pop("river", "")
    metrics = metrics_table(agents, [x for x in run.metrics if x.task == task])
    worlds = worlds_table(agents, [x for x in run.worlds if x.task == task])
    shown = f'<div class="figures">\n{"".join(figures.values())}</div>\n'
    return f"<h2>{html.escape(task)}</h2>\n{tables}{shown}{wide}{worlds}{metrics}"


def _figure(task: str, name: str, svg: Path) -> str:
    data = base64.b64encode(_shortened(svg.read_bytes())).decode()
    alt = html.escape(f"{name.capitalize()} of the agents on {task}; the table has the numbers.")
    caption = f"<figcaption>{html.escape(_CAPTIONS[name])}</figcaption></figure>\n"
    if name != "river":
        image = f'<img src="data:image/svg+xml;base64,{data}" alt="{alt}">'
        return f"<figure>{image}\n{caption}"
    alt = html.escape(f"One session on {task}: interests over time, and four slates as text.")
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{alt}">'
    region = 'class="scroll" role="region" aria-label="One session" tabindex="0"'
    return f'<figure class="wide"><div {region}>{image}</div>\n{caption}'


def _shortened(svg: bytes) -> bytes:
    """The same picture at half the size: tenths of a point, no comments, short names of letters."""
    svg = re.sub(rb"<!--.*?-->|<metadata>.*?</metadata>", b"", svg, flags=re.DOTALL)
    svg = re.sub(rb"\n\s*", b"\n", svg).replace(b"DejaVuSans-", b"d")
    places = re.compile(rb' d="[^"]*"|translate\([^)]*\)')  # not scales, which are small
    svg = places.sub(lambda found: re.sub(rb"(\.\d)\d+", rb"\1", found.group()), svg)
    return re.sub(rb'(<use [^>]*) transform="translate\(([\d.]+) 0\)"', rb'\1 x="\2"', svg)


def _reproduce(manifest: dict[str, Any]) -> str:
    words = [str(word) for word in manifest.get("command") or ["python -m experiments benchmark"]]
    if words[0].endswith("__main__.py"):
        words = ["python", "-m", "experiments", *words[1:]]
    commit = manifest.get("git_commit") or "unknown"
    changed = ", with changes that were not committed" if manifest.get("git_dirty") else ""
    text = html.escape(json.dumps(manifest, indent=2, ensure_ascii=False))
    return (
        f"<h2>Run it again</h2>\n<pre>{html.escape(shlex.join(words))}</pre>\n"
        f"<p>Code: {html.escape(str(commit))}{changed}. Numbers are equal on the same versions and "
        "the same kind of machine; wall time is not.</p>\n"
        f"<details><summary>Settings, versions and machine</summary>\n<pre>{text}</pre></details>\n"
    )

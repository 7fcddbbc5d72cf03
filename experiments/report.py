"""One HTML page about a run: what was run, who won and by how much, and how to run it again.

The page holds everything it shows and asks nothing of any server.
"""

from __future__ import annotations

import base64
import html
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments import plots
from experiments.leaderboard import group, is_clear
from experiments.results import (
    FILES,
    REPORT,
    CurvePoint,
    Episode,
    LearningPoint,
    ResultsError,
    Row,
    read_manifest,
    read_table,
    write_file,
)

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1d21; --faint: #5b616b; --line: #d9dce1;
  --page: #ffffff; --card: #f5f6f8; --accent: #0062a3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ec; --faint: #a3a9b3; --line: #3a3f47;
  --page: #16181c; --card: #202329; --accent: #6cb8f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--page);
  color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0; }
dl div { background: var(--card); border-radius: .5rem; padding: .6rem .8rem; }
dt, figcaption, caption, footer { color: var(--faint); font-size: .875rem; }
dd { margin: 0; font-size: 1.2rem; font-weight: 600; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; }
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .6rem .75rem; }
caption span { display: block; max-width: calc(100vw - 4rem); }
th, td { padding: .35rem .75rem; text-align: right; white-space: nowrap;
  border-top: 1px solid var(--line); }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--page); }
thead th { vertical-align: bottom; white-space: normal; min-width: 5.5rem; }
td small { color: var(--faint); }
td.unclear { color: var(--faint); }
.figures { columns: 22rem 2; column-gap: 1.25rem; margin-top: 1.25rem; }
figure { margin: 0 0 1.5rem; break-inside: avoid; }
figure img { display: block; width: 100%; height: auto; background: #fff; padding: .5rem;
  border: 1px solid var(--line); border-radius: .5rem; }
figcaption { margin-top: .4rem; }
pre { background: var(--card); padding: .75rem 1rem; border-radius: .5rem; overflow-x: auto;
  font-size: .8125rem; white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; }
@media print { body { max-width: none; } .scroll { overflow: visible; } }
"""
# The browser itself is told to load nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_COLUMNS = (
    "agent",
    "return [95 %]",
    "IQM [95 %]",
    "gain over the row above [95 %]",
    "beats the row above",
    "normalised",
    "stays to the end",
    "steps",
    "consumes",
    "satisfied",
    "angle",
    "seeds",
    "user-steps of training",
)
_CAPTIONS = {
    "leaderboard": "Mean return of each agent with its 95 % interval; between two rows the paired "
    "gain of the lower one. Look for gains in brackets: their interval holds zero.",
    "dynamics": "How the session goes. Top: the angle between estimated and true interests; an "
    "agent that tracks drift stays low. Middle: reward per step. Bottom: who is still there; "
    "returns differ as much by users who leave as by reward.",
    "distribution": "Share of sessions whose return exceeds x. A curve further right is better "
    "for every kind of user; where curves cross, the mean hides that some users lose.",
    "improvement": "How often the agent of a row beats that of a column with the same user and "
    "luck, in percent. Faint numbers cannot be told from 50 %.",
    "learning": "Return against user-steps of training: mean and range over training seeds. The "
    "dashed line is the drift-aware agent, which learns no policy. Look whether curves are flat.",
}


class _Run(NamedTuple):
    """What the files of a folder say."""

    folder: Path
    manifest: dict[str, Any]
    rows: list[Row]
    episodes: list[Episode]
    curves: list[CurvePoint]
    learning: list[LearningPoint]


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Writes `report.html`, and the figures for papers into `figures/`; returns the page's path.

    Args:
        folder: holds episodes, curves, leaderboard and manifest; learning curves are optional.

    Raises:
        ResultsError: a file is missing or torn, or they do not belong together; it names the file.
    """
    run = _load(Path(folder))
    tasks = list(dict.fromkeys(row.task for row in run.rows))
    drawn = plots.write_figures(run.folder, run.rows, run.episodes, run.curves, run.learning)
    parts = [_headline(run, tasks), *(_task(run.rows, task, drawn) for task in tasks)]
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
    optional = (folder / FILES[LearningPoint]).exists()
    learning = read_table(folder, LearningPoint) if optional else []
    return _Run(folder, read_manifest(folder), rows, episodes, curves, learning)


# --- parts of the page


def _headline(run: _Run, tasks: Sequence[str]) -> str:
    rows = run.rows
    seconds = run.manifest.get("wall_seconds")
    facts = {
        "tasks": ", ".join(tasks),
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


def _task(rows: Sequence[Row], task: str, drawn: Mapping[tuple[str, str], Path]) -> str:
    figures = "".join(_figure(task, name, svg) for (own, name), svg in drawn.items() if own == task)
    table = _table([row for row in rows if row.task == task], html.escape(task))
    return f'<h2>{html.escape(task)}</h2>\n{table}<div class="figures">\n{figures}</div>\n'


def _table(rows: Sequence[Row], name: str) -> str:
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in _COLUMNS)
    body = "".join(f"<tr>{_cells(row)}</tr>\n" for row in rows)
    caption = (
        f"Leaderboard of {name}, in the order of the ladder. Grey gains: the interval holds 0."
    )
    return (
        f'<div class="scroll" role="region" aria-label="Leaderboard of {name}" tabindex="0">\n'
        f"<table><caption><span>{caption}</span></caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}</tbody></table></div>\n"
    )


def _cells(row: Row) -> str:
    gain = "" if row.gain is None else _spread(row.gain, row.gain_low, row.gain_high, "{:+.1%}")
    numbers = (
        _spread(row.mean, row.ci_low, row.ci_high, "{:.2f}"),
        _spread(row.iqm, row.iqm_low, row.iqm_high, "{:.2f}"),
        gain,
        *(_number(x, "{:.0%}") for x in (row.p_improve, row.normalised, row.survive)),
        _number(row.steps, "{:.1f}"),
        *(_number(x, "{:.0%}") for x in (row.ctr, row.satisfaction_rate)),
        _number(row.angle, "{:.1f}°"),
        *(_number(x, "{:,}") for x in (row.seeds, row.train_steps)),
    )
    unclear = ' class="unclear"' if gain and not is_clear(row) else ""
    cells = [f"<td{unclear if i == 2 else ''}>{text}</td>" for i, text in enumerate(numbers)]
    return f'<th scope="row">{html.escape(row.agent)}</th>{"".join(cells)}'


def _spread(value: float, low: float | None, high: float | None, form: str) -> str:
    return f"{form.format(value)} <small>[{_number(low, form)}, {_number(high, form)}]</small>"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)  # noqa: RUF001


def _figure(task: str, name: str, svg: Path) -> str:
    data = base64.b64encode(svg.read_bytes()).decode()
    alt = html.escape(f"{name.capitalize()} of the agents on {task}; the table has the numbers.")
    return (
        f'<figure><img src="data:image/svg+xml;base64,{data}" alt="{alt}">\n'
        f"<figcaption>{html.escape(_CAPTIONS[name])}</figcaption></figure>\n"
    )


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

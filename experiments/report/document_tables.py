"""Generated tables of README.md and docs/, made from `results/` and the registry of agents.

A table stands between the markers `<!-- table: NAME -->` and `<!-- /table -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from agents.registry import summary_table
from experiments import store
from experiments.report.text_tables import Table, markdown, number, percent
from experiments.store import Row
from llmrec_env.config import unknown

BASELINE = "drift-aware"
"""What returns are compared with where a table has one baseline."""
_MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)
_NOTES = {"oracle-myopic": " (sees the interests)", "oracle-planning": " (and looks ahead)"}


def run(root: Path = Path(".")) -> list[Path]:
    """Rewrites the generated tables of README.md and docs/, and returns the pages that changed.

    Args:
        root: the checkout, with `results/`.

    Raises:
        ValueError: a marker names an unknown table, or its results are missing.
    """
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    changed = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        if (new := filled(text, root / "results")) != text:
            store.write_file(page, new.encode())
            changed.append(page)
    print(
        *(f"rewrote {page}" for page in changed) if changed else ["all tables were up to date"],
        sep="\n",
    )
    return changed


def filled(text: str, results: Path) -> str:
    """Returns a page with the tables between its markers made anew.

    Args:
        text: of the page.
        results: the folder of results folders.

    Raises:
        ValueError: a marker names an unknown table, or its results are missing.
    """

    def table(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        if name not in TABLES:
            raise ValueError(unknown("table", name, list(TABLES)))
        return f"{begin}{TABLES[name](results).strip()}\n{end}"

    return _MARKED.sub(table, text)


def against_baseline(folder: Path, task: str) -> str:
    """Returns the returns on one task, each beside the share by which it differs from BASELINE."""
    rows = [row for row in store.read_table(folder, Row) if row.task == task]
    (baseline,) = (row.mean for row in rows if row.agent == BASELINE)
    cells = [
        [
            f"{row.agent}{_NOTES.get(row.agent, '')}",
            number(row.mean, row.ci_low, row.ci_high),
            "" if row.agent == BASELINE else percent(row.mean / baseline - 1.0, signed=True),
            percent(row.survive, decimals=0),
        ]
        for row in rows
    ]
    return markdown(Table(["agent", "return [95 %]", f"over {BASELINE}", "survival"], cells))


def returns_by_task(folder: Path) -> str:
    """Returns the return of each agent, a column a task."""
    rows = store.read_table(folder, Row)
    tasks = list(dict.fromkeys(row.task for row in rows))
    cells = {(row.agent, row.task): number(row.mean, row.ci_low, row.ci_high) for row in rows}
    agents = dict.fromkeys(row.agent for row in rows)
    body = [[agent, *(cells.get((agent, task), "") for task in tasks)] for agent in agents]
    return markdown(Table(["return [95 %]", *map(_short, tasks)], body))


def improvements_by_task(folder: Path) -> str:
    """Returns the improvement of each agent over BASELINE, a column a task."""
    columns, rows = _improvements(folder)
    index = columns.index(f"over {BASELINE}")
    tasks = list(dict.fromkeys(row[0] for row in rows))
    cells = {(row[1], row[0]): row[index] for row in rows}
    agents = dict.fromkeys(row[1] for row in rows)
    body = [[agent, *(cells[agent, task] for task in tasks)] for agent in agents]
    return markdown(Table([f"over {BASELINE}", *map(_short, tasks)], body))


TABLES: dict[str, Callable[[Path], str]] = {
    "agents": lambda results: summary_table(),
    "drift": lambda results: against_baseline(results / "standard", "llmrec/Drift-v1"),
    "standard": lambda results: returns_by_task(results / "standard"),
    "algorithms": lambda results: returns_by_task(results / "algorithms"),
    "algorithms-improvements": lambda results: improvements_by_task(results / "algorithms"),
}
"""What makes the table of each name from the folder of results."""


def _improvements(folder: Path) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of `improvement.md`: the sessions that it was computed from are not kept."""
    lines = (folder / "improvement.md").read_text(encoding="utf-8").splitlines()
    columns, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|")
    )
    return columns, rows


def _short(task: str) -> str:
    return task.removeprefix("llmrec/").partition("-")[0]

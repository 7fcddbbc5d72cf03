"""Make the page, the figures and the tables of a results folder."""

from __future__ import annotations

from pathlib import Path

from experiments import store
from experiments.report.page import write_report
from experiments.statistics.leaderboard import latex_table, markdown_table


def run(folder: Path, /, with_texts: bool = False) -> Path:
    """Writes `report.html`, `figures/` and `leaderboard.tex` and `.md` into a results folder.

    Args:
        folder: what `benchmark --output` wrote.
        with_texts: show texts of your own catalogue too, in the page and in a figure. Texts of
            bundled catalogues are shown anyway: their users are synthetic.
    """
    path = write_report(folder, with_texts)
    rows = store.read_table(folder, store.Row)
    for name, table in (("tex", latex_table(rows)), ("md", markdown_table(rows))):
        store.write_file(folder / f"leaderboard.{name}", table.encode())
    print(f"report in {path}")
    return path

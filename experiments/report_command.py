"""Make the page, the figures and the tables of a results folder."""

from __future__ import annotations

from pathlib import Path

from experiments import results
from experiments.analysis.leaderboard import latex_table, markdown_table
from experiments.page.report import write_report


def run(folder: Path, /, with_texts: bool = False) -> Path:
    """Writes `report.html`, `figures/` and `leaderboard.tex` and `.md` into a results folder.

    Args:
        folder: what `benchmark --output` wrote.
        with_texts: show texts of your own catalogue too, in the page and in a figure. Texts of
            bundled catalogues are shown anyway: their users are synthetic.
    """
    path = write_report(folder, with_texts)
    rows = results.read_table(folder, results.Row)
    for name, table in (("tex", latex_table(rows)), ("md", markdown_table(rows))):
        results.write_file(folder / f"leaderboard.{name}", table.encode())
    print(f"report in {path}")
    return path

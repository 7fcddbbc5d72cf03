"""Report of a results folder: its page, figures and tables."""

from __future__ import annotations

from pathlib import Path

from experiments import store
from experiments.report.page import write_report
from experiments.report.result_tables import leaderboard_tables
from experiments.report.text_tables import latex, markdown


def run(folder: Path, /, with_texts: bool = False) -> Path:
    """Writes `report.html`, `figures/` and `leaderboard.tex` and `.md` into a results folder.

    Args:
        folder: what `benchmark --output` wrote.
        with_texts: show texts of your own catalogue too, in the page and in a figure. Texts of
            bundled catalogues are shown anyway: their users are synthetic.
    """
    path = write_report(folder, with_texts)
    tables = leaderboard_tables(store.read_table(folder, store.Row))
    for name, text in (("tex", latex(*tables)), ("md", markdown(*tables))):
        store.write_file(folder / f"leaderboard.{name}", text.encode())
    print(f"report in {path}")
    return path

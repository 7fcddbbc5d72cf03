"""Make one self-contained report.html of a results folder."""

from __future__ import annotations

from pathlib import Path

from experiments.report import write_report


def run(folder: Path, /) -> Path:
    """Writes `report.html` into a results folder and says where.

    Args:
        folder: what `benchmark --output` wrote.
    """
    path = write_report(folder)
    print(f"report in {path}")
    return path

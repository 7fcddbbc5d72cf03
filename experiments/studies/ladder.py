"""Ladder of agents, the acceptance test of the environment: do policies separate on real text?"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.result_tables import print_leaderboard
from experiments.report.text_tables import improvement
from experiments.runs.runner import RunOptions
from experiments.statistics.leaderboard import improvement_of
from experiments.studies import study

RUNGS = (
    "random",
    "popular",
    "collaborative",
    "content",
    "content-recency",
    "drift-aware",
    "oracle-myopic",
    "oracle-planning",
)
"""Every agent must beat the one before it by an interval above zero."""
PLANNING_IMPROVEMENT = 0.10
_SCALE = study.Scale(worlds=3)
_OPTIONS = RunOptions(output=Path("runs/ladder"))


def run(
    catalogs: tuple[str, ...] = ("video", "movielens"),
    candidates: tuple[int, ...] = (100, 0),
    task: str = "llmrec/Drift-v1",
    env: EnvFields = NO_FIELDS,
    scale: study.ScaleFlags = _SCALE,
    options: study.RunFlags = _OPTIONS,
) -> dict[tuple[str, int], list[store.Row]]:
    """Plays the ladder of agents on each catalogue and candidate number, and prints what fails.

    Args:
        catalogs: names or paths of catalogues.
        candidates: items offered at a step; 0 is the whole catalogue.
        task: a registered id.
    """
    ladders = {}
    for catalog in catalogs:
        for count in candidates:
            fields = given_fields(env) | {"catalog": catalog, "candidates": count}
            folder = options.output / f"{Path(catalog).stem}-{count or 'all'}"
            specs = study.plan_runs((task,), RUNGS, scale, fields)
            where = dataclasses.replace(options, output=folder)
            rows, _ = study.do_runs(specs, where, scale, fields, task=task)
            print(f"\n{catalog}, {count or 'all'} candidates")
            print_leaderboard(rows)
            print(*verdicts(rows), sep="\n")
            ladders[catalog, count] = rows
    return ladders


def verdicts(rows: list[store.Row]) -> list[str]:
    """Returns a line for each step of the ladder: whether its interval lies above zero."""
    lines = []
    for row in rows:
        share = improvement_of(row)
        if share is None:
            continue
        needed = PLANNING_IMPROVEMENT if row.agent == "oracle-planning" else 0.0
        verdict = "holds" if share.low > 0.0 and share.value >= needed else "FAILS"
        condition = f", needed {needed:.0%}" if needed else ""
        text = improvement(share).text
        lines.append(f"{verdict}: {row.agent} over {row.improvement_over} {text}{condition}")
    return lines

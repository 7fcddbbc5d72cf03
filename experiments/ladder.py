"""The acceptance test of the environment: do policies separate, on real text, and by how much?"""

from __future__ import annotations

from pathlib import Path

from experiments import leaderboard, results
from experiments.benchmark import overrides, run_plan
from experiments.evaluation import Cell
from llmrec_env.config import EnvConfig

RUNGS = (
    *("random", "popular", "collaborative", "content", "content-recency", "drift-aware"),
    *("oracle-myopic", "oracle-planning"),
)
"""Every agent must beat the one before it by an interval above zero."""
PLANNING_GAIN = 0.10


def run(
    catalogs: tuple[str, ...] = ("video", "movielens"),
    candidates: tuple[int, ...] = (100, 0),
    worlds: int = 3,
    users: int | None = None,
    task: str = "llmrec/Drift-v0",
    env: EnvConfig = EnvConfig(),  # noqa: B008, a frozen dataclass
    output: Path = Path("runs/ladder"),
    jobs: int = 1,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[tuple[str, int], list[results.Row]]:
    """Plays the ladder of agents on each catalogue and candidate number, and prints what fails.

    Args:
        catalogs: names or paths of catalogues.
        candidates: items offered at a step; 0 is the whole catalogue.
        worlds: worlds 0 to worlds - 1.
        users: held-out test users of each world; all of them by default.
        task: a registered id.
        env: fields that differ from the defaults override those of the task.
        output: folder of the results, one folder below it for each ladder.
        jobs: processes.
        resume: go on with the run of the same settings that the folder holds.
        overwrite: delete the results that are there.
    """
    ladders = {}
    for catalog in catalogs:
        for offered in candidates:
            changes = {**overrides(env), "catalog": catalog, "candidates": offered}
            folder = output / f"{Path(catalog).stem}-{offered or 'all'}"
            cells = [
                Cell(task, agent, world, users=users, env=changes)
                for world in range(worlds)
                for agent in RUNGS
            ]
            config = {"task": task, "worlds": worlds, "users": users, "env": changes}
            rows = run_plan(*(cells, folder, config), jobs=jobs, resume=resume, overwrite=overwrite)
            print(f"\n{catalog}, {offered or 'all'} candidates")
            leaderboard.print_table(rows)
            for line in verdicts(rows):
                print(line)
            ladders[catalog, offered] = rows
    return ladders


def verdicts(rows: list[results.Row]) -> list[str]:
    """Returns a line for each step of the ladder: whether its interval lies above zero."""
    lines = []
    for row in rows:
        if row.gain is None or row.gain_low is None:
            continue
        needed = PLANNING_GAIN if row.agent == "oracle-planning" else 0.0
        holds = row.gain_low > 0.0 and row.gain >= needed
        word = "holds" if holds else "FAILS"
        lines.append(
            f"{word}: {row.agent} over {row.gain_over} {row.gain:+.1%}, interval from "
            f"{row.gain_low:+.1%}" + (f", needed {needed:.0%}" if needed else "")
        )
    return lines

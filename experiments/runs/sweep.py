"""Sweeps of cells that may be killed at any moment, gone on with, and shared between processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from experiments.runs import engines
from experiments.runs.spec import RunSpec, RunResult, key_of
from experiments.runs.claims import LOCK, Lines, Run, Work
from experiments.runs.evaluation import execute_run
from experiments.store import CELLS, storing


def run_sweep(
    specs: Sequence[RunSpec],
    folder: Path,
    *,
    jobs: int = 1,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    run: Run = execute_run,
    on_done: Callable[[RunResult], None] | None = None,
) -> list[RunResult]:
    """Runs the cells that the folder has no results of, and returns all results in their order.

    Other processes may sweep the folder at the same time; no two run the same cell (two threads of
    one process may). A cell that raises is kept as failed, and run again by the next sweep.

    Args:
        cells: what to run.
        folder: of `cells.jsonl`; created.
        jobs: cells at a time; if more than 1, or with Ray, `run` must be picklable.
        engine: processes of this machine, or a Ray cluster that has the same code.
        address: of the cluster; None: one is started on this machine, and stopped at the end.
        run: runs one cell.
        on_done: called once for each different cell when its result is there, whoever ran it.

    Raises:
        ResultsError: the folder is of no use, full, damaged or of another version, or the cluster
            cannot be used; it names which.
    """
    if jobs < 1:
        raise ValueError(f"jobs={jobs!r} is not a positive number of processes.")
    if engine not in ("local", "ray"):
        raise ValueError(f"engine={engine!r} is not one of 'local', 'ray'.")
    keys = [key_of(spec) for spec in specs]
    left, found = dict(zip(keys, specs, strict=True)), {}

    def settle(results: Iterable[tuple[str, RunResult]]) -> None:
        for key, result in results:
            if spec := left.pop(key, None):
                found[key] = dataclasses.replace(result, spec=spec)
                if on_done:
                    on_done(found[key])

    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lines = Lines(folder / CELLS)
    settle((key, result) for key, result in lines.read() if not result.error)
    if left:
        work = Work(dict(left), folder / LOCK, run, dataclasses.replace(lines))
        jobs = min(jobs, len(left))

        def report() -> None:
            settle(lines.read())

        if engine == "ray":
            engines.run_on_ray(work, jobs, address, report)
        else:
            engines.run_locally(work, jobs, report)
    return [found[key] for key in keys]

"""Compare agents: train, play held-out users with common luck, write tables and figures."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import llmrec_env
from agents import AGENTS
from agents.sb3 import ALGORITHMS
from experiments import leaderboard, plots, results
from experiments.evaluation import Cell, run_cell, task_config
from experiments.sweep import CellResult, curve_points, result_of, run_and_keep, run_sweep
from llmrec_env.config import EnvConfig, unknown
from llmrec_env.world import load_text_space


@dataclass(frozen=True)
class Preset:
    """How much a benchmark runs; worlds 100 and up are kept for tuning."""

    tasks: tuple[str, ...]
    worlds: int
    seeds: int
    """Training seeds of agents that learn by acting."""
    train_steps: int
    """User-steps such an agent may take."""


PRESETS = {
    "quick": Preset(("llmrec/Drift-v0",), worlds=2, seeds=1, train_steps=150_000),
    "standard": Preset(
        ("llmrec/Drift-v0", "llmrec/Goodwill-v0", "llmrec/Boredom-v0", "llmrec/Static-v0"),
        **dict(worlds=3, seeds=5, train_steps=500_000),
    ),
    "full": Preset(tuple(llmrec_env.TASKS), worlds=5, seeds=10, train_steps=2_000_000),
}
LEARNING = tuple(ALGORITHMS)
"""Agents that learn by acting; the others learn from logs, and do not depend on a seed."""


def run(
    preset: Literal["quick", "standard", "full"] = "quick",
    agents: tuple[str, ...] | None = None,
    tasks: tuple[str, ...] | None = None,
    seeds: int | None = None,
    worlds: int | None = None,
    users: int | None = None,
    train_steps: int | None = None,
    env: EnvConfig = EnvConfig(),  # noqa: B008, a frozen dataclass
    output: Path = Path("runs/benchmark"),
    jobs: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> list[results.Row]:
    """Trains and compares agents, and writes leaderboard, sessions, curves, figures and manifest.

    Args:
        preset: how much to run; the options below override it.
        agents: names; all by default.
        tasks: registered ids.
        seeds: training seeds of agents that learn by acting.
        worlds: worlds 0 to worlds - 1.
        users: held-out test users of each world; all of them by default.
        train_steps: user-steps that such an agent may take.
        env: fields that differ from the defaults override those of the tasks.
        output: folder of the results.
        jobs: processes.
        resume: go on with the run of the same settings that the folder holds.
        overwrite: delete the results that are there.
        dry_run: only list what would be run.

    Raises:
        ValueError: an unknown agent or task, or the output folder holds results.
    """
    changes = dict(tasks=tasks, seeds=seeds, worlds=worlds, train_steps=train_steps)
    plan = dataclasses.replace(PRESETS[preset], **_given(changes))
    cells = plan_cells(plan, agents or tuple(AGENTS), users, overrides(env))
    if dry_run:
        for cell in cells:
            print(f"{cell.task} world {cell.world} {cell.agent} seed {cell.seed}", end="")
            print(f", {cell.train_steps:,} user-steps" if cell.train_steps else "")
        return []
    config = {"preset": preset, **dataclasses.asdict(plan), "users": users, "env": overrides(env)}
    rows = run_plan(cells, output, config, jobs=jobs, resume=resume, overwrite=overwrite)
    leaderboard.print_table(rows)
    print(f"results in {output}")
    return rows


def run_plan(
    cells: list[Cell],
    output: Path,
    config: dict[str, Any],
    *,
    jobs: int = 1,
    resume: bool = False,
    overwrite: bool = False,
) -> list[results.Row]:
    """Runs cells, writes everything about them into a folder, and returns the leaderboard.

    Args:
        cells: what to run.
        output: folder of the results.
        config: settings of the run, for the manifest; to resume they must be the same.
        jobs: processes.
        resume: go on with what is there.
        overwrite: delete what is there.

    Raises:
        ResultsError: a cell failed, or the folder cannot be used.
    """
    config = json.loads(json.dumps(config))
    folder = results.open_folder(output, config, resume=resume, overwrite=overwrite)
    results.write_manifest(folder, config=config)  # so that a killed run can be resumed
    started = time.perf_counter()
    found = run_cells(cells, folder, jobs)
    if failed := [result for result in found if result.error]:
        cell, error = failed[0].cell, failed[0].error
        raise results.ResultsError(
            f"{len(failed)} of {len(found)} cells failed; the others are kept, run again with "
            f"--resume. First: {cell.task} world {cell.world} {cell.agent}: {error}"
        )
    rows = write_results(folder, found)
    results.write_manifest(
        folder,
        config=config,
        encoder=encoder_identity(cells[0]),
        wall_seconds=round(time.perf_counter() - started, 1),
        seconds=_seconds(found),
    )
    return rows


def overrides(env: EnvConfig) -> dict[str, Any]:
    """Returns the fields of a configuration that differ from the defaults, as plain data."""
    plain, chosen = EnvConfig().to_dict(), env.to_dict()
    return {name: value for name, value in chosen.items() if value != plain[name]}


def plan_cells(
    plan: Preset, agents: tuple[str, ...], users: int | None, env: dict[str, Any]
) -> list[Cell]:
    """Returns the cells of a benchmark, world by world so that each world is built once.

    Raises:
        ValueError: an unknown agent or task.
    """
    for kind, names, known in (("agent", agents, AGENTS), ("task", plan.tasks, llmrec_env.TASKS)):
        for name in names:
            if name not in known:
                raise ValueError(unknown(kind, name, list(known)))
    return [
        Cell(task, agent, world, seed, plan.train_steps * (agent in LEARNING), users=users, env=env)
        for task in plan.tasks
        for world in range(plan.worlds)
        for agent in agents
        for seed in range(plan.seeds if agent in LEARNING else 1)
    ]


def run_cells(cells: list[Cell], folder: Path, jobs: int = 1) -> list[CellResult]:
    """Runs the cells that the folder does not hold yet, under a progress bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn()) as progress:
        whole = progress.add_task("benchmark", total=len(cells))

        def shown(cell: Cell) -> CellResult:
            label = f"{cell.task} world {cell.world} {cell.agent}"
            bar = progress.add_task(label, total=100)
            try:
                return result_of(
                    run_cell(cell, lambda share: progress.update(bar, completed=100 * share))
                )
            finally:
                progress.remove_task(bar)

        return run_sweep(
            *(cells, folder),
            jobs=jobs,
            run=shown if jobs == 1 else run_and_keep,  # a bar does not reach other processes
            on_done=lambda _: progress.advance(whole),
        )


def write_results(folder: Path, found: list[CellResult]) -> list[results.Row]:
    """Writes sessions, curves, leaderboard and figures, and returns the leaderboard."""
    episodes = [row for result in found for row in result.episodes]
    groups: dict[tuple[str, str], list[CellResult]] = defaultdict(list)
    for result in found:
        groups[result.cell.task, result.cell.agent].append(result)
    curves = [point for group in groups.values() for point in curve_points(group)]
    order = tuple(dict.fromkeys(result.cell.agent for result in found))
    budget = {result.cell.agent: result.cell.train_steps for result in found}
    rows = leaderboard.leaderboard(episodes, order, budget)
    results.write_table(folder, results.Episode, episodes)
    results.write_table(folder, results.CurvePoint, curves)
    results.write_table(folder, results.Row, rows)
    plots.write_figures(folder, rows, episodes, curves)
    return rows


def encoder_identity(cell: Cell) -> dict[str, Any]:
    """Returns which encoder the vectors come from."""
    config = task_config(cell.task, cell.env)
    text = load_text_space(
        *(config.catalog, config.num_items, config.encoder, config.dim, config.device)
    )
    return {
        "name": config.encoder,
        "fingerprint": text.encoder.fingerprint,
        "kept_variance": round(text.space.kept_variance, 4),
        "scale": round(text.space.scale, 4),
        "items": len(text.catalog),
    }


def _seconds(found: list[CellResult]) -> dict[str, dict[str, float]]:
    spent: dict[str, dict[str, float]] = {}
    for result in found:
        agent = spent.setdefault(result.cell.agent, {"training": 0.0, "playing": 0.0})
        for what, seconds in result.seconds.items():
            agent[what] = round(agent[what] + seconds, 2)
    return spent


def _given(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if value is not None}

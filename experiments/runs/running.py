"""Run cells into a folder and write their tables: every experiment ends here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments import store
from experiments.statistics import leaderboard
from experiments.statistics import summary
from experiments.runs.spec import RunSpec, RunResult
from experiments.runs.environments import task_config
from experiments.runs.evaluation import execute_run
from experiments.runs.sweep import run_sweep
from experiments.runs.trackers import Track
from experiments.runs.training import discard
from llmrec_env.config import EnvConfig
from llmrec_env.world import load_text_space


@dataclass(frozen=True)
class RunOptions:
    """Where and how the cells of an experiment run."""

    output: Path = Path("runs/benchmark")
    """Folder of the results."""
    jobs: int = 1
    """Processes; with `--engine ray`, cells at a time."""
    engine: Literal["local", "ray"] = "local"
    """Processes of this machine, or a Ray cluster."""
    address: str | None = None
    """Of the Ray cluster; one is started on this machine by default."""
    resume: bool = False
    """Go on with the run of the same settings that the folder holds."""
    overwrite: bool = False
    """Delete the results that are there."""
    track: tuple[Track, ...] = ()
    """Follow trainings in `tensorboard/` or, for later, `wandb/` of the folder."""


def run_specs(specs: list[RunSpec], options: RunOptions, config: dict[str, Any]) -> list[store.Row]:
    """Runs cells, writes everything about them into a folder, and returns the leaderboard.

    Args:
        cells: what to run.
        how: where and how.
        config: settings of the run, for the manifest; to resume they must be the same.

    Raises:
        ResultsError: a cell failed, or the folder cannot be used.
    """
    for spec in specs:
        store.check_name(spec.name)  # now, not when everything has run
    config = json.loads(json.dumps(config))
    folder = store.open_folder(options.output, config, resume=options.resume, overwrite=options.overwrite)
    spent = _spent_before(folder) if options.resume else 0.0
    store.write_manifest(folder, config=config, wall_seconds=spent)  # what a killed run leaves
    started = time.perf_counter()
    found = sweep_specs(specs, options)
    if failed := [result for result in found if result.error]:
        spec, error = failed[0].spec, failed[0].error
        raise store.ResultsError(
            f"{len(failed)} of {len(found)} cells failed; the others are kept, run again with "
            f"--resume. First: {spec.name} world {spec.world} {spec.agent}: {error}"
        )
    rows = write_results(folder, found)
    wall = spent + time.perf_counter() - started
    busy = sum(result.seconds[what] for result in found for what in ("training", "playing"))
    store.write_manifest(
        folder,
        config=config,
        encoders=encoder_identities(specs),
        jobs=options.jobs,
        wall_seconds=round(wall, 1),
        # Share of the processes' time that was not spent in agents and environments; what a killed
        # run spent on cells that it did not finish is not in it.
        overhead=round(1.0 - busy / (wall * options.jobs), 3),
        seconds=seconds_by_agent(found),
    )
    return rows


def _spent_before(folder: Path) -> float:
    """Wall time of the finished runs that a folder holds."""
    if not (folder / store.MANIFEST).exists():
        return 0.0
    return float(store.read_manifest(folder).get("wall_seconds", 0.0))


def overrides(env: EnvConfig) -> dict[str, Any]:
    """Returns the fields of a configuration that differ from the defaults, as plain data."""
    plain, chosen = EnvConfig().to_dict(), env.to_dict()
    return {name: value for name, value in chosen.items() if value != plain[name]}


def sweep_specs(specs: list[RunSpec], options: RunOptions) -> list[RunResult]:
    """Runs the cells that the folder does not hold yet, under a progress bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    keep: dict[str, Any] = {"folder": options.output.resolve(), "track": options.track}
    with Progress(*columns, TimeElapsedColumn()) as progress:
        whole = progress.add_task("cells", total=len(specs))

        def shown(spec: RunSpec) -> RunResult:
            bar = progress.add_task(f"{spec.name} world {spec.world} {spec.agent}", total=100)
            try:
                on_progress = _setter(progress, bar)
                return execute_run(spec, on_progress, **keep)
            finally:
                progress.remove_task(bar)

        def settle(result: RunResult) -> None:
            if not result.error:
                discard(options.output, result.spec)
            progress.advance(whole)

        alone = options.jobs == 1 and options.engine == "local"
        return run_sweep(
            *(specs, options.output),
            jobs=options.jobs,
            engine=options.engine,
            address=options.address,
            run=shown if alone else partial(execute_run, **keep),  # bars do not reach other processes
            on_done=settle,
        )


def write_results(folder: Path, found: list[RunResult]) -> list[store.Row]:
    """Writes all tables and watched sessions, and returns the leaderboard."""
    episodes = [row for result in found for row in result.episodes]
    order = tuple(dict.fromkeys(result.spec.agent for result in found))
    budget = {result.spec.agent: result.spec.train_steps for result in found}
    rows = leaderboard.leaderboard(episodes, order, budget)
    store.write_table(folder, store.Episode, episodes)
    store.write_table(folder, store.CurvePoint, summary.curve_points(found))
    store.write_table(folder, store.AdaptationPoint, summary.adaptation_points(found))
    store.write_table(folder, store.LearningPoint, summary.learning_points(found))
    store.write_table(folder, store.Row, rows)
    store.write_table(folder, store.WorldRow, leaderboard.world_rows(episodes, order))
    store.write_table(folder, store.Metric, summary.metrics_of(found))
    store.write_sessions(folder, [x for result in found for x in result.sessions])
    return rows


def encoder_identities(specs: list[RunSpec]) -> list[dict[str, Any]]:
    """Returns which encoders the vectors come from."""
    configs = [task_config(spec.task, spec.env) for spec in specs]
    spaces = [(x.catalog, x.num_items, x.encoder, x.dim, x.device) for x in configs]
    found = []
    for space in dict.fromkeys(spaces):
        text = load_text_space(*space)
        identity = {"name": space[2], "fingerprint": text.encoder.fingerprint}
        identity |= {"items": len(text.catalog), "scale": round(text.space.scale, 4)}
        found.append(identity | {"kept_variance": round(text.space.kept_variance, 4)})
    return found


def seconds_by_agent(found: list[RunResult]) -> dict[str, dict[str, float]]:
    """Returns what was spent on each agent, by what was done."""
    spent: dict[str, dict[str, float]] = {}
    for result in found:
        agent = spent.setdefault(result.spec.agent, {})
        for what, seconds in result.seconds.items():
            agent[what] = round(agent.get(what, 0.0) + seconds, 2)
    return spent


def _setter(progress: Progress, bar: Any) -> Callable[[float], None]:
    return lambda share: progress.update(bar, completed=100 * share)

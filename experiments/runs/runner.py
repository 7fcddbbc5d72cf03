"""Sweeps of runs that may be killed at any moment, resumed, and shared between processes.

Every experiment ends here: its runs are done, and their tables written into one folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from experiments import store
from experiments.runs import engines
from experiments.runs.evaluation import execute_run
from experiments.runs.progress import SweepProgress
from experiments.runs.spec import RunResult, RunSpec, key_of, task_config
from experiments.runs.training import Track, discard_checkpoint
from experiments.statistics import leaderboard, summary
from llmrec_env.text_space import load_channel, load_text_space


@dataclass(frozen=True)
class RunOptions:
    """Where and how the runs of an experiment are done."""

    output: Path = Path("runs/benchmark")
    """Folder of the results."""
    jobs: int = 1
    """Processes; with `--engine ray`, runs at a time."""
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


def run_sweep(
    specs: Sequence[RunSpec],
    folder: Path,
    *,
    jobs: int = 1,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    execute: engines.Execute = execute_run,
    on_done: Callable[[RunResult], None] | None = None,
) -> list[RunResult]:
    """Does the runs that the folder has no results of, and returns all results in their order.

    Other processes may sweep the folder at the same time; no run is done twice. A run that raises
    is kept as failed, and done again by the next sweep.

    Args:
        specs: what to run.
        folder: of results, which lie in its `runs/`; created.
        jobs: runs at a time; if more than 1, or with Ray, `execute` must be picklable.
        engine: processes of this machine, or a Ray cluster that has the same code.
        address: of the cluster; None: one is started on this machine, and stopped at the end.
        execute: does one run.
        on_done: called once for each different run when its result is there, whoever did it.

    Raises:
        ResultsError: the folder is of no use, full, damaged or of another version, or the cluster
            cannot be used; it names which.
    """
    if jobs < 1:
        raise ValueError(f"jobs={jobs!r} is not a positive number of processes.")
    if engine not in ("local", "ray"):
        raise ValueError(f"engine={engine!r} is not one of 'local', 'ray'.")
    keys = [key_of(spec) for spec in specs]
    sweep = _Sweep(on_done)
    for key, spec in dict(zip(keys, specs, strict=True)).items():
        sweep.add(key, engines.Task(spec, folder / store.RUNS / f"{key}.json", execute))
    if sweep.waiting:
        with store.storing(folder):
            (folder / store.RUNS).mkdir(parents=True, exist_ok=True)
        jobs = min(jobs, len(sweep.waiting))
        with _engine(engine, jobs, address) as perform:
            while sweep.waiting:
                for _ in perform([*sweep.waiting.values()]):
                    sweep.collect()
                sweep.collect()
                if sweep.waiting:  # others are at work on them, or have died
                    time.sleep(engines.POLL)
    return [sweep.results[key] for key in keys]


class _Sweep:
    """Runs that have a result, and those that wait for one, by key."""

    def __init__(self, on_done: Callable[[RunResult], None] | None) -> None:
        self.results: dict[str, RunResult] = {}
        self.waiting: dict[str, engines.Task] = {}
        self._on_done = on_done

    def add(self, key: str, task: engines.Task) -> None:
        """Takes the result that the folder has; without one, or if that run failed, it waits."""
        generation, result = task.generation(), task.result()
        if result and not result.error:
            self._settle(key, task, result)
        else:
            self.waiting[key] = dataclasses.replace(task, failure=generation)

    def collect(self) -> None:
        """Takes the results that have come since."""
        for key, task in [*self.waiting.items()]:
            if result := task.result():
                del self.waiting[key]
                self._settle(key, task, result)

    def _settle(self, key: str, task: engines.Task, result: RunResult) -> None:
        self.results[key] = dataclasses.replace(result, spec=task.spec)
        if self._on_done:
            self._on_done(self.results[key])


def _engine(
    name: str, jobs: int, address: str | None
) -> contextlib.AbstractContextManager[engines.Perform]:
    if name == "ray":
        return engines.ray_cluster(jobs, address)
    if jobs == 1:
        return contextlib.nullcontext(engines.perform_here)
    return contextlib.nullcontext(partial(engines.perform_in_processes, jobs=jobs))


def run_specs(
    specs: list[RunSpec],
    options: RunOptions,
    config: dict[str, Any],
    execute: Callable[..., RunResult] = execute_run,
) -> list[store.Row]:
    """Does runs, writes everything about them into a folder, and returns the leaderboard.

    Args:
        specs: what to run.
        options: where and how.
        config: settings of the run, for the manifest; to resume they must be the same.
        execute: does one run, as `execute_run` does.

    Raises:
        ResultsError: a run failed, or the folder cannot be used.
    """
    for spec in specs:
        store.check_name(spec.name)  # now, not when everything has run
    config = json.loads(json.dumps(config))
    folder = store.open_folder(
        options.output, config, resume=options.resume, overwrite=options.overwrite
    )
    spent = _spent_before(folder) if options.resume else 0.0
    store.write_manifest(folder, config=config, wall_seconds=spent)  # what a killed run leaves
    started = time.perf_counter()
    results = sweep_specs(specs, options, execute)
    if failed := [result for result in results if result.error]:
        spec, error = failed[0].spec, failed[0].error
        raise store.ResultsError(
            f"{len(failed)} of {len(results)} runs failed; the others are kept, run again with "
            f"--resume. First: {spec.name} world {spec.world} {spec.agent}: {error}"
        )
    rows = write_results(folder, results)
    wall = spent + time.perf_counter() - started
    kinds = ("preparing", "training", "playing")
    busy = sum(result.seconds.get(kind, 0.0) for result in results for kind in kinds)
    store.write_manifest(
        folder,
        config=config,
        encoders=encoder_identities(specs),
        jobs=options.jobs,
        wall_seconds=round(wall, 1),
        # Share of the processes' time that was not spent in agents, worlds and environments; what
        # a killed run spent on runs that it did not finish is not in it.
        overhead=round(1.0 - busy / (wall * options.jobs), 3),
        seconds=seconds_by_agent(results),
    )
    return rows


def _spent_before(folder: Path) -> float:
    """Wall time of the finished runs that a folder holds."""
    if not (folder / store.MANIFEST).exists():
        return 0.0
    return float(store.read_manifest(folder).get("wall_seconds", 0.0))


def sweep_specs(
    specs: list[RunSpec],
    options: RunOptions,
    execute: Callable[..., RunResult] = execute_run,
) -> list[RunResult]:
    """Does the runs that the folder does not hold yet, under a progress bar."""
    options_of_run: dict[str, Any] = {"folder": options.output.resolve(), "track": options.track}
    held = {path.stem for path in (options.output / store.RUNS).glob("*.json")}
    with SweepProgress(specs, options.jobs) as progress:

        def shown(spec: RunSpec) -> RunResult:
            return execute(spec, partial(progress.advance, spec), **options_of_run)

        def settle(result: RunResult) -> None:
            if not result.error:
                discard_checkpoint(options.output, result.spec)
            progress.settle(result.spec, found=key_of(result.spec) in held)

        alone = options.jobs == 1 and options.engine == "local"
        return run_sweep(
            specs,
            options.output,
            jobs=options.jobs,
            engine=options.engine,
            address=options.address,
            # The bar does not reach other processes.
            execute=shown if alone else partial(execute, **options_of_run),
            on_done=settle,
        )


def write_results(folder: Path, results: list[RunResult]) -> list[store.Row]:
    """Writes all tables and watched sessions, and returns the leaderboard."""
    episodes = [row for result in results for row in result.episodes]
    order = tuple(dict.fromkeys(result.spec.agent for result in results))
    budget = {result.spec.agent: result.spec.train_steps for result in results}
    rows = leaderboard.leaderboard(episodes, order, budget)
    store.write_table(folder, store.Episode, episodes)
    store.write_table(folder, store.CurvePoint, summary.curve_points(results))
    store.write_table(folder, store.AdaptationPoint, summary.adaptation_points(results))
    store.write_table(folder, store.LearningPoint, summary.learning_points(results))
    store.write_table(folder, store.Row, rows)
    store.write_table(folder, store.WorldRow, leaderboard.world_rows(episodes, order))
    store.write_table(folder, store.Metric, summary.metrics_of(results))
    store.write_sessions(folder, [x for result in results for x in result.sessions])
    return rows


def encoder_identities(specs: list[RunSpec]) -> list[dict[str, Any]]:
    """Returns which encoders the vectors come from."""
    configs = [task_config(spec.task, spec.env) for spec in specs]
    spaces = {
        (x.catalog, x.num_items, x.encoder, x.dim, x.device, x.item_vectors, x.item_graph): x
        for x in configs
    }
    identities = []
    for space, config in spaces.items():
        text, channel = load_text_space(*space[:5]), load_channel(config)
        identity = {"name": config.encoder, "fingerprint": text.encoder.fingerprint}
        identity |= {"items": len(text.catalog), "scale": round(text.space.scale, 4)}
        identity |= {"kept_variance": round(text.space.kept_variance, 4)}
        if channel is not None:
            identity["beside texts"] = hashlib.sha256(channel.directions.tobytes()).hexdigest()
        identities.append(identity)
    return identities


def seconds_by_agent(results: list[RunResult]) -> dict[str, dict[str, float]]:
    """Returns what was spent on each agent, by what was done."""
    spent: dict[str, dict[str, float]] = {}
    for result in results:
        agent = spent.setdefault(result.spec.agent, {})
        for what, seconds in result.seconds.items():
            agent[what] = round(agent.get(what, 0.0) + seconds, 2)
    return spent

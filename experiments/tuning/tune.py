"""Tuning command: settings of an agent, searched on validation users.

Worlds below 100 and test users are what results are reported on: they cannot be tuned on.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents import make_agent
from agents.registry import defaults_of
from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.figures.study_figures import Point, best_so_far
from experiments.report.figures.style import save
from experiments.runs.engines import in_processes
from experiments.runs.runner import run_sweep
from experiments.runs.spec import check_names, task_config
from experiments.statistics.leaderboard import scores_of
from experiments.studies.study import improvement_of
from experiments.tuning.search import (
    DATABASE,
    DEFAULTS,
    Plan,
    import_optuna,
    open_study,
    search,
    trials_of,
)
from experiments.tuning.search_spaces import flat, space_of

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

FIRST_WORLD = 100
"""Worlds from here on are kept for tuning."""
TRIALS, BEST, STUDY = "trials.csv", "best.json", "study.json"
CONFIRMING_SEEDS = 2
"""Seeds of training, none of them that of the search."""


def run(
    agent: str = "ppo",
    /,
    task: str = "llmrec/Drift-v1",
    world: tuple[int, ...] = (100, 101, 102),
    steps: int = 100_000,
    trials: int = 40,
    users: int = 100,
    confirm: int = 3,
    seed: int = 0,
    jobs: int = 1,
    env: EnvFields = NO_FIELDS,
    output: Path = Path("runs/tune"),
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Searches settings of an agent; the first trial is the agent as it is.

    A trial trains in each world and is worth the mean return of its validation users; one that is
    behind the median after as much training is given up. A search that is killed goes on with
    `--resume`, also with more `--trials`; several processes may search one folder. The best of many
    is partly chance, so the best few are trained again with other seeds before one is chosen.

    Args:
        agent: one whose specification in `agents/registry.py` has a search space.
        task: a registered id.
        world: which worlds, 100 and up.
        steps: environment steps of training in each world, of an agent that learns online.
        trials: that end, or are given up; those that failed or were killed do not count.
        users: validation users of each world.
        confirm: of the best trials, which are trained again beside the agent as it is; 0: none.
        seed: of what is tried, and of training.
        jobs: processes.
        env: fields of the environment that override the task's.
        output: folder of `trials.csv`, `best.json`, `study.json` and the figure.
        resume: go on with the search of the same settings that the folder holds.
        overwrite: delete the search that is there.

    Returns:
        What is in `best.json`: the settings to enter in the table of defaults, and their return.

    Raises:
        ValueError: an unknown agent or task, a world below 100, or too small a number.
        ResultsError: the folder holds other results, or no trial ended.
    """
    import_optuna()
    plan = Plan(agent, task, world, steps, users, seed, given_fields(env))
    _check(plan, trials, jobs)
    config = json.loads(json.dumps(dataclasses.asdict(plan) | {"space": _described(agent)}))
    store.open_folder(output, config, resume=resume, overwrite=overwrite)
    if overwrite:
        for name in (DATABASE, TRIALS, BEST, STUDY):
            (output / name).unlink(missing_ok=True)
    store.write_manifest(output, config=config)
    started = time.perf_counter()
    open_study(output, plan)  # before processes do it at once
    if jobs == 1:
        search(output, plan, trials, _tell)
    else:
        for _ in in_processes(search, [(output, plan, trials, _tell)] * jobs, jobs):
            pass
    best = _write(output, plan, open_study(output, plan).trials, confirm, jobs)
    wall = round(time.perf_counter() - started, 1)
    store.write_manifest(output, config=config, jobs=jobs, wall_seconds=wall)
    print(f"results in {output}")
    return best


def _check(plan: Plan, trials: int, jobs: int) -> None:
    space_of(plan.agent)
    check_names((), (plan.task,))
    make_agent(plan.agent, task_config(plan.task, plan.env))
    least = {"steps": 1, "users": 2, "trials": 1, "jobs": 1}  # intervals need two users a world
    numbers = {"steps": plan.steps, "users": plan.users, "trials": trials, "jobs": jobs}
    for name, number in numbers.items():
        if number < least[name]:
            raise ValueError(f"{name}={number} is not a number from {least[name]} on.")
    reported = [world for world in plan.worlds if world < FIRST_WORLD]
    if reported or not plan.worlds or len({*plan.worlds}) < len(plan.worlds):
        raise ValueError(
            f"world={plan.worlds} must be different numbers from {FIRST_WORLD} on: results are "
            "reported on those below, and what was tuned on them would look better than it is."
        )


def _described(agent: str) -> dict[str, str]:
    return {name: repr(values) for name, values in space_of(agent).items()}


def _tell(study: Study, trial: FrozenTrial) -> None:
    done = trials_of(study, "COMPLETE")
    best = max(done, key=_value, default=None)
    so_far = "" if best is None else f"; best {_value(best):.3f}, trial {best.number}"
    outcome = trial.state.name.lower()
    if outcome == "complete":
        outcome = f"{trial.value:.3f}"
    seconds = trial.user_attrs["seconds"]
    print(f"trial {trial.number}: {outcome}, {seconds:.0f} s{so_far}", flush=True)


# --- results


def _write(
    folder: Path, plan: Plan, trials: Sequence[FrozenTrial], confirm: int, jobs: int
) -> dict[str, Any]:
    """Writes what came of a study, and returns the best settings."""
    _write_trials(folder, plan.agent, trials)
    ended = [x for x in trials if x.state.name in ("COMPLETE", "PRUNED")]
    done = sorted((x for x in ended if x.state.name == "COMPLETE"), key=_value, reverse=True)
    if not done:
        raise store.ResultsError(f"{folder}: no trial ended; run more of them with --resume.")
    default = next((trial for trial in done if trial.user_attrs.get(DEFAULTS)), None)
    default_return = None if default is None else _value(default)
    points = [Point(x.value if x in done else None, x.user_attrs["user_steps"]) for x in ended]
    save(best_so_far(plan.agent, points, default_return), folder / "figures" / "tune")
    few = [*filter(None, [default]), *(x for x in done[:confirm] if x is not default)]
    again = confirmed(folder, plan, few, jobs) if confirm else []
    returns = {row["trial"]: row["return"] for row in again}
    best = max(few, key=lambda trial: returns[trial.number]) if again else done[0]
    outcome = {
        "agent": plan.agent,
        "settings": defaults_of(plan.agent) | best.user_attrs["settings"],
        "trial": best.number,
        "return": _value(best),
        "return_of_defaults": default_return,
        "confirmed": again,
    }
    study = dataclasses.asdict(plan) | {"space": _described(plan.agent)} | _budget(trials)
    for name, content in ((BEST, outcome), (STUDY, study)):
        store.write_file(folder / name, json.dumps(content, indent=1).encode() + b"\n")
    return outcome


def confirmed(
    folder: Path, plan: Plan, trials: Sequence[FrozenTrial], jobs: int
) -> list[dict[str, Any]]:
    """Returns what trials earn when they are trained with other seeds.

    Users are the same validation users; relative improvements over the first trial are
    paired.
    """
    seeds = [plan.seed + 1 + i for i in range(CONFIRMING_SEEDS)]
    specs = [
        dataclasses.replace(spec, seed=seed)
        for trial in trials
        for spec in plan.specs(trial.user_attrs["settings"])
        for seed in seeds
    ]
    results = run_sweep(specs, folder, jobs=jobs)
    if failed := [result.error for result in results if result.error]:
        raise store.ResultsError(f"{len(failed)} of {len(results)} runs failed: {failed[0]}.")
    each, rows = len(specs) // len(trials), []
    groups = [
        [row for result in results[i * each : (i + 1) * each] for row in result.episodes]
        for i in range(len(trials))
    ]
    for trial, episodes in zip(trials, groups, strict=True):
        mean = float(scores_of(episodes).values.mean())
        gain = improvement_of(episodes, groups[0])
        rows.append({"trial": trial.number, "return": mean, "gain": gain and [*gain]})
    return rows


def _budget(trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    """Trials by how they ended, and what all of them took; what was killed is not known."""
    states = [trial.state.name.lower() for trial in trials]
    return {
        "trials": {state: states.count(state) for state in sorted({*states})},
        "user_steps": sum(x.user_attrs.get("user_steps", 0) for x in trials),
        "seconds": round(sum(x.user_attrs.get("seconds", 0.0) for x in trials), 1),
    }


def _write_trials(folder: Path, agent: str, trials: Sequence[FrozenTrial]) -> None:
    names = list(space_of(agent))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "return", "user_steps", "seconds", *names])
    for trial in trials:
        known = trial.user_attrs
        if "settings" not in known:  # killed before it began, or waiting
            continue
        tried = flat(defaults_of(agent) | known["settings"], space_of(agent))
        value = trial.value if trial.state.name == "COMPLETE" else None
        numbers = [value, known.get("user_steps"), known.get("seconds")]
        settings = [json.dumps(tried[name]) if name in tried else "" for name in names]
        writer.writerow([trial.number, trial.state.name.lower(), *numbers, *settings])
    store.write_file(folder / TRIALS, text.getvalue().encode())


def _value(trial: FrozenTrial) -> float:
    """The return of a trial that ended."""
    assert trial.value is not None
    return trial.value

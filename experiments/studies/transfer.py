"""Transfer study: agents trained in one world and judged in another.

Each shift changes one thing: the world seed, the model of the response, a parameter of the
dynamics, the catalogue, or the encoder. An agent that was trained at home plays there as it is, but
for what it knows of items that are others there (`agents.checkpoint.load_agent(transfer=True)`).
Beside it stands the same agent trained there, with the same test users and random numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from agents import AGENTS, Agent, make_agent
from agents.base import WorldError
from agents.checkpoint import load_agent
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.runs.evaluation import execute_run, play_run
from experiments.runs.runner import RunOptions
from experiments.runs.spec import (
    RunResult,
    RunSpec,
    check_names,
    environment,
    key_of,
    task_config,
)
from experiments.runs.threads import one_thread
from experiments.statistics.leaderboard import scores_of
from experiments.studies import study
from experiments.studies.transfer_results import (
    FROM_HOME,
    HOME,
    Transfer,
    figure_of,
    order_of,
    order_table,
    tables_of,
    transfers_of,
)
from llmrec_env.config import EnvConfig, unknown

PLAYERS = ("collaborative", "ease", "content", "drift-aware", "joint", "ppo", "slateq")
WORLD = "world"
SHIFTS = (WORLD, "cascade", "catalogue", "switching", "encoder", "satiation", "queries")
"""What changes: the world seed; the model of the response; the catalogue; three times as many
switches of interests; the encoder; twice as much satiation; no queries."""
_SCALE = study.Scale(worlds=2, users=200, steps=250_000)
_OPTIONS = RunOptions(output=Path("runs/transfer"))


def run(
    agents: tuple[str, ...] = PLAYERS,
    shifts: tuple[str, ...] = SHIFTS,
    rival: str = "drift-aware",
    catalog: str = "ecommerce",
    encoder: str = "word-vectors",
    task: str = "llmrec/Drift-v1",
    env: EnvFields = NO_FIELDS,
    scale: study.ScaleFlags = _SCALE,
    options: study.RunFlags = _OPTIONS,
) -> list[Transfer]:
    """Trains agents at home and after each shift, and judges both there.

    Home is worlds 0 to worlds - 1 of the task; by the shift `world` an agent plays in the next of
    them, where the one that is at home there was trained. Agents of home are kept in `agents/` of
    the folder. Writes `transfer.md`, `.csv`, a figure and the tables of a benchmark.

    Args:
        agents: names.
        shifts: of SHIFTS.
        rival: an agent that takes no environment steps, over which gains are told; it is played
            too, and what it learns from logs it learns from those there.
        catalog: of the shift `catalogue`.
        encoder: of the shift `encoder`.
        task: a registered id.

    Raises:
        ConfigError: a shift takes a field of the environment out of its range.
        ValueError: an unknown agent, shift or task, a shift that changes nothing, or the rival
            learns online.
    """
    agents = agents if rival in agents else (*agents, rival)
    check_names(agents, (task,))
    if AGENTS[rival].learns == "online":
        raise ValueError(f"rival={rival!r} learns online; name one that does not: drift-aware.")
    for shift in shifts:
        if shift not in SHIFTS:
            raise ValueError(unknown("shift", shift, list(SHIFTS)))
    if WORLD in shifts and scale.worlds < 2:
        raise ValueError(f"the shift {WORLD!r} needs another world than home; set --worlds 2.")
    fields = given_fields(env)
    config, others = task_config(task, fields), {"catalogue": catalog, "encoder": encoder}
    changes = {shift: fields | changes_of(shift, config, others) for shift in shifts}
    for shift, changed in changes.items():
        if shift != WORLD and task_config(task, changed).effective() == config.effective():
            raise ValueError(f"the shift {shift!r} changes nothing of {task}; leave it out.")
    home = study.plan_runs((task,), agents, scale, fields, label=HOME)
    folders = {key_of(spec): _folder(spec, options.output) for spec in home}
    how: dict[str, Any] = {"scale": scale, "env": fields, "task": task}
    how |= {"catalog": catalog, "encoder": encoder}  # a run goes on with more agents and shifts
    how |= {"execute": partial(execute, trained=folders)}
    study.do_runs(home, options, **how)
    specs = [*home]
    for shift, changed in changes.items():
        specs += specs_of(shift, changed, home, folders)
    options = dataclasses.replace(options, resume=True, overwrite=False)
    _, sessions = study.do_runs(specs, options, **how)
    scores = {x: {y: scores_of(own) for y, own in rows.items()} for x, rows in sessions.items()}
    scores[WORLD] = scores[HOME]  # who is at home in the next world was trained there
    found = [row for shift in shifts for row in transfers_of(shift, scores, agents, rival)]
    tables = [*tables_of(found, rival), order_table([order_of(x, scores) for x in shifts])]
    study.publish("transfer", options.output, tables, figure_of(found), records=found)
    return found


def changes_of(shift: str, config: EnvConfig, others: Mapping[str, str]) -> dict[str, Any]:
    """Returns the fields that a shift changes; none for another world seed.

    Args:
        shift: of SHIFTS.
        config: of home.
        others: the other `catalogue` and `encoder`.
    """
    fields: dict[str, dict[str, Any]] = {
        "cascade": {"response": "cascade"},
        "switching": {"switch_rate": 3.0 * config.switch_rate},
        "satiation": {
            "satiation_choice": 2.0 * config.satiation_choice,
            "satiation_satisfaction": 2.0 * config.satiation_satisfaction,
        },
        "queries": {"query_rate": 0.0},
        "catalogue": {"catalog": others["catalogue"]},
        "encoder": {"encoder": others["encoder"]},
    }
    return fields.get(shift, {})


# --- runs


def specs_of(
    shift: str, env: Mapping[str, Any], home: Sequence[RunSpec], folders: dict[str, Path]
) -> list[RunSpec]:
    """Returns the runs after a shift: agents trained there, and those of home that can play.

    Args:
        shift: of SHIFTS.
        env: fields that override the task's.
        home: the runs at home, whose agents are kept.
        folders: of these agents by key of the run; receives those of the runs that load them.
    """
    specs, defined = [], {}
    for own in home:
        there = dataclasses.replace(own, env=dict(env), label=shift)
        if shift != WORLD:
            specs.append(there)
        if AGENTS[own.agent].learns == "none":
            continue
        path = folders[key_of(_neighbour(own, home) if shift == WORLD else own)]
        if own.agent not in defined:
            defined[own.agent] = _can_play(path, there)
        if defined[own.agent]:
            specs.append(dataclasses.replace(there, label=shift + FROM_HOME))
            folders[key_of(specs[-1])] = path
    return specs


def _neighbour(spec: RunSpec, home: Sequence[RunSpec]) -> RunSpec:
    """The run of the same agent and seed in the world before, of the first world in the last."""
    same = [x for x in home if (x.agent, x.seed) == (spec.agent, spec.seed)]
    return same[same.index(spec) - 1]


def _folder(spec: RunSpec, output: Path) -> Path:
    return output.resolve() / "agents" / f"{spec.agent}-{spec.world}-{spec.seed}"


@one_thread()
def _loaded(path: Path, spec: RunSpec) -> Agent:
    """A saved agent, taken into the world of a run."""
    agent = make_agent(spec.agent, task_config(spec.task, spec.env), spec.seed, **spec.settings)
    return load_agent(path, environment(spec, agent, 1, spec.split), transfer=True)


def _can_play(path: Path, spec: RunSpec) -> bool:
    """Whether anything that the agent learnt holds there."""
    with contextlib.suppress(WorldError):
        _loaded(path, spec)
        return True
    return False


def execute(
    spec: RunSpec,
    on_progress: Callable[[float], None] | None = None,
    *,
    trained: Mapping[str, Path],
    folder: Path | None = None,
    track: tuple[str, ...] = (),
) -> RunResult:
    """Does a run; the agents of home are saved, and loaded where they are not trained.

    Args:
        spec: what to run.
        on_progress: see `execute_run`.
        trained: folders of agents, by key of the runs that save or load them.
        folder: see `execute_run`.
        track: see `execute_run`.
    """
    path = trained.get(key_of(spec))
    if path is None or spec.label == HOME:
        return execute_run(spec, on_progress, folder=folder, track=track, save=path)
    return play_run(_loaded(path, spec), spec)

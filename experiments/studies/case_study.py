"""Case study: 10,000 users with 115 records each and 20,000 items, from texts to a report.

The recipe of the mission in its own order: a population and its records, interest vectors by the
language model, a recommender that learns collaborative filtering and content together, agents that
learn online, and the comparison of all with users that nobody has learnt from.
"""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report import page
from experiments.report.text_tables import Column, Table, number
from experiments.runs.runner import RunOptions, run_specs
from experiments.runs.spec import task_config
from experiments.studies import study
from llmrec_env.world import World, load_world

TASK = "llmrec/CaseStudy-v1"
AGENTS = (
    "random",
    "popular",
    "collaborative",
    "content",
    "drift-aware",
    "joint",
    "ppo",
    "slateq",
    "oracle-myopic",
    "oracle-planning",
)
_SCALE = study.Scale(worlds=1, users=400, steps=100_000)
_OPTIONS = RunOptions(output=Path("runs/case_study"), jobs=2)
_MIB = 2**20
_WATCHED = 10  # users whose sessions the report steps through


class Stage(NamedTuple):
    """One part of the recipe, and what it took."""

    name: str
    what: str
    seconds: float
    mebibytes: float
    """The most that this process, or one that it started, has held so far."""


def run(
    agents: tuple[str, ...] = AGENTS,
    env: EnvFields = NO_FIELDS,
    scale: study.ScaleFlags = _SCALE,
    options: study.RunFlags = _OPTIONS,
) -> list[Stage]:
    """Runs the case study end to end, and writes its tables, `case_study.md` and a report.

    Args:
        agents: that are compared.
    """
    fields = given_fields(env)
    config = task_config(TASK, fields)
    print(
        f"{config.num_users:,} users, {config.num_items:,} items, v in R^{config.dim}: "
        f"{scale.users} test users, {scale.steps:,} steps of training, {options.jobs} processes",
        flush=True,
    )
    stages: list[Stage] = []
    started = time.perf_counter()
    world = load_world(config)
    stages.append(_stage("texts and population", _population(world), started))

    started = time.perf_counter()
    specs = study.plan_runs((TASK,), agents, scale, fields, watched=_WATCHED)
    content: dict[str, Any] = {"task": TASK, "env": fields, **dataclasses.asdict(scale)}
    run_specs(specs, options, content)
    what = f"{len(specs)} runs of {len(agents)} agents: training and {scale.users} test users each"
    stages.append(_stage("agents", what, started))

    started = time.perf_counter()
    page.run(options.output)
    stages.append(_stage("report", "tables, figures and page", started))
    study.publish("case_study", options.output, [_table(stages)], records=stages)
    return stages


def _population(world: World) -> str:
    """Says how much there is: records of each kind a user, and what is held of f(v, y)."""
    logs, users = world.logs, len(world.users)
    shown = np.count_nonzero(logs.slates >= 0) / users
    clicked = np.count_nonzero(logs.items >= 0) / users
    rated = np.count_nonzero(logs.ratings) / users
    vectors = world.items.vectors
    dense = users * len(vectors) * 4 / _MIB
    return (
        f"a user has {shown:.0f} browse, {clicked:.1f} click and {rated:.1f} rating records; the "
        f"items' vectors take {vectors.nbytes / _MIB:.0f} MiB, where all f(v, y) would take "
        f"{dense:,.0f}"
    )


def _stage(name: str, what: str, started: float) -> Stage:
    scale = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    most = max(resource.getrusage(each).ru_maxrss for each in who) * scale / _MIB
    stage = Stage(name, what, time.perf_counter() - started, most)
    print(f"{name}: {stage.seconds:.0f} s, {what}", flush=True)
    return stage


def _table(stages: list[Stage]) -> Table:
    columns = [
        Column("stage", lambda x: x.name),
        Column("what", lambda x: x.what),
        Column("seconds", lambda x: number(x.seconds, decimals=0)),
        Column("MiB so far, of one process", lambda x: number(x.mebibytes, decimals=0)),
    ]
    whole = sum(stage.seconds for stage in stages)
    return Table.of(columns, stages, f"the case study in {whole / 60:.1f} minutes", labels=2)

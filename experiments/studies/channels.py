"""Channels study: what a vector beside an item's text is worth to agents that are shown it.

The vectors are made: normal numbers, of which a share t of the variance of the items' taste is a
linear function. Every variant plays the same users in the same world, whose logs are the same;
only how agents read the items differs. Where t is 0 the vectors tell nothing, and reading them can
only cost.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.figures import study_figures
from experiments.report.text_tables import Table, improvement, number
from experiments.runs.runner import RunOptions
from experiments.runs.spec import check_names, task_config
from experiments.statistics.intervals import bootstrap_interval
from experiments.statistics.leaderboard import scores_of
from experiments.studies import study
from llmrec_env.content.item_vectors import to_bytes
from llmrec_env.text_space import load_text_space

AGENTS = ("content", "content-recency", "drift-aware", "joint")
TEXT = "text-alone"
READINGS = ("concatenation", "gated-sum")
"""Ways to read the vectors, each compared with the texts alone."""
_DRAW = 47
_OPTIONS = RunOptions(output=Path("runs/channels"))


def run(
    agents: tuple[str, ...] = AGENTS,
    shares: tuple[float, ...] = (0.5, 0.0),
    readings: tuple[str, ...] = READINGS,
    length: int = 16,
    task: str = "llmrec/Drift-v1",
    env: EnvFields = NO_FIELDS,
    scale: study.ScaleFlags = study.SCALE,
    options: study.RunFlags = _OPTIONS,
) -> study.Improvements:
    """Plays agents that read made item vectors, and the same by texts alone; prints who gains.

    Args:
        agents: names.
        shares: t, of the variance of taste that the vectors decide, one after another.
        readings: values of `fusion` to compare with text-alone.
        length: numbers of a vector.
        task: a registered id.

    Raises:
        ConfigError: a reading is unknown, or a share out of range.
        ValueError: an unknown agent or task.
    """
    check_names(agents, (task,))
    path = options.output.with_name(f"{options.output.name}.npy")
    fields = given_fields(env) | {"item_vectors": str(path)}
    variants = {
        label_of(share, reading): fields | {"taste_channel": share, "fusion": reading}
        for share in shares
        for reading in (TEXT, *readings)
    }
    specs = [
        spec
        for label, own in variants.items()
        for spec in study.plan_runs((task,), agents, scale, own, label=label)
    ]
    store.write_file(path, to_bytes(made_vectors(task, fields, length)))
    plan = {"task": task, "agents": agents, "shares": shares, "readings": readings}
    _, sessions = study.do_runs(specs, options, scale, fields, length=length, **plan)
    found = compared(sessions, agents, shares, readings)
    study.publish(
        "channels", options.output, tables_of(sessions, found), study_figures.forest(found)
    )
    return found


def label_of(share: float, reading: str) -> str:
    """Returns the name of a variant in tables."""
    return f"{reading} t={share:g}"


def made_vectors(task: str, fields: dict[str, Any], length: int) -> Any:
    """Returns normal numbers, a row for each item of the task, (N, length)."""
    config = dataclasses.replace(task_config(task, fields), item_vectors=None)
    text = (config.catalog, config.num_items, config.encoder, config.dim, config.device)
    count = len(load_text_space(*text).catalog)
    return np.random.default_rng(_DRAW).standard_normal((count, length)).astype(np.float32)


def compared(
    sessions: study.Sessions,
    agents: tuple[str, ...],
    shares: tuple[float, ...],
    readings: tuple[str, ...],
) -> study.Improvements:
    """Returns what each reading is worth to each agent over texts alone, in the same sessions."""
    found: study.Improvements = {}
    for share in shares:
        alone = sessions[label_of(share, TEXT)]
        for reading in readings:
            own = sessions[label_of(share, reading)]
            for agent in agents:
                gain = study.improvement_of(own[agent], alone[agent])
                if gain:
                    found.setdefault(f"{agent} t={share:g}", {})[reading] = gain
    return found


def tables_of(sessions: study.Sessions, found: study.Improvements) -> list[Table]:
    """Returns a row for each agent and share, a column for each reading."""
    readings = list(dict.fromkeys(reading for gains in found.values() for reading in gains))
    rows = []
    for name, gains in found.items():
        agent, share = name.split(" t=")
        alone = bootstrap_interval(scores_of(sessions[label_of(float(share), TEXT)][agent]))
        gained = [improvement(gains.get(reading)) for reading in readings]
        rows.append([share, agent, number(*alone), *gained])
    title = "Return by texts alone, and what it is worth to read the items' vectors too [95 %]"
    heads = ["t", "agent", "return by texts alone", *(f"with {reading}" for reading in readings)]
    return [Table(heads, rows, title, labels=2)]

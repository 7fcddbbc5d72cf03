"""Channels study: what a vector or a knowledge graph beside the texts of items is worth to agents.

Both are made: vectors of normal numbers; and a graph whose items share entities as such numbers
fall together. A share t of the variance of the items' taste is a linear function of the vectors, or
of the embedding of the graph. Readings of one channel and one t play the same users in the same
world, whose logs are the same; only how agents read the items differs. Where t is 0 the channel
tells nothing, and reading it can only cost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.figures import study_figures
from experiments.report.text_tables import Table, improvement, number
from experiments.runs.runner import RunOptions
from experiments.runs.spec import RunSpec, check_names, task_config
from experiments.statistics.intervals import Interval, bootstrap_interval
from experiments.statistics.leaderboard import scores_of
from experiments.studies import study
from llmrec_env.config import unknown
from llmrec_env.content.item_vectors import to_bytes
from llmrec_env.text_space import load_text_space

PLAYERS = ("content", "content-recency", "drift-aware", "joint")
"""The first three are rankers of texts with public terms."""
TEXT, NEIGHBOURS = "text-alone", "neighbours"
CHANNELS = {
    "vectors": ("item_vectors", ".npy", ("concatenation", "gated-sum")),
    "graph": ("item_graph", ".csv", ("concatenation", "gated-sum", NEIGHBOURS)),
}
"""Field, ending of its file, and readings compared with the texts alone: values of `fusion`, or
neighbours in the graph as a term of a ranker of texts."""
_NEIGHBOURS_WEIGHT = 1.0
_RELATIONS, _ENTITIES = 8, 24
_DRAW = 47
_OPTIONS = RunOptions(output=Path("runs/channels"))


class Variant(NamedTuple):
    """What is played once by all agents."""

    channel: str
    share: float
    """t, of the variance of taste that the channel decides."""
    reading: str

    @property
    def label(self) -> str:
        """The name in tables of results."""
        return f"{self.channel} t={self.share:g} {self.reading}"


def run(
    agents: tuple[str, ...] = PLAYERS,
    channels: tuple[str, ...] = tuple(CHANNELS),
    shares: tuple[float, ...] = (0.5, 0.0),
    length: int = 16,
    task: str = "llmrec/Drift-v1",
    env: EnvFields = NO_FIELDS,
    scale: study.ScaleFlags = study.SCALE,
    options: study.RunFlags = _OPTIONS,
) -> dict[str, dict[str, Interval]]:
    """Plays agents that read items by texts and more, and by texts alone; prints who gains.

    Args:
        agents: names.
        channels: vectors, graph or both, each in a world of its own.
        shares: t, of the variance of taste that the channel decides, one after another.
        length: numbers of a vector.
        task: a registered id.

    Returns:
        Paired relative improvements over texts alone, by channel, t and agent, and by reading.

    Raises:
        ConfigError: a share out of range.
        ValueError: an unknown agent, channel or task.
    """
    check_names(agents, (task,))
    for channel in channels:
        if channel not in CHANNELS:
            raise ValueError(unknown("channel", channel, list(CHANNELS)))
    fields = given_fields(env)
    made = _made(options.output, channels, length, _count(task, fields))
    variants = [
        Variant(channel, share, reading)
        for channel in channels
        for share in shares
        for reading in (TEXT, *CHANNELS[channel][2])
    ]
    specs = [spec for x in variants for spec in _specs(x, task, agents, scale, fields | made[x[0]])]
    plan: dict[str, Any] = {"task": task, "agents": agents, "channels": channels}
    plan |= {"shares": shares, "length": length}
    _, sessions = study.do_runs(specs, options, scale, fields, **plan)
    found = compared(sessions, variants)
    tables = [table_of(channel, sessions, found) for channel in channels]
    study.publish("channels", options.output, tables, figure_of(found))
    return found


def _specs(
    variant: Variant,
    task: str,
    agents: tuple[str, ...],
    scale: study.Scale,
    fields: dict[str, Any],
) -> list[RunSpec]:
    """The runs of a variant; neighbours are a term of rankers of texts alone."""
    fused, settings = variant.reading != NEIGHBOURS, {}
    if not fused:
        agents = tuple(name for name in agents if name in PLAYERS[:3])
        settings = {"neighbours": _NEIGHBOURS_WEIGHT}
    own = {"taste_channel": variant.share, "fusion": variant.reading if fused else TEXT}
    return study.plan_runs(
        (task,), agents, scale, fields | own, label=variant.label, settings=settings
    )


def _count(task: str, fields: dict[str, Any]) -> int:
    """Items of the task."""
    config = task_config(task, fields)
    text = (config.catalog, config.num_items, config.encoder, config.dim, config.device)
    return len(load_text_space(*text).catalog)


def _made(
    output: Path, channels: tuple[str, ...], length: int, count: int
) -> dict[str, dict[str, Any]]:
    """Fields that name the made file of each channel, beside the folder of the results."""
    content = {"vectors": to_bytes(made_vectors(count, length)), "graph": made_graph(count)}
    fields = {}
    output.parent.mkdir(parents=True, exist_ok=True)
    for channel in channels:
        field, ending, _ = CHANNELS[channel]
        path = output.with_name(f"{output.name}.{channel}{ending}")
        store.write_file(path, content[channel])
        fields[channel] = {field: str(path)}
    return fields


def made_vectors(count: int, length: int) -> npt.NDArray[np.float32]:
    """Returns normal numbers, a row for each item, (count, length)."""
    return np.random.default_rng(_DRAW).standard_normal((count, length)).astype(np.float32)


def made_graph(count: int) -> bytes:
    """Returns triples of items and entities as CSV: one entity a relation for each item.

    An item has the entity whose direction is nearest to six normal numbers of the item.
    """
    generator = np.random.default_rng([_DRAW, 1])
    numbers = generator.standard_normal((count, 6))
    rows = ["head,relation,tail"]
    for relation in range(_RELATIONS):
        nearest = (numbers @ generator.standard_normal((6, _ENTITIES))).argmax(axis=1)
        rows += [f"{item},r{relation},r{relation} e{x}" for item, x in enumerate(nearest.tolist())]
    return "\n".join([*rows, ""]).encode()


def compared(sessions: study.Sessions, variants: list[Variant]) -> dict[str, dict[str, Interval]]:
    """Returns what each reading is worth to each agent over texts alone, in the same sessions."""
    found: dict[str, dict[str, Interval]] = {}
    for variant in variants:
        alone = sessions[variant._replace(reading=TEXT).label]
        for agent, own in sessions[variant.label].items():
            gain = study.improvement_of(own, alone[agent])
            if gain and variant.reading != TEXT:
                name = f"{variant.channel} t={variant.share:g} {agent}"
                found.setdefault(name, {})[variant.reading] = gain
    return found


def figure_of(found: dict[str, dict[str, Interval]]) -> Figure:
    """Returns a panel for each channel and t, in which agents and readings lie under another."""
    panels: dict[str, dict[str, Interval]] = {}
    for name, gains in found.items():
        channel, share, agent = name.split(" ")
        panel = panels.setdefault(f"reading the {channel}, {share}", {})
        panel |= {f"{agent}, {reading}": gain for reading, gain in gains.items()}
    return study_figures.forest(panels)


def table_of(
    channel: str, sessions: study.Sessions, found: dict[str, dict[str, Interval]]
) -> Table:
    """Returns a row for each t and agent, a column for each reading."""
    readings, rows = CHANNELS[channel][2], []
    for name, gains in found.items():
        of, share, agent = name.split(" ")
        if of == channel:
            alone = bootstrap_interval(scores_of(sessions[f"{of} {share} {TEXT}"][agent]))
            gained = [improvement(gains.get(reading)) for reading in readings]
            rows.append([share.removeprefix("t="), agent, number(*alone), *gained])
    title = f"Return by texts alone, and what it is worth to read the {channel} too [95 %]"
    heads = ["t", "agent", "return by texts alone", *(f"with {reading}" for reading in readings)]
    return Table(heads, rows, title, labels=2)

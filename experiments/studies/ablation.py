"""What each part is worth: mechanisms switched off, another encoder, blocks of the observation.

Gains are paired within a variant. Returns of variants do not compare: a mechanism or an encoder
changes the users, the logged past and the reward, so look at who gains over whom. Blocks of the
observation change the agent alone: there the same sessions are compared across variants. With one
training seed, its luck is not in those intervals: train several before a block is called useless.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.figures import study_figures
from experiments.report.figures.style import save
from experiments.runs.environments import task_config
from experiments.runs.runner import RunOptions, run_specs
from experiments.runs.spec import RunSpec
from experiments.statistics.intervals import Interval
from experiments.statistics.leaderboard import group
from experiments.store import Episode
from experiments.studies.benchmark import Preset, plan_runs
from experiments.studies.sensitivity import gain_of, variant_runs
from llmrec_env.config import unknown
from llmrec_env.interface.observation import VECTOR_BLOCKS

Group = Literal["mechanisms", "encoder", "observation"]
Gains = dict[str, dict[str, Interval]]
"""Relative gains by comparison, as "drift-aware over content", and by variant."""

WHOLE = "whole"
"""Label of the task as it is."""
MECHANISMS = ("drift", "satiation", "goodwill", "drift+satiation+goodwill", "queries", "influence")
BLOCKS: dict[str, tuple[str, ...]] = {
    **{block: (block,) for block in (*VECTOR_BLOCKS, "session")},
    "all": (*VECTOR_BLOCKS, "session"),
}
"""What may be left out of the observation; without all of it, an agent learns a fixed ranking."""
AGENTS = ("content", "content-recency", "drift-aware", "oracle-myopic", "oracle-planning")
COMPARISONS = (
    ("content-recency", "content"),
    ("drift-aware", "content"),
    ("oracle-planning", "oracle-myopic"),
    ("ppo", "drift-aware"),
)
"""Pairs of agents compared within each variant that plays both."""
LEARNER = "ppo"
"""The agent that is trained without blocks of its observation."""
_HOW = RunOptions(output=Path("runs/ablation"))


@dataclass(frozen=True)
class Variant:
    """What differs from the task, and who plays it."""

    label: str
    agents: tuple[str, ...]
    env: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the agents."""


def run(
    groups: tuple[Group, ...] = ("mechanisms", "encoder", "observation"),
    agents: tuple[str, ...] = AGENTS,
    mechanisms: tuple[str, ...] = MECHANISMS,
    encoders: tuple[str, ...] = ("hashing",),
    blocks: tuple[str, ...] = tuple(BLOCKS),
    task: str = "llmrec/Drift-v0",
    worlds: int = 2,
    users: int | None = None,
    train_steps: int = 150_000,
    seeds: int = 1,
    env: EnvFields = NO_FIELDS,
    options: Annotated[RunOptions, tyro.conf.arg(name="")] = _HOW,
) -> Gains:
    """Plays agents with one part after another taken away, and prints and draws who gains.

    Args:
        groups: kinds of parts; `observation` trains ppo once for each block.
        agents: names, played in every variant of mechanisms and encoders.
        mechanisms: names that `off` takes; those joined by + are off together.
        encoders: to put in the place of the task's.
        blocks: of the observation of ppo; `all` leaves nothing to see.
        task: a registered id.
        worlds: worlds 0 to worlds - 1.
        users: held-out test users of each world; all of them by default.
        train_steps: user-steps that an online RL agent may take.
        seeds: training seeds of such agents.
        env: fields of the environment that override the task's.
        options: where and how the runs are done.

    Raises:
        ConfigError: an unknown mechanism or encoder.
        ValueError: an unknown agent, task or block.
    """
    plan = Preset((task,), agents, worlds, seeds, train_steps)
    plan_runs(plan, users, {})  # a wrong name is told before a wrong value
    parts = {"mechanisms": mechanisms, "encoder": encoders, "observation": blocks}
    parts = {name: parts[name] for name in groups}
    variants = variants_of(task, agents, given_fields(env), parts)
    specs = [spec for variant in variants for spec in _cells(variant, plan, users)]
    config = {"task": task, "worlds": worlds, "users": users, "env": given_fields(env), **parts}
    config |= {"agents": agents, "train_steps": train_steps, "seeds": seeds}
    run_specs(specs, options, config)
    sessions = group(store.read_table(options.output, Episode))
    gains = gains_of(sessions)
    print_gains(gains)
    if gains:
        save(study_figures.forest(gains), options.output / "figures" / "ablation")
    print(f"results in {options.output}")
    return gains


def variants_of(
    task: str,
    agents: tuple[str, ...],
    env: dict[str, Any],
    parts: Mapping[str, tuple[str, ...]],
) -> list[Variant]:
    """Returns the task as it is, then the variants of each group.

    Raises:
        ConfigError: an unknown mechanism.
        ValueError: an unknown block.
    """
    own = (*agents, *(() if LEARNER in agents else (LEARNER,)))
    variants = [Variant(WHOLE, own if "observation" in parts else agents, env)]
    for terms in parts.get("mechanisms", ()):
        off = [*task_config(task, env).off, *terms.split("+")]
        task_config(task, {**env, "off": off})
        variants.append(Variant(f"{terms} off", agents, {**env, "off": off}))
    for encoder in parts.get("encoder", ()):
        variants.append(
            Variant(f"encoder {Path(encoder).name}", agents, {**env, "encoder": encoder})
        )
    for block in parts.get("observation", ()):
        if block not in BLOCKS:
            raise ValueError(unknown("observation block", block, list(BLOCKS)))
        without = {"without": list(BLOCKS[block])}
        variants.append(Variant(f"{LEARNER} without {block}", (LEARNER,), env, without))
    return variants


def gains_of(sessions: Mapping[str, Mapping[str, Sequence[Episode]]]) -> Gains:
    """Returns the paired gains of each variant, and what each block of the observation is worth."""
    gains: Gains = {}
    for label, played in sessions.items():
        pairs = {
            f"{agent} over {other}": gain_of(played[agent], played[other])
            for agent, other in COMPARISONS
            if {agent, other} <= played.keys()
        }
        if label.startswith(f"{LEARNER} without "):
            whole = sessions[WHOLE][LEARNER]
            pairs[f"{LEARNER} over itself without a block"] = gain_of(whole, played[LEARNER])
        for name, gain in pairs.items():
            if gain:
                gains.setdefault(name, {})[label.removeprefix(f"{LEARNER} ")] = gain
    return gains


def print_gains(gains: Gains) -> None:
    """Prints a line a comparison and variant; bold gains have intervals that leave out zero."""
    table = Table(title="paired gain in return [95 %]", title_justify="left", box=box.SIMPLE)
    for name in ("comparison", "variant", "gain"):
        table.add_column(name, justify="right" if name == "gain" else "left")
    for name, variants in gains.items():
        for label, gain in variants.items():
            text = f"{gain.value:+.1%} \\[{gain.low:+.1%}, {gain.high:+.1%}]"
            clear = gain.low > 0.0 or gain.high < 0.0
            table.add_row(name, label, f"[bold]{text}[/bold]" if clear else text)
        table.add_section()
    Console().print(table)


def _cells(variant: Variant, plan: Preset, users: int | None) -> list[RunSpec]:
    specs = variant_runs(
        dataclasses.replace(plan, agents=variant.agents), users, variant.env, variant.label
    )
    return [dataclasses.replace(spec, settings=variant.settings) for spec in specs]

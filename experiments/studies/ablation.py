"""Ablation study: mechanisms switched off, another encoder, blocks of the observation.

Improvements are paired within a variant. Returns of variants do not compare: a mechanism or an
encoder changes the users, the logged past and the reward, so look at who improves over whom. Blocks
of the observation change the agent alone: there the same sessions are compared across variants.
With one training seed, its randomness is not in those intervals: train several before a block is
called useless.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from agents.instructions import INSTRUCTIONS
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.figures import study_figures
from experiments.report.text_tables import Table, improvement
from experiments.runs.runner import RunOptions
from experiments.runs.spec import check_names, task_config
from experiments.studies import study
from llmrec_env.config import unknown
from llmrec_env.interface.observation import VECTOR_BLOCKS

Group = Literal["mechanisms", "encoder", "observation", "instructions"]

WHOLE = "whole"
"""Label of the task as it is."""
MECHANISMS = (
    "drift",
    "satiation",
    "goodwill",
    "drift+satiation+goodwill",
    "queries",
    "instructions",
    "influence",
    "regimes",
    "freshness",
    "creators",
    "resolution",
    "regimes",
)
"""Switched off one after another, where the task has them."""
BLOCKS: dict[str, tuple[str, ...]] = {block: (block,) for block in (*VECTOR_BLOCKS, "session")}
BLOCKS["all"] = (*VECTOR_BLOCKS, "session")
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
_NOT_READ = {"instruction": False}
_RANKERS = ("content", "content-recency", "drift-aware", "ease-text")
READERS: dict[str, dict[str, Any]] = {
    **dict.fromkeys((*_RANKERS, "joint", "slateq", "world-model"), _NOT_READ),
    **{agent: {"ablated": [INSTRUCTIONS]} for agent in (LEARNER, "ppo-pointer")},
}
"""Agents that read what users tell, and the settings by which they do not."""
_WITHOUT = " without instructions"
_OPTIONS = RunOptions(output=Path("runs/ablation"))


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
    task: str = "llmrec/Drift-v1",
    env: EnvFields = NO_FIELDS,
    scale: study.ScaleFlags = study.SCALE,
    options: study.RunFlags = _OPTIONS,
) -> study.Improvements:
    """Plays agents with one part after another taken away; prints and draws who improves on whom.

    Args:
        groups: kinds of parts; `observation` trains ppo once for each block; `instructions` lets
            those agents that read what users tell play without.
        agents: names, played in every variant of mechanisms and encoders.
        mechanisms: names that `off` takes; those joined by + are off together.
        encoders: to put in the place of the task's.
        blocks: of the observation of ppo; `all` leaves nothing to see.
        task: a registered id.

    Raises:
        ConfigError: an unknown mechanism or encoder.
        ValueError: an unknown agent, task or block.
    """
    check_names(agents, (task,))
    fields = given_fields(env)
    parts: dict[str, Any] = {
        "mechanisms": mechanisms,
        "encoder": encoders,
        "observation": blocks,
        "instructions": tuple(agent for agent in agents if agent in READERS),
    }
    parts = {name: parts[name] for name in groups}
    specs = [
        spec
        for x in variants_of(task, agents, fields, parts)
        for spec in study.plan_runs(
            (task,), x.agents, scale, x.env, label=x.label, settings=x.settings
        )
    ]
    _, sessions = study.do_runs(specs, options, scale, fields, task=task, agents=agents, **parts)
    improvements = compared(sessions)
    rows = [
        [name, label, improvement(share)]
        for name, variants in improvements.items()
        for label, share in variants.items()
    ]
    title = "relative improvement in return, paired [95 %]"
    table = Table(["comparison", "variant", "improvement"], rows, title, labels=2)
    figure = study_figures.forest(improvements) if improvements else None
    study.publish("ablation", options.output, [table], figure)
    return improvements


def variants_of(
    task: str,
    agents: tuple[str, ...],
    env: dict[str, Any],
    parts: Mapping[str, tuple[str, ...]],
) -> list[Variant]:
    """Returns the task as it is, then the variants of each group.

    A mechanism that the task does not have makes no variant.

    Raises:
        ConfigError: an unknown mechanism.
        ValueError: an unknown block.
    """
    everybody = agents if LEARNER in agents else (*agents, LEARNER)
    variants = [Variant(WHOLE, everybody if "observation" in parts else agents, env)]
    whole = task_config(task, env)
    for terms in parts.get("mechanisms", ()):
        off = [*whole.off, *terms.split("+")]
        without = dataclasses.replace(task_config(task, env | {"off": off}).effective(), off=())
        if without != dataclasses.replace(whole.effective(), off=()):
            variants.append(Variant(f"{terms} off", agents, env | {"off": off}))
    for encoder in parts.get("encoder", ()):
        label = f"encoder {Path(encoder).name}"
        variants.append(Variant(label, agents, env | {"encoder": encoder}))
    for block in parts.get("observation", ()):
        if block not in BLOCKS:
            raise ValueError(unknown("observation block", block, list(BLOCKS)))
        settings = {"ablated": list(BLOCKS[block])}
        variants.append(Variant(f"{LEARNER} without {block}", (LEARNER,), env, settings))
    for agent in parts.get("instructions", ()):
        variants.append(Variant(f"{agent}{_WITHOUT}", (agent,), env, READERS[agent]))
    return variants


def compared(sessions: study.Sessions) -> study.Improvements:
    """Returns the improvements of each variant, and what each block of the observation is worth."""
    improvements = study.improvements_of(sessions, COMPARISONS)
    for label, episodes in sessions.items():
        agent = label.removesuffix(_WITHOUT)
        if agent != label:
            share = study.improvement_of(sessions[WHOLE][agent], episodes[agent])
            if share:
                improvements.setdefault(f"over itself{_WITHOUT}", {})[agent] = share
            continue
        block = label.removeprefix(f"{LEARNER} ")
        if block != label:
            share = study.improvement_of(sessions[WHOLE][LEARNER], episodes[LEARNER])
            if share:
                name = f"{LEARNER} over itself without a block"
                improvements.setdefault(name, {})[block] = share
    return improvements

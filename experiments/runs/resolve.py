"""Resolution of agents: saved ones by their folder, those that need no training by name."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llmrec_env
from agents import AGENTS, Agent, make_agent
from agents.checkpoint import Saved, load_agent, read_saved
from agents.saving import RECORD
from experiments import store
from experiments.runs.spec import TRAIN_ENVS, RunSpec, check_names, environment, task_config
from experiments.runs.threads import one_thread
from llmrec_env.config import EnvConfig, unknown
from llmrec_env.envs.vector import RecVectorEnv

_OWN = ("action", "observation", "split", "world_seed")
"""Fields that the agent and the run decide."""
_INTERFACE = (
    "catalog",
    "encoder",
    "device",
    "dim",
    "num_users",
    "num_items",
    "slate_size",
    "candidates",
    "observation_dim",
    "history",
    "document_size",
    "document_dtype",
)
"""Fields that an agent takes along to another task: its world's size, and what it observes."""


@dataclass(frozen=True)
class AgentSource:
    """Where an agent comes from: the registry or a folder."""

    name: str
    """Of AGENTS."""
    label: str
    """Its name in tables."""
    saved: Saved | None = None
    """What its record says; None: it is fitted anew."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """In place of its defaults, or of those that it was saved with."""

    @property
    def seed(self) -> int:
        """The seed that it was trained with."""
        return int(self.saved.settings.get("seed", 0)) if self.saved else 0

    def new(self, config: EnvConfig) -> Agent:
        """Returns the agent, which knows nothing yet, with its settings."""
        return self.saved.new() if self.saved else make_agent(self.name, config, **self.settings)

    def with_settings(self, settings: Mapping[str, Any]) -> AgentSource:
        """Returns it with these settings in place of its own.

        Raises:
            ValueError: it is saved, and one of them would change what it learnt.
        """
        saved = self.saved.with_settings(settings) if self.saved else None
        return dataclasses.replace(self, saved=saved, settings=settings)


def resolve(word: str) -> AgentSource:
    """Returns the agent of this name, or the one saved in this folder.

    Raises:
        ValueError: there is none, or it must be trained first.
    """
    if word not in AGENTS or (Path(word) / RECORD).is_file():
        if not (Path(word).exists() or os.sep in word):
            hint = unknown("agent", word, list(AGENTS))
            raise ValueError(f"{hint} Or name the folder of a saved agent; {word!r} is none.")
        saved = read_saved(word)
        return AgentSource(saved.name, saved.name, saved)
    if AGENTS[word].learns == "online":
        raise ValueError(
            f"{word!r} learns online: train it first, python -m experiments train "
            f"{word} --output runs/{word}, and name the folder instead."
        )
    return AgentSource(word, word)


def resolve_all(
    words: Sequence[str], settings: Mapping[str, Any] | None = None
) -> list[AgentSource]:
    """Returns the agents of these names or folders, each with a label of its own.

    Args:
        words: names or folders.
        settings: of the first, which may so be named again without them.

    Raises:
        ValueError: as `resolve`, or one is named twice.
    """
    sources = [resolve(word) for word in words]
    sources[0] = sources[0].with_settings(settings or {})
    names = [source.name for source in sources]
    labelled = [
        _told_apart(source) if names.count(source.name) > 1 else source for source in sources
    ]
    for index, source in enumerate(labelled):
        if source.label in [other.label for other in labelled[:index]]:
            raise ValueError(
                f"{words[index]!r} would be the second {source.label!r} of the table; name each "
                "agent once, and saved ones in folders of different names."
            )
        store.check_name(source.label)
    return labelled


def _told_apart(source: AgentSource) -> AgentSource:
    """It with what it differs in from others of its name as part of its label."""
    own = [f"{name}={value}" for name, value in source.settings.items()]
    if source.saved:
        own = [source.saved.path.resolve().name, *own]
    return dataclasses.replace(source, label="@".join([source.name, *own]))


def task_of(
    source: AgentSource, task: str | None, changes: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Returns the task to evaluate an agent in, and the fields that override it.

    Args:
        source: of the agent; a saved one acts in the environment it was made for.
        task: another task for it, of which it keeps the dynamics; None: its own.
        changes: overrides beside these.

    Raises:
        ValueError: an unknown task.
    """
    check_names((), () if task is None else (task,))
    if source.saved is None:
        return task or "llmrec/Drift-v1", dict(changes)
    name = task or _trained_on(source.saved.path)
    own = source.saved.config.to_dict()
    # A saved world changes what a field is that nobody names.
    plain = task_config(name, {"catalog": own["catalog"]}).to_dict()
    plain["catalog"] = task_config(name, {}).catalog
    fields = _INTERFACE if task else [field for field in own if field not in _OWN]
    return name, {x: own[x] for x in fields if own[x] != plain[x]} | dict(changes)


def _trained_on(folder: Path) -> str:
    """The task in the manifest that `train` writes beside an agent."""
    if not (folder / store.MANIFEST).exists():
        return "llmrec/Drift-v1"
    task = store.read_manifest(folder).get("config", {}).get("task")
    return task if task in llmrec_env.TASKS else "llmrec/Drift-v1"


@one_thread()
def load(
    source: AgentSource, spec: RunSpec, num_envs: int, split: str, transfer: bool = False
) -> tuple[Agent, RecVectorEnv]:
    """Returns an agent that can act, and the environment of a run for it.

    `transfer` lets a saved agent act in another world: see `agents.checkpoint.load_agent`.

    Raises:
        ValueError: a saved agent was made for another environment.
    """
    agent = source.new(task_config(spec.task, spec.env))
    env = environment(spec, agent, num_envs, split)
    if source.saved:
        return load_agent(source.saved.path, env, transfer, source.settings), env
    agent.fit(environment(spec, agent, TRAIN_ENVS, "train"), 0)
    return agent, env

"""Specification of a run, its environments, its result, and the JSON file that keeps the result.

A file holds numbers, ids of items and phrases, names. Never what a user wrote.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

import llmrec_env
from agents import AGENTS, Agent, make_agent
from agents.saving import identity_of
from experiments.runs.threads import one_thread
from experiments.store import Episode, ResultsError
from experiments.store.folder import checked, with_checksum
from llmrec_env.config import EnvConfig, unknown
from llmrec_env.content.model_directory import model_identity
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.simulation.kernel_cache import source_digest
from llmrec_env.simulation.logging_policy import split_of

TRAIN_ENVS = 64


@dataclass(frozen=True)
class RunSpec:
    """What is trained and evaluated once."""

    task: str
    agent: str
    world: int
    seed: int = 0
    train_steps: int = 0
    split: str = "test"
    users: int | None = None
    """Held-out users, the first of the split; None: all."""
    env: dict[str, Any] = field(default_factory=dict)
    """Overrides of EnvConfig fields."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The agent's own settings."""
    label: str = ""
    """Name of the task in tables, where `env` makes it another one."""
    watched: int = 0
    """Users, the first of the split, whose sessions are kept step by step."""

    @property
    def name(self) -> str:
        """The name of the task in tables."""
        return self.label or self.task


@dataclass(frozen=True, slots=True)
class RunResult:
    """What is kept of a run; of one that failed, the error alone."""

    spec: RunSpec
    episodes: list[Episode] = field(default_factory=list)
    sums: dict[str, list[float]] = field(default_factory=dict)
    """Over sessions, by step: reward, alive, tracking_error, tracking_error_count (sessions
    that had one); by lag: adaptation_reward, adaptation_count."""
    values: dict[str, float] = field(default_factory=dict)
    """What is measured over all sessions together; NaN: not defined."""
    learning: list[list[float]] = field(default_factory=list)
    """(steps of training, return on validation users) some way into training."""
    sessions: list[dict[str, Any]] = field(default_factory=list)
    """Sessions step by step, of the watched users."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by what was done."""
    error: str | None = None


def environment(spec: RunSpec, agent: Agent, num_envs: int, split: str) -> RecVectorEnv:
    """Returns the batched environment of a run in the modes that its agent wants."""
    kwargs = spec.env | {
        "world_seed": spec.world,
        "action": agent.action,
        "observation": agent.observation,
        "split": split,
        "autoreset_mode": "same_step" if split == "train" else "next_step",
    }
    env = gymnasium.make_vec(spec.task, num_envs=num_envs, **kwargs).unwrapped
    assert isinstance(env, RecVectorEnv)  # the registered vector entry point
    return env


def task_config(task: str, env: Mapping[str, Any]) -> EnvConfig:
    """Returns the configuration of a task with overrides."""
    return EnvConfig.from_kwargs(llmrec_env.TASKS[task] | dict(env))


def check_names(agents: Iterable[str], tasks: Iterable[str] = ()) -> None:
    """Raises ValueError for an agent or a task that is in no table, with the nearest one."""
    for kind, names, known in (("agent", agents, AGENTS), ("task", tasks, llmrec_env.TASKS)):
        for name in names:
            if name not in known:
                raise ValueError(unknown(kind, name, list(known)))


def users_of(spec: RunSpec, split: str | None = None) -> npt.NDArray[np.int64]:
    """Returns the ids of all users of a split, by default the run's, without building its world."""
    ids = np.arange(task_config(spec.task, spec.env).num_users)
    return ids[split_of(ids, split or spec.split)]


@one_thread()
def fitted_agent(spec: RunSpec) -> Agent:
    """Returns an agent that is trained as `Agent.fit` does it, without a learning curve."""
    agent = make_agent(spec.agent, task_config(spec.task, spec.env), spec.seed, **spec.settings)
    agent.fit(environment(spec, agent, TRAIN_ENVS, "train"), spec.train_steps)
    return agent


_PLAIN = ("learning", "sessions", "seconds", "error")
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def key_of(spec: RunSpec) -> str:
    """Returns the digest of everything that the result of a run depends on but the code.

    A folder of a belief or a language model counts by what it holds, wherever it lies.

    Raises:
        ResultsError: the specification is not JSON data.
        ValueError: the folder of a belief is damaged.
    """
    fields = dataclasses.asdict(spec)
    fields["settings"] |= identities(spec.settings)
    if "response_model" in spec.env:
        fields["env"]["response_model"] = model_identity(spec.env["response_model"])
    try:
        text = _JSON(fields)
    except (TypeError, ValueError) as error:
        raise ResultsError(f"a run is not JSON data ({error}); pass plain values.") from None
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def identities(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that may be folders, each as the digest of what its folder holds.

    One that is no folder is returned as it is.

    Raises:
        ValueError: the folder of a belief is damaged.
    """
    kinds = {"belief": identity_of, "model": model_identity}
    return {name: kind(settings[name]) for name, kind in kinds.items() if name in settings}


def to_file(result: RunResult) -> bytes:
    """Returns the content of the file of a result."""
    record = {
        "key": key_of(result.spec),
        "spec": dataclasses.asdict(result.spec),
        "version": llmrec_env.__version__,
        "dynamics": source_digest(),
        "episodes": [_nulls(dataclasses.astuple(row)) for row in result.episodes],
        "sums": {name: _nulls(sums) for name, sums in result.sums.items()},
        "values": dict(zip(result.values, _nulls(result.values.values()), strict=True)),
    }
    record |= {name: getattr(result, name) for name in _PLAIN}
    return with_checksum(_JSON(record).encode())


def from_file(path: Path, data: bytes, key: str | None = None) -> RunResult:
    """Returns the result in the content of a file.

    Args:
        path: of the file, for messages.
        data: its content.
        key: of the run that it must hold; None: any.

    Raises:
        ResultsError: the file is damaged, of another run, or of other code; it names the file.
    """
    record = json.loads(checked(path, data))
    if differences := _differences(record):
        raise ResultsError(f"{path}: differs in {', '.join(differences)}; name another folder.")
    values, spec = record["values"], RunSpec(**record["spec"])
    # As it was written: since then the folder of its belief may have moved, or hold another one.
    if key not in (None, record.get("key") or key_of(spec)):
        raise ResultsError(f"{path}: holds another run; delete it and run again.")
    return RunResult(
        spec,
        episodes=[Episode(*_nans(row)) for row in record["episodes"]],
        sums={name: _nans(sums) for name, sums in record["sums"].items()},
        values=dict(zip(values, _nans(values.values()), strict=True)),
        **{name: record[name] for name in _PLAIN},
    )


def _differences(record: dict[str, Any]) -> list[str]:
    """Says what tells the code that wrote a result from this one."""
    fields = {field.name for field in dataclasses.fields(RunSpec)}
    differences = [f"field {name} of a run" for name in sorted({*record["spec"]} ^ fields)]
    if (version := record["version"]) != llmrec_env.__version__:
        differences.append(f"version ({version}, this is {llmrec_env.__version__})")
    elif record["dynamics"] != source_digest():
        differences.append("the sources of the dynamics (edited without a new version)")
    return differences


def _nulls(values: Iterable[Any]) -> list[Any]:
    return [None if isinstance(x, float) and math.isnan(x) else x for x in values]


def _nans(values: Iterable[Any]) -> list[Any]:
    return [math.nan if x is None else x for x in values]

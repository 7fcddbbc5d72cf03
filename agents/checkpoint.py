"""Saved agents: for which environment they were made, and that they act in no other.

An agent is a folder of `config.json` and `weights.safetensors`; loading one runs no code of it. The
record holds settings and numbers, never a text.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import llmrec_env
from agents.base import Agent, ItemAgent, Transferable, WorldError
from agents.compatibility import interface_differences, traits_of, world_differences
from agents.registry import spec_of
from agents.saving import agent_record, read_agent, read_arrays, write_agent
from llmrec_env.config import EnvConfig
from llmrec_env.content.encoders import EncoderError
from llmrec_env.envs.vector import RecVectorEnv

TASK_VERSION = next(iter(llmrec_env.TASKS)).rpartition("-")[2]
"""Of the dynamics and of what observations mean."""
Location = str | os.PathLike[str]


@dataclass(frozen=True)
class Saved:
    """What the record of a saved agent says."""

    path: Path
    name: str
    settings: dict[str, Any]
    """What its constructor takes."""
    config: EnvConfig
    """The environment that it was made for."""
    made_for: dict[str, Any]
    """What must be the same where it acts: see `traits_of`."""
    weights_sha256: str
    """Digest of the file of weights."""

    def with_settings(self, settings: Mapping[str, Any]) -> Saved:
        """Returns it with other settings of how it acts.

        Raises:
            ValueError: one of them would change what it learnt.
        """
        acting = spec_of(self.name).acting_settings
        for name in settings:
            if name not in acting:
                free = f"only {', '.join(acting)} can" if acting else "none of its own can"
                raise ValueError(
                    f"{self.path}: the agent {self.name!r} was saved with its settings, of which "
                    f"{free} be given anew, not {name!r}; train it again with {name}=..."
                )
        return dataclasses.replace(self, settings=self.settings | dict(settings))

    def new(self) -> Agent:
        """Returns the agent with its settings, which has not learnt yet.

        Raises:
            ValueError: it does not take the settings.
        """
        try:
            return spec_of(self.name)(**self.settings)
        except Exception as error:  # whatever the folder holds
            raise ValueError(
                f"{self.path}: the agent {self.name!r} does not take these settings: {error}; "
                "train it again."
            ) from error


def save_agent(agent: Agent, config: EnvConfig, path: Location) -> None:
    """Writes an agent that has learnt; a killed save leaves the old agent or none, never half.

    Args:
        agent: with `fit` or `learn` done.
        config: of the environment it was made for; the agent's modes are put in.
        path: folder.

    Raises:
        ValueError: a weight is NaN or infinite; nothing is written.
    """
    own = dataclasses.replace(config, action=agent.action, observation=agent.observation)
    made_for = traits_of(RecVectorEnv(1, **own.to_dict()))
    with tempfile.TemporaryDirectory() as staging:
        agent.save(Path(staging))
        name, settings, weights = read_agent(Path(staging))
    _check_finite(f"the agent {name!r}", weights, "nothing was saved; train it again")
    write_agent(
        Path(path),
        name,
        settings,
        weights,
        version=llmrec_env.__version__,
        task_version=TASK_VERSION,
        made_for=made_for,
        environment=own.to_dict(),
    )


def load_agent(
    path: Location,
    env: RecVectorEnv,
    transfer: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Agent:
    """Returns a saved agent, ready to act in an environment like the one it was made for.

    Other dynamics and other users are fine; so is another world seed to an agent that knows no
    item by its id. One that sees hidden truth is not attached yet.

    Args:
        path: folder that `save_agent` wrote.
        env: in the agent's modes; see `read_saved(path).config`.
        transfer: whether it may act in another world: of another world seed, catalogue or encoder.
            What it knows of items or phrases that are others there is left behind.
        settings: of how it acts, in place of those that it was saved with.

    Raises:
        WorldError: this is another world; with `transfer`, nothing of the agent holds there.
        ValueError: the files are missing or damaged, a weight is not finite, there is no agent of
            this name, a setting is none of how it acts, or the environment differs in what the
            agent depends on.
    """
    saved = read_saved(path).with_settings(settings or {})
    here = traits_of(env)
    if differences := interface_differences(saved.made_for, here):
        raise ValueError(
            f"{saved.path}: the agent {saved.name!r} was made for another environment: "
            f"{'; '.join(differences)}. Build the environment as it was ('environment' in "
            "config.json), or train the agent in this one."
        )
    weights = read_arrays(saved.path, {"weights_sha256": saved.weights_sha256})
    _check_finite(f"{saved.path}: the agent {saved.name!r}", weights, "train it again")
    agent = saved.new()
    configs = saved.config, env.config
    moved = world_differences(saved.made_for, here, *configs, by_id=knows_items(agent))
    if moved and not transfer:
        raise WorldError(
            f"{saved.path}: the agent {saved.name!r} was made for another environment: "
            f"{'; '.join(moved.values())}. Build the environment as it was ('environment' in "
            "config.json), train the agent in this one, or take along what of it holds anywhere: "
            "load_agent(..., transfer=True), --transfer of the commands."
        )
    try:
        _take(agent, weights, env, moved)
    except WorldError as error:
        raise WorldError(f"{saved.path}: {error}") from None
    except EncoderError:  # says itself what a language model lacks
        raise
    except Exception as error:  # whatever the folder holds
        raise ValueError(
            f"{saved.path}: the weights do not fit the agent {saved.name!r} with the settings of "
            f"config.json ({type(error).__name__}); train it again."
        ) from error
    return agent


def knows_items(agent: Agent) -> bool:
    """Returns whether an agent holds what it learnt of single items or phrases, by their ids."""
    return isinstance(agent, ItemAgent) and agent.knows_items


def _take(
    agent: Agent,
    weights: Mapping[str, npt.NDArray[Any]],
    env: RecVectorEnv,
    moved: Mapping[str, str],
) -> None:
    """Gives an agent weights of a world that differs from that of `env` in what is named."""
    if not (moved and knows_items(agent)):
        agent.load(weights, env)
    elif isinstance(agent, Transferable):
        agent.transfer(weights, env, same_items=set(moved) == {"encoder"})
    elif "items" in moved:
        raise WorldError(
            f"the agent {agent.name!r} cannot be transferred: all that it learnt is of items by "
            f"their ids, and {moved['items']}; train it in this world."
        )
    else:
        agent.load(weights, env)


def read_saved(path: Location) -> Saved:
    """Returns what the record of a saved agent says, without its weights.

    Another version of the package is warned of; it may be another agent with the same weights.

    Raises:
        ValueError: it is missing or damaged, names no agent, or is of another task version.
    """
    folder = Path(path)
    record = agent_record(folder)
    name: str = record["agent"]
    made_for, environment = record.get("made_for"), record.get("environment")
    if not (isinstance(made_for, dict) and isinstance(environment, dict)):
        raise ValueError(
            f"{folder} does not say which environment its agent was made for; write it with "
            "save_agent(agent, config, path)."
        )
    if record.get("task_version") != TASK_VERSION:
        raise ValueError(
            f"{folder}: the agent {name!r} was made for tasks of version "
            f"{record.get('task_version')}, these are {TASK_VERSION}; train it again."
        )
    try:
        spec_of(name)
        config = EnvConfig.from_kwargs(environment)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder}: {error}") from None
    if record.get("version") != llmrec_env.__version__:
        warnings.warn(
            f"{folder}: the agent {name!r} was made with llmrec_env {record.get('version')}, this "
            f"is {llmrec_env.__version__}; if it acts otherwise than it did, train it again.",
            stacklevel=2,
        )
    return Saved(folder, name, record["config"], config, made_for, record["weights_sha256"])


def _check_finite(what: str, weights: Mapping[str, npt.NDArray[Any]], fix: str) -> None:
    for name, value in weights.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError(f"{what} has weights that are NaN or infinite in {name!r}; {fix}.")

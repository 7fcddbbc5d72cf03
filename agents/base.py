"""The protocol of an agent, and what saving one means."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from llmrec_env.vector_env import RecVectorEnv

Observation = Any
Actions = npt.NDArray[np.generic]


@runtime_checkable
class Agent(Protocol):
    """Something that can learn from an environment and act in it."""

    name: str
    observation: str
    """The observation mode its environment must be built with."""
    action: str
    """The action mode its environment must be built with."""

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns within a budget of user-steps; `env` plays training users, resets in the step."""
        ...

    def act(self, observation: Observation, episode_starts: npt.NDArray[np.bool_]) -> Actions:
        """Returns one action a session, (n, ...), for a batch of observations.

        Args:
            observation: batch of n observations.
            episode_starts: (n,), whether each observation is the first of its session.
        """
        ...

    def save(self, path: Path) -> None:
        """Writes `config.json` and `weights.safetensors` into the folder `path`."""
        ...


SEGMENT = 50_000
"""User-steps after which the state of a learner is taken; what it did since then can be lost."""


@runtime_checkable
class Learner(Agent, Protocol):
    """An agent that learns by acting, in segments that can be repeated bit for bit."""

    on_steps: Callable[[int], None] | None
    """Called while it learns with the number of user-steps done so far."""
    log_folder: Path | None
    """Where it writes TensorBoard files while it learns; None: nowhere."""

    def learn(self, env: RecVectorEnv, num_steps: int, segment: int, done: int) -> int:
        """Learns for one segment and returns the user-steps it took, about `num_steps`.

        What happens depends on the agent's state, its seed and `segment` alone: `env` is reset.

        Args:
            env: plays training users, resets in the step.
            num_steps: user-steps.
            segment: number of segments before this one.
            done: user-steps done in them.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Returns all that the next segment depends on: tensors and plain data."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` returned."""
        ...


@runtime_checkable
class Privileged(Protocol):
    """An agent that sees hidden truth: an upper bound, not a competitor."""

    def attach(self, env: RecVectorEnv) -> None:
        """Receives the environment whose hidden state it may read while it acts there."""
        ...


def write_agent(
    path: Path, name: str, config: Mapping[str, Any], weights: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Writes an agent as plain JSON and safetensors; nothing in either can run code."""
    from safetensors.numpy import save

    path.mkdir(parents=True, exist_ok=True)
    data = save({key: np.ascontiguousarray(value) for key, value in weights.items()})
    (path / "weights.safetensors").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    record = {"agent": name, "config": dict(config), "weights_sha256": digest}
    (path / "config.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_agent(path: Path) -> tuple[str, dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Returns (name, config, weights) of a saved agent.

    Raises:
        ValueError: the files are damaged or do not belong together.
    """
    from safetensors.numpy import load

    record = json.loads((path / "config.json").read_text(encoding="utf-8"))
    if not isinstance(record, dict) or not {"agent", "config", "weights_sha256"} <= record.keys():
        raise ValueError(f"{path / 'config.json'} is not the record of an agent.")
    data = (path / "weights.safetensors").read_bytes()
    if hashlib.sha256(data).hexdigest() != record["weights_sha256"]:
        raise ValueError(
            f"{path / 'weights.safetensors'} is not the file that config.json was written with; "
            "train the agent again, or restore both files."
        )
    return record["agent"], record["config"], load(data)

"""The protocol of an agent, and what saving one means."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from llmrec_env.envs.vector import RecVectorEnv

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
        """Writes its settings and weights into the folder `path`: see `write_agent`."""
        ...

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the weights that `save` wrote, in place of `fit`; the settings are its own already.

        Args:
            weights: arrays by name.
            env: whose public data it will act on; no step is played.
        """
        ...


@runtime_checkable
class Believer(Protocol):
    """An agent that holds a belief about what its users are into."""

    def interest(self, observation: Observation) -> npt.NDArray[np.floating]:
        """Returns the direction in which it takes each session's interests to lie, (n, d).

        Of agents with a state, the belief from which they acted last.

        Args:
            observation: batch of n observations, those that it acted on last.
        """
        ...


SEGMENT = 50_000
"""User-steps after which the state of a learner is taken; what it did since then can be lost."""


@runtime_checkable
class OnlineAgent(Agent, Protocol):
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


def learn_in_segments(agent: OnlineAgent, env: RecVectorEnv, num_steps: int) -> None:
    """Lets a learner learn for `num_steps` user-steps: what `fit` of such an agent does."""
    done = segment = 0
    while done < num_steps:
        done += agent.learn(env, min(SEGMENT, num_steps - done), segment, done)
        segment += 1


def segment_seed(seed: int, segment: int) -> int:
    """Returns the seed of a segment's sessions, of the agent's own."""
    return (seed * 1_000_003 + segment * 7_919 + 1) % 2**31


@runtime_checkable
class Privileged(Protocol):
    """An agent that sees hidden truth: an upper bound, not a competitor."""

    def attach(self, env: RecVectorEnv) -> None:
        """Receives the environment whose hidden state it may read while it acts there."""
        ...


RECORD, WEIGHTS = "config.json", "weights.safetensors"
"""The two files of a saved agent."""
FORMAT = 1
_MAX_RECORD = 10_000_000  # bytes
_FIELDS = {"agent", "config", "weights_sha256", "record_sha256"}


def write_agent(
    path: Path,
    name: str,
    config: Mapping[str, Any],
    weights: Mapping[str, npt.NDArray[Any]],
    **more: Any,
) -> None:
    """Writes an agent as plain JSON and safetensors; nothing in either can run code.

    Whenever it is killed, the folder holds the old agent, the new one, or none; never half of one.

    Args:
        path: folder, made if it is missing.
        name: of the agent.
        config: its settings, what its constructor takes, as plain data.
        weights: arrays by name.
        **more: fields of the record beside these.
    """
    from safetensors.numpy import save

    path.mkdir(parents=True, exist_ok=True)
    data = save({key: np.asarray(value, order="C") for key, value in weights.items()})
    record = {"format": FORMAT, "agent": name, "config": dict(config), **more}
    record["weights_sha256"] = hashlib.sha256(data).hexdigest()
    record["record_sha256"] = _digest(record)
    text = json.dumps(record, indent=2, allow_nan=False) + "\n"
    with tempfile.TemporaryDirectory(dir=path, prefix=".saving-") as staging:
        for file, content in ((WEIGHTS, data), (RECORD, text.encode())):
            _write(Path(staging) / file, content)
        (path / RECORD).unlink(missing_ok=True)  # without it there is no agent
        for file in (WEIGHTS, RECORD):
            os.replace(Path(staging) / file, path / file)


def read_agent(path: Path) -> tuple[str, dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Returns (name, config, weights) of a saved agent.

    Raises:
        ValueError: the files are missing, damaged, or do not belong together.
    """
    record = read_record(path)
    return record["agent"], record["config"], read_weights(path, record)


def read_record(path: Path) -> dict[str, Any]:
    """Returns what `config.json` of a saved agent says.

    Raises:
        ValueError: it is missing, damaged, edited, or of a newer version of this package.
    """
    file = path / RECORD
    data = _read(file, "train an agent into this folder, or name another")
    try:
        record: Any = json.loads(data) if len(data) <= _MAX_RECORD else None
    except ValueError:
        record = None
    if isinstance(record, dict) and isinstance(record.get("format"), int):
        if record["format"] > FORMAT:
            raise ValueError(
                f"{file} has format {record['format']}, written by a newer llmrec_env; this one "
                f"reads formats up to {FORMAT}: install the newer one, or train the agent again."
            )
        if _FIELDS <= record.keys() and isinstance(record["config"], dict):
            if record["record_sha256"] == _digest(record):
                return record
            raise ValueError(
                f"{file} is not the file that was written: it has been edited; restore it, or "
                "train the agent again with other settings."
            )
    raise ValueError(f"{file} is not the record of an agent; restore it, or train the agent again.")


def read_weights(path: Path, record: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Returns the weights of a saved agent by name.

    Raises:
        ValueError: they are missing, damaged, or not those that the record was written with.
    """
    from safetensors.numpy import load

    file = path / WEIGHTS
    data = _read(file, "restore it, or train the agent again")
    if hashlib.sha256(data).hexdigest() != record["weights_sha256"]:
        raise ValueError(
            f"{file} is not the file that {RECORD} was written with; train the agent again, or "
            "restore both files."
        )
    return load(data)


def _digest(record: Mapping[str, Any]) -> str:
    """Of all fields but itself."""
    fields = {name: value for name, value in record.items() if name != "record_sha256"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _read(file: Path, fix: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror or error}; {fix}.") from None


def _write(file: Path, content: bytes) -> None:
    with open(file, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())

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
from gymnasium import spaces

import llmrec_env
from agents.base import Agent, WorldError
from agents.registry import spec_of
from agents.saving import agent_record, read_agent, read_arrays, write_agent
from llmrec_env.config import EnvConfig
from llmrec_env.content.encoders import EncoderError
from llmrec_env.envs.vector import RecVectorEnv

TASK_VERSION = next(iter(llmrec_env.TASKS)).rpartition("-")[2]
"""Of the dynamics and of what observations mean."""
_SAME = ("action", "observation", "history", "slate_size", "candidates", "dim")
"""Fields that an agent depends on; the others are dynamics, users and randomness."""
_TOLERANCE = 1e-3
"""Rounding of 1e-5 a number moves a sketch by less than a tenth of this; another text by more."""

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


def load_agent(path: Location, env: RecVectorEnv) -> Agent:
    """Returns a saved agent, ready to act in an environment like the one it was made for.

    Other dynamics, users and worlds are fine; one that sees hidden truth is not attached yet.

    Args:
        path: folder that `save_agent` wrote.
        env: in the agent's modes; see `read_saved(path).config`.

    Raises:
        WorldError: the agent knows the items of another world.
        ValueError: the files are missing or damaged, a weight is not finite, there is no agent of
            this name, or the environment differs in what the agent depends on.
    """
    saved = read_saved(path)
    differences = _differences(saved, env)
    if differences:
        raise ValueError(
            f"{saved.path}: the agent {saved.name!r} was made for another environment: "
            f"{'; '.join(differences)}. Build the environment as it was ('environment' in "
            "config.json), or train the agent in this one."
        )
    weights = read_arrays(saved.path, {"weights_sha256": saved.weights_sha256})
    _check_finite(f"{saved.path}: the agent {saved.name!r}", weights, "train it again")
    agent = saved.new()
    try:
        agent.load(weights, env)
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


def traits_of(env: RecVectorEnv) -> dict[str, Any]:
    """Returns what an agent depends on in an environment, as plain data."""
    public = env.public_data()
    traits = {name: getattr(env.config, name) for name in _SAME}
    traits["num_items"] = len(public.catalog)
    traits["action_space"] = str(env.single_action_space)
    traits["observation_space"] = _shapes(env.single_observation_space)
    return traits | {"item_vectors": sketch(public.items.vectors)}


def sketch(vectors: npt.NDArray[np.float32]) -> list[float]:
    """Returns eight numbers that tell item vectors, (N, d), from others.

    They change with every text, its place and the encoder, but hardly with the rounding of the
    machine, as a digest of the bits would.
    """
    waves = np.sqrt(np.array([2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0]))
    rows, columns = (np.cos(np.outer(np.arange(size), waves)) for size in vectors.shape)
    sums = ((vectors @ columns) * rows).sum(axis=0) / len(vectors) ** 0.5
    return [round(float(x), 6) for x in sums]


def _shapes(space: spaces.Space[Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {name: _shapes(part) for name, part in space.items()}
    return list(space.shape or ())


def _differences(saved: Saved, env: RecVectorEnv) -> list[str]:
    """Says in what an environment differs from the one that an agent was made for."""
    then, now = saved.made_for, traits_of(env)
    differences = [
        f"{name} is {then.get(name)!r} there, {now[name]!r} here"
        for name in (*_SAME, "num_items", "action_space")
        if then.get(name) != now[name]
    ]
    old_shapes = _shapes_by_name(then.get("observation_space"))
    new_shapes = _shapes_by_name(now["observation_space"])
    differences += [
        f"{name} has shape {old_shapes.get(name)} there, {new_shapes.get(name)} here"
        for name in sorted(old_shapes | new_shapes)
        if old_shapes.get(name) != new_shapes.get(name)
    ]
    same_size = all(then.get(name) == now[name] for name in ("dim", "num_items"))
    if same_size and not _same_items(then.get("item_vectors"), now["item_vectors"]):
        old, new = saved.config, env.config
        differences.append(
            f"the items are of another catalogue or encoder: {old.catalog!r} read by "
            f"{old.encoder!r} there, {new.catalog!r} read by {new.encoder!r} here"
        )
    return differences


def _same_items(then: Any, now: list[float]) -> bool:
    """Whether two sketches are of the same items, whatever the first one is."""
    numbers = isinstance(then, list) and all(type(x) in (int, float) for x in then)
    return numbers and len(then) == len(now) and np.allclose(then, now, rtol=0.0, atol=_TOLERANCE)


def _shapes_by_name(space: Any) -> dict[str, Any]:
    """Shapes by name of a `dict` observation, or of a `vector` as one block."""
    named = space if isinstance(space, dict) else {"": space}
    return {f"observation {name}".strip(): shape for name, shape in named.items()}


def _check_finite(what: str, weights: Mapping[str, npt.NDArray[Any]], fix: str) -> None:
    for name, value in weights.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError(f"{what} has weights that are NaN or infinite in {name!r}; {fix}.")

"""Saved agents: for which environment they were made, and that they act in no other.

An agent is a folder of `config.json` and `weights.safetensors`; loading one runs no code of it. The
record holds settings and numbers, never a text.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

import llmrec_env
from agents import AGENTS, Agent, make_agent
from agents.base import read_agent, read_record, read_weights, write_agent
from llmrec_env.config import EnvConfig, unknown
from llmrec_env.envs.vector import RecVectorEnv

_SAME = ("action", "observation", "history", "slate_size", "candidates", "dim")
"""Fields of the environment that an agent depends on; the others are dynamics, users and luck."""
_NEAR = 1e-3
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
    record = {"version": llmrec_env.__version__, "made_for": made_for, "environment": own.to_dict()}
    write_agent(Path(path), name, settings, weights, **record)


def load_agent(path: Location, env: RecVectorEnv) -> Agent:
    """Returns a saved agent, ready to act in an environment like the one it was made for.

    Other dynamics, users and worlds are fine; one that sees hidden truth is not attached yet.

    Args:
        path: folder that `save_agent` wrote.
        env: in the agent's modes; see `read_saved(path).config`.

    Raises:
        ValueError: the files are missing or damaged, a weight is not finite, there is no agent of
            this name, or the environment differs in what the agent depends on.
    """
    saved = read_saved(path)
    if found := _differences(saved, env):
        raise ValueError(
            f"{saved.path}: the agent {saved.name!r} was made for another environment: "
            f"{'; '.join(found)}. Build the environment as it was ('environment' in config.json), "
            "or train the agent in this one."
        )
    weights = read_weights(saved.path, read_record(saved.path))
    _check_finite(f"{saved.path}: the agent {saved.name!r}", weights, "train it again")
    agent = make_agent(saved.name, env.config, **saved.settings)
    try:
        agent.load(weights, env)
    except (KeyError, IndexError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{saved.path}: the weights do not fit the agent {saved.name!r} with the settings of "
            f"config.json ({type(error).__name__}); train it again."
        ) from error
    return agent


def read_saved(path: Location) -> Saved:
    """Returns what the record of a saved agent says, without its weights.

    Raises:
        ValueError: it is missing or damaged, names no agent, or is of another version.
    """
    folder = Path(path)
    record = read_record(folder)
    name, version = record["agent"], record.get("version")
    if not {"version", "made_for", "environment"} <= record.keys():
        raise ValueError(
            f"{folder} does not say which environment its agent was made for; write it with "
            "save_agent(agent, config, path)."
        )
    if version != llmrec_env.__version__:
        raise ValueError(
            f"{folder}: the agent {name!r} was made with llmrec_env {version}, this is "
            f"{llmrec_env.__version__}; install that version, or train the agent again."
        )
    if name not in AGENTS:
        raise ValueError(f"{folder}: {unknown('agent', name, list(AGENTS))}")
    config = EnvConfig.from_kwargs(record["environment"])
    return Saved(folder, name, record["config"], config, record["made_for"])


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
    there, here = saved.made_for, traits_of(env)
    found = [
        f"{name} is {there.get(name)!r} there, {here[name]!r} here"
        for name in (*_SAME, "num_items", "action_space")
        if there.get(name) != here[name]
    ]
    blocks = _blocks(there.get("observation_space")), _blocks(here["observation_space"])
    found += [
        f"{name} has shape {blocks[0].get(name)} there, {blocks[1].get(name)} here"
        for name in sorted({*blocks[0], *blocks[1]})
        if blocks[0].get(name) != blocks[1].get(name)
    ]
    if (there.get("dim"), there.get("num_items")) == (here["dim"], here["num_items"]):
        vectors = np.array(there.get("item_vectors", []), np.float64), here["item_vectors"]
        if vectors[0].shape != (8,) or not np.allclose(*vectors, rtol=0.0, atol=_NEAR):
            read = (f"{x.catalog!r} read by {x.encoder!r}" for x in (saved.config, env.config))
            found.append(
                "the items are of another catalogue or encoder: {} there, {} here".format(*read)
            )
    return found


def _blocks(space: Any) -> dict[str, Any]:
    """Shapes by name of a `dict` observation, or of a `vector` as one block."""
    named = space if isinstance(space, dict) else {"": space}
    return {f"observation {name}".strip(): shape for name, shape in named.items()}


def _check_finite(what: str, weights: Mapping[str, npt.NDArray[Any]], fix: str) -> None:
    for name, value in weights.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError(f"{what} has weights that are NaN or infinite in {name!r}; {fix}.")

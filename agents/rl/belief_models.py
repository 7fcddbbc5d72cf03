"""Belief models: where the belief comes from that others act on.

From a folder of a saved agent, or from the logs; what acts on a belief carries the model in its own
folder, with where it comes from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt

from agents import saving
from agents.base import WorldError
from agents.checkpoint import load_agent, read_saved
from agents.registry import make_agent
from agents.rl.beliefs import Belief, JointBelief, SlateqBelief
from llmrec_env.envs.vector import RecVectorEnv

Weights = Mapping[str, npt.NDArray[Any]]
Source = str | Mapping[str, Any]
"""A folder of a saved agent, `joint` to be fitted to the logs, or the record of a BeliefModel."""
MODELS: dict[str, Any] = {"joint": JointBelief, "slateq": SlateqBelief}
"""Agents that have one."""
_PREFIX = "belief."  # of the names of carried weights
_RECORD = {"agent", "config", "world", "weights_sha256"}


class BeliefModel(NamedTuple):
    """A trained agent on whose belief others act."""

    belief: Belief
    record: dict[str, Any]
    """Its name and settings, the world that it knows, and the digest of its weights."""
    weights: saving.Arrays

    def carried(self) -> saving.Arrays:
        """Returns the weights under names of their own, to be saved with what acts on them."""
        return {f"{_PREFIX}{name}": array for name, array in self.weights.items()}


def is_carried(name: str) -> bool:
    """Returns whether a saved array is a belief model's."""
    return name.startswith(_PREFIX)


def check_source(source: Any) -> None:
    """Raises ValueError where no belief model can be had: see `open_model`."""
    if isinstance(source, Mapping) and set(source) == _RECORD:
        name = source["agent"]
    elif not isinstance(source, str):
        raise ValueError(
            f"belief={source!r} names no belief model; write the folder of a saved slateq or "
            "joint, as belief=runs/slateq, or belief=joint, which is fitted to the logs."
        )
    else:
        name = source if _fitted_here(source) else _name_in(source)
    if name not in MODELS:
        raise ValueError(
            f"belief={source!r} is the agent {name!r}, which does not say what a candidate is "
            f"worth to a user; those that do: {', '.join(MODELS)}."
        )


def _name_in(folder: str) -> str:
    try:
        return read_saved(folder).name
    except ValueError as error:
        raise ValueError(
            f"belief={folder!r} is no folder of a saved agent ({error}) Train one, python -m "
            "experiments train slateq --output runs/slateq, and write belief=runs/slateq; or "
            "belief=joint, which is fitted to the logs."
        ) from None


def _fitted_here(source: str) -> bool:
    return source == "joint" and not (Path(source) / saving.RECORD).is_file()


def open_model(
    source: Source, env: RecVectorEnv, seed: int, weights: Weights, digest: str | None = None
) -> BeliefModel:
    """Returns a belief model for the world of an environment.

    Args:
        source: where it comes from.
        env: of slates with `dict` observations.
        seed: of a joint that is fitted to the logs.
        weights: that hold a carried model's, if `source` is its record.
        digest: of the weights that it must have; None: any.

    Raises:
        WorldError: it was trained in another world.
        ValueError: there is none, it was made for other items, or has another digest.
    """
    check_source(source)
    world = env.config.world_seed
    if isinstance(source, Mapping):
        _check_world(f"the {source['agent']} that it acts on", source["world"], world)
        agent = make_agent(source["agent"], env.config, **source["config"])
        carried = {name: array for name, array in weights.items() if is_carried(name)}
        agent.load({name.removeprefix(_PREFIX): x for name, x in carried.items()}, env)
    elif _fitted_here(source):
        agent = make_agent(source, env.config, seed)
        agent.fit(env, 0)
    else:
        saved = read_saved(source)
        _check_world(f"belief={source!r}, a {saved.name},", saved.config.world_seed, world)
        agent = load_agent(source, env)
    with tempfile.TemporaryDirectory() as folder:
        agent.save(Path(folder))
        record, arrays = saving.load(Path(folder))
    if digest not in (None, record["weights_sha256"]):
        raise ValueError(
            f"belief={source!r} is not the one that this training began with, whose weights have "
            f"the digest {digest:.12}…; restore that one, or train anew with --overwrite."
        )
    told = {name: record[name] for name in ("agent", "config", "weights_sha256")}
    return BeliefModel(MODELS[record["agent"]](agent), told | {"world": world}, arrays)


def _check_world(what: str, then: int, now: int) -> None:
    if then != now:
        raise WorldError(
            f"{what} was trained in world {then}, and this is world {now}, where items are another "
            f"matter beside their texts; train one here, python -m experiments train slateq "
            f"--world {now} --output FOLDER, and what acts on it with --set belief=FOLDER."
        )

"""Belief models: what a trained `joint` or `slateq` believes of users and of candidates, frozen.

Two of them, one interface: the user model of an agent follows sessions and appraises what they are
offered; the agent's own slates and what it learnt of the future play no part. What acts on a belief
carries the model in its own folder, with where it comes from.
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from agents import saving
from agents.base import WorldError
from agents.checkpoint import load_agent, read_saved
from agents.instructions import with_typed_phrases
from agents.joint.memory import MEANS
from agents.joint.recommender import Joint
from agents.registry import make_agent
from agents.rl.slateq.learner import SlateQ
from agents.rl.slateq.tracking import Tracker
from llmrec_env.envs.vector import RecVectorEnv

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
_LARGEST = 6  # weights of a belief over phrases that are told
_KNOWN = 5.0  # events after which half is known


class Appraisal(NamedTuple):
    """What is believed of the candidates of n users, each (n, c)."""

    odds: Doubles
    """Of choosing it at rank 1 against nothing; 0: it is not offered."""
    reward: Doubles
    """Expected, once it is chosen."""
    satisfaction: Doubles
    """Probability, once it is chosen."""
    satiation: Doubles
    """How tired of it the user is, 0 to 1."""
    substance: Doubles


class Belief(Protocol):
    """What follows n sessions and appraises what they are offered."""

    vectors: Floats
    """Of the items, (N, d)."""
    position: float
    """What is at rank k is examined k ** -position times as much as what is first."""
    num_certainties: int
    """Length of `certainty`."""

    def observe(self, observation: Any, starts: npt.NDArray[np.bool_]) -> None:
        """Learns from what came since the last observation; at a start, from what is told."""
        ...

    def appraise(self, hints: Doubles | None = None) -> Appraisal:
        """Returns what is believed of the candidates; `hints`, (n, c), are added to relevance."""
        ...

    def interest(self) -> Floats:
        """Returns the believed interest of each session, (n, d)."""
        ...

    def certainty(self) -> Floats:
        """Returns how much is believed, and how surely, (n, num_certainties)."""
        ...

    def fresh(self) -> Belief:
        """Returns a belief by the same model that follows other sessions."""
        ...


class SlateqBelief:
    """What the user model of `slateq` believes."""

    num_certainties = _LARGEST + 3

    def __init__(self, agent: SlateQ) -> None:
        """Takes an agent that has learnt."""
        self._agent, self._tracker = agent, Tracker(agent.tracker.model, agent.blocks)
        self.vectors = self._tracker.model.vectors
        self._q = self._tracker.model.parameters[0]
        self.position = float(self._q["position"])

    def observe(self, observation: Any, starts: npt.NDArray[np.bool_]) -> None:
        """Learns from what came since the last observation; at a start, from what is told."""
        heard = with_typed_phrases(observation, self._agent.settings.instruction)
        self._tracker.observe(heard, starts)
        self._candidates = observation["candidates"]

    def appraise(self, hints: Doubles | None = None) -> Appraisal:
        """Returns what is believed of the candidates; `hints`, (n, c), are added to relevance."""
        odds, features = self._tracker.appraise(self._candidates)
        if hints is not None:
            known = self._tracker.relevance  # of a privileged observation
            self._tracker.relevance = np.maximum(features[..., 0] + hints, 0.0).astype(np.float32)
            odds, features = self._tracker.appraise(self._candidates)
            self._tracker.relevance = known
        relevance, satisfaction, satiation, substance = np.moveaxis(features.astype(float), -1, 0)
        reward = self._q["reward"] * relevance * satisfaction
        return Appraisal(odds, reward, satisfaction, satiation, substance)

    def interest(self) -> Floats:
        """Returns the believed interest of each session, (n, d)."""
        return self._tracker.belief @ self._tracker.model.phrases

    def certainty(self) -> Floats:
        """Returns the largest weights of phrases, their sum, their entropy and goodwill, (n, 9)."""
        weights = -np.sort(-self._tracker.belief, axis=1)
        mass = weights.sum(axis=1, keepdims=True)
        share = weights / mass
        entropy = -(share * np.log(share + 1e-9)).sum(axis=1, keepdims=True)
        goodwill = 0.2 * self._tracker.goodwill[:, None]
        return np.hstack([weights[:, :_LARGEST], 0.15 * mass, 0.2 * entropy, goodwill])

    def fresh(self) -> SlateqBelief:
        """Returns a belief by the same model that follows other sessions."""
        return SlateqBelief(self._agent)


class JointBelief:
    """What `joint` believes; a deviation of the relevance counts as it does there."""

    num_certainties = MEANS + 2

    def __init__(self, agent: Joint) -> None:
        """Takes an agent that has learnt."""
        self._joint = copy.copy(agent)
        self._joint.settings = dataclasses.replace(agent.settings, substance=0.0, patience=0.0)
        self._joint.forget()
        self.vectors = agent.data.items.vectors
        self.position = float(agent.parameters[0]["position"])

    def observe(self, observation: Any, starts: npt.NDArray[np.bool_]) -> None:
        """Learns from what came since the last observation; at a start, from what is told."""
        self._beliefs, self._observation = self._joint.follow(observation), observation

    def appraise(self, hints: Doubles | None = None) -> Appraisal:
        """Returns what is believed of the candidates; `hints`, (n, c), are added to relevance."""
        candidates = self._observation["candidates"]
        seen = self._joint.appraise_offered(self._observation, hints)
        substance = self._joint.texts.substance[np.maximum(candidates, 0)].astype(float)
        satisfaction = 1.0 / (1.0 + np.exp(-seen.log_odds))
        return Appraisal(seen.odds, seen.value, satisfaction, seen.tiredness, substance)

    def interest(self) -> Floats:
        """Returns the believed interest of each session, (n, d)."""
        return self._joint.belief(self._observation)

    def certainty(self) -> Floats:
        """Returns how much is known of each kind, the taste's size, and goodwill, (n, 8)."""
        memory, mean = self._beliefs.memory, self._beliefs.posterior.mean
        known = memory.counts[:, :MEANS] / (memory.counts[:, :MEANS] + _KNOWN)
        size = np.linalg.norm(mean, axis=1, keepdims=True)
        return np.hstack([known, size, 0.2 * memory.goodwill[:, None]]).astype(np.float32)

    def fresh(self) -> JointBelief:
        """Returns a belief by the same model that follows other sessions."""
        return JointBelief(self._joint)


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

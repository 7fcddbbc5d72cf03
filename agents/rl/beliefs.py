"""Beliefs: what a trained `joint` or `slateq` believes of users and of candidates, frozen.

Two of them, one interface: the user model of an agent follows sessions and appraises what they are
offered. That of `slateq` also says what the agent itself would show, and how unsure it is of it.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from agents.instructions import with_typed_phrases
from agents.joint.memory import MEANS
from agents.joint.recommender import Joint
from agents.rl.slateq.learner import SlateQ
from agents.rl.slateq.tracking import Tracker
from agents.rl.slateq.uncertainty import information, interest_deviation, taste_deviation
from agents.slates import Gains, gains, likeness_to

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


class Outlook(NamedTuple):
    """What an agent would show of the candidates of n users, and how unsure it is, (n, c)."""

    gains: Gains
    """What a place on the slate is worth, in reward: the best are the agent's slate, in order."""
    interest_deviation: Doubles
    """Of its closeness, over the interests that may be at work."""
    taste_deviation: Doubles
    """Of what its relevance has beside its text."""
    information: Doubles
    """How much a choice or a refusal of it would tell of the user, in nats."""
    likeness: Doubles
    """Cosine to what is nearest of the others that the agent would show."""


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
        self._values = self._agent.values(heard, self._tracker)

    def appraise(self, hints: Doubles | None = None) -> Appraisal:
        """Returns what is believed of the candidates; `hints`, (n, c), are added to relevance."""
        odds, features = self._values.odds, self._values.items
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

    def slates(self, residual: Doubles | None = None) -> npt.NDArray[np.int64]:
        """Returns the slates that the agent would show if values, (n, c), were so much higher."""
        odds, value, _, _ = self._values
        worth = value if residual is None else value + residual
        return self._agent.slates(odds, worth, self._candidates)

    def outlook(self) -> Outlook:
        """Returns what the agent would show of the candidates, and how unsure it is."""
        tracker, candidates = self._tracker, self._candidates
        odds, value, _, _ = self._values
        slates = self.slates()
        likeness = likeness_to(slates, self.vectors[np.maximum(candidates, 0)])
        worth = value - self._agent.settings.mmr * np.maximum(likeness, 0.0)
        interest = interest_deviation(tracker, candidates)
        taste = taste_deviation(tracker, candidates)
        deviation = self._q["relevance"] * np.sqrt(interest**2 + taste**2)
        gained, told = gains(odds, worth, slates, self.position), information(odds, deviation)
        return Outlook(gained, interest, taste, told, likeness)

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

"""Protocols of agents: what they learn from, how they act, and how they are saved."""

from __future__ import annotations

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
        """Learns within a budget of environment steps.

        Args:
            env: of training users; resets in the step.
            num_steps: environment steps, one of which is one step of one session.
        """
        ...

    def act(self, observation: Observation, episode_starts: npt.NDArray[np.bool_]) -> Actions:
        """Returns one action a session, (n, ...), for a batch of observations.

        Args:
            observation: batch of n observations.
            episode_starts: (n,), whether each observation is the first of its session.
        """
        ...

    def save(self, path: Path) -> None:
        """Writes its settings and weights into the folder `path`: see `agents/saving.py`."""
        ...

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the weights that `save` wrote, in place of `fit`; the settings are its own already.

        Args:
            weights: arrays by name.
            env: whose public data it will act on; no step is played.
        """
        ...


class WorldError(ValueError):
    """What was learnt about the items of one world is asked for in another."""


@runtime_checkable
class MemorylessAgent(Protocol):
    """An agent that may act by the newest observation of each session alone, whoever else plays."""

    memoryless: bool


@runtime_checkable
class ReadingAgent(Protocol):
    """An agent that runs a language model while it acts."""

    tokens: int
    """Tokens that the model has read and written so far."""


@runtime_checkable
class ItemAgent(Protocol):
    """An agent that may know items and phrases by their ids, which are those of one world."""

    knows_items: bool


@runtime_checkable
class Transferable(Protocol):
    """An agent that knows items, and can do in another world without what it knows of them."""

    def transfer(
        self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv, same_items: bool
    ) -> None:
        """Takes, in place of `load`, what holds in the world of `env` of the weights of another.

        Args:
            weights: arrays by name, as `save` wrote them.
            env: whose public data it will act on.
            same_items: whether ids mean the same texts, drawn by the same world seed, and only
                their encodings differ. If not, an item is one of which nothing is known.
        """
        ...


@runtime_checkable
class BeliefAgent(Protocol):
    """An agent that holds a belief about what its users are into."""

    def belief(self, observation: Observation) -> npt.NDArray[np.floating]:
        """Returns the direction in which it takes each session's interests to lie, (n, d).

        Of agents with a state, the belief from which they acted last.

        Args:
            observation: batch of n observations, those that it acted on last.
        """
        ...


SEGMENT = 50_000
"""Environment steps after which a learner's state is taken; what it did since can be lost."""


@runtime_checkable
class OnlineAgent(Agent, Protocol):
    """An online RL agent: learns from its own steps, in segments that can be repeated exactly."""

    on_steps: Callable[[int], None] | None
    """Called while it learns with the number of environment steps done so far."""
    log_folder: Path | None
    """Where it writes TensorBoard files while it learns; None: nowhere."""

    def learn(self, env: RecVectorEnv, num_steps: int, segment: int, done: int) -> int:
        """Learns for one segment and returns the environment steps it took, about `num_steps`.

        What happens depends on the agent's state, its seed and `segment` alone: `env` is reset.

        Args:
            env: plays training users, resets in the step.
            num_steps: environment steps.
            segment: number of segments before this one.
            done: environment steps done in them.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Returns all that the next segment depends on: tensors and plain data."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` returned."""
        ...


def learn_in_segments(agent: OnlineAgent, env: RecVectorEnv, num_steps: int) -> None:
    """Lets a learner learn for `num_steps` environment steps: what `fit` of such an agent does."""
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

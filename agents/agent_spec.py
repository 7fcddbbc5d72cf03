"""Agent specification: what the project knows of an agent before it is built.

Nothing here imports an agent, or a framework: the class is named by a string, and imported when the
first agent of it is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from agents.base import Agent, OnlineAgent


@dataclass(frozen=True)
class Uniform:
    """Real numbers from `low` to `high`."""

    low: float
    high: float
    log: bool = False
    """Whether each factor, rather than each difference, is as likely as another."""


@dataclass(frozen=True)
class Integer:
    """Whole numbers from `low` to `high`."""

    low: int
    high: int


class Choice:
    """Some values of JSON: numbers, names, lists."""

    def __init__(self, *values: Any) -> None:
        """Takes the values in any order."""
        self.values = values

    def __repr__(self) -> str:
        return f"Choice{self.values}"


SearchSpace = dict[str, Uniform | Integer | Choice]
"""A range for each setting that a search may vary.

A name with a dot, as `policy_kwargs.net_arch`, is an entry of a setting that is a dictionary.
"""
GAMMAS: SearchSpace = {"gamma": Choice(0.8, 0.9, 0.95, 0.98, 0.99, 0.995)}
RATES: SearchSpace = {"learning_rate": Uniform(1e-4, 1e-2, log=True)}
"""Ranges of the discount and the learning rate that most learners share."""


@dataclass(frozen=True)
class AgentSpec:
    """One line of the registry; calling it builds the agent."""

    name: str
    factory: str | Callable[..., Agent]
    """`module:name` of a class or function, imported when it is first called; or the class."""
    summary: str
    """What it does, for the README."""
    learns: Literal["none", "logs", "online"] = "none"
    """From nothing, from the logs of the training users, or from environment steps of its own."""
    seeded: bool | None = None
    """Whether a comparison trains it with several seeds; None: if it learns online."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the factory that make this agent of a class that serves several."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Settings, plain data; those given to `make_agent` override them one by one."""
    acting_settings: tuple[str, ...] = ()
    """Settings that a saved agent may be given anew: how it acts with what it has learnt."""
    search_space: SearchSpace = field(default_factory=dict)
    """What `experiments tune` may try; empty: it cannot be tuned."""
    ladder: bool = False
    """Whether it stands in the README's table, which compares each agent with the one above."""
    trains_encoder: bool = False
    """Whether it trains a language model, which takes an encoder that is one, and hours."""
    language_model: bool = False
    """Whether it runs a language model at every step, which takes one, and long."""
    oracle: bool = False
    """Whether it is an upper bound that knows what is hidden, not a competitor."""
    colour: str | None = None
    """Of its curves; None: one of a few, by its name."""
    training_rate: float = 3_000.0
    """Environment steps a second of training on one core, for estimates of cost."""
    fitting_seconds: float = 0.0
    """Seconds in which it learns from logs on one core, for estimates of cost."""
    acting_seconds: float = 0.0
    """Seconds that it thinks in a session on one core, for estimates of cost, if that counts."""

    @property
    def trained_with_seeds(self) -> bool:
        """Whether a comparison trains it with several seeds."""
        return self.learns == "online" if self.seeded is None else self.seeded

    def __call__(self, **settings: Any) -> Agent:
        """Returns a new agent.

        Args:
            **settings: `seed`, and settings that override the defaults.

        Raises:
            TypeError: the agent does not take a setting.
            ValueError: the agent learns online, but its specification says otherwise.
        """
        factory = _imported(self.factory) if isinstance(self.factory, str) else self.factory
        agent = factory(**{**self.arguments, **self.defaults, **settings})
        if isinstance(agent, OnlineAgent) and self.learns != "online":
            raise ValueError(
                f"the agent {self.name!r} learns by environment steps, but its specification says "
                f"learns={self.learns!r}, with which it would be given none; write "
                "learns='online' in agents/registry.py."
            )
        return agent


def _imported(factory: str) -> Callable[..., Agent]:
    module, _, name = factory.partition(":")
    return getattr(import_module(module), name)
